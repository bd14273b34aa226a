/*
 * A client and a server as they were written in October 2014: lengths by pointer, AGAIN, the end
 * is an error, the handshake is part of connecting and accepting, and ressl_close closes.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <ressl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHECK(condition)                                                                          \
	do {                                                                                      \
		if (!(condition)) {                                                               \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);   \
			_exit(1);                                                                 \
		}                                                                                 \
	} while (0)

#define SAYS(got, want)                                                                           \
	do {                                                                                      \
		const char *got_ = (got);                                                         \
		if (!got_ || strcmp(got_, want) != 0) {                                           \
			fprintf(stderr, "%s:%d: %s is %s, want %s\n", __FILE__, __LINE__, #got,   \
			        got_ ? got_ : "NULL", want);                                      \
			_exit(1);                                                                 \
		}                                                                                 \
	} while (0)

static const char *dir;
static int listener = -1;
static char port[16];
static struct ressl *server;

static const char *file(const char *name)
{
	static char paths[8][512];
	static unsigned turn;
	char *path = paths[turn++ % 8];
	snprintf(path, sizeof *paths, "%s/%s", dir, name);
	return path;
}

static uint8_t *slurp(const char *name, size_t *len)
{
	uint8_t *data = malloc(65536);
	FILE *f = fopen(file(name), "r");
	*len = fread(data, 1, 65536, f);
	fclose(f);
	return data;
}

/* A non-blocking server: echoes what it gets until the end. */
static void *serve(void *arg)
{
	int expect = *(int *)arg;
	struct ressl *ctx = NULL;
	int fd = accept(listener, NULL, NULL), r;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	struct pollfd p = {.fd = fd};
	while ((r = ressl_accept_socket(server, &ctx, fd)) == RESSL_READ_AGAIN || r == RESSL_WRITE_AGAIN) {
		p.events = r == RESSL_READ_AGAIN ? POLLIN : POLLOUT;
		CHECK(poll(&p, 1, 10000) == 1);
	}
	if (expect < 0) {
		CHECK(r == -1 && ctx != NULL);
		SAYS(ressl_error(server), "ssl accept failure (1)");
		ressl_free(ctx);
		close(fd);
		return NULL;
	}
	CHECK(r == 0);
	static char b[1000];
	for (;;) {
		size_t n = 99, m;
		r = ressl_read(ctx, b, sizeof b, &n);
		if (r == RESSL_READ_AGAIN) {
			p.events = POLLIN;
			CHECK(poll(&p, 1, 10000) == 1);
			continue;
		}
		if (r == -1) {
			SAYS(ressl_error(ctx), "read failed (6)");
			break;
		}
		CHECK(r == 0 && n > 0);
		while ((r = ressl_write(ctx, b, n, &m)) == RESSL_WRITE_AGAIN) {
			p.events = POLLOUT;
			CHECK(poll(&p, 1, 10000) == 1);
		}
		CHECK(r == 0 && m == n);
	}
	CHECK(ressl_close(ctx) == 0);
	CHECK(ressl_close(ctx) == 0);
	CHECK(fcntl(fd, F_GETFD) == -1 && errno == EBADF);
	ressl_free(ctx);
	return NULL;
}

static void talk(struct ressl *ctx)
{
	static char out[100000], in[100000];
	size_t n, have = 0;
	for (size_t i = 0; i < sizeof out; i++)
		out[i] = (char)(i * 13);
	for (size_t at = 0; at < sizeof out; at += 10000) {
		CHECK(ressl_write(ctx, out + at, 10000, &n) == 0 && n == 10000);
		while (have < at + 10000) {
			int r = ressl_read(ctx, in + have, sizeof in - have, &n);
			CHECK(r == 0 && n > 0);
			have += n;
		}
	}
	CHECK(memcmp(in, out, sizeof in) == 0);
}

