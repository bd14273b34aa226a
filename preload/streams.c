/*
 * A descriptor of ours does not take the place of a standard stream, not even for a moment: a daemon
 * that closed its own may still write to them.
 */
#include "shim.h"

#include <fcntl.h>

long above_streams(long fd)
{
	if (fd < 0 || fd > 2)
		return fd;
	long above = SYS(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
	SYS(SYS_close, fd);
	return above;
}
