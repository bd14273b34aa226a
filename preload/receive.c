/*
 * recv, recvfrom, recvmsg and recvmmsg: with some flags TCP does what AF_UNIX does not, and it names
 * no sender. What has none of that goes to the kernel as it came, without a further system call.
 */
#include "shim.h"

#include <sys/uio.h>

/* Receives up to size bytes, which nobody wants: how many, or -errno. */
static long discard(int fd, size_t size, int flags)
{
	enum { PARTS = 16 };
	static char unread[64 << 10];
	struct iovec parts[PARTS];
	struct msghdr message = {.msg_iov = parts};
	for (; size > 0 && message.msg_iovlen < PARTS; message.msg_iovlen++) {
		size_t part = size < sizeof unread ? size : sizeof unread;
		parts[message.msg_iovlen] = (struct iovec){unread, part};
		size -= part;
	}
	__typeof__(&recvmsg) real = NEXT(recvmsg);
	long n = real ? real(fd, &message, flags) : SYS(SYS_recvmsg, fd, &message, flags);
	return n < 0 && real ? -get_errno() : n;
}

/*
 * Whether a call on fd is to be answered as TCP would, and then *result is how: the error queue of
 * a channel is empty, and MSG_TRUNC (tcp(7)) drops what comes without writing to the program's memory.
 */
static bool answered(int fd, size_t size, int flags, ssize_t *result)
{
	struct channel channel;
	if (!(flags & (MSG_ERRQUEUE | MSG_TRUNC)) || socket_kind(fd, &channel) != SOCKET_CHANNEL)
		return false;
	long n = flags & MSG_ERRQUEUE ? -EAGAIN : discard(fd, size, flags & ~MSG_TRUNC);
	*result = finish(n);
	return true;
}

/*
 * Whether a name that the kernel has told of, len bytes, is that of a channel's other end. No
 * Internet address is as long, so that for most senders nothing is asked.
 */
static bool nobodys(int fd, socklen_t len)
{
	struct channel channel;
	return len > sizeof(struct sockaddr_in6) && socket_kind(fd, &channel) == SOCKET_CHANNEL;
}

EXPORT ssize_t recvfrom(int fd, void *restrict data, size_t size, int flags,
                        struct sockaddr *restrict addr, socklen_t *restrict len)
{
	ssize_t n;
	if (answered(fd, size, flags, &n)) {
		const socklen_t none = 0;
		if (n >= 0 && addr && copy_out(len, &none, sizeof none) < 0)
			return finish(-EFAULT);
		return n;
	}
	__typeof__(&recvfrom) real = NEXT(recvfrom);
	n = real ? real(fd, data, size, flags, addr, len)
	         : SYS(SYS_recvfrom, fd, data, size, flags, addr, len);
	if (n < 0)
		return received(fd, real ? n : finish(n));
	if (addr && nobodys(fd, *len))
		*len = 0;
	return n;
}

EXPORT ssize_t recv(int fd, void *data, size_t size, int flags)
{
	ssize_t n;
	if (answered(fd, size, flags, &n))
		return n;
	__typeof__(&recv) real = NEXT(recv);
	return real ? received(fd, real(fd, data, size, flags))
	            : recvfrom(fd, data, size, flags, NULL, NULL);
}

/* What _FORTIFY_SOURCE makes of these: room is what data has. */
ssize_t __recv_chk(int fd, void *data, size_t size, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *restrict data, size_t size, size_t room, int flags,
                       struct sockaddr *restrict addr, socklen_t *restrict len);

EXPORT ssize_t __recv_chk(int fd, void *data, size_t size, size_t room, int flags)
{
	__typeof__(&__recv_chk) real = NEXT(__recv_chk);
	return real && size > room ? real(fd, data, size, room, flags) : recv(fd, data, size, flags);
}

