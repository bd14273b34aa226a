/*
 * listen, accept and bind: servers. A TCP socket that the worker serves on is replaced by
 * an AF_UNIX socket on which the program listens for channels, so that waiting for clients
 * needs no hooks. What these hooks do is to show the worker what listens, and to give the
 * program the client's address.
 */
#include "trace.h"

#include <poll.h>

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
	if (stands_aside())
		return 0;
	long named = SYS(SYS_getsockname, fd, &own, &len);
	if (named < 0)
		return named;
	if (!address_read(&own.any, len, &local) ||
	    listen_passes(local.port) || !possibly(is_tcp(fd)))
		return 0;
	request_init(&request, TW_LISTEN);
	signals_block(&mask);
	long r = channel_ask(fd, &request, &reply);
	signals_restore(&mask);
	return r < 0 ? r : 0;
}

EXPORT int listen(int fd, int backlog)
{
	__typeof__(&listen) real = INTERPOSER(listen);
	int r = real ? real(fd, backlog) : finish(SYS(SYS_listen, fd, backlog));
	int saved = get_errno();
	long ruled = r < 0 ? -saved : listen_ruled(fd);
	TRACE("listen", NUMBER("fd", fd), NUMBER("backlog", backlog), RESULT(ruled));
	if (r < 0)
		return r;
	if (ruled == 0) {
		set_errno(saved);
		return 0;
	}
	SYS(SYS_shutdown, fd, SHUT_RDWR); /* nobody may be let in */
	return finish(ruled);
}

/*
 * Whether fd, on which is to be accepted or was, is what the program listens on for channels, or
 * -errno. A socket that began to listen out of our sight, or that a new rule is about, is replaced
 * now.
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
	if (kind < 0 && kind != SOCKET_CHANNEL)
		return kind;
	return kind == SOCKET_CHANNEL && channel.listens;
}

/*
 * Tells the worker that its client was accepted from listener, whose timeouts it gets. Where another's
 * function has made the call, the kernel has handed that over, and the worker has done all of this itself and
 * left a mark. The timeouts may be another call's of the worker's now, for a moment.
 */
static void welcome(int fd, int listener)
{
	struct tw_request request;
	const int buffer = TW_SEND_BUFFER;
	if (channel_marks(fd) & TW_WELCOMED)
		return;
	options_copy(listener, fd);
	SYS(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
	request_init(&request, TW_ACCEPT);
	SYS(SYS_sendto, fd, request.token, sizeof request.token, MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0);
}

/* Waits for a client's first words, which the worker is about to write: a server may take a client for
 * idle that has not said anything yet. A worker that is stopped meanwhile is not waited for. */
static void await_words(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	const long limit[2] = {0, TW_WORDS_TIME * 1000 * 1000};
	SYS(SYS_ppoll, &p, 1, limit, NULL, 0);
}

/*
 * accept4(2), from what stands in the place of fd where it is served. A rule may have come into
 * force while this waited on a TCP socket: that client is let go, as if it had gone by itself, and
 * the next one comes through the worker.
 */
static long accept_ruled(int fd, union address *peer, socklen_t *len, int flags)
{
	__typeof__(&accept4) real = INTERPOSER(accept4);
	struct channel channel;
	const socklen_t room = *len;
	for (;;) {
		int saved = get_errno();
		long served = serves(fd);
		if (served < 0)
			return served;
		*len = room;
		long r = real ? real(fd, peer ? &peer->any : NULL, peer ? len : NULL, flags)
		              : SYS_CANCELLABLE(SYS_accept4, fd, peer, peer ? len : NULL, flags);
		if (r < 0 && real)
			r = -get_errno();
		if (r < 0 && (served || r != -EAGAIN)) /* the worker has made it non-blocking, perhaps */
			return r;
		set_errno(saved);
		if (r >= 0 && socket_kind((int)r, &channel) == SOCKET_CHANNEL) {
			welcome((int)r, fd);
			if (channel.words)
				await_words((int)r);
			if (peer)
				*len = address_write(&channel.peer, peer);
			return r;
		}
		served = serves(fd);
		if (served == 0)
			return r;
		if (r >= 0)
			SYS(SYS_close, r);
		if (served < 0)
			return served;
	}
}

EXPORT int accept4(int fd, struct sockaddr *restrict addr, socklen_t *restrict len, int flags)
{
	union address peer;
	socklen_t peer_len = sizeof peer;
	long r = accept_ruled(fd, addr ? &peer : NULL, &peer_len, flags);
	TRACE("accept4", NUMBER("fd", fd), FLAGS("flags", flags),
	      SOCKADDR("from", r >= 0 && addr ? &peer.any : NULL, peer_len), RESULT(r));
	long told = r >= 0 && addr ? address_copy(&peer, peer_len, addr, len) : 0;
	if (told < 0) {
		SYS(SYS_close, r); /* the kernel has let the client in, and lets it go, too */
		return finish(told);
	}
	return finish(r);
}

EXPORT int accept(int fd, struct sockaddr *restrict addr, socklen_t *restrict len)
{
	return accept4(fd, addr, len, 0);
}

/* bind(2), with the cookie. */
static int bind_native(int fd, const struct sockaddr *addr, socklen_t len)
{
	__typeof__(&bind) real = INTERPOSER(bind);
	return real ? real(fd, addr, len) : finish(SYS(SYS_bind, fd, addr, len));
}

/*
 * A program may bind to a name that it has looked up, and is bound to what a synthetic address stands for.
 * A port may be in use only because the worker has not seen yet that its program has stopped to
 * listen.
 */
static int bind_ruled(int fd, const struct sockaddr *addr, socklen_t len)
{
	union address given;
	struct tw_addr local;
	if (stands_aside() || len > sizeof given || copy_in(&given, addr, len) < 0 ||
	    !address_read(&given.any, len, &local))
		return bind_native(fd, addr, len);
	if (address_synthetic(&local) && address_resolve(&local, NULL) == 0)
		len = address_write(&local, &given);
	int r = bind_native(fd, &given.any, len);
	if (r == 0 || get_errno() != EADDRINUSE || listen_passes(local.port))
		return r;
	struct tw_request request;
	struct tw_reply reply;
	request_init(&request, TW_SWEEP);
	if (control_ask(&request, -1, &reply, NULL) < 0) {
		set_errno(EADDRINUSE);
		return r;
	}
	return bind_native(fd, &given.any, len);
}

EXPORT int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	int r = bind_ruled(fd, addr, len);
	TRACE("bind", NUMBER("fd", fd), SOCKADDR("to", addr, len), RESULT(outcome(r)));
	return r;
}
