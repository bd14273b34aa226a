/*
 * One socket takes the place of another under the same numbers, and the program finds its flags,
 * timeouts and epoll registrations as they were.
 */
#include "shim.h"

#include <fcntl.h>

void options_copy(int from, int to)
{
	static const int options[] = {SO_RCVTIMEO, SO_SNDTIMEO, SO_RCVLOWAT};
	for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
		union {
			long time[2];
			int bytes;
		} value = {{0, 0}};
		socklen_t len = sizeof value;
		bool known = SYS(SYS_getsockopt, from, SOL_SOCKET, options[i], &value, &len) == 0;
		/* A new socket has no timeouts, and is woken by one byte. */
		bool usual = options[i] == SO_RCVLOWAT ? value.bytes == 1 : !value.time[0] && !value.time[1];
		if (known && !usual)
			SYS(SYS_setsockopt, to, SOL_SOCKET, options[i], &value, len);
	}
}

static void copy_status(int from, int to)
{
	const long which = O_NONBLOCK | O_ASYNC;
	long flags = SYS(SYS_fcntl, from, F_GETFL);
	long now = SYS(SYS_fcntl, to, F_GETFL);
	/* O_ASYNC may be set later than who gets which signal. */
	struct f_owner_ex owner = {.pid = 0};
	long signal = SYS(SYS_fcntl, from, F_GETSIG);
	if (SYS(SYS_fcntl, from, F_GETOWN_EX, &owner) == 0 && owner.pid != 0)
		SYS(SYS_fcntl, to, F_SETOWN_EX, &owner);
	if (signal > 0)
		SYS(SYS_fcntl, to, F_SETSIG, signal);
	if (flags >= 0 && now >= 0 && (flags & which) != (now & which))
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
	options_copy(fd, stand_in);
	copy_status(fd, stand_in);
	long r = 0;
	for (int other = next_duplicate(fd, -1); other >= 0 && r == 0;
	     other = next_duplicate(fd, other))
		r = replace_one(other, stand_in);
	if (r == 0)
		r = replace_one(fd, stand_in);
	if (r < 0)
		SYS(SYS_shutdown, stand_in, SHUT_RDWR); /* duplicates that have it are not to be connected */
	SYS(SYS_close, stand_in);
	return r;
}
