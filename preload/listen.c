/*
 * listen, accept and bind: servers. A TCP socket that the worker serves on is replaced by
 * an AF_UNIX socket on which the program listens for channels, so that waiting for clients
 * needs no hooks. What these hooks do is to show the worker what listens, and to give the
 * program the client's address.
 */
#include "shim.h"

/*
 * Shows the worker fd, a socket that listens, where a rule may be about it: 0, with what
 * the program is to listen on in its place, or -errno.
 */
static long listen_ruled(int fd)
{
	union address own;
	struct tw_addr local;
	struct tw_request request;
	struct tw_reply reply;
	uint64_t mask;
	socklen_t len = sizeof own;
	long named = SYS(SYS_getsockname, fd, &own, &len);
	if (named < 0)
		return named;
	if (!address_read(&own.any, len, &local) ||
	    listen_passes(local.port) || !may_be_tcp(fd))
		return 0;
	request_init(&request, TW_LISTEN);
	signals_block(&mask);
	long r = channel_ask(fd, &request, &reply, 0);
	signals_restore(&mask);
	return r < 0 ? r : 0;
}

EXPORT int listen(int fd, int backlog)
{
	__typeof__(&listen) real = NEXT(listen);
	int r = real ? real(fd, backlog) : finish(SYS(SYS_listen, fd, backlog));
	if (r < 0)
		return r;
	int saved = get_errno();
	long ruled = listen_ruled(fd);
	if (ruled == 0) {
		set_errno(saved);
		return 0;
	}
	SYS(SYS_shutdown, fd, SHUT_RDWR); /* nobody may be let in */
	return finish(ruled);
}

/*
 * Before an accept on fd: whether what it gives is a channel, or -errno. A socket that
 * began to listen out of our sight is replaced now.
 */
static long serves(int fd)
{
	struct channel channel;
	long kind = socket_kind(fd, &channel);
	if (kind == AF_INET || kind == AF_INET6) {
		long r = listen_ruled(fd);
		if (r < 0)
			return r;
		kind = socket_kind(fd, &channel);
	}
	return kind == SOCKET_CHANNEL && channel.listens;
}

/* After it: tells the worker who has accepted, and the program who its client is: 0 or -errno. */
static long welcome(int fd, struct sockaddr *addr, socklen_t *len)
{
	struct tw_request request;
	struct channel channel;
	union address peer;
	const int buffer = TW_SEND_BUFFER;
	SYS(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
	request_init(&request, TW_ACCEPT);
	SYS(SYS_sendto, fd, request.token, sizeof request.token, MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0);
	if (!addr)
		return 0;
	if (socket_kind(fd, &channel) != SOCKET_CHANNEL)
		return -ECONNABORTED; /* as do_accept says of a client without an address */
	return address_copy(&peer, address_write(&channel.peer, &peer), addr, len);
}

EXPORT int accept4(int fd, struct sockaddr *restrict addr, socklen_t *restrict len, int flags)
{
	int saved = get_errno();
	long served = serves(fd);
	if (served < 0)
		return finish(served);
	set_errno(saved);
	struct sockaddr *to = served ? NULL : addr;
	socklen_t *to_len = served ? NULL : len;
	__typeof__(&accept4) real = NEXT(accept4);
	int r = real ? real(fd, to, to_len, flags)
	             : finish(SYS(SYS_accept4, fd, to, to_len, flags));
	long welcomed = r >= 0 && served ? welcome(r, addr, len) : 0;
	if (welcomed < 0) {
		SYS(SYS_close, r); /* the kernel has let the client in, and lets it go, too */
		return finish(welcomed);
	}
	return r;
}

EXPORT int accept(int fd, struct sockaddr *restrict addr, socklen_t *restrict len)
{
	return accept4(fd, addr, len, 0);
}

/* A port may be in use only because the worker has not seen yet that its program has
 * stopped to listen. */
EXPORT int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	__typeof__(&bind) real = NEXT(bind);
	int r = real ? real(fd, addr, len) : finish(SYS(SYS_bind, fd, addr, len));
	union address given;
	struct tw_addr local;
	if (r == 0 || get_errno() != EADDRINUSE || len > sizeof given ||
	    copy_in(&given, addr, len) < 0 || !address_read(&given.any, len, &local) ||
	    listen_passes(local.port))
		return r;
	struct tw_request request;
	struct tw_reply reply;
	request_init(&request, TW_SWEEP);
	if (control_ask(&request, -1, &reply, NULL) < 0) {
		set_errno(EADDRINUSE);
		return r;
	}
	return real ? real(fd, &given.any, len) : finish(SYS(SYS_bind, fd, &given, len));
}
