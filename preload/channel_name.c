/*
 * The names of channels (wire.h). A descriptor's own name, or that of its peer, tells whether it
 * is a channel, and which.
 */
#include "shim.h"

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
	const int size = v6 ? 16 : 4;
	for (int i = 0; i < size; i++)
		channel->peer.ip[i] = (uint8_t)read_hex(path + AT_IP + 2 * i, 2);
	channel->words = n > (size_t)(AT_IP + 2 * size) && path[AT_IP + 2 * size] == TW_NAME_WORDS[0];
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
	if (stands_aside())
		return AF_UNSPEC;
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
