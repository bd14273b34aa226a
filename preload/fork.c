/*
 * A child that is forked between socket and connect shares the socket: once its parent
 * has connected, what it writes there would go out past the worker. So the child gets a
 * socket of its own in its place.
 *
 * socket marks what it makes, and connect takes the mark away: few are ever marked when
 * a process forks. Before the fork marks are checked, since the parent may connect before
 * the child looks. A socket that was bound is left alone: servers listen on it.
 */
#include "shim.h"

#include <netinet/tcp.h>

static fd_marks unconnected;

EXPORT int socket(int domain, int type, int protocol)
{
	__typeof__(&socket) real = NEXT(socket);
	int fd = real ? real(domain, type, protocol)
	              : finish(SYS(SYS_socket, domain, type, protocol));
	if (fd >= 0 && (domain == AF_INET || domain == AF_INET6))
		mark(unconnected, fd);
	return fd;
}

void socket_connects(int fd)
{
	unmark(unconnected, fd);
}

static const struct {
	int level, option;
} inherited[] = {
	{SOL_SOCKET, SO_KEEPALIVE},     {SOL_SOCKET, SO_REUSEADDR},   {SOL_SOCKET, SO_REUSEPORT},
	{SOL_SOCKET, SO_LINGER},        {SOL_SOCKET, SO_PRIORITY},    {SOL_SOCKET, SO_MARK},
	{SOL_SOCKET, SO_BINDTODEVICE},  {IPPROTO_TCP, TCP_NODELAY},   {IPPROTO_TCP, TCP_KEEPIDLE},
	{IPPROTO_TCP, TCP_KEEPINTVL},   {IPPROTO_TCP, TCP_KEEPCNT},   {IPPROTO_TCP, TCP_USER_TIMEOUT},
	{IPPROTO_TCP, TCP_CONGESTION},  {IPPROTO_IP, IP_TOS},         {IPPROTO_IP, IP_TTL},
	{IPPROTO_IPV6, IPV6_V6ONLY},    {IPPROTO_IPV6, IPV6_TCLASS},  {IPPROTO_IPV6, IPV6_UNICAST_HOPS},
};

/* Whether fd is a TCP socket that may yet be connected. */
static bool is_shared(int fd)
{
	union address own;
	struct tw_addr addr;
	struct tcp_info info;
	socklen_t own_len = sizeof own, info_len = sizeof info;
	if (SYS(SYS_getsockname, fd, &own, &own_len) < 0 || !address_read(&own.any, own_len, &addr) ||
	    SYS(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &info, &info_len) < 0)
		return false;
	return info.tcpi_state == TCP_CLOSE && addr.port == 0;
}

static void separate(int fd)
{
	union address own;
	int protocol = 0;
	socklen_t len = sizeof own, protocol_len = sizeof protocol;
	if (SYS(SYS_getsockname, fd, &own, &len) < 0 ||
	    SYS(SYS_getsockopt, fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &protocol_len) < 0 ||
	    (protocol != IPPROTO_TCP && protocol != IPPROTO_MPTCP))
		return;
	long fresh = SYS(SYS_socket, own.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, protocol);
	if (fresh < 0) {
		SYS(SYS_close, fd); /* closed is not shared */
		return;
	}
	for (size_t i = 0; i < sizeof inherited / sizeof *inherited; i++) {
		char value[32];
		len = sizeof value;
		if (SYS(SYS_getsockopt, fd, inherited[i].level, inherited[i].option, value, &len) == 0)
			SYS(SYS_setsockopt, fresh, inherited[i].level, inherited[i].option, value, len);
	}
	socket_replace(fd, (int)fresh);
}

/* Calls f with each descriptor that is marked. */
static void for_marked(void (*f)(int fd))
{
	for (int fd = 0; fd < MARKED_FDS; fd++) {
		if (unconnected[(size_t)fd / MARK_BITS] == 0)
			fd |= (int)MARK_BITS - 1; /* none of this word */
		else if (marked(unconnected, fd))
			f(fd);
	}
}

static void check_mark(int fd)
{
	if (!is_shared(fd))
		unmark(unconnected, fd);
}

static unsigned forks;

unsigned forks_so_far(void)
{
	return __atomic_load_n(&forks, __ATOMIC_RELAXED);
}

void sockets_check(void)
{
	__atomic_add_fetch(&forks, 1, __ATOMIC_RELAXED);
	for_marked(check_mark);
}

void sockets_separate(void)
{
	for_marked(separate);
}
