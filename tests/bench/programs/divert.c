/*
 * A library to preload, for programs that are to use programs/relay.c: an IPv4 connect(2) to DIVERT_PORT goes to the AF_UNIX
 * address DIVERT_PATH, whose socket takes the number of the program's own, as a channel of tlswrap's does.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static in_port_t port;
static struct sockaddr_un path = {.sun_family = AF_UNIX};

__attribute__((constructor)) static void read_environment(void)
{
	const char *p = getenv("DIVERT_PORT"), *to = getenv("DIVERT_PATH");
	if (p && to) {
		port = htons((in_port_t)atoi(p));
		snprintf(path.sun_path, sizeof path.sun_path, "%s", to);
	}
}

static int native(int fd, const void *to, socklen_t size)
{
	return (int)syscall(SYS_connect, fd, to, size);
}

int connect(int fd, const struct sockaddr *to, socklen_t size)
{
	if (to->sa_family != AF_INET || !port || ((const struct sockaddr_in *)(const void *)to)->sin_port != port)
		return native(fd, to, size);
	int flags = fcntl(fd, F_GETFL);
	int there = socket(AF_UNIX, SOCK_STREAM | (flags & O_NONBLOCK ? SOCK_NONBLOCK : 0), 0);
	if (there < 0)
		return -1;
	int result = native(there, &path, sizeof path);
	if (result == 0 && dup2(there, fd) < 0)
		result = -1;
	close(there);
	return result;
}
