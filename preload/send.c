/*
 * sendto, sendmsg and sendmmsg name a destination of their own: with MSG_FASTOPEN
 * they connect (tcp(7)), and a datagram can go to a synthetic address. The kernel gets
 * the copies that were looked at. A sendto with a destination is made as a sendmsg, which has
 * room for the cookie.
 */
#include "trace.h"

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
	if (kind < 0 && kind != SOCKET_CHANNEL)
		return kind;
	if (len > sizeof *native) /* as move_addr_to_kernel has it */
		return -EINVAL;
	if (copy_in(native, addr, len) < 0)
		return -EFAULT;
	if (kind == SOCKET_CHANNEL)
		return 0; /* TCP ignores it, AF_UNIX would say EISCONN */
	*native_len = len;
	if (stands_aside() || !address_read(&native->any, len, &to) || !address_synthetic(&to))
		return CALL_NATIVE;
	long r = address_resolve(&to, NULL);
	*native_len = r < 0 ? 0 : address_write(&to, native);
	return r < 0 ? r : CALL_NATIVE;
}

/* As finish, for how much was sent. */
static long finish_size(long n)
{
	return n < 0 ? finish(n) : n;
}

EXPORT ssize_t sendto(int fd, const void *data, size_t size, int flags,
                      const struct sockaddr *addr, socklen_t len)
{
	union address native;
	const struct sockaddr *given = addr;
	const socklen_t given_len = len;
	const int given_flags = flags;
	if (addr) {
		long r = send_ruled(fd, addr, len, flags, &native, &len);
		if (r < 0) {
			TRACE("sendto", NUMBER("fd", fd), FLAGS("flags", flags),
			      SOCKADDR("to", given, given_len), RESULT(r));
			return finish(r);
		}
		addr = &native.any;
		if (r == 0) {
			flags &= ~MSG_FASTOPEN;
			addr = NULL;
			len = 0;
		}
	}
	const bool by_message = addr ? len > 0 : (flags & MSG_FASTOPEN) != 0;
	__typeof__(&sendto) real = by_message ? INTERPOSER(sendto) : NEXT(sendto);
	long n;
	if (real) {
		n = real(fd, data, size, flags, addr, len);
	} else if (by_message) {
		struct iovec part = {(void *)(uintptr_t)data, size};
		struct msghdr message = {.msg_name = addr ? &native : NULL, .msg_namelen = addr ? len : 0,
		                         .msg_iov = &part, .msg_iovlen = 1};
		n = finish_size(SYS_CANCELLABLE(SYS_sendmsg, fd, &message, flags, 0, 0,
		                                address_cookie(addr, len)));
	} else {
		n = finish_size(SYS(SYS_sendto, fd, data, size, flags, addr, len));
	}
	n = sent(fd, n);
	TRACE("sendto", NUMBER("fd", fd), FLAGS("flags", given_flags),
	      SOCKADDR("to", given, given_len), RESULT(outcome(n)));
	return n;
}

EXPORT ssize_t send(int fd, const void *data, size_t size, int flags)
{
	__typeof__(&send) real = NEXT(send);
	return real && !(flags & MSG_FASTOPEN) ? sent(fd, real(fd, data, size, flags))
	                                       : sendto(fd, data, size, flags, NULL, 0);
}

EXPORT ssize_t __send(int fd, const void *data, size_t size, int flags) ALIAS(send);

/*
 * Reads a message, and does what is to be done about where it goes: 0, with what the kernel is
 * to send in copy and native, or -errno. *flags loses MSG_FASTOPEN where it is done.
 */