static void try(struct ressl_config *config, const char *host, int expect, const char *error, int own_socket)
{
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, serve, &expect) == 0);
	struct ressl *ctx = ressl_client();
	CHECK(ressl_configure(ctx, config) == 0);
	int r;
	if (own_socket) {
		struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)atoi(port))};
		int s = socket(AF_INET, SOCK_STREAM, 0);
		CHECK(connect(s, (struct sockaddr *)&a, sizeof a) == 0);
		r = ressl_connect_socket(ctx, s, host);
	} else {
		r = ressl_connect(ctx, host, port);
	}
	if (error) {
		CHECK(r == -1);
		SAYS(ressl_error(ctx), error);
	} else {
		if (r)
			fprintf(stderr, "%s\n", ressl_error(ctx));
		CHECK(r == 0);
		talk(ctx);
	}
	CHECK(ressl_close(ctx) == 0);
	pthread_join(thread, NULL);
	ressl_reset(ctx);
	CHECK(ressl_error(ctx) == NULL);
	ressl_free(ctx);
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	dir = argc > 1 ? argv[1] : ".";
	listener = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 8) == 0);
	CHECK(getsockname(listener, (struct sockaddr *)&a, &len) == 0);
	snprintf(port, sizeof port, "%d", ntohs(a.sin_port));

	CHECK(ressl_init() == 0);
	struct ressl_config *sc = ressl_config_new();
	server = ressl_server();
	struct ressl *none = NULL;
	CHECK(ressl_configure(server, sc) == -1);
	SAYS(ressl_error(server), "private/public key mismatch");
	CHECK(ressl_accept(server, &none) == -1);
	CHECK(ressl_listen(server, "localhost", "0", AF_INET) == -1);
	CHECK(ressl_connect(server, "localhost", "1") == -1);
	SAYS(ressl_error(server), "not a client context");
	CHECK(ressl_config_set_ecdhcurve(sc, "no-such-curve") == -1);
	CHECK(ressl_config_set_ecdhcurve(sc, "auto") == 0 && ressl_config_set_ecdhcurve(sc, NULL) == 0);
	CHECK(ressl_config_set_ecdhcurve(sc, "prime256v1") == 0);

	/* From memory, and wiped once it is configured. */
	size_t n, m;
	uint8_t *cert = slurp("host.pem", &n), *key = slurp("host.key", &m);
	CHECK(ressl_config_set_cert_mem(sc, cert, n) == 0 && ressl_config_set_key_mem(sc, key, m) == 0);
	CHECK(ressl_configure(server, sc) == 0);
	ressl_config_clear_keys(sc);
	free(cert);
	free(key);

	struct ressl_config *cc = ressl_config_new();
	CHECK(ressl_config_set_ca_file(cc, file("ca.pem")) == 0);
	ressl_config_set_verify_depth(cc, 4);
	ressl_config_set_protocols(cc, RESSL_PROTOCOLS_DEFAULT);
	try(cc, "127.0.0.1", 0, NULL, 0);
	try(cc, "host.test", 0, NULL, 1);
	try(cc, "host.test", 0, NULL, 1);
	/* The name is checked after the handshake: the server has seen a good one. */
	try(cc, "other.test", 0, "host `other.test' not present in server certificate", 1);
	try(cc, NULL, -1, "server name not specified", 1);
	ressl_config_insecure_noverifyhost(cc);
	try(cc, "other.test", 0, NULL, 1);
	ressl_config_verify(cc);
	CHECK(ressl_config_set_ca_file(cc, file("otherca.pem")) == 0);
	try(cc, "host.test", -1, "SSL connect failed: 1", 1);
	ressl_config_insecure_noverifycert(cc);
	try(cc, "host.test", 0, NULL, 1);
	ressl_config_verify(cc);
	ressl_config_insecure_no_verify(cc);
	try(cc, "other.test", 0, NULL, 1);
	CHECK(ressl_config_set_ca_path(cc, "/") == 0);

	/* By files, which are read when the server is configured. */
	struct ressl_config *fc = ressl_config_new();
	CHECK(ressl_config_set_cert_file(fc, file("cn.pem")) == 0 && ressl_config_set_key_file(fc, file("cn.key")) == 0);
	CHECK(ressl_config_set_ciphers(fc, "NO-SUCH-CIPHER") == 0);
	CHECK(ressl_configure(server, fc) == -1);
	SAYS(ressl_error(server), "failed to set ciphers");
	CHECK(ressl_config_set_ciphers(fc, "HIGH") == 0);
	CHECK(ressl_configure(server, fc) == 0);
	struct ressl_config *nc = ressl_config_new();
	CHECK(ressl_config_set_ca_file(nc, file("ca.pem")) == 0);
	try(nc, "cn.test", 0, NULL, 1);

	/* Without ECDHE an RSA key has to carry the secret. */
	ressl_config_clear_keys(fc);
	CHECK(ressl_config_set_cert_file(fc, file("rsa.pem")) == 0 && ressl_config_set_key_file(fc, file("rsa.key")) == 0);
	CHECK(ressl_config_set_ecdhcurve(fc, NULL) == 0 && ressl_configure(server, fc) == 0);
	try(nc, "host.test", 0, NULL, 1);
	CHECK(ressl_config_set_ciphers(nc, "EECDH") == 0);
	try(nc, "host.test", -1, "SSL connect failed: 1", 1);
	CHECK(ressl_config_set_ecdhcurve(fc, "auto") == 0 && ressl_configure(server, fc) == 0);
	try(nc, "host.test", 0, NULL, 1);

	/* A non-blocking descriptor is not for ressl_connect_socket. */
	int fds[2];
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
	struct ressl *ctx = ressl_client();
	CHECK(ressl_configure(ctx, nc) == 0);
	CHECK(ressl_connect_socket(ctx, fds[0], "host.test") == -1);
	SAYS(ressl_error(ctx), "SSL connect failed: 2");
	CHECK(ressl_close(ctx) == 0);
	ressl_free(ctx);
	close(fds[1]);

	ressl_free(server);
	ressl_free(NULL);
	ressl_config_free(sc);
	ressl_config_free(cc);
	ressl_config_free(fc);
	ressl_config_free(nc);
	return 0;
}
