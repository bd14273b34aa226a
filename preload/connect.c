/*
 * connect makes a channel of a socket that a rule is about. A blocking one waits for the channel's
 * setup, and a second one asks how that has ended.
 */
#include "trace.h"

#include <fcntl.h>
#include <netinet/tcp.h>

/*
 * Waits until setup has ended, as connect(2) waits: for as long as SO_SNDTIMEO says,
 * restarted after a signal whose handler wants that (signal(7)), and as a cancellation
 * point. -EFAULT when it has ended well, -EAGAIN when the time is over, -EINTR, or how the
 * send has failed otherwise. A descriptor that is closed meanwhile does not end it: the kernel
 * holds the channel for as long as the send goes on.
 *
 * While setup goes on there is no room in the channel, so a send waits. This one has
 * nothing to send: when there is room the kernel finds that the byte cannot be read
 * (unix_stream_sendmsg allocates first and copies then) and says EFAULT. No descriptor
 * is held meanwhile that a handler could jump away from.
 */
static long wait_for_end(int fd)
{
	return SYS_CANCELLABLE(SYS_sendto, fd, unreadable(), 1, MSG_NOSIGNAL, NULL, 0);
}

/* Whether fd is channel. Another thread may have closed it, or have opened something else there. */
static bool is_channel(int fd, const struct channel *channel)
{
	struct channel now;
	return socket_kind(fd, &now) == SOCKET_CHANNEL && now.id == channel->id;
}

/* What the worker says about a channel's setup to a connect. */
static long ask_verdict(const struct channel *channel, uint16_t flags, struct tw_reply *reply)
{
	struct tw_request request;
	request_init(&request, TW_VERDICT);
	request.flags = flags;
	request.channel = channel->id;
	return control_ask(&request, -1, reply, NULL);
}

/* The errno that a connect reports. The kernel's own, which came with it, is told then. */
static long told_error(int fd, const struct channel *channel, const struct tw_reply *reply)
{
	int pending;
	socklen_t len = sizeof pending;
	if (is_channel(fd, channel))
		SYS(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, &pending, &len);
	return reply->error > 0 ? -reply->error : -ENETDOWN;
}

/*
 * The end of a connect that has waited, and its wait has ended in waited: 0 or -errno. It ends as
 * setup has where fd was closed meanwhile, as TCP's does.
 */
static long finish_connect(int fd, const struct channel *channel, uint16_t flags, long waited)
{
	struct tw_reply reply;
	long r = ask_verdict(channel, TW_CONSUME | flags, &reply);
	if (r < 0)
		return r;
	bool there = is_channel(fd, channel);
	switch (reply.answer) {
	case TW_ANSWER_GOOD:
		/* If it has broken since, wait_for_end may have taken the reset off the socket,
		 * and reading would find an end that looks like the server's. */
		return !there || socket_poll(fd, 0) == 0 ? 0 : -ECONNRESET;
	case TW_ANSWER_ISCONN:
		return -EISCONN;
	case TW_ANSWER_PENDING: /* another thread has shut it down, or closed it before the wait */
		return there ? -ECONNRESET : -EBADF;
	case TW_ANSWER_GONE: /* with its last descriptor, where that was closed */
		return !there && waited == -EFAULT ? 0 : -ECONNRESET;
	case TW_ANSWER_ERROR:
		return told_error(fd, channel, &reply);
	default:
		return -ENETDOWN;
	}
}

/*
 * The rest of the connect that has made fd a channel, and waits (TW_CONNECT, TW_CONSUME).
 * interrupted is set where a signal came before.
 */
static long await_channel(int fd, bool interrupted)
{
	struct channel channel;
	struct tw_reply reply;
	if (socket_kind(fd, &channel) != SOCKET_CHANNEL)
		return -EBADF; /* another thread has closed it */
	long r = interrupted ? -EINTR : wait_for_end(fd);
	if (r == -EAGAIN || r == -EINTR) {
		ask_verdict(&channel, TW_UNTOLD, &reply);
		return r == -EAGAIN ? -EINPROGRESS : r;
	}
	if (r == -EFAULT && is_channel(fd, &channel) && channel_good(fd))
		return 0;
	return finish_connect(fd, &channel, TW_UNTOLD, r);
}

/* Whether SO_SNDTIMEO limits how long a connect of fd's waits. */
static bool has_send_timeout(int fd)
{
	long limit[2] = {0, 0};
	socklen_t len = sizeof limit;
	return SYS(SYS_getsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, limit, &len) == 0 &&
	       (limit[0] || limit[1]);
}

/*
 * The exchange for a socket that is not yet a channel. Signals are blocked until
 * only the verdict is missing, so that a handler which jumps away finds nothing
 * half done.
 */
