/*
 * A client and a server in one process, as the arguments say, and all that libtls tells of them.
 * The same program runs with the real libtls and under tlswrap; the outputs are compared.
 *
 *   pair TRANSPORT [c.SETTING=VALUE | s.SETTING=VALUE | late.SIDE.SETTING=VALUE | name=NAME | do=WORDS]...
 *
 * A late setting comes when both sides have their transport. A name is NULL where it is empty, and empty
 * where it is "".
 *
 * TRANSPORT is poll, epoll, fds, or cbs with the bytes that go at once: cbs1, cbs512.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <tls.h>
#include <unistd.h>

/* ---- transports ---- */

static size_t piece; /* of callbacks; 0: descriptors */

struct queue {
	char data[1 << 20];
	size_t at, size;
	int closed;
};

static struct queue to_server, to_client;
static int epolls[2] = {-1, -1};

struct side {
	const char *name;
	struct tls *ctx;
	struct tls_config *config;
	struct queue *in, *out;
	int rfd, wfd;
	int result; /* of the handshake; 1: not yet */
	char error[512];
};

static ssize_t read_cb(struct tls *ctx, void *buf, size_t len, void *arg)
{
	struct side *s = arg;
	size_t n = s->in->size - s->in->at;
	(void)ctx;
	if (n == 0)
		return s->in->closed ? 0 : TLS_WANT_POLLIN;
	if (n > len)
		n = len;
	if (n > piece)
		n = piece;
	memcpy(buf, s->in->data + s->in->at, n);
	s->in->at += n;
	if (s->in->at == s->in->size)
		s->in->at = s->in->size = 0;
	return (ssize_t)n;
}

static ssize_t write_cb(struct tls *ctx, const void *buf, size_t len, void *arg)
{
	static unsigned calls;
	struct side *s = arg;
	(void)ctx;
	if (piece < 512 ? 0 : calls++ % 3 == 2)
		return TLS_WANT_POLLOUT;
	if (len > piece)
		len = piece;
	if (s->out->size + len > sizeof s->out->data)
		return TLS_WANT_POLLOUT;
	memcpy(s->out->data + s->out->size, buf, len);
	s->out->size += len;
	return (ssize_t)len;
}

/* ---- settings ---- */

static const char *text(const char *s)
{
	return s ? s : "(none)";
}

static uint8_t *slurp(const char *file, size_t *len)
{
	uint8_t *data = tls_load_file(file, len, NULL);
	if (!data) {
		printf("cannot read %s\n", file);
		exit(1);
	}
	return data;
}

