/*
 * The least that a process between a program and its server can do: for each connection to PATH, an AF_UNIX address, it
 * connects to PORT of this machine, and passes on what comes, both ways, in one epoll loop and without any cryptography.
 *
 *   relay PATH PORT
 *
 * It waits until what it writes is taken, and all connections with it, so it is for small messages to programs that read. An
 * end that comes by an error is passed on as an end.
 */
#define _GNU_SOURCE
#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* One of the two sockets of a connection. The second to end closes both. */
struct side {
	int fd;
	int ended;
	struct side *other;
};

static int loop;

static void watch(int fd, struct side *s)
{
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};
	if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &e) < 0)
		err(1, "epoll_ctl");
}

static int listen_at(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, SOMAXCONN) < 0)
		err(1, "%s", path);
	return fd;
}

static void open_both(int listener, const struct sockaddr_in *server)
{
	const int yes = 1;
	int program = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	int upstream = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (program < 0 || upstream < 0)
		err(1, "a new connection");
	if (connect(upstream, (const struct sockaddr *)server, sizeof *server) < 0)
		err(1, "connect");
	setsockopt(upstream, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
	struct side *both = calloc(2, sizeof *both);
	if (!both)
		err(1, "calloc");
	both[0] = (struct side){program, 0, &both[1]};
	both[1] = (struct side){upstream, 0, &both[0]};
	watch(program, &both[0]);
	watch(upstream, &both[1]);
}

static void end(struct side *s)
{
	struct side *o = s->other;
	s->ended = 1;
	if (!o->ended) {
		epoll_ctl(loop, EPOLL_CTL_DEL, s->fd, NULL);
		shutdown(o->fd, SHUT_WR);
		return;
	}
	close(s->fd);
	close(o->fd);
	free(s < o ? s : o); /* they are one piece of memory */
}

static void pass_on(struct side *from)
{
	static char bytes[64 << 10];
	ssize_t n = recv(from->fd, bytes, sizeof bytes, 0);
	if (n <= 0 || send(from->other->fd, bytes, (size_t)n, MSG_NOSIGNAL) != n)
		end(from);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		errx(2, "usage: relay PATH PORT");
	const struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = listen_at(argv[1]);
	loop = epoll_create1(EPOLL_CLOEXEC);
	watch(listener, NULL);
	for (;;) {
		struct epoll_event events[64];
		int n = epoll_wait(loop, events, 64, -1);
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr)
				pass_on(events[i].data.ptr);
			else
				open_both(listener, &server);
		}
	}
}
