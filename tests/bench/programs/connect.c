/*
 * A client that does little but connect, in plaintext:
 *
 *   connect loop HOST PORT PATH SECONDS  connections with one request each, one after
 *                                        the other: prints their number, the seconds,
 *                                        and how many replies say "r", for resumed
 *   connect time HOST PORT COUNT         connections without a request: prints the
 *                                        median of what connect(2) took, in microseconds
 *   connect start HOST PORT COUNT        the same of a non-blocking connect(2), which returns at once
 *   connect get HOST PORT PATH           one request: prints the bytes of the reply, 0 for those of
 *                                        the request, and the seconds
 *   connect hold HOST PORT PATH COUNT    COUNT connections at once, one request each:
 *                                        prints "held" and keeps them until the end of
 *                                        standard input
 *
 * It ends with status 1 where anything but a good reply comes back.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in target;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void look_up(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
	int e = getaddrinfo(host, port, &hints, &found);
	if (e)
		errx(1, "%s: %s", host, gai_strerror(e));
	memcpy(&target, found->ai_addr, sizeof target);
	freeaddrinfo(found);
}

static int new_socket(int flags)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	if (fd < 0)
		err(1, "socket");
	return fd;
}

static void connect_target(int fd)
{
	if (connect(fd, (struct sockaddr *)&target, sizeof target) < 0 && errno != EINPROGRESS)
		err(1, "connect");
}

/* One request on fd. Returns the first byte of the reply's body, which is a line. */
static char request(int fd, const char *path, bool keep)
{
	char text[512];
	int n = snprintf(text, sizeof text, "GET %s HTTP/1.%d\r\nHost: localhost\r\n\r\n", path, keep);
	if (write(fd, text, (size_t)n) != n)
		err(1, "write");
	char reply[4096];
	size_t have = 0;
	for (;;) {
		ssize_t got = read(fd, reply + have, sizeof reply - 1 - have);
		if (got < 0)
			err(1, "read");
		have += (size_t)got;
		reply[have] = '\0';
		const char *body = strstr(reply, "\r\n\r\n");
		bool whole = keep ? body && strchr(body + 4, '\n') : got == 0;
		if (!whole && got > 0)
			continue;
		if (!whole || !body || strncmp(reply, "HTTP/1.1 200 ", 13) != 0)
			errx(1, "no good reply: %.200s", reply);
		return body[4];
	}
}

static bool one_connection(const char *path)
{
	int fd = new_socket(0);
	connect_target(fd);
	char answer = request(fd, path, false);
	close(fd);
	return answer == 'r';
}

static void loop(const char *path, double seconds)
{
	one_connection(path); /* after which there is a session to resume */
	long count = 0, resumed = 0;
	double start = now(), end;
	do {
		resumed += one_connection(path);
		count++;
		end = now();
	} while (end - start < seconds);
	printf("%ld %f %ld\n", count, end - start, resumed);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void await_room(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int error = 0;
	socklen_t len = sizeof error;
	if (poll(&p, 1, -1) < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		err(1, "poll");
	if (error)
		errx(1, "connect: %s", strerror(error));
}

static void time_connects(size_t count, int flags)
{
	const struct linger reset = {1, 0}; /* leaves no TIME_WAIT behind */
	double *took = calloc(count, sizeof *took);
	if (!took)
		err(1, "calloc");
	for (size_t i = 0; i < count; i++) {
		int fd = new_socket(flags);
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
		double start = now();
		connect_target(fd);
		took[i] = now() - start;
		if (flags)
			await_room(fd);
		close(fd);
	}
	qsort(took, count, sizeof *took, by_size);
	printf("%f\n", took[count / 2] * 1e6);
	free(took);
}

/*
 * One address has only so many ports for one server (net.ipv4.ip_local_port_range), so the
 * connections come from several of 127.0.0.0/8.
 */
static void bind_one_of_many(int fd, size_t i)
{
	const size_t per_address = 20000;
	const int yes = 1;
	struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(i / per_address))};
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
	if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0)
		err(1, "bind");
}

static void hold(const char *path, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int fd = new_socket(0);
		bind_one_of_many(fd, i);
		connect_target(fd);
		request(fd, path, true);
	}
	puts("held");
	fflush(stdout);
	char byte;
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
}

static void get(const char *path)
{
	static char buffer[256 << 10];
	double start = now(), bytes = 0;
	int fd = new_socket(0);
	connect_target(fd);
	int n = snprintf(buffer, sizeof buffer, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
	if (write(fd, buffer, (size_t)n) != n)
		err(1, "write");
	ssize_t got;
	while ((got = read(fd, buffer, sizeof buffer)) > 0) {
		if (bytes == 0 && strncmp(buffer, "HTTP/1.1 200 ", 13) != 0)
			errx(1, "no good reply: %.200s", buffer);
		bytes += (double)got;
	}
	if (got < 0 || bytes == 0)
		err(1, "read");
	printf("%.0f 0 %f\n", bytes, now() - start);
}

int main(int argc, char **argv)
{
	if (argc < 5)
		errx(1, "usage: connect loop|time|start|hold|get HOST PORT ...");
	look_up(argv[2], argv[3]);
	if (strcmp(argv[1], "loop") == 0 && argc == 6)
		loop(argv[4], atof(argv[5]));
	else if (strcmp(argv[1], "time") == 0 && argc == 5)
		time_connects(strtoul(argv[4], NULL, 10), 0);
	else if (strcmp(argv[1], "start") == 0 && argc == 5)
		time_connects(strtoul(argv[4], NULL, 10), SOCK_NONBLOCK);
	else if (strcmp(argv[1], "get") == 0 && argc == 5)
		get(argv[4]);
	else if (strcmp(argv[1], "hold") == 0 && argc == 6)
		hold(argv[4], strtoul(argv[5], NULL, 10));
	else
		errx(1, "connect %s: wrong arguments", argv[1]);
	return 0;
}
