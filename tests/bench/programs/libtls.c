/*
 * A program of libtls's that does little else:
 *
 *   libtls get HOST PORT PATH CA            one request: prints bytes, seconds, and the seconds of
 *                                           processor time that this program took itself
 *   libtls loop HOST PORT PATH CA SECONDS   connections with a full handshake and a request each:
 *                                           prints their number and the seconds
 *   libtls ping HOST PORT PATH CA COUNT     requests over one connection: prints the median in
 *                                           microseconds
 *   libtls serve CERT KEY BYTES             prints its port; sends BYTES for /download, and a line
 *                                           for everything else
 */
#define _GNU_SOURCE
#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <tls.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double own_cpu(void)
{
	struct rusage r;
	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static struct tls_config *trusting(const char *ca)
{
	struct tls_config *config = tls_config_new();
	if (tls_config_set_ca_file(config, ca) < 0)
		errx(1, "%s", tls_config_error(config));
	return config;
}

static struct tls *open_to(char **argv, struct tls_config *config)
{
	struct tls *ctx = tls_client();
	if (tls_configure(ctx, config) < 0 || tls_connect(ctx, argv[2], argv[3]) < 0 || tls_handshake(ctx) < 0)
		errx(1, "%s", tls_error(ctx));
	return ctx;
}

static void say(struct tls *ctx, const char *data, size_t size)
{
	while (size) {
		ssize_t n = tls_write(ctx, data, size);
		if (n == TLS_WANT_POLLIN || n == TLS_WANT_POLLOUT)
			continue;
		if (n <= 0)
			errx(1, "write: %s", tls_error(ctx));
		data += n;
		size -= (size_t)n;
	}
}

static void request(struct tls *ctx, const char *path, const char *connection)
{
	char text[512];
	int n = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: %s\r\n\r\n", path, connection);
	say(ctx, text, (size_t)n);
}

static char buffer[256 << 10];

static ssize_t hear(struct tls *ctx)
{
	ssize_t n;
	do
		n = tls_read(ctx, buffer, sizeof buffer);
	while (n == TLS_WANT_POLLIN || n == TLS_WANT_POLLOUT);
	if (n < 0)
		errx(1, "read: %s", tls_error(ctx));
	return n;
}

static double drain(struct tls *ctx)
{
	double bytes = 0;
	ssize_t n;
	while ((n = hear(ctx)) > 0)
		bytes += (double)n;
	tls_close(ctx);
	tls_free(ctx);
	return bytes;
}

static void get(char **argv)
{
	struct tls *ctx = open_to(argv, trusting(argv[5]));
	double start = now(), cpu = own_cpu();
	request(ctx, argv[4], "close");
	double bytes = drain(ctx);
	printf("%.0f %f %f\n", bytes, now() - start, own_cpu() - cpu);
}

static void loop(char **argv)
{
	struct tls_config *config = trusting(argv[5]);
	double start = now(), end = start + atof(argv[6]);
	long count = 0;
	for (; now() < end; count++) {
		struct tls *ctx = open_to(argv, config);
		request(ctx, argv[4], "close");
		if (drain(ctx) < 1)
			errx(1, "no reply");
	}
	printf("%ld %f\n", count, now() - start);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static void ping(char **argv)
{
	struct tls *ctx = open_to(argv, trusting(argv[5]));
	int count = atoi(argv[6]);
	double *times = calloc((size_t)count, sizeof *times);
	for (int i = 0; i < count; i++) {
		double start = now();
		request(ctx, argv[4], "keep-alive");
		if (hear(ctx) < 20)
			errx(1, "short reply");
		times[i] = (now() - start) * 1e6;
	}
	qsort(times, (size_t)count, sizeof *times, compare);
	printf("%f\n", times[count / 2]);
}

static void serve(char **argv)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof at;
	struct tls_config *config = tls_config_new();
	struct tls *listener = tls_server();
	if (tls_config_set_keypair_file(config, argv[2], argv[3]) < 0 || tls_configure(listener, config) < 0)
		errx(1, "%s", tls_error(listener));
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 128) < 0 || getsockname(fd, (struct sockaddr *)&at, &len) < 0)
		err(1, "listen");
	printf("%d\n", ntohs(at.sin_port));
	fflush(stdout);
	for (;;) {
		struct tls *ctx;
		int s = accept(fd, NULL, NULL), one = 1;
		setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		if (tls_accept_socket(listener, &ctx, s) < 0)
			errx(1, "%s", tls_error(listener));
		ssize_t n;
		while ((n = tls_read(ctx, buffer, sizeof buffer - 1)) == TLS_WANT_POLLIN)
			;
		if (n > 0) {
			buffer[n] = '\0';
			size_t size = strstr(buffer, "/download") ? (size_t)atoll(argv[4]) : 2;
			char head[128];
			int h = snprintf(head, sizeof head, "HTTP/1.0 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
			say(ctx, head, (size_t)h);
			for (size_t left = size; left;) {
				size_t piece = left < sizeof buffer ? left : sizeof buffer;
				say(ctx, buffer, piece);
				left -= piece;
			}
		}
		tls_close(ctx);
		tls_free(ctx);
		close(s);
	}
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc == 6 && strcmp(argv[1], "get") == 0)
		get(argv);
	else if (argc == 7 && strcmp(argv[1], "loop") == 0)
		loop(argv);
	else if (argc == 7 && strcmp(argv[1], "ping") == 0)
		ping(argv);
	else if (argc == 5 && strcmp(argv[1], "serve") == 0)
		serve(argv);
	else
		errx(2, "usage: see libtls.c");
	return 0;
}
