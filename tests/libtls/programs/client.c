/*
 * client PORT CA TRANSPORT: greets a server by TLS 1.2, over a "socket" or "callbacks", and prints
 * what it says until that is "end" or the connection breaks. As "pouring" it says a lot itself
 * before it listens.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <tls.h>
#include <unistd.h>

static ssize_t read_cb(struct tls *ctx, void *buf, size_t len, void *fd)
{
	(void)ctx;
	return read(*(int *)fd, buf, len);
}

static ssize_t write_cb(struct tls *ctx, const void *buf, size_t len, void *fd)
{
	(void)ctx;
	return write(*(int *)fd, buf, len);
}

static ssize_t say(struct tls *ctx, const char *words)
{
	ssize_t n;
	while ((n = tls_write(ctx, words, strlen(words))) == TLS_WANT_POLLIN || n == TLS_WANT_POLLOUT)
		;
	return n;
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct tls_config *config = tls_config_new();
	struct tls *ctx = tls_client();
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (argc < 4)
		return 2;
	to.sin_port = htons((uint16_t)atoi(argv[1]));
	if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
		return 2;
	tls_config_set_ca_file(config, argv[2]);
	tls_config_set_protocols(config, TLS_PROTOCOL_TLSv1_2);
	tls_configure(ctx, config);
	if ((strcmp(argv[3], "callbacks") == 0 ? tls_connect_cbs(ctx, read_cb, write_cb, &fd, "host.test")
	              : tls_connect_socket(ctx, fd, "host.test")) < 0 ||
	    tls_handshake(ctx) < 0)
		printf("handshake: %s\n", tls_error(ctx));
	if (say(ctx, "hello\n") < 0)
		printf("write: %s\n", tls_error(ctx));
	for (int i = 0; i < 500 && strcmp(argv[3], "pouring") == 0; i++) {
		static char lines[16384];
		memset(lines, 'x', sizeof lines);
		lines[sizeof lines - 2] = "ab"[i % 2];
		lines[sizeof lines - 1] = '\n';
		for (size_t at = 0; at < sizeof lines;) {
			ssize_t n = tls_write(ctx, lines + at, sizeof lines - at);
			if (n == -1) {
				printf("write: %s\n", tls_error(ctx));
				return 1;
			}
			at += n > 0 ? (size_t)n : 0;
		}
	}
	for (char line[256];;) {
		ssize_t n = tls_read(ctx, line, sizeof line);
		if (n == TLS_WANT_POLLIN || n == TLS_WANT_POLLOUT)
			continue;
		if (n <= 0) {
			printf("read: %zd %s\n", n, n ? tls_error(ctx) : "");
			break;
		}
		printf("%.*s", (int)n, line);
		fflush(stdout);
		if (n >= 3 && memcmp(line, "end", 3) == 0) {
			printf("write: %zd\n", say(ctx, "bye\n"));
			break;
		}
	}
	printf("close: %d\n", tls_close(ctx));
	tls_free(ctx);
	tls_config_free(config);
	close(fd);
	return 0;
}
