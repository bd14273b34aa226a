/* The kernel is asked here what a socket is like, be it a channel or another. */
#include "shim.h"

#include <fcntl.h>
#include <poll.h>

bool channel_good(int fd)
{
	return socket_poll(fd, POLLOUT) == POLLOUT;
}

int channel_marks(int fd)
{
	int marks = 0;
	socklen_t len = sizeof marks;
	SYS(SYS_getsockopt, fd, SOL_SOCKET, SO_PRIORITY, &marks, &len);
	return marks;
}

void channel_mark(int fd, enum tw_mark mark)
{
	int marks = channel_marks(fd) | (int)mark;
	SYS(SYS_setsockopt, fd, SOL_SOCKET, SO_PRIORITY, &marks, sizeof marks);
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

struct told is_tcp(int fd)
{
	int protocol = 0;
	socklen_t len = sizeof protocol;
	if (SYS(SYS_getsockopt, fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) < 0)
		return (struct told){CANNOT_BE_TOLD};
	return told_if(protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
}
