/* Descriptors that are channels: telling them apart, and putting them in place. */
#include "shim.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>

static const char hex[] = "0123456789abcdef";

/* Reads digits hexadecimal digits at s; a wrong one reads as 0. */
static uint64_t read_hex(const char *s, int digits)
{
	uint64_t v = 0;
	while (digits--) {
		unsigned d = 0;
		while (d < 15 && hex[d] != *s)
			d++;
		v = v << 4 | (hex[d] == *s ? d : 0);
		s++;
	}
	return v;
}

/* Where the parts of a channel's name stand: see wire.h. */
enum {
	AT_PREFIX = 1,
	AT_CHANNEL = AT_PREFIX + sizeof TW_NAME_PREFIX - 1,
	AT_FAMILY = AT_CHANNEL + 16 + 1,
	AT_PORT = AT_FAMILY + 1,
	AT_SCOPE = AT_PORT + 4,
	AT_IP = AT_SCOPE + 8,
	SHORTEST = AT_IP + 2 * 4,
};

/* Reads a channel's name out of own. */
static bool read_channel(const union address *own, socklen_t len, struct channel *channel)
{
	const char *path = own->un.sun_path;
	size_t n = len - offsetof(struct sockaddr_un, sun_path);
	if (own->any.sa_family != AF_UNIX || n < SHORTEST || n > sizeof own->un.sun_path ||
	    path[0] != '\0' ||
	    memcmp(path + AT_PREFIX, TW_NAME_PREFIX, sizeof TW_NAME_PREFIX - 1) != 0)
		return false;
	bool v6 = path[AT_FAMILY] == '6';
	if (v6 && n < AT_IP + 2 * 16)
		return false;
	memset(channel, 0, sizeof *channel);
	channel->id = read_hex(path + AT_CHANNEL, 16);
	channel->peer.family = v6 ? AF_INET6 : AF_INET;
	channel->peer.port = (uint16_t)read_hex(path + AT_PORT, 4);
	channel->peer.scope = (uint32_t)read_hex(path + AT_SCOPE, 8);
	for (int i = 0; i < (v6 ? 16 : 4); i++)
		channel->peer.ip[i] = (uint8_t)read_hex(path + AT_IP + 2 * i, 2);
	return true;
}

/* Where the listener stands in the name of what programs listen on, or NULL. */
static const char *read_listener(const union address *own, socklen_t len)
{
	enum { DIGITS = 16, PREFIX = sizeof TW_LISTEN_PREFIX - 1 };
	if (own->any.sa_family != AF_UNIX || len <= offsetof(struct sockaddr_un, sun_path) ||
	    own->un.sun_path[0] != '/')
		return NULL;
	size_t n = len - offsetof(struct sockaddr_un, sun_path);
	if (n > sizeof own->un.sun_path)
		return NULL;
	while (n > 0 && own->un.sun_path[n - 1] == '\0') /* unix(7): it may be counted */
		n--;
	if (n < PREFIX + DIGITS)
		return NULL;
	const char *name = own->un.sun_path + n - DIGITS - PREFIX;
	return memcmp(name, TW_LISTEN_PREFIX, PREFIX) == 0 ? name + PREFIX : NULL;
}

long socket_kind(int fd, struct channel *channel)
{
	union address own;
	socklen_t len = sizeof own;
	long r = SYS(SYS_getsockname, fd, &own, &len);
	if (r < 0)
		return r;
	if (read_channel(&own, len, channel))
		return SOCKET_CHANNEL;
	const char *listener = read_listener(&own, len);
	if (!listener)
		return own.any.sa_family;

	/* One that was accepted there has its own name on the other side. */
	union address peer;
	len = sizeof peer;
	if (SYS(SYS_getpeername, fd, &peer, &len) == 0)
		return read_channel(&peer, len, channel) ? SOCKET_CHANNEL : AF_UNIX;
	memset(channel, 0, sizeof *channel);
	channel->id = read_hex(listener, 16);
	channel->listens = true;
	return SOCKET_CHANNEL;
}

bool channel_good(int fd)
{
	return socket_poll(fd, POLLOUT) == POLLOUT;
}

bool socket_nonblocking(int fd)
{
	long flags = SYS(SYS_fcntl, fd, F_GETFL);
	return flags >= 0 && (flags & O_NONBLOCK);
}

long socket_poll(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	const long now[2] = {0, 0};
	long r = SYS(SYS_ppoll, &p, 1, now, NULL, 0);
	return r < 0 ? r : p.revents;
}

/* Socket options that belong to the descriptor, not to the network. */
static void copy_options(int from, int to)
{
	static const int options[] = {SO_RCVTIMEO, SO_SNDTIMEO, SO_RCVLOWAT};
	for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
		long value[2];
		socklen_t len = sizeof value;
		if (SYS(SYS_getsockopt, from, SOL_SOCKET, options[i], value, &len) == 0)
			SYS(SYS_setsockopt, to, SOL_SOCKET, options[i], value, len);
	}
}

