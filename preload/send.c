/*
 * sendto, sendmsg and sendmmsg name a destination of their own: with MSG_FASTOPEN
 * they connect (tcp(7)), and a datagram can go to a synthetic address.
 */
#include "shim.h"

#include <fcntl.h>

/*
 * What is to be done about a message to addr. 0: it is connected now, send without
 * an address; CALL_NATIVE: send to native; -errno.
 */
static long send_ruled(int fd, const struct sockaddr *addr, socklen_t len, int flags,
                       union address *native, socklen_t *native_len)
{
	struct channel channel;
	struct tw_addr to;
	if (flags & MSG_FASTOPEN)
		return connect_ruled(fd, addr, len, native, native_len);
	long kind = socket_kind(fd, &channel);
	if (kind == SOCKET_CHANNEL)
		return 0; /* TCP ignores it, AF_UNIX would say EISCONN */
	if (kind < 0 && kind != SOCKET_CHANNEL)
		return kind;
	if (len > sizeof *native) {
		*native_len = (socklen_t)sizeof *native + 1; /* as it was: the kernel refuses it */
		return CALL_NATIVE;
	}
	if (copy_in(native, addr, len) < 0)
		return -EFAULT;
	*native_len = len;
	if (!address_read(&native->any, len, &to) || !address_synthetic(&to))
		return CALL_NATIVE;
	long r = address_resolve(&to, NULL);
	*native_len = r < 0 ? 0 : address_write(&to, native);
	return r < 0 ? r : CALL_NATIVE;
}

EXPORT ssize_t sendto(int fd, const void *data, size_t size, int flags,
                      const struct sockaddr *addr, socklen_t len)
{
	union address native;
	socklen_t native_len;
	if (addr) {
		long r = send_ruled(fd, addr, len, flags, &native, &native_len);
		if (r < 0)
			return finish(r);
		if (r == 0) {
			flags &= ~MSG_FASTOPEN;
			addr = NULL;
			len = 0;
		} else if (native_len <= sizeof native) {
			addr = &native.any;
			len = native_len;
		}
	}
	__typeof__(&sendto) real = NEXT(sendto);
	if (real)
		return real(fd, data, size, flags, addr, len);
	long n = SYS(SYS_sendto, fd, data, size, flags, addr, len);
	return n < 0 ? finish(n) : n;
}

/* The same for one msghdr: 0 or -errno. *flags loses MSG_FASTOPEN where it is done. */
static long message_ruled(int fd, struct msghdr *message, int *flags, union address *native)
{
	socklen_t native_len;
	if (!message->msg_name)
		return 0;
	long r = send_ruled(fd, message->msg_name, message->msg_namelen, *flags, native,
	                    &native_len);
	if (r < 0)
		return r;
	if (r == 0) {
		*flags &= ~MSG_FASTOPEN;
		message->msg_name = NULL;
		message->msg_namelen = 0;
	} else if (native_len <= sizeof *native) {
		message->msg_name = native;
		message->msg_namelen = native_len;
	}
	return 0;
}

static ssize_t native_sendmsg(int fd, const struct msghdr *message, int flags)
{
	__typeof__(&sendmsg) real = NEXT(sendmsg);
	if (real)
		return real(fd, message, flags);
	long n = SYS(SYS_sendmsg, fd, message, flags);
	return n < 0 ? finish(n) : n;
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	union address native;
	struct msghdr copy;
	if (copy_in(&copy, message, sizeof copy) < 0) {
		/* It is not shown to the kernel: it may be readable by then, and name anybody. */
		struct channel channel;
		long kind = socket_kind(fd, &channel);
		return finish(kind < 0 && kind != SOCKET_CHANNEL ? kind : -EFAULT);
	}
	long r = message_ruled(fd, &copy, &flags, &native);
	return r < 0 ? finish(r) : native_sendmsg(fd, &copy, flags);
}

/*
 * Where no message has to be changed the call goes on whole; otherwise one by one,
 * which sendmmsg(2) allows: it may send fewer than it was given.
 */
EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
	bool whole = !(flags & MSG_FASTOPEN);
	for (unsigned i = 0; i < count && whole; i++) {
		struct tw_addr to;
		struct msghdr m;
		union address name;
		if (copy_in(&m, &messages[i].msg_hdr, sizeof m) < 0)
			break; /* the kernel sends as many as come before */
		whole = !m.msg_name || m.msg_namelen > sizeof name ||
		        copy_in(&name, m.msg_name, m.msg_namelen) < 0 ||
		        !address_read(&name.any, m.msg_namelen, &to) || !address_synthetic(&to);
	}
	if (whole) {
		__typeof__(&sendmmsg) real = NEXT(sendmmsg);
		return real ? real(fd, messages, count, flags)
		            : finish(SYS(SYS_sendmmsg, fd, messages, count, flags));
	}
	for (unsigned i = 0; i < count; i++) {
		int saved = get_errno();
		ssize_t n = sendmsg(fd, &messages[i].msg_hdr, flags);
		if (n < 0) {
			if (i == 0)
				return -1;
			set_errno(saved);
			return (int)i;
		}
		messages[i].msg_len = (unsigned)n;
	}
	return (int)count;
}

/* What 32-bit programs with a 64-bit time_t import. */
EXPORT ssize_t __sendmsg64(int fd, const struct msghdr *message, int flags) ALIAS(sendmsg);
EXPORT int __sendmmsg64(int fd, struct mmsghdr *messages, unsigned count, int flags) ALIAS(sendmmsg);
