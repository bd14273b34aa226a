/*
 * A descriptor that was duplicated before connect is a second way to the same connection,
 * so the duplicates are replaced together with it. One that is not stays a socket that is
 * not connected: the worker connects another.
 *
 * The dup family marks what it sees, and a connect that swaps a marked descriptor looks
 * for others of the same socket. The marks are hints: one that is stale costs a look.
 */
#include "marks.h"
#include "trace.h"

#include <fcntl.h>
#include <stdarg.h>
#include <unistd.h>

static struct fd_marks duplicated;

static int duplicate_made(const char *by, int from, int to)
{
	TRACE(by, NUMBER("fd", from), RESULT(outcome(to)));
	if (to >= 0) {
		mark(&duplicated, from);
		mark(&duplicated, to);
		epoll_duplicated(from, to);
	}
	return to;
}

EXPORT int dup(int fd)
{
	__typeof__(&dup) real = NEXT(dup);
	return duplicate_made("dup", fd, real ? real(fd) : finish(SYS(SYS_dup, fd)));
}

EXPORT int dup3(int fd, int to, int flags)
{
	__typeof__(&dup3) real = NEXT(dup3);
	return duplicate_made("dup3", fd,
	                      real ? real(fd, to, flags) : finish(SYS(SYS_dup3, fd, to, flags)));
}

EXPORT int dup2(int fd, int to)
{
	__typeof__(&dup2) real = NEXT(dup2);
	if (real)
		return duplicate_made("dup2", fd, real(fd, to));
	if (fd == to) /* dup3 refuses that */
		return SYS(SYS_fcntl, fd, F_GETFD) < 0 ? finish(-EBADF) : to;
	return dup3(fd, to, 0);
}

EXPORT int __dup2(int fd, int to)
{
	return dup2(fd, to);
}

EXPORT int fcntl(int fd, int command, ...)
{
	va_list list;
	va_start(list, command);
	long argument = va_arg(list, long);
	va_end(list);
	__typeof__(&fcntl) real = NEXT(fcntl);
	int r = real ? real(fd, command, argument)
	             : finish(SYS(SYS_fcntl, fd, command, argument));
	if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
		duplicate_made("fcntl", fd, r);
	else
		TRACE("fcntl", NUMBER("fd", fd), NUMBER("command", command), RESULT(outcome(r)));
	return r;
}

EXPORT int fcntl64(int fd, int command, ...) ALIAS(fcntl);
EXPORT int __fcntl(int fd, int command, ...) ALIAS(fcntl);
/* 32-bit programs with a 64-bit time_t. */
EXPORT int __fcntl_time64(int fd, int command, ...) ALIAS(fcntl);

/* The number of the socket behind fd (SO_COOKIE, socket(7)), or 0 where it cannot be told. */
static uint64_t cookie(int fd)
{
	uint64_t value = 0;
	socklen_t len = sizeof value;
	return SYS(SYS_getsockopt, fd, SOL_SOCKET, SO_COOKIE, &value, &len) == 0 ? value : 0;
}

int next_duplicate(int fd, int after)
{
	uint64_t own = marked(&duplicated, fd) ? cookie(fd) : 0;
	int other = own ? next_marked(&duplicated, after) : -1;
	while (other >= 0 && (other == fd || cookie(other) != own))
		other = next_marked(&duplicated, other);
	return other;
}
