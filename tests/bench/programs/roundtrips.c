/*
 * Small messages that go there and back, in plaintext, over one connection:
 *
 *   roundtrips serve AT             gives back what comes, for one client after the other
 *   roundtrips ask AT COUNT SIZE    sends SIZE bytes and waits for as many, COUNT times:
 *                                   prints the microseconds that one took
 *   roundtrips both AT TO COUNT SIZE
 *                                   serves at AT and asks at TO, in two processes
 *   roundtrips relay AT TO          passes on what comes, both ways: the least that a
 *                                   process between the two could do
 *
 * AT and TO are HOST:PORT, or a path for AF_UNIX.
 */
#define _GNU_SOURCE
#include <err.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64 << 10, WARM_UP = 200 };

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in ip;
		struct sockaddr_un path;
	};
	socklen_t size;
};

static struct address look_up(const char *at)
{
	struct address a = {.size = sizeof a.path};
	const char *port = strrchr(at, ':');
	if (*at == '/') {
		a.path.sun_family = AF_UNIX;
		snprintf(a.path.sun_path, sizeof a.path.sun_path, "%s", at);
		return a;
	}
	if (!port)
		errx(1, "%s: neither HOST:PORT nor a path", at);
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
	char *host = strndup(at, (size_t)(port - at));
	int e = getaddrinfo(host, port + 1, &hints, &found);
	if (e)
		errx(1, "%s: %s", at, gai_strerror(e));
	memcpy(&a.ip, found->ai_addr, sizeof a.ip);
	a.size = sizeof a.ip;
	freeaddrinfo(found);
	free(host);
	return a;
}

static int listen_at(const char *at)
{
	struct address a = look_up(at);
	int on = 1, fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) || bind(fd, &a.any, a.size) || listen(fd, 8))
		err(1, "%s", at);
	return fd;
}

/* A small message is not to wait for the acknowledgement of the one before. AF_UNIX knows no such thing. */
static int at_once(int fd)
{
	int on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	return fd;
}

static int accept_from(int listener)
{
	int fd = accept(listener, NULL, NULL);
	if (fd < 0)
		err(1, "accept");
	return at_once(fd);
}

static int connect_to(const char *to)
{
	struct address a = look_up(to);
	int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, &a.any, a.size))
		err(1, "%s", to);
	return at_once(fd);
}

struct direction {
	int from, to;
};

static void *carry(void *direction)
{
	const struct direction *d = direction;
	char buf[MOST];
	ssize_t n;
	while ((n = read(d->from, buf, sizeof buf)) > 0 && write(d->to, buf, (size_t)n) == n)
		;
	shutdown(d->to, SHUT_WR);
	return NULL;
}

static void serve(int listener)
{
	for (;;) {
		int fd = accept_from(listener);
		carry(&(struct direction){fd, fd});
		close(fd);
	}
}

static void relay(const char *at, const char *to)
{
	for (int listener = listen_at(at);;) {
		int from = accept_from(listener), there = connect_to(to);
		pthread_t back;
		int e = pthread_create(&back, NULL, carry, &(struct direction){there, from});
		if (e)
			errx(1, "pthread_create: %s", strerror(e));
		carry(&(struct direction){from, there});
		pthread_join(back, NULL);
		close(from);
		close(there);
	}
}

static void there_and_back(int fd, long count, size_t size)
{
	static char buf[MOST];
	for (long i = 0; i < count; i++) {
		if (write(fd, buf, size) != (ssize_t)size || recv(fd, buf, size, MSG_WAITALL) != (ssize_t)size)
			errx(1, "no answer");
	}
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void ask(const char *at, long count, long size)
{
	if (count < 1 || size < 1 || size > MOST)
		errx(1, "COUNT or SIZE makes no sense");
	int fd = connect_to(at);
	there_and_back(fd, WARM_UP, (size_t)size);
	double began = now();
	there_and_back(fd, count, (size_t)size);
	printf("%.2f\n", (now() - began) / (double)count);
}

static void both(const char *at, const char *to, long count, long size)
{
	int listener = listen_at(at);
	pid_t server = fork();
	if (server < 0)
		err(1, "fork");
	if (server == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(listener);
	}
	ask(to, count, size);
	kill(server, SIGKILL);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		serve(listen_at(argv[2]));
	else if (argc == 4 && strcmp(argv[1], "relay") == 0)
		relay(argv[2], argv[3]);
	else if (argc == 5 && strcmp(argv[1], "ask") == 0)
		ask(argv[2], atol(argv[3]), atol(argv[4]));
	else if (argc == 6 && strcmp(argv[1], "both") == 0)
		both(argv[2], argv[3], atol(argv[4]), atol(argv[5]));
	else
		errx(2, "see the top of roundtrips.c");
}