static long connect_new(int fd, const struct tw_addr *to, union address *native,
                        socklen_t *native_len)
{
	struct tw_request request;
	struct tw_reply reply;
	uint64_t mask;
	bool wait = !socket_nonblocking(fd);

	request_init(&request, TW_CONNECT);
	request.flags = wait ? TW_CONSUME : 0;
	request.count = 1;
	request.addrs[0] = *to;
	signals_block(&mask);
	long r = channel_ask(fd, &request, &reply);
	if (r == TW_ANSWER_CHANNEL) {
		r = -EINPROGRESS;
	} else if (r == TW_ANSWER_PASS) {
		r = -ENETDOWN;
		if (reply.count == 1) {
			*native_len = address_write(&reply.addrs[0], native);
			r = CALL_NATIVE;
		}
	}
	wait = wait && r == -EINPROGRESS;
	bool interrupted = wait && signals_interrupt(&mask, has_send_timeout(fd));
	signals_restore(&mask);
	return wait ? await_channel(fd, interrupted) : r;
}

/* Gives fd a TCP socket again: the channel's own upstream, or a new one. */
static long channel_dissolve(int fd, const struct channel *channel)
{
	long fresh = channel_borrow(channel, TW_RESTART);
	if (fresh == -ENOTCONN)
		fresh = SYS(SYS_socket, channel->peer.family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fresh < 0)
		return fresh;
	return socket_replace(fd, (int)fresh);
}

/* What a second connect on the same descriptor says: CALL_NATIVE means start over. */
static long connect_again(int fd, const struct channel *channel)
{
	struct tw_reply reply;
	long r = ask_verdict(channel, TW_CONSUME, &reply);
	if (r < 0)
		return r;
	switch (reply.answer) {
	case TW_ANSWER_PENDING:
		r = socket_nonblocking(fd) ? -EAGAIN : wait_for_end(fd);
		if (r == -EAGAIN || r == -EINTR)
			return r == -EAGAIN ? -EALREADY : r;
		return finish_connect(fd, channel, 0, r);
	case TW_ANSWER_GOOD:
		return 0;
	case TW_ANSWER_ISCONN:
		return -EISCONN;
	case TW_ANSWER_ERROR:
		return told_error(fd, channel, &reply);
	case TW_ANSWER_GONE:
		return CALL_NATIVE;
	default:
		return -ENETDOWN;
	}
}

long connect_ruled(int fd, const struct sockaddr *addr, socklen_t len, union address *native,
                   socklen_t *native_len)
{
	struct channel channel;
	struct tw_addr to;
	long kind = socket_kind(fd, &channel);
	if (kind < 0 && kind != SOCKET_CHANNEL)
		return kind;
	if (len > sizeof(struct sockaddr_storage)) /* as move_addr_to_kernel has it */
		return -EINVAL;
	union address given;
	if (copy_in(&given, addr, len) < 0)
		return -EFAULT;
	bool readable = address_read(&given.any, len, &to);

	if (kind == SOCKET_CHANNEL && channel.listens)
		return -EISCONN;
	if (kind == SOCKET_CHANNEL) {
		bool dissolve = to.family == AF_UNSPEC && len >= sizeof given.any.sa_family;
		long r = dissolve ? CALL_NATIVE : connect_again(fd, &channel);
		if (r != CALL_NATIVE)
			return r;
		r = channel_dissolve(fd, &channel);
		if (r < 0 || dissolve)
			return r;
		kind = channel.peer.family;
	}
	if ((kind == AF_INET || kind == AF_INET6) && readable) {
		bool passes = port_passes(to.port);
		if (!passes && possibly(is_tcp(fd)))
			return connect_new(fd, &to, native, native_len);
		if (passes)
			notice_passed(fd, &to);
		if (address_synthetic(&to)) {
			long r = address_resolve(&to, NULL);
			*native_len = r < 0 ? 0 : address_write(&to, native);
			return r < 0 ? r : CALL_NATIVE;
		}
	}
	/* Not ours. */
	*native_len = len;
	__builtin_memcpy(native, &given, len);
	return CALL_NATIVE;
}

EXPORT int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	union address native;
	socklen_t native_len;
	long r = connect_ruled(fd, addr, len, &native, &native_len);
	if (r != CALL_NATIVE) {
		TRACE("connect", NUMBER("fd", fd), SOCKADDR("to", addr, len), RESULT(r));
		return finish(r);
	}
	const struct sockaddr *to = addr ? &native.any : NULL;
	__typeof__(&connect) real = INTERPOSER(connect);
	r = real ? real(fd, to, native_len) : finish(SYS_CANCELLABLE(SYS_connect, fd, to, native_len, 0, 0,
	                                         address_cookie(to, native_len)));
	TRACE("connect", NUMBER("fd", fd), SOCKADDR("to", addr, len),
	      SOCKADDR("native", to, native_len), RESULT(outcome(r)));
	return (int)r;
}

EXPORT int __connect(int fd, const struct sockaddr *addr, socklen_t len) ALIAS(connect);