static void copy_status(int from, int to)
{
	const long which = O_NONBLOCK | O_ASYNC;
	long flags = SYS(SYS_fcntl, from, F_GETFL);
	long now = SYS(SYS_fcntl, to, F_GETFL);
	if (flags < 0 || now < 0 || (flags & which) == (now & which))
		return;
	if (flags & O_ASYNC) {
		struct f_owner_ex owner;
		if (SYS(SYS_fcntl, from, F_GETOWN_EX, &owner) == 0)
			SYS(SYS_fcntl, to, F_SETOWN_EX, &owner);
		SYS(SYS_fcntl, to, F_SETSIG, SYS(SYS_fcntl, from, F_GETSIG));
	}
	SYS(SYS_fcntl, to, F_SETFL, (now & ~which) | (flags & which));
}

static long replace_one(int fd, int stand_in)
{
	struct epoll_places places;
	long flags = SYS(SYS_fcntl, fd, F_GETFD);
	if (flags < 0)
		return flags;
	long r = epoll_leave(fd, &places);
	if (r < 0)
		return r;
	do
		r = SYS(SYS_dup3, stand_in, fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0);
	while (r == -EBUSY || r == -EINTR);
	epoll_enter(fd, &places); /* or back into them */
	return r < 0 ? r : 0;
}

long socket_replace(int fd, int stand_in)
{
	copy_options(fd, stand_in);
	copy_status(fd, stand_in);
	long r = 0;
	for (int other = next_duplicate(fd, -1); other >= 0 && r == 0;
	     other = next_duplicate(fd, other))
		r = replace_one(other, stand_in);
	if (r == 0)
		r = replace_one(fd, stand_in);
	SYS(SYS_close, stand_in);
	return r;
}

/*
 * A new socket of fd's kind, for the worker to connect: other processes may have copies of
 * fd. The worker gives it fd's options and address (proxy/likeness.go).
 */
static long socket_alike(int fd)
{
	int domain, protocol;
	socklen_t len = sizeof domain;
	long r = SYS(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	if (r == 0) {
		len = sizeof protocol;
		r = SYS(SYS_getsockopt, fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len);
	}
	return r < 0 ? r : SYS(SYS_socket, domain, SOCK_STREAM | SOCK_CLOEXEC, protocol);
}

/* How long a non-blocking connect waits for the worker's answer. */
#define HURRIED_SECONDS 2

long channel_ask(int fd, const struct tw_request *request, struct tw_reply *reply,
                 uint16_t taken)
{
	int stand_in = -1, life = -1;
	long fresh = -1;
	long control = control_open();
	if (control < 0)
		return control;
	if (request->op == TW_CONNECT && !(taken & TW_CONSUME)) {
		/* A connect that is not to wait does not wait long for a stopped worker. */
		const long limit[2] = {HURRIED_SECONDS, 0};
		SYS(SYS_setsockopt, control, SOL_SOCKET, SO_RCVTIMEO, limit, sizeof limit);
	}
	long r = control_send((int)control, request, fd);
	if (r == 0)
		r = control_receive((int)control, reply, &stand_in, &life);
	if (r == 0) {
		switch (reply->answer) {
		case TW_ANSWER_PASS:
			map_keep(stand_in, life);
			stand_in = -1;
			r = TW_ANSWER_PASS;
			break;
		case TW_ANSWER_CHANNEL:
			if (request->op == TW_CONNECT) {
				r = fresh = socket_alike(fd);
				if (r < 0)
					break;
			}
			r = socket_replace(fd, stand_in);
			stand_in = -1;
			if (r == 0) {
				struct tw_request done;
				request_init(&done, TW_TAKEN);
				done.flags = taken;
				r = control_send((int)control, &done, (int)fresh);
			}
			if (r == 0)
				r = TW_ANSWER_CHANNEL;
			break;
		case TW_ANSWER_ERROR:
			r = reply->error > 0 ? -reply->error : -ENETDOWN;
			break;
		default:
			r = -ENETDOWN;
		}
	}
	if (stand_in >= 0)
		SYS(SYS_close, stand_in);
	if (fresh >= 0)
		SYS(SYS_close, fresh);
	SYS(SYS_close, control);
	return r;
}

struct told is_tcp(int fd)
{
	int protocol = 0;
	socklen_t len = sizeof protocol;
	if (SYS(SYS_getsockopt, fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) < 0)
		return (struct told){CANNOT_BE_TOLD};
	return told_if(protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
}

long channel_borrow(const struct channel *channel, enum tw_op op)
{
	struct tw_request request;
	struct tw_reply reply;
	int fd = -1;
	request_init(&request, op);
	request.channel = channel->id;
	long r = control_ask(&request, -1, &reply, &fd);
	if (r < 0)
		return r;
	return fd >= 0 ? fd : -ENOTCONN;
}
