/* read and its like are libc's own, but for the errno of one that fails. */
#include "shim.h"

#include <sys/uio.h>
#include <unistd.h>

/* As finish, for how much was read. */
static ssize_t finish_size(long n)
{
	return n < 0 ? finish(n) : n;
}

EXPORT ssize_t read(int fd, void *data, size_t size)
{
	__typeof__(&read) real = NEXT(read);
	return received(fd, real ? real(fd, data, size) : finish_size(SYS(SYS_read, fd, data, size)));
}

EXPORT ssize_t __read(int fd, void *data, size_t size) ALIAS(read);

EXPORT ssize_t readv(int fd, const struct iovec *parts, int count)
{
	__typeof__(&readv) real = NEXT(readv);
	return received(fd, real ? real(fd, parts, count)
	                         : finish_size(SYS(SYS_readv, fd, parts, count)));
}

/* What _FORTIFY_SOURCE makes of it: room is what data has. */
ssize_t __read_chk(int fd, void *data, size_t size, size_t room);

EXPORT ssize_t __read_chk(int fd, void *data, size_t size, size_t room)
{
	__typeof__(&__read_chk) real = NEXT(__read_chk);
	return real && size > room ? real(fd, data, size, room) : read(fd, data, size);
}
