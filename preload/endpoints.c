/*
 * getpeername and getsockname: a channel's ends have the addresses that its connection has, and
 * there is a peer once setup has ended well.
 */
#include "trace.h"

#include <poll.h>

/*
 * Whether setup has ended well. A channel that is writable has; one that is not is
 * still being set up, or full.
 */
static long channel_connected(int fd, const struct channel *channel)
{
	long events = socket_poll(fd, POLLOUT);
	if (events < 0)
		return events;
	if (events & (POLLERR | POLLHUP))
		return -ENOTCONN;
	if (events & POLLOUT)
		return 0;
	struct tw_request request;
	struct tw_reply reply;
	request_init(&request, TW_VERDICT);
	request.channel = channel->id;
	long r = control_ask(&request, -1, &reply, NULL);
	if (r < 0)
		return r;
	return reply.answer == TW_ANSWER_GOOD ? 0 : -ENOTCONN;
}

static int get_peer(int fd, struct sockaddr *addr, socklen_t *len)
{
	struct channel channel;
	if (socket_kind(fd, &channel) != SOCKET_CHANNEL) {
		__typeof__(&getpeername) real = INTERPOSER(getpeername);
		return real ? real(fd, addr, len) : finish(SYS(SYS_getpeername, fd, addr, len));
	}
	long r = channel.listens ? -ENOTCONN : channel_connected(fd, &channel);
	if (r == 0) {
		union address peer;
		r = address_copy(&peer, address_write(&channel.peer, &peer), addr, len);
	}
	return finish(r);
}

static int get_own(int fd, struct sockaddr *addr, socklen_t *len)
{
	struct channel channel;
	if (socket_kind(fd, &channel) != SOCKET_CHANNEL) {
		__typeof__(&getsockname) real = INTERPOSER(getsockname);
		return real ? real(fd, addr, len) : finish(SYS(SYS_getsockname, fd, addr, len));
	}
	long upstream = channel_borrow(&channel, TW_UPSTREAM);
	if (upstream < 0)
		return finish(upstream);
	long r = SYS(SYS_getsockname, upstream, addr, len);
	SYS(SYS_close, upstream);
	return finish(r);
}

EXPORT int getpeername(int fd, struct sockaddr *restrict addr, socklen_t *restrict len)
{
	int r = get_peer(fd, addr, len);
	TRACE("getpeername", NUMBER("fd", fd), RESULT(outcome(r)));
	return r;
}

EXPORT int getsockname(int fd, struct sockaddr *restrict addr, socklen_t *restrict len)
{
	int r = get_own(fd, addr, len);
	TRACE("getsockname", NUMBER("fd", fd), RESULT(outcome(r)));
	return r;
}