static void set(struct side *s, char *setting)
{
	struct tls_config *c = s->config;
	char *value = strchr(setting, '=');
	char *second = NULL, *third = NULL;
	int r = 0;
	size_t n = 0, m = 0;
	if (value) {
		*value++ = '\0';
		second = strchr(value, '+');
		if (second) {
			*second++ = '\0';
			third = strchr(second, '+');
			if (third)
				*third++ = '\0';
		}
	}
#define IS(word) (strcmp(setting, word) == 0)
	if (IS("ca")) r = tls_config_set_ca_file(c, value);
	else if (IS("ca_mem")) { uint8_t *d = slurp(value, &n); r = tls_config_set_ca_mem(c, d, n); tls_unload_file(d, n); }
	else if (IS("ca_path")) r = tls_config_set_ca_path(c, value);
	else if (IS("chdir")) r = chdir(value);
	else if (IS("crl")) r = tls_config_set_crl_file(c, value);
	else if (IS("crl_mem")) { uint8_t *d = slurp(value, &n); r = tls_config_set_crl_mem(c, d, n); tls_unload_file(d, n); }
	else if (IS("cert")) r = tls_config_set_cert_file(c, value);
	else if (IS("key")) r = tls_config_set_key_file(c, value);
	else if (IS("cert_mem")) { uint8_t *d = slurp(value, &n); r = tls_config_set_cert_mem(c, d, n); tls_unload_file(d, n); }
	else if (IS("key_mem")) { uint8_t *d = slurp(value, &n); r = tls_config_set_key_mem(c, d, n); tls_unload_file(d, n); }
	else if (IS("keypair") && third) r = tls_config_set_keypair_ocsp_file(c, value, second, third);
	else if (IS("keypair")) r = tls_config_set_keypair_file(c, value, second);
	else if (IS("keypair_mem")) {
		uint8_t *d = slurp(value, &n), *e = slurp(second, &m);
		if (third) {
			size_t o;
			uint8_t *f = slurp(third, &o);
			r = tls_config_set_keypair_ocsp_mem(c, d, n, e, m, f, o);
			tls_unload_file(f, o);
		} else {
			r = tls_config_set_keypair_mem(c, d, n, e, m);
		}
		tls_unload_file(d, n);
		tls_unload_file(e, m);
	}
	else if (IS("add") && third) r = tls_config_add_keypair_ocsp_file(c, value, second, third);
	else if (IS("add")) r = tls_config_add_keypair_file(c, value, second);
	else if (IS("add_mem")) {
		uint8_t *d = slurp(value, &n), *e = slurp(second, &m);
		if (third) {
			size_t o;
			uint8_t *f = slurp(third, &o);
			r = tls_config_add_keypair_ocsp_mem(c, d, n, e, m, f, o);
			tls_unload_file(f, o);
		} else {
			r = tls_config_add_keypair_mem(c, d, n, e, m);
		}
		tls_unload_file(d, n);
		tls_unload_file(e, m);
	}
	else if (IS("staple")) r = tls_config_set_ocsp_staple_file(c, value);
	else if (IS("staple_mem")) { uint8_t *d = slurp(value, &n); r = tls_config_set_ocsp_staple_mem(c, d, n); tls_unload_file(d, n); }
	else if (IS("clear_keys")) tls_config_clear_keys(c);
	else if (IS("noverifycert")) tls_config_insecure_noverifycert(c);
	else if (IS("noverifyname")) tls_config_insecure_noverifyname(c);
	else if (IS("noverifytime")) tls_config_insecure_noverifytime(c);
	else if (IS("verify")) tls_config_verify(c);
	else if (IS("verify_client")) tls_config_verify_client(c);
	else if (IS("verify_client_optional")) tls_config_verify_client_optional(c);
	else if (IS("require_stapling")) tls_config_ocsp_require_stapling(c);
	else if (IS("depth")) r = tls_config_set_verify_depth(c, atoi(value));
	else if (IS("alpn")) r = tls_config_set_alpn(c, value);
	else if (IS("ciphers")) r = tls_config_set_ciphers(c, value);
	else if (IS("curve")) r = tls_config_set_ecdhecurve(c, value);
	else if (IS("curves")) r = tls_config_set_ecdhecurves(c, value);
	else if (IS("dhe")) r = tls_config_set_dheparams(c, value);
	else if (IS("prefer_client")) tls_config_prefer_ciphers_client(c);
	else if (IS("prefer_server")) tls_config_prefer_ciphers_server(c);
	else if (IS("lifetime")) r = tls_config_set_session_lifetime(c, atoi(value));
	else if (IS("id")) r = tls_config_set_session_id(c, (const unsigned char *)value, strlen(value));
	else if (IS("ticket")) {
		unsigned char key[64] = {1, 2, third ? 4 : 3};
		r = tls_config_add_ticket_key(c, (uint32_t)atoi(value), key, second ? (size_t)atoi(second) : 48);
	}
	else if (IS("session")) r = tls_config_set_session_fd(c, open(value, O_RDWR | O_CREAT, (mode_t)strtol(second ? second : "600", NULL, 8)));
	else if (IS("protocols")) {
		uint32_t bits = 12345;
		r = tls_config_parse_protocols(&bits, value);
		printf("%s protocols %s: %d %#x\n", s->name, value, r, bits);
		if (r == 0)
			r = tls_config_set_protocols(c, bits);
		else
			r = 0;
	} else {
		printf("no setting %s\n", setting);
		exit(1);
	}
	if (r != 0)
		printf("%s.%s: %d %s\n", s->name, setting, r, text(tls_config_error(c)));
}

/* ---- what is told ---- */

