/*
 * An OpenSSL peer that sends back what it gets:
 *
 *   peer server CERT KEY VERSION SUITE HABIT        prints its port, and takes one connection
 *   peer client CA PORT VERSION SUITE HABIT         connects to record.test at 127.0.0.1
 *
 * VERSION is 1.2 or 1.3, SUITE OpenSSL's name. HABIT is what it does besides: plain, keys (new
 * keys after every 7th record, every other time asking for ours too), tickets (one after every
 * 7th), padding, fragments (of 512 bytes), rude (it ends without close_notify).
 */
#include <arpa/inet.h>
#include <err.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char *what)
{
	ERR_print_errors_fp(stderr);
	errx(1, "%s", what);
}

static SSL_CTX *context(const SSL_METHOD *method, const char *version, const char *suite, const char *habit)
{
	SSL_CTX *ctx = SSL_CTX_new(method);
	int is13 = strcmp(version, "1.3") == 0, number = is13 ? TLS1_3_VERSION : TLS1_2_VERSION;
	SSL_CTX_set_min_proto_version(ctx, number);
	SSL_CTX_set_max_proto_version(ctx, number);
	if (!(is13 ? SSL_CTX_set_ciphersuites(ctx, suite) : SSL_CTX_set_cipher_list(ctx, suite)))
		fail(suite);
	if (strcmp(habit, "padding") == 0)
		SSL_CTX_set_block_padding(ctx, 1000);
	if (strcmp(habit, "fragments") == 0)
		SSL_CTX_set_max_send_fragment(ctx, 512);
	return ctx;
}

static void echo(SSL *ssl, const char *habit)
{
	static char buf[16 << 10];
	int n;
	for (int round = 1; (n = SSL_read(ssl, buf, sizeof buf)) > 0; round++) {
		if (round % 7 == 0 && strcmp(habit, "keys") == 0 &&
		    !SSL_key_update(ssl, round % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED))
			fail("key update");
		if (round % 7 == 0 && strcmp(habit, "tickets") == 0 && !SSL_new_session_ticket(ssl))
			fail("ticket");
		if (SSL_write(ssl, buf, n) != n)
			fail("write");
	}
	if (SSL_get_error(ssl, n) != SSL_ERROR_ZERO_RETURN)
		fail("read");
	if (strcmp(habit, "rude") != 0 && SSL_shutdown(ssl) < 0)
		fail("shutdown");
}

static int dial_or_accept(int is_server, int port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((unsigned short)port)};
	socklen_t len = sizeof at;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (!is_server) {
		if (connect(fd, (struct sockaddr *)&at, sizeof at) < 0)
			err(1, "connect");
		return fd;
	}
	if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 1) < 0 || getsockname(fd, (struct sockaddr *)&at, &len) < 0)
		err(1, "listen");
	printf("%d\n", ntohs(at.sin_port));
	fflush(stdout);
	return accept(fd, NULL, NULL);
}

int main(int argc, char **argv)
{
	if (argc != 7)
		errx(2, "usage: see peer.c");
	int is_server = strcmp(argv[1], "server") == 0;
	SSL_CTX *ctx = context(is_server ? TLS_server_method() : TLS_client_method(), argv[4], argv[5], argv[6]);
	SSL *ssl;
	if (is_server) {
		if (SSL_CTX_use_certificate_chain_file(ctx, argv[2]) != 1 || SSL_CTX_use_PrivateKey_file(ctx, argv[3], SSL_FILETYPE_PEM) != 1)
			fail("certificate");
		ssl = SSL_new(ctx);
	} else {
		if (SSL_CTX_load_verify_locations(ctx, argv[2], NULL) != 1)
			fail("CA");
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
		ssl = SSL_new(ctx);
		SSL_set1_host(ssl, "record.test");
		SSL_set_tlsext_host_name(ssl, "record.test");
	}
	SSL_set_fd(ssl, dial_or_accept(is_server, is_server ? 0 : atoi(argv[3])));
	if ((is_server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1)
		fail("handshake");
	echo(ssl, argv[6]);
	SSL_free(ssl);
	return 0;
}