static long message_ruled(int fd, const struct msghdr *message, struct msghdr *copy,
                          union address *native, int *flags)
{
	if (copy_in(copy, message, sizeof *copy) < 0) {
		struct channel channel;
		long kind = socket_kind(fd, &channel);
		return kind < 0 && kind != SOCKET_CHANNEL ? kind : -EFAULT;
	}
	if (!copy->msg_name)
		return 0;
	if ((int)copy->msg_namelen > (int)sizeof *native) /* as copy_msghdr_from_user has it */
		copy->msg_namelen = sizeof *native;
	long r = send_ruled(fd, copy->msg_name, copy->msg_namelen, *flags, native,
	                    &copy->msg_namelen);
	if (r < 0)
		return r;
	copy->msg_name = native;
	if (r == 0) {
		*flags &= ~MSG_FASTOPEN;
		copy->msg_name = NULL;
		copy->msg_namelen = 0;
	}
	return 0;
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	union address native;
	struct msghdr copy;
	long r = message_ruled(fd, message, &copy, &native, &flags);
	__typeof__(&sendmsg) real = INTERPOSER(sendmsg);
	long n = r < 0  ? finish(r)
	         : real ? real(fd, &copy, flags)
	                : finish_size(SYS_CANCELLABLE(SYS_sendmsg, fd, &copy, flags, 0, 0,
	                                              address_cookie(copy.msg_name, copy.msg_namelen)));
	n = sent(fd, n);
	TRACE("sendmsg", NUMBER("fd", fd), FLAGS("flags", flags), RESULT(outcome(n)));
	return n;
}

enum {
	MOST_MESSAGES = 1024, /* UIO_MAXIOV: sendmmsg(2) sends no more */
	AT_A_TIME = 16,
};

/* Where a part of a message is, which may be anywhere. */
static void *part_of(struct mmsghdr *messages, long index, size_t offset)
{
	return (void *)((uintptr_t)messages + (uintptr_t)index * sizeof *messages + offset);
}

/*
 * Sends up to AT_A_TIME of count messages, which are not none: how many the kernel has sent and
 * the program has been told of, or -errno.
 */
static long send_some(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
	struct mmsghdr copies[AT_A_TIME];
	union address natives[AT_A_TIME];
	unsigned most = flags & MSG_FASTOPEN ? 1 : AT_A_TIME, n = 0; /* the first connects */
	long r = 0;
	for (; n < count && n < most; n++) {
		r = message_ruled(fd, part_of(messages, (long)n, 0), &copies[n].msg_hdr, &natives[n], &flags);
		if (r < 0)
			break;
	}
	if (n == 0)
		return r;
	__typeof__(&sendmmsg) real = INTERPOSER(sendmmsg);
	long done = real ? real(fd, copies, n, flags)
	                 : SYS_CANCELLABLE(SYS_sendmmsg, fd, copies, n, flags, 0,
	                                   address_cookie(copies->msg_hdr.msg_name, copies->msg_hdr.msg_namelen));
	if (done < 0)
		return real ? -get_errno() : done;
	for (long i = 0; i < done; i++) {
		if (copy_out(part_of(messages, i, offsetof(struct mmsghdr, msg_len)), &copies[i].msg_len,
		             sizeof copies[i].msg_len) < 0)
			return i ? i : -EFAULT;
	}
	return done;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
	int saved = get_errno();
	unsigned sent_count = 0;
	long n = 0;
	if (count == 0) { /* the descriptor is looked at */
		__typeof__(&sendmmsg) real = INTERPOSER(sendmmsg);
		return real ? real(fd, messages, 0, flags)
		            : finish(SYS(SYS_sendmmsg, fd, messages, 0, flags));
	}
	count = count < MOST_MESSAGES ? count : MOST_MESSAGES;
	do {
		n = send_some(fd, part_of(messages, (long)sent_count, 0), count - sent_count, flags);
		sent_count += n > 0 ? (unsigned)n : 0;
	} while (n == AT_A_TIME && sent_count < count);
	TRACE("sendmmsg", NUMBER("fd", fd), FLAGS("flags", flags), NUMBER("messages", count),
	      RESULT(sent_count ? (long)sent_count : n));
	if (sent_count == 0)
		return (int)sent(fd, finish(n));
	set_errno(saved);
	return (int)sent_count;
}

/* What 32-bit programs with a 64-bit time_t import. */
EXPORT ssize_t __sendmsg64(int fd, const struct msghdr *message, int flags) ALIAS(sendmsg);
EXPORT int __sendmmsg64(int fd, struct mmsghdr *messages, unsigned count, int flags) ALIAS(sendmmsg);