static void facts(struct side *s)
{
	struct tls *t = s->ctx;
	size_t n = 0;
	const uint8_t *chain = tls_peer_cert_chain_pem(t, &n);
	int certs = 0;
	for (size_t i = 0; i + 11 <= n; i++)
		certs += memcmp(chain + i, "-----BEGIN ", 11) == 0;
	printf("%s version %s cipher %s strength %d\n", s->name, text(tls_conn_version(t)),
	       text(tls_conn_cipher(t)), tls_conn_cipher_strength(t));
	printf("%s alpn %s servername %s resumed %d\n", s->name, text(tls_conn_alpn_selected(t)),
	       text(tls_conn_servername(t)), tls_conn_session_resumed(t));
	printf("%s provided %d subject %s issuer %s\n", s->name, tls_peer_cert_provided(t),
	       text(tls_peer_cert_subject(t)), text(tls_peer_cert_issuer(t)));
	printf("%s hash %s from %lld to %lld, %d in the chain of %zu\n", s->name, text(tls_peer_cert_hash(t)),
	       (long long)tls_peer_cert_notbefore(t), (long long)tls_peer_cert_notafter(t), certs, n);
	static const char *const names[] = {"host.test", "other.test", "a.wild.test", "wild.test",
	                                    "a.b.wild.test", "HOST.test", "127.0.0.1", "::1", "", "cn.test"};
	printf("%s contains", s->name);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		printf(" %d", tls_peer_cert_contains_name(t, names[i]));
	printf("\n%s ocsp url %s result %s status %d cert %d reason %d this %lld next %lld revoked %lld\n", s->name,
	       text(tls_peer_ocsp_url(t)), text(tls_peer_ocsp_result(t)), tls_peer_ocsp_response_status(t),
	       tls_peer_ocsp_cert_status(t), tls_peer_ocsp_crl_reason(t), (long long)tls_peer_ocsp_this_update(t),
	       (long long)tls_peer_ocsp_next_update(t), (long long)tls_peer_ocsp_revocation_time(t));
}

static void wait_for(struct side *s, int want)
{
	short events = want == TLS_WANT_POLLIN ? POLLIN : POLLOUT;
	if (piece)
		return;
	if (epolls[0] >= 0) {
		struct epoll_event e;
		int ep = epolls[s->name[0] == 's'];
		if (epoll_wait(ep, &e, 1, 10000) != 1) {
			printf("%s: epoll sees nothing\n", s->name);
			exit(1);
		}
		return;
	}
	struct pollfd p = {want == TLS_WANT_POLLIN ? s->rfd : s->wfd, events, 0};
	if (poll(&p, 1, 10000) != 1) {
		printf("%s: poll sees nothing\n", s->name);
		exit(1);
	}
}

static void hang_up(struct side *s)
{
	s->out->closed = 1;
	if (s->rfd >= 0)
		close(s->rfd);
	if (s->wfd >= 0 && s->wfd != s->rfd)
		close(s->wfd);
	s->rfd = s->wfd = -1;
}

static void step(struct side *s)
{
	if (s->result != 1)
		return;
	errno = 77;
	int r = tls_handshake(s->ctx);
	if (errno)
		printf("%s: errno %d after the handshake\n", s->name, errno);
	if (r == TLS_WANT_POLLIN || r == TLS_WANT_POLLOUT)
		return;
	s->result = r;
	if (r != 0) {
		snprintf(s->error, sizeof s->error, "%s", text(tls_error(s->ctx)));
		hang_up(s);
	}
}

static void shake(struct side *a, struct side *b)
{
	for (int i = 0; a->result == 1 || b->result == 1; i++) {
		step(a);
		step(b);
		struct pollfd p[2] = {{a->result == 1 ? a->rfd : -1, POLLIN, 0},
		                      {b->result == 1 ? b->rfd : -1, POLLIN, 0}};
		if (!piece && (p[0].fd >= 0 || p[1].fd >= 0) && poll(p, 2, 10000) == 0) {
			printf("the handshake stands still\n");
			exit(1);
		}
		if (piece && i > 2000000) {
			printf("the handshake stands still\n");
			exit(1);
		}
	}
}

/* ---- bytes ---- */

