/* connect, and the other calls that connect a socket. */
#include "shim.h"

#include <fcntl.h>
#include <netinet/tcp.h>

static bool is_tcp(int fd)
{
	int protocol = 0;
	socklen_t len = sizeof protocol;
	return SYS(SYS_getsockopt, fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 &&
	       (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
}

/*
 * Waits until the worker says how setup ended, as connect(2) waits: for as long as
 * SO_SNDTIMEO says, restarted after a signal whose handler wants that. recv on a
 * socket has the same rules (signal(7)), and is a cancellation point too.
 */
static long wait_for_verdict(int control, int fd)
{
	long limit[2];
	socklen_t len = sizeof limit;
	if (SYS(SYS_getsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, limit, &len) == 0)
		SYS(SYS_setsockopt, control, SOL_SOCKET, SO_RCVTIMEO, limit, len);

	struct tw_reply reply;
	__typeof__(&recv) real = NEXT(recv);
	long n;
	if (real) {
		int saved = get_errno();
		n = real(control, &reply, sizeof reply, 0);
		if (n < 0)
			n = -get_errno();
		set_errno(saved);
	} else {
		n = SYS(SYS_recvfrom, control, &reply, sizeof reply, 0, NULL, NULL);
	}
	if (n == -EAGAIN)
		return -EINPROGRESS;
	if (n == -EINTR)
		return n;
	if (n != offsetof(struct tw_reply, addrs) || reply.magic != TW_MAGIC)
		return -ENETDOWN;
	switch (reply.answer) {
	case TW_ANSWER_GOOD:
		return 0;
	case TW_ANSWER_ISCONN:
		return -EISCONN;
	default:
		/* The kernel's own ECONNRESET, that came with the failure, is told by this. */
		if (reply.error > 0) {
			int pending;
			len = sizeof pending;
			SYS(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, &pending, &len);
			return -reply.error;
		}
		return -ENETDOWN;
	}
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
	int stand_in = -1;
	bool wait = !socket_nonblocking(fd);

	signals_block(&mask);
	long control = control_open();
	if (control < 0) {
		signals_restore(&mask);
		return control;
	}
	request_init(&request, TW_CONNECT);
	request.count = 1;
	request.addrs[0] = *to;
	long r = control_send((int)control, &request, fd);
	if (r == 0)
		r = control_receive((int)control, &reply, &stand_in);
	if (r == 0) {
		switch (reply.answer) {
		case TW_ANSWER_PASS:
			if (stand_in >= 0)
				port_map_keep(stand_in);
			stand_in = -1;
			if (reply.count == 1) {
				*native_len = address_write(&reply.addrs[0], native);
				r = CALL_NATIVE;
			} else {
				r = -ENETDOWN;
			}
			break;
		case TW_ANSWER_CHANNEL:
			r = socket_replace(fd, stand_in);
			stand_in = -1;
			if (r == 0) {
				request_init(&request, TW_TAKEN);
				request.flags = wait ? TW_WAIT : 0;
				r = control_send((int)control, &request, -1);
			}
			if (r == 0)
				r = -EINPROGRESS;
			break;
		case TW_ANSWER_ERROR:
			r = reply.error > 0 ? -reply.error : -ENETDOWN;
			break;
		default:
			r = -ENETDOWN;
		}
	}
	if (stand_in >= 0)
		SYS(SYS_close, stand_in);
	signals_restore(&mask);
	if (r == -EINPROGRESS && wait)
		r = wait_for_verdict((int)control, fd);
	SYS(SYS_close, control);
	return r;
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
	struct tw_request request;
	struct tw_reply reply;
	uint64_t mask;
	signals_block(&mask);
	long control = control_open();
	if (control < 0) {
		signals_restore(&mask);
		return control;
	}
	request_init(&request, TW_VERDICT);
	request.flags = TW_CONSUME;
	request.channel = channel->id;
	long r = control_send((int)control, &request, -1);
	if (r == 0)
		r = control_receive((int)control, &reply, NULL);
	if (r == 0 && reply.answer == TW_ANSWER_PENDING && !socket_nonblocking(fd)) {
		request.flags = TW_CONSUME | TW_WAIT;
		r = control_send((int)control, &request, -1);
		signals_restore(&mask);
		if (r == 0)
			r = wait_for_verdict((int)control, fd);
		SYS(SYS_close, control);
		return r;
	}
	signals_restore(&mask);
	SYS(SYS_close, control);
	if (r < 0)
		return r;
	switch (reply.answer) {
	case TW_ANSWER_PENDING:
		return -EALREADY;
	case TW_ANSWER_GOOD:
		return 0;
	case TW_ANSWER_ISCONN:
		return -EISCONN;
	case TW_ANSWER_ERROR:
		return reply.error > 0 ? -reply.error : -ENETDOWN;
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
	bool readable = address_read(addr, len, &to);
	long kind = socket_kind(fd, &channel);

	if (kind == SOCKET_CHANNEL) {
		bool dissolve = to.family == AF_UNSPEC && addr;
		long r = dissolve ? CALL_NATIVE : connect_again(fd, &channel);
		if (r != CALL_NATIVE)
			return r;
		r = channel_dissolve(fd, &channel);
		if (r < 0 || dissolve)
			return r;
		kind = channel.peer.family;
	}
	if ((kind == AF_INET || kind == AF_INET6) && readable) {
		bool synthetic = address_synthetic(&to);
		if ((synthetic || !port_passes(to.port)) && is_tcp(fd))
			return connect_new(fd, &to, native, native_len);
		if (synthetic) {
			long r = address_resolve(&to, NULL);
			*native_len = r < 0 ? 0 : address_write(&to, native);
			return r < 0 ? r : CALL_NATIVE;
		}
	}
	/* Not ours. The kernel copies 128 bytes at most (__sys_connect). */
	*native_len = len;
	if (addr && len <= sizeof *native)
		__builtin_memcpy(native, addr, len);
	return CALL_NATIVE;
}

EXPORT int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	union address native;
	socklen_t native_len;
	long r = connect_ruled(fd, addr, len, &native, &native_len);
	if (r != CALL_NATIVE)
		return finish(r);
	if (addr && native_len <= sizeof native)
		addr = &native.any;
	__typeof__(&connect) real = NEXT(connect);
	return real ? real(fd, addr, native_len)
	            : finish(SYS(SYS_connect, fd, addr, native_len));
}

EXPORT int __connect(int fd, const struct sockaddr *addr, socklen_t len) ALIAS(connect);
