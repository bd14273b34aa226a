/* probe block|poll|epoll HOST PORT SECRET: connects, sends the secret, reads to the
 * end, and prints what happened: "connect=ERRNO" or "connect=OK bytes=N end=EOF".
 * Where the connect failed it tries to send the secret all the same. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *name(int error)
{
	return error ? strerrorname_np(error) : "OK";
}

static int so_error(int fd)
{
	int error = -1;
	socklen_t size = sizeof error;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
	return error;
}

/* Registers before it connects, as nginx does. */
static void wait_epoll(int ep, int fd)
{
	struct epoll_event event;
	if (epoll_wait(ep, &event, 1, 60000) != 1 || event.data.fd != fd)
		puts("epoll_wait went wrong");
	close(ep);
}

static int dial(const char *mode, int fd, const struct addrinfo *to)
{
	int ep = -1;
	if (!strcmp(mode, "block"))
		return connect(fd, to->ai_addr, to->ai_addrlen) < 0 ? errno : 0;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	if (!strcmp(mode, "epoll")) {
		struct epoll_event event = {.events = EPOLLOUT | EPOLLET, .data.fd = fd};
		ep = epoll_create1(0);
		epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event);
		/* An unconnected socket hangs up at once. */
		while (epoll_wait(ep, &event, 1, 0) > 0)
			;
	}
	if (connect(fd, to->ai_addr, to->ai_addrlen) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return errno;
	struct pollfd p = {fd, POLLOUT, 0};
	if (ep >= 0)
		wait_epoll(ep, fd);
	else if (poll(&p, 1, 60000) != 1)
		puts("poll went wrong");
	int error = so_error(fd);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	return error;
}

static void talk(int fd, const char *secret)
{
	char buf[4096];
	long total = 0;
	ssize_t n;
	/* A reset is told once, to whoever comes first. */
	int reset = (send(fd, secret, strlen(secret), MSG_NOSIGNAL) < 0 && errno == ECONNRESET) ||
	            (send(fd, "\n", 1, MSG_NOSIGNAL) < 0 && errno == ECONNRESET);
	while ((n = recv(fd, buf, sizeof buf, 0)) > 0)
		total += n;
	const char *end = n < 0 ? name(errno) : "EOF";
	printf(" bytes=%ld end=%s", total, reset ? "ECONNRESET" : end);
}

int main(int argc, char **argv)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *to;
	if (argc != 5)
		return 2;
	int found = getaddrinfo(argv[2], argv[3], &hints, &to);
	if (found) {
		printf("lookup=%s\n", gai_strerror(found));
		return 1;
	}
	int fd = socket(to->ai_family, SOCK_STREAM, 0);
	int error = dial(argv[1], fd, to);
	printf("connect=%s", name(error));
	if (error)
		send(fd, argv[4], strlen(argv[4]), MSG_NOSIGNAL);
	else
		talk(fd, argv[4]);
	putchar('\n');
	return error != 0;
}