static void say(struct side *from, struct side *to, size_t size)
{
	char *data = malloc(size), *got = malloc(size);
	for (size_t i = 0; i < size; i++)
		data[i] = (char)(i * 7 + i / 251);
	size_t sent = 0, have = 0;
	while (have < size) {
		ssize_t w = TLS_WANT_POLLIN, n;
		if (sent < size) {
			w = tls_write(from->ctx, data + sent, size - sent);
			if (w > 0)
				sent += (size_t)w;
			if (w == -1 || w == 0) {
				printf("%s write: %zd %s\n", from->name, w, text(tls_error(from->ctx)));
				return;
			}
		}
		n = tls_read(to->ctx, got + have, size - have);
		if (n == -1 || n == 0) {
			printf("%s read: %zd %s\n", to->name, n, text(tls_error(to->ctx)));
			return;
		}
		if (n > 0)
			have += (size_t)n;
		else if (sent == size)
			wait_for(to, (int)n);
	}
	printf("%s to %s: %zu bytes, %s\n", from->name, to->name, size, memcmp(data, got, size) ? "spoilt" : "intact");
	free(data);
	free(got);
}

static void expect_end(struct side *s)
{
	char b[64];
	ssize_t n;
	while ((n = tls_read(s->ctx, b, sizeof b)) == TLS_WANT_POLLIN)
		wait_for(s, (int)n);
	printf("%s read: %zd %s\n", s->name, n, text(tls_error(s->ctx)));
	n = tls_read(s->ctx, b, sizeof b);
	printf("%s read again: %zd %s\n", s->name, n, text(tls_error(s->ctx)));
}

static void close_side(struct side *s)
{
	int r;
	while ((r = tls_close(s->ctx)) == TLS_WANT_POLLOUT || r == TLS_WANT_POLLIN)
		wait_for(s, r);
	printf("%s close: %d %s\n", s->name, r, text(tls_error(s->ctx)));
}

static void write_closed(struct side *s)
{
	ssize_t n = tls_write(s->ctx, "x", 1);
	printf("%s write of one: %zd %s\n", s->name, n, text(tls_error(s->ctx)));
	n = tls_write(s->ctx, "x", 0);
	printf("%s write of nothing: %zd %s\n", s->name, n, text(tls_error(s->ctx)));
}

static int make_transport(struct side *c, struct side *s, const char *kind)
{
	int fds[2], more[2];
	if (strncmp(kind, "cbs", 3) == 0) {
		piece = (size_t)atoi(kind + 3);
		return 0;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) < 0)
		return -1;
	c->rfd = c->wfd = fds[0];
	s->rfd = s->wfd = fds[1];
	if (strcmp(kind, "fds") == 0) {
		if (pipe2(fds, O_NONBLOCK) < 0 || pipe2(more, O_NONBLOCK) < 0)
			return -1;
		close(c->rfd);
		close(s->rfd);
		c->rfd = fds[0];
		s->wfd = fds[1];
		s->rfd = more[0];
		c->wfd = more[1];
	}
	if (strcmp(kind, "epoll") == 0) {
		struct epoll_event e = {.events = EPOLLIN};
		for (int i = 0; i < 2; i++) {
			epolls[i] = epoll_create1(0);
			epoll_ctl(epolls[i], EPOLL_CTL_ADD, i ? s->rfd : c->rfd, &e);
		}
	}
	return 0;
}

static struct side client = {.name = "c", .rfd = -1, .wfd = -1, .result = 1, .in = &to_client, .out = &to_server};
static struct side server = {.name = "s", .rfd = -1, .wfd = -1, .result = 1, .in = &to_server, .out = &to_client};

