/*
 * ends PORT CA TIMES [hold|unread]: connects so often, each time with a configuration that no other is equal
 * to, reads until the server ends, and never calls tls_close. With "hold" it keeps them all until it
 * ends itself. With "unread" it leaves bytes unread when it closes.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <tls.h>
#include <unistd.h>

enum { COMMENT = 64 << 10 };

/* Reads a byte, and leaves more where it is, after what is read with it. */
static ssize_t leave_unread(struct tls *ctx, int fd)
{
	char some[64];
	struct pollfd p = {.fd = fd, .events = POLLIN};
	ssize_t n = tls_read(ctx, some, sizeof some);
	return n > 0 && poll(&p, 1, -1) == 1 ? 0 : -1;
}

static int once(const struct sockaddr_in *to, const uint8_t *ca, size_t size, const char *how)
{
	struct tls_config *config = tls_config_new();
	struct tls *ctx = tls_client();
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	ssize_t n = 0;
	char buf[64];
	if (connect(fd, (const struct sockaddr *)to, sizeof *to) < 0)
		return perror("connect"), -1;
	if (tls_config_set_ca_mem(config, ca, size) < 0)
		return printf("%s\n", tls_config_error(config)), -1;
	if (tls_configure(ctx, config) < 0 || tls_connect_socket(ctx, fd, "host.test") < 0 ||
	    tls_handshake(ctx) < 0 || (n = !strcmp(how, "unread") ? leave_unread(ctx, fd) : tls_read(ctx, buf, sizeof buf)) != 0)
		return printf("%zd, %s\n", n, tls_error(ctx)), -1;
	if (!strcmp(how, "hold"))
		return 0;
	close(fd);
	tls_free(ctx);
	tls_config_free(config);
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (argc < 4)
		return 2;
	to.sin_port = htons((uint16_t)atoi(argv[1]));
	size_t size;
	uint8_t *file = tls_load_file(argv[2], &size, NULL);
	char *ca = malloc(size + COMMENT);
	if (!file || !ca)
		return 2;
	memcpy(ca, file, size);
	memset(ca + size, '#', COMMENT);
	int times = atoi(argv[3]), ended = 0;
	for (int i = 0; i < times; i++) {
		snprintf(ca + size, 32, "%d %d", getpid(), i);
		if (once(&to, (const uint8_t *)ca, size + COMMENT, argc > 4 ? argv[4] : "") < 0)
			return 1;
		ended++;
	}
	printf("%d ended\n", ended);
	return 0;
}
