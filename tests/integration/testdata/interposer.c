/* Another library of LD_PRELOAD's that passes connect on, by the usual means. */
#include <dlfcn.h>
#include <sys/socket.h>
#include <unistd.h>

int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
	return next(fd, addr, len);
}