int main(int argc, char **argv)
{
	const char *name = "host.test", *todo = "talk", *ocsp = NULL;
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	printf("init %d\n", tls_init());
	client.config = tls_config_new();
	server.config = tls_config_new();
	int keep = 0;
	for (int i = 2; i < argc; i++) {
		if (strncmp(argv[i], "c.", 2) == 0)
			set(&client, argv[i] + 2);
		else if (strncmp(argv[i], "s.", 2) == 0)
			set(&server, argv[i] + 2);
		else if (strncmp(argv[i], "name=", 5) == 0)
			name = strcmp(argv[i] + 5, "\"\"") == 0 ? "" : argv[i][5] ? argv[i] + 5 : NULL;
		else if (strncmp(argv[i], "do=", 3) == 0)
			todo = argv[i] + 3;
		else if (strncmp(argv[i], "ocsp=", 5) == 0)
			ocsp = argv[i] + 5;
		else if (strcmp(argv[i], "clear_after") == 0)
			keep = 1;
	}
	struct tls *listener = tls_server();
	int r = tls_configure(listener, server.config);
	printf("configure server: %d %s\n", r, text(tls_error(listener)));
	if (keep)
		tls_config_clear_keys(server.config);
	if (r != 0) {
		tls_config_free(client.config);
		tls_config_free(server.config);
		tls_free(listener);
		return 0;
	}
	client.ctx = tls_client();
	r = tls_configure(client.ctx, client.config);
	printf("configure client: %d %s\n", r, text(tls_error(client.ctx)));
	if (make_transport(&client, &server, argv[1]) < 0)
		return 1;
	r = tls_handshake(listener);
	printf("before: handshake %d %s\n", r, text(tls_error(listener)));
	r = tls_handshake(client.ctx);
	printf("before: handshake %d %s\n", r, text(tls_error(client.ctx)));
	char b[8];
	ssize_t n = tls_read(listener, b, sizeof b), w = tls_write(listener, "x", 1);
	printf("listener: read %zd write %zd close %d\n", n, w, tls_close(listener));
	facts(&client);
	if (piece) {
		r = tls_connect_cbs(client.ctx, read_cb, write_cb, &client, name);
		printf("connect: %d %s\n", r, text(tls_error(client.ctx)));
		if (r == 0)
			r = tls_accept_cbs(listener, &server.ctx, read_cb, write_cb, &server);
	} else {
		r = client.rfd == client.wfd ? tls_connect_socket(client.ctx, client.rfd, name)
		                             : tls_connect_fds(client.ctx, client.rfd, client.wfd, name);
		printf("connect: %d %s\n", r, text(tls_error(client.ctx)));
		if (r == 0)
			r = server.rfd == server.wfd ? tls_accept_socket(listener, &server.ctx, server.rfd)
			                             : tls_accept_fds(listener, &server.ctx, server.rfd, server.wfd);
	}
	if (r == 0) {
		for (int i = 2; i < argc; i++) {
			if (strncmp(argv[i], "late.c.", 7) == 0)
				set(&client, argv[i] + 7);
			if (strncmp(argv[i], "late.s.", 7) == 0)
				set(&server, argv[i] + 7);
		}
		shake(&client, &server);
		printf("c handshake: %d %s\n", client.result, client.error);
		printf("s handshake: %d %s\n", server.result, server.error);
		printf("listener: %s\n", text(tls_error(listener)));
	}
	if (r == 0)
		facts(&client);
	if (server.result == 0)
		facts(&server);
	if (client.result == 0 && server.result == 0) {
		r = tls_handshake(client.ctx);
		printf("again: %d %s\n", r, text(tls_error(client.ctx)));
		if (ocsp) {
			size_t n;
			uint8_t *der = slurp(ocsp, &n);
			r = tls_ocsp_process_response(client.ctx, der, n);
			printf("ocsp: %d %s\n", r, r ? text(tls_error(client.ctx)) : "");
			facts(&client);
			tls_unload_file(der, n);
		}
		if (strstr(todo, "talk")) {
			say(&client, &server, 1);
			say(&server, &client, 100000);
			say(&client, &server, 300000);
		}
		if (strstr(todo, "cut")) {
			hang_up(&client);
			expect_end(&server);
			close_side(&server);
			close_side(&server);
		} else {
			close_side(&client);
			write_closed(&client);
			expect_end(&server);
			close_side(&server);
			write_closed(&server);
			expect_end(&client);
			close_side(&client);
			facts(&client);
		}
	} else if (client.result != 1) {
		close_side(&client);
	}
	tls_config_free(client.config);
	tls_config_free(server.config);
	tls_reset(client.ctx);
	facts(&client);
	tls_free(client.ctx);
	tls_free(server.ctx);
	tls_free(listener);
	return 0;
}