EXPORT ssize_t __recvfrom_chk(int fd, void *restrict data, size_t size, size_t room, int flags,
                              struct sockaddr *restrict addr, socklen_t *restrict len)
{
	__typeof__(&__recvfrom_chk) real = NEXT(__recvfrom_chk);
	return real && size > room ? real(fd, data, size, room, flags, addr, len)
	                           : recvfrom(fd, data, size, flags, addr, len);
}

/* The same for a message: its size is all that its parts have. */
static bool message_answered(int fd, struct msghdr *message, int flags, ssize_t *result)
{
	struct msghdr copy;
	struct iovec part;
	size_t size = 0;
	if (!(flags & (MSG_ERRQUEUE | MSG_TRUNC)) || copy_in(&copy, message, sizeof copy) < 0)
		return false;
	for (size_t i = 0; i < (size_t)copy.msg_iovlen; i++) {
		if (copy_in(&part, copy.msg_iov + i, sizeof part) < 0)
			return false;
		size += part.iov_len;
	}
	if (!answered(fd, size, flags, result))
		return false;
	if (*result >= 0) {
		copy.msg_namelen = 0;
		copy.msg_controllen = 0;
		copy.msg_flags = 0;
		if (copy_out(message, &copy, sizeof copy) < 0)
			*result = finish(-EFAULT);
	}
	return true;
}

/* Takes the sender's name off a message that the kernel has filled in. */
static void forget_name(int fd, struct msghdr *message)
{
	if (message->msg_name && nobodys(fd, message->msg_namelen))
		message->msg_namelen = 0;
}

static ssize_t receive_message(__typeof__(&recvmsg) real, int fd, struct msghdr *message, int flags)
{
	ssize_t n;
	if (message_answered(fd, message, flags, &n))
		return n;
	n = real ? real(fd, message, flags) : finish(SYS(SYS_recvmsg, fd, message, flags));
	if (n >= 0)
		forget_name(fd, message);
	return received(fd, n);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	return receive_message(NEXT(recvmsg), fd, message, flags);
}

/* Answers for the first of messages, which is as many as there may be. */
static bool first_answered(int fd, struct mmsghdr *messages, int flags, int *result)
{
	ssize_t n;
	if (!message_answered(fd, &messages->msg_hdr, flags, &n))
		return false;
	unsigned size = (unsigned)n;
	if (n >= 0 && copy_out(&messages->msg_len, &size, sizeof size) < 0)
		n = finish(-EFAULT);
	*result = n < 0 ? -1 : 1;
	return true;
}

/* The end of a call that has received n messages. */
static int received_all(int fd, struct mmsghdr *messages, int n)
{
	for (int i = 0; i < n; i++)
		forget_name(fd, &messages[i].msg_hdr);
	return (int)received(fd, n);
}

EXPORT int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags,
                    struct timespec *limit)
{
	int n;
	if (count > 0 && first_answered(fd, messages, flags, &n))
		return n;
	__typeof__(&recvmmsg) real = NEXT(recvmmsg);
	n = real ? real(fd, messages, count, flags, limit)
	         : finish(SYS(SYS_recvmmsg, fd, messages, count, flags, limit));
	return received_all(fd, messages, n);
}

/* What 32-bit programs with a 64-bit time_t import. */
ssize_t __recvmsg64(int fd, struct msghdr *message, int flags);
int __recvmmsg64(int fd, struct mmsghdr *messages, unsigned count, int flags, void *limit);

EXPORT ssize_t __recvmsg64(int fd, struct msghdr *message, int flags)
{
	return receive_message(NEXT(__recvmsg64), fd, message, flags);
}

EXPORT int __recvmmsg64(int fd, struct mmsghdr *messages, unsigned count, int flags, void *limit)
{
	int n;
	__typeof__(&__recvmmsg64) real = NEXT(__recvmmsg64);
	if (count > 0 && first_answered(fd, messages, flags, &n))
		return n;
	return received_all(fd, messages, real ? real(fd, messages, count, flags, limit) : finish(-ENOSYS));
}
