/*
 * What cannot be compared with the real library, or is done better than by printing: each test
 * checks for itself and exits with 1 where something is not so. It runs under tlswrap alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <tls.h>
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

static const char *file(const char *name)
{
	static char paths[8][512];
	static unsigned turn;
	char *path = paths[turn++ % 8];
	snprintf(path, sizeof *paths, "%s/%s", dir, name);
	return path;
}

static struct tls *listener_for(const char *name)
{
	char cert[64], key[64];
	snprintf(cert, sizeof cert, "%s.pem", name);
	snprintf(key, sizeof key, "%s.key", name);
	struct tls_config *config = tls_config_new();
	struct tls *ctx = tls_server();
	CHECK(tls_config_set_keypair_file(config, file(cert), file(key)) == 0);
	CHECK(tls_configure(ctx, config) == 0);
	tls_config_free(config);
	return ctx;
}

static struct tls *client_for(const char *ca)
{
	struct tls_config *config = tls_config_new();
	struct tls *ctx = tls_client();
	CHECK(tls_config_set_ca_file(config, file(ca)) == 0);
	CHECK(tls_configure(ctx, config) == 0);
	tls_config_free(config);
	return ctx;
}

struct ends {
	struct tls *client, *server, *listener;
	int fds[2];
};

static void *shake(void *ctx)
{
	int r;
	while ((r = tls_handshake(ctx)) == TLS_WANT_POLLIN)
		;
	CHECK(r == 0);
	return NULL;
}

/* Two ends that have shaken hands, over blocking sockets. */
static struct ends connected(void)
{
	struct ends e;
	pthread_t thread;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, e.fds) == 0);
	e.listener = listener_for("host");
	e.client = client_for("ca.pem");
	CHECK(tls_accept_socket(e.listener, &e.server, e.fds[1]) == 0);
	CHECK(tls_connect_socket(e.client, e.fds[0], "host.test") == 0);
	CHECK(pthread_create(&thread, NULL, shake, e.server) == 0);
	shake(e.client);
	pthread_join(thread, NULL);
	return e;
}

static void done(struct ends *e)
{
	tls_free(e->client);
	tls_free(e->server);
	tls_free(e->listener);
	close(e->fds[0]);
	close(e->fds[1]);
}

/* ---- ends ---- */

static void test_cut_off(void)
{
	struct ends e = connected();
	char b[8];
	CHECK(tls_write(e.client, "abc", 3) == 3);
	CHECK(tls_read(e.server, b, sizeof b) == 3);
	close(e.fds[0]); /* without tls_close: no close_notify */
	CHECK(tls_read(e.server, b, sizeof b) == 0);
	CHECK(tls_read(e.server, b, sizeof b) == 0);
	CHECK(tls_close(e.server) == -1);
	SAYS(tls_error(e.server), "EOF without close notify");
	CHECK(tls_close(e.server) == -1);
	SAYS(tls_error(e.server), "EOF without close notify");
	CHECK(tls_conn_version(e.server) != NULL);
	e.fds[0] = -1;
	done(&e);
}

static void test_close_notify(void)
{
	struct ends e = connected();
	char b[8];
	SAYS(tls_peer_cert_common_name(e.client), "host.test");
	CHECK(tls_peer_cert_common_name(e.server) == NULL);
	CHECK(tls_write(e.client, "abc", 3) == 3);
	CHECK(tls_close(e.client) == 0);
	CHECK(tls_close(e.client) == 0);
	close(e.fds[0]);
	CHECK(tls_read(e.server, b, sizeof b) == 3);
	CHECK(tls_read(e.server, b, sizeof b) == 0);
	CHECK(tls_close(e.server) == 0);
	e.fds[0] = -1;
	done(&e);
}

/* One side has ended, the other still speaks. */
static void test_half_close(void)
{
	struct ends e = connected();
	char b[8];
	CHECK(tls_close(e.client) == 0);
	CHECK(tls_read(e.server, b, sizeof b) == 0);
	CHECK(tls_write(e.server, "more", 4) == 4);
	CHECK(tls_read(e.client, b, sizeof b) == 4);
	CHECK(tls_close(e.server) == 0);
	CHECK(tls_read(e.client, b, sizeof b) == 0);
	done(&e);
}

static void test_nothing_to_write(void)
{
	struct ends e = connected();
	char b[1];
	CHECK(tls_write(e.client, "", 0) == 0);
	CHECK(tls_read(e.client, b, 0) == 0);
	CHECK(tls_write(e.client, "x", 1) == 1);
	CHECK(tls_read(e.server, b, 1) == 1 && b[0] == 'x');
	CHECK(tls_close(e.client) == 0);
	CHECK(tls_read(e.server, b, 1) == 0);
	CHECK(tls_close(e.server) == 0);
	done(&e);
}

/* What is readable shows, also what a small read has left. */
static void test_poll_shows_the_rest(void)
{
	struct ends e = connected();
	char b[4];
	CHECK(tls_write(e.client, "abcdefgh", 8) == 8);
	for (int i = 0; i < 4; i++) {
		struct pollfd p = {e.fds[1], POLLIN, 0};
		CHECK(poll(&p, 1, 10000) == 1 && p.revents == POLLIN);
		CHECK(tls_read(e.server, b, 2) == 2);
	}
	struct pollfd p = {e.fds[1], POLLIN, 0};
	CHECK(poll(&p, 1, 0) == 0);
	done(&e);
}

/* A non-blocking writer is told when there is no room, and nothing is sent twice. */
static void test_full(void)
{
	struct ends e = connected();
	static char block[16384];
	size_t sent = 0, have = 0;
	ssize_t n;
	fcntl(e.fds[0], F_SETFL, O_NONBLOCK);
	for (;;) {
		memset(block, (int)(sent / sizeof block), sizeof block);
		n = tls_write(e.client, block, sizeof block);
		if (n == TLS_WANT_POLLOUT) {
			struct pollfd p = {e.fds[0], POLLOUT, 0};
			if (poll(&p, 1, 300) == 0)
				break;
			continue;
		}
		CHECK(n == sizeof block);
		sent += (size_t)n;
	}
	CHECK(sent > 0);
	fcntl(e.fds[1], F_SETFL, O_NONBLOCK);
	while (have < sent) {
		static char b[7000];
		n = tls_read(e.server, b, sizeof b);
		if (n == TLS_WANT_POLLIN) {
			struct pollfd p = {e.fds[1], POLLIN, 0};
			CHECK(poll(&p, 1, 10000) == 1);
			continue;
		}
		CHECK(n > 0);
		for (ssize_t i = 0; i < n; i++, have++)
			CHECK((unsigned char)b[i] == (unsigned char)(have / sizeof block));
	}
	done(&e);
}

/* ---- much ---- */

static size_t much;

enum { PERIOD = 65521 }; /* no multiple of anything that is moved as a whole */

/* Sends what stands from a place of the pattern on. */
static void pour_from(struct tls *ctx, size_t place, size_t left)
{
	static char data[PERIOD];
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (char)(i * 31 + i / 256);
	while (left) {
		size_t at = place % sizeof data, n = sizeof data - at < left ? sizeof data - at : left;
		ssize_t w = tls_write(ctx, data + at, n);
		if (w == TLS_WANT_POLLOUT || w == TLS_WANT_POLLIN)
			continue;
		CHECK(w > 0);
		place += (size_t)w;
		left -= (size_t)w;
	}
}

static void *pour(void *ctx)
{
	pour_from(ctx, 0, much);
	return NULL;
}

static void drink(struct tls *ctx)
{
	static char b[100000];
	size_t have = 0;
	while (have < much) {
		ssize_t n = tls_read(ctx, b, sizeof b);
		if (n == TLS_WANT_POLLIN)
			continue;
		CHECK(n > 0);
		for (ssize_t i = 0; i < n; i++, have++) {
			size_t at = have % PERIOD;
			CHECK(b[i] == (char)(at * 31 + at / 256));
		}
	}
}

static void much_one_way(struct tls *from, struct tls *to)
{
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, pour, from) == 0);
	drink(to);
	pthread_join(thread, NULL);
}

static void test_much(void)
{
	struct ends e = connected();
	const char *size = getenv("MUCH");
	much = size ? (size_t)atoll(size) : 64 << 20;
	much_one_way(e.client, e.server);
	much_one_way(e.server, e.client);
	CHECK(tls_close(e.client) == 0);
	done(&e);
}

static void *pour_and_close(void *ctx)
{
	pour(ctx);
	CHECK(tls_close(ctx) == 0);
	tls_free(ctx);
	return NULL;
}

/* What was written last arrives before the close_notify that follows at once. */
static void test_all_before_the_end(void)
{
	for (int i = 0; i < 20; i++) {
		struct ends e = connected();
		pthread_t thread;
		char b[1];
		much = (2 << 20) + (size_t)i;
		CHECK(pthread_create(&thread, NULL, pour_and_close, e.server) == 0);
		drink(e.client);
		CHECK(tls_read(e.client, b, 1) == 0);
		pthread_join(thread, NULL);
		CHECK(tls_close(e.client) == 0);
		e.server = NULL;
		done(&e);
	}
}

/*
 * Processes take turns at writing, long after the connection has begun, and nothing is read
 * before each has written: what one leaves to be sent is not overwritten by the next. All of it fits
 * into the queues on the way, of which the kernel fills some by half where messages are small: 540 KiB
 * were seen, and 512 are shared with the worker.
 */
static void test_fork_in_the_middle(void)
{
	enum { PART = 12 << 10, FIRST = 896 << 10, TURNS = 4 };
	struct ends e = connected();
	int status, start[2];
	size_t at = FIRST;
	char byte = 0;
	much = FIRST + 2 * TURNS * PART + 16 * PERIOD;
	CHECK(pipe(start) == 0);
	pid_t reader = fork();
	CHECK(reader >= 0);
	if (reader == 0) {
		CHECK(read(start[0], &byte, 1) == 1);
		drink(e.client);
		_exit(0);
	}
	pour_from(e.server, 0, FIRST);
	for (int i = 0; i < TURNS; i++) {
		pid_t writer = fork();
		CHECK(writer >= 0);
		if (writer == 0) {
			pour_from(e.server, at, PART);
			_exit(0);
		}
		CHECK(waitpid(writer, &status, 0) == writer && status == 0);
		pour_from(e.server, at + PART, PART);
		at += 2 * PART;
	}
	CHECK(write(start[1], &byte, 1) == 1);
	pour_from(e.server, at, 16 * PERIOD);
	CHECK(waitpid(reader, &status, 0) == reader && status == 0);
	close(start[0]);
	close(start[1]);
	done(&e);
}

/* ---- tls_connect ---- */

static int listening(int family)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	struct sockaddr_in b = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(family, SOCK_STREAM, 0);
	CHECK(fd >= 0);
	if (family == AF_INET6)
		CHECK(bind(fd, (struct sockaddr *)&a, sizeof a) == 0);
	else
		CHECK(bind(fd, (struct sockaddr *)&b, sizeof b) == 0);
	CHECK(listen(fd, 8) == 0);
	return fd;
}

static int port_of(int fd)
{
	struct sockaddr_in6 a;
	socklen_t len = sizeof a;
	CHECK(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
	return ntohs(a.sin6_port); /* at the same place in both */
}

struct serving {
	struct tls *listener;
	int fd;
	pthread_t thread;
};

static void *serve_one(void *arg)
{
	struct serving *s = arg;
	struct tls *ctx;
	char b[8];
	int fd = accept(s->fd, NULL, NULL);
	CHECK(tls_accept_socket(s->listener, &ctx, fd) == 0);
	CHECK(tls_read(ctx, b, 1) == 1);
	CHECK(tls_write(ctx, b, 1) == 1);
	tls_close(ctx);
	tls_free(ctx);
	close(fd);
	return NULL;
}

static void connect_as(const char *host, const char *port, const char *servername, int family)
{
	struct serving s = {listener_for("host"), listening(family), 0};
	char with[64], number[16], b[2];
	snprintf(number, sizeof number, "%d", port_of(s.fd));
	snprintf(with, sizeof with, host, port_of(s.fd));
	CHECK(pthread_create(&s.thread, NULL, serve_one, &s) == 0);
	struct tls *ctx = client_for("ca.pem");
	int r = tls_connect_servername(ctx, with, port ? number : NULL, servername);
	if (r != 0)
		fprintf(stderr, "%s: %s\n", with, tls_error(ctx));
	CHECK(r == 0);
	CHECK(tls_write(ctx, "x", 1) == 1);
	CHECK(tls_read(ctx, b, 2) == 1);
	CHECK(tls_close(ctx) == 0);
	CHECK(tls_close(ctx) == 0);
	SAYS(tls_conn_servername(ctx), servername);
	tls_free(ctx);
	pthread_join(s.thread, NULL);
	close(s.fd);
	tls_free(s.listener);
}

static void test_connect(void)
{
	connect_as("127.0.0.1", "port", "host.test", AF_INET);
	connect_as("127.0.0.1:%d", NULL, "host.test", AF_INET);
	connect_as("localhost", "port", "127.0.0.1", AF_INET);
	struct tls *ctx = client_for("ca.pem");
	CHECK(tls_connect(ctx, "127.0.0.1", NULL) == -1);
	SAYS(tls_error(ctx), "no port provided");
	CHECK(tls_connect(ctx, NULL, "1") == -1);
	SAYS(tls_error(ctx), "host not specified");
	CHECK(tls_connect_fds(ctx, -1, -1, "host.test") == -1);
	SAYS(tls_error(ctx), "invalid file descriptors");
	CHECK(tls_connect_cbs(ctx, NULL, NULL, NULL, "host.test") == -1);
	SAYS(tls_error(ctx), "no callbacks provided");
	/* A port where nobody listens. */
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	char number[16];
	CHECK(bind(fd, (struct sockaddr *)&a, sizeof a) == 0);
	snprintf(number, sizeof number, "%d", port_of(fd));
	CHECK(tls_connect(ctx, "127.0.0.1", number) == -1);
	SAYS(tls_error(ctx), "connect: Connection refused");
	close(fd);
	tls_reset(ctx);
	CHECK(tls_configure(ctx, NULL) == 0);
	CHECK(tls_error(ctx) == NULL);
	tls_free(ctx);
}

static void test_wrong_role(void)
{
	struct tls *client = client_for("ca.pem"), *server = listener_for("host"), *made = client;
	CHECK(tls_connect_socket(server, 0, "host.test") == -1);
	SAYS(tls_error(server), "not a client context");
	CHECK(tls_accept_socket(client, &made, 0) == -1);
	SAYS(tls_error(client), "not a server context");
	CHECK(made == NULL);
	CHECK(tls_close(server) == -1);
	SAYS(tls_error(server), "invalid operation for context");
	CHECK(tls_error_code(client) == 0);
	tls_free(client);
	tls_free(server);
	tls_free(NULL);
	tls_config_free(NULL);
	tls_unload_file(NULL, 0);
	CHECK(strlen(tls_default_ca_cert_file()) > 0);
}

/* ---- configurations ---- */

static void test_foreign_keys(void)
{
	for (int i = 0; i < 2; i++) {
		struct tls_config *config = tls_config_new();
		struct tls *ctx = tls_server();
		extern void tls_config_skip_private_key_check(struct tls_config *);
		extern void tls_config_use_fake_private_key(struct tls_config *);
		CHECK(tls_config_set_keypair_file(config, file("host.pem"), file("host.key")) == 0);
		if (i)
			tls_config_skip_private_key_check(config);
		else
			tls_config_use_fake_private_key(config);
		CHECK(tls_configure(ctx, config) == -1);
		CHECK(strstr(tls_error(ctx), "OpenSSL") != NULL);
		CHECK(tls_config_error_code(config) == 0);
		tls_config_free(config);
		tls_free(ctx);
	}
}

/* With TLS 1.3 a client learns that its certificate is missing when it reads. */
static void test_refused_later(void)
{
	struct tls_config *config = tls_config_new();
	struct ends e;
	pthread_t thread;
	char b[8];
	CHECK(tls_config_set_keypair_file(config, file("host.pem"), file("host.key")) == 0);
	CHECK(tls_config_set_ca_file(config, file("ca.pem")) == 0);
	tls_config_verify_client(config);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, e.fds) == 0);
	e.listener = tls_server();
	e.client = client_for("ca.pem");
	CHECK(tls_configure(e.listener, config) == 0);
	CHECK(tls_accept_socket(e.listener, &e.server, e.fds[1]) == 0);
	CHECK(tls_connect_socket(e.client, e.fds[0], "host.test") == 0);
	CHECK(pthread_create(&thread, NULL, (void *(*)(void *))(void (*)(void))tls_handshake, e.server) == 0);
	CHECK(tls_handshake(e.client) == 0);
	CHECK(tls_read(e.client, b, sizeof b) == -1);
	CHECK(strstr(tls_error(e.client), "read failed: error:0A00045C:SSL routines::tlsv13 alert certificate required"));
	CHECK(tls_write(e.client, "x", 1) == -1);
	CHECK(strstr(tls_error(e.client), "write failed: error:0A00045C"));
	pthread_join(thread, NULL);
	tls_config_free(config);
	done(&e);
}

static void test_load_file(void)
{
	size_t n, m;
	char password[] = "secret", wrong[] = "wrong";
	uint8_t *plain = tls_load_file(file("host.key"), &n, NULL);
	CHECK(plain && n > 100 && memcmp(plain, "-----BEGIN PRIVATE KEY-----", 27) == 0);
	static const char *const kinds[] = {"pkcs8.key", "traditional.key"};
	for (size_t i = 0; i < 2; i++) {
		CHECK(tls_load_file(file(kinds[i]), &m, wrong) == NULL);
		uint8_t *key = tls_load_file(file(kinds[i]), &m, password);
		CHECK(key && m == n && memcmp(key, plain, n) == 0);
		tls_unload_file(key, m);
	}
	CHECK(tls_load_file(file("missing"), &m, NULL) == NULL && errno == ENOENT);
	tls_unload_file(plain, n);
}

/* A key that Go does not have, or not in this form, is refused with the reason. */
static void test_keys_that_are_not_supported(void)
{
	static const struct {
		const char *name, *says;
	} keys[] = {
		{"pkcs8.key", "failed to read private key: it is encrypted: tls_load_file takes a password"},
		{"traditional.key", "failed to read private key: it is encrypted: tls_load_file takes a password"},
		{"ed448.key", "failed to read private key: its kind is not supported: crypto/tls has RSA, ECDSA with NIST's curves, and Ed25519"},
		{"junk", "failed to read private key"},
	};
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		struct tls_config *config = tls_config_new();
		struct tls *ctx = tls_server();
		CHECK(tls_config_set_keypair_file(config, file("host.pem"), file(keys[i].name)) == 0);
		CHECK(tls_configure(ctx, config) == -1);
		SAYS(tls_error(ctx), keys[i].says);
		tls_config_free(config);
		tls_free(ctx);
	}
}

/* Says why on the standard error, which the test in Go looks at. */
static void load_scrypt(void)
{
	size_t n;
	char password[] = "secret";
	CHECK(tls_load_file(file("scrypt.key"), &n, password) == NULL);
}

/* One exchange, with TLS 1.2; whether the session was resumed. */
static int resumed(struct tls *listener, struct tls_config *config)
{
	struct ends e = {.listener = listener, .client = tls_client()};
	pthread_t thread;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, e.fds) == 0);
	CHECK(tls_configure(e.client, config) == 0);
	CHECK(tls_accept_socket(e.listener, &e.server, e.fds[1]) == 0);
	CHECK(tls_connect_socket(e.client, e.fds[0], "host.test") == 0);
	CHECK(pthread_create(&thread, NULL, shake, e.server) == 0);
	shake(e.client);
	pthread_join(thread, NULL);
	int r = tls_conn_session_resumed(e.client);
	CHECK(r == tls_conn_session_resumed(e.server));
	CHECK(tls_peer_cert_provided(e.client) == 1);
	tls_close(e.client);
	tls_free(e.client);
	tls_free(e.server);
	close(e.fds[0]);
	close(e.fds[1]);
	return r;
}

static struct tls *ticket_server(const char *id, unsigned char first)
{
	struct tls_config *config = tls_config_new();
	struct tls *ctx = tls_server();
	unsigned char key[TLS_TICKET_KEY_SIZE] = {first};
	CHECK(tls_config_set_keypair_file(config, file("host.pem"), file("host.key")) == 0);
	CHECK(tls_config_set_session_lifetime(config, 3600) == 0);
	CHECK(tls_config_set_session_id(config, (const unsigned char *)id, strlen(id)) == 0);
	CHECK(tls_config_add_ticket_key(config, 1, key, sizeof key) == 0);
	CHECK(tls_configure(ctx, config) == 0);
	tls_config_free(config);
	return ctx;
}

static void test_sessions(void)
{
	char path[] = "session-XXXXXX";
	int fd = mkstemp(path);
	struct tls_config *config = tls_config_new();
	CHECK(tls_config_set_ca_file(config, file("ca.pem")) == 0);
	CHECK(tls_config_set_protocols(config, TLS_PROTOCOL_TLSv1_2) == 0);
	CHECK(tls_config_set_session_fd(config, fd) == 0);
	struct tls *a = ticket_server("a", 1), *same = ticket_server("a", 1), *id = ticket_server("b", 1),
	           *key = ticket_server("a", 2);
	CHECK(resumed(a, config) == 0);
	CHECK(lseek(fd, 0, SEEK_END) > 100);
	CHECK(resumed(a, config) == 1);
	CHECK(resumed(same, config) == 1);
	CHECK(resumed(id, config) == 0);
	CHECK(resumed(key, config) == 0);
	CHECK(tls_config_set_session_fd(config, -1) == 0);
	CHECK(resumed(key, config) == 0);
	CHECK(tls_config_set_session_fd(config, 999) == -1);
	SAYS(tls_config_error(config), "failed to stat session file: Bad file descriptor");
	CHECK(fchmod(fd, 0644) == 0 && tls_config_set_session_fd(config, fd) == -1);
	SAYS(tls_config_error(config), "session file has incorrect permissions (644 != 600)");
	CHECK(tls_config_set_session_fd(config, STDERR_FILENO) == -1 || 1);
	tls_config_free(config);
	tls_free(a);
	tls_free(same);
	tls_free(id);
	tls_free(key);
	close(fd);
	unlink(path);
}

/* ---- processes ---- */

/* A server that was configured before fork, chroot and setresuid serves after them. */
static void test_privileges(void)
{
	struct tls *listener = listener_for("host"), *client = client_for("ca.pem");
	int fds[2];
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	CHECK(tls_connect_socket(client, fds[0], "host.test") == 0);
	fflush(NULL);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		struct tls *ctx;
		char b[8];
		close(fds[0]);
		if (getuid() == 0)
			CHECK(chroot("/proc/self/fdinfo") == 0 || chroot("/") == 0);
		if (getuid() == 0)
			CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
		CHECK(tls_accept_socket(listener, &ctx, fds[1]) == 0);
		CHECK(tls_read(ctx, b, sizeof b) == 3);
		CHECK(tls_write(ctx, b, 3) == 3);
		CHECK(tls_close(ctx) == 0);
		tls_free(ctx);
		tls_free(listener);
		_exit(0);
	}
	char b[8];
	int status;
	close(fds[1]);
	tls_free(listener); /* the child's goes on */
	CHECK(tls_write(client, "abc", 3) == 3);
	CHECK(tls_read(client, b, sizeof b) == 3);
	CHECK(tls_close(client) == 0);
	tls_free(client);
	CHECK(waitpid(-1, &status, 0) == child && status == 0);
	CHECK(waitpid(-1, &status, 0) == -1 && errno == ECHILD);
	close(fds[0]);
}

static void *many(void *shared)
{
	for (int i = 0; i < 10; i++) {
		struct ends e;
		pthread_t thread;
		char b[8];
		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, e.fds) == 0);
		e.listener = ((struct tls **)shared)[0];
		e.client = tls_client();
		CHECK(tls_configure(e.client, ((struct tls_config **)shared)[1]) == 0);
		CHECK(tls_accept_socket(e.listener, &e.server, e.fds[1]) == 0);
		CHECK(tls_connect_socket(e.client, e.fds[0], "host.test") == 0);
		CHECK(pthread_create(&thread, NULL, shake, e.server) == 0);
		shake(e.client);
		pthread_join(thread, NULL);
		CHECK(tls_write(e.client, "abc", 3) == 3);
		CHECK(tls_read(e.server, b, sizeof b) == 3);
		tls_close(e.client);
		tls_free(e.client);
		tls_free(e.server);
		close(e.fds[0]);
		close(e.fds[1]);
	}
	return NULL;
}

/* Contexts in many threads that share one configuration. */
static void test_threads(void)
{
	struct tls *listener = listener_for("host");
	struct tls_config *config = tls_config_new();
	CHECK(tls_config_set_ca_file(config, file("ca.pem")) == 0);
	void *shared[2] = {listener, config};
	pthread_t threads[8];
	for (int i = 0; i < 8; i++)
		CHECK(pthread_create(&threads[i], NULL, many, shared) == 0);
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	tls_config_free(config);
	tls_free(listener);
}

/* A program that waits on its own descriptor neither spins nor hangs. */
static void test_half_a_handshake(void)
{
	int fds[2];
	struct tls *client = client_for("ca.pem");
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
	CHECK(tls_connect_socket(client, fds[0], "host.test") == 0);
	CHECK(tls_handshake(client) == TLS_WANT_POLLIN);
	struct pollfd p = {fds[0], POLLIN, 0};
	CHECK(poll(&p, 1, 200) == 0);
	CHECK(tls_handshake(client) == TLS_WANT_POLLIN);
	CHECK(write(fds[1], "not TLS at all", 14) == 14);
	CHECK(poll(&p, 1, 10000) == 1);
	CHECK(tls_handshake(client) == -1);
	SAYS(tls_error(client), "handshake failed: error:0A00010B:SSL routines::wrong version number");
	CHECK(tls_close(client) == 0);
	tls_free(client);
	close(fds[0]);
	close(fds[1]);

	client = client_for("ca.pem");
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	CHECK(tls_connect_socket(client, fds[0], "host.test") == 0);
	close(fds[1]);
	CHECK(tls_handshake(client) == -1);
	CHECK(tls_error(client) != NULL);
	tls_free(client);
	close(fds[0]);
}

/* What follows a failure is not taken for the end of the data. */
static void test_broken_stays_broken(void)
{
	struct ends e;
	pthread_t thread;
	char b[8], first[256];
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, e.fds) == 0);
	int go[2];
	CHECK(pipe(go) == 0);
	pid_t other = fork(); /* has the socket that the server's records leave by */
	if (other == 0) {
		if (read(go[0], b, 1) != 1 || write(e.fds[1], "\27\3\3\0\21no record of ours", 22) != 22)
			_exit(1);
		_exit(0);
	}
	e.listener = listener_for("host");
	e.client = client_for("ca.pem");
	CHECK(tls_accept_socket(e.listener, &e.server, e.fds[1]) == 0);
	CHECK(tls_connect_socket(e.client, e.fds[0], "host.test") == 0);
	CHECK(pthread_create(&thread, NULL, shake, e.server) == 0);
	shake(e.client);
	pthread_join(thread, NULL);
	CHECK(write(go[1], "x", 1) == 1);
	CHECK(tls_read(e.client, b, sizeof b) == -1);
	snprintf(first, sizeof first, "%s", tls_error(e.client));
	CHECK(tls_read(e.client, b, sizeof b) == -1);
	SAYS(tls_error(e.client), first);
	CHECK(tls_write(e.client, "abc", 3) == -1);
	CHECK(waitpid(other, NULL, 0) == other);
	close(go[0]);
	close(go[1]);
	done(&e);
}

/* A descriptor that is not open is the program's mistake, which is said, and no number of anybody else's. */
static void test_closed_descriptors(void)
{
	for (int which = 0; which < 3; which++) {
		int in[2], out[2];
		struct tls *client = client_for("ca.pem");
		CHECK(pipe(in) == 0 && pipe(out) == 0);
		CHECK(tls_connect_fds(client, in[0], out[1], "host.test") == 0);
		if (which != 0)
			close(in[0]);
		if (which != 1)
			close(out[1]);
		CHECK(tls_handshake(client) == -1);
		SAYS(tls_error(client), "handshake failed: Bad file descriptor");
		tls_free(client);
		close(in[1]);
		close(out[0]);
	}
	struct ends e = connected();
	char b[8];
	close(e.fds[0]);
	CHECK(tls_read(e.client, b, sizeof b) == -1);
	SAYS(tls_error(e.client), "read failed: Bad file descriptor");
	done(&e);
}

/* Calls without poll in between leave the processor to the worker. */
static void test_spinning(void)
{
	enum { MILLISECONDS = 300, LONGEST_WAIT = 10 };
	struct ends e = connected();
	struct timespec began, now;
	char b[8];
	long calls = 0, passed;
	fcntl(e.fds[0], F_SETFL, O_NONBLOCK);
	clock_gettime(CLOCK_MONOTONIC, &began);
	do {
		CHECK(tls_read(e.client, b, sizeof b) == TLS_WANT_POLLIN);
		calls++;
		clock_gettime(CLOCK_MONOTONIC, &now);
		passed = (now.tv_sec - began.tv_sec) * 1000 + (now.tv_nsec - began.tv_nsec) / 1000000;
	} while (passed < MILLISECONDS);
	if (calls > MILLISECONDS * LONGEST_WAIT) {
		fprintf(stderr, "%ld calls in %ld ms\n", calls, passed);
		_exit(1);
	}
	/* What comes ends such a wait, and one who waits himself is not slowed down. */
	CHECK(tls_write(e.server, "abc", 3) == 3);
	while (tls_read(e.client, b, sizeof b) == TLS_WANT_POLLIN)
		;
	done(&e);
}

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{"cut-off", test_cut_off},
	{"close-notify", test_close_notify},
	{"half-close", test_half_close},
	{"nothing-to-write", test_nothing_to_write},
	{"poll-shows-the-rest", test_poll_shows_the_rest},
	{"full", test_full},
	{"much", test_much},
	{"fork_in_the_middle", test_fork_in_the_middle},
	{"all-before-the-end", test_all_before_the_end},
	{"connect", test_connect},
	{"wrong-role", test_wrong_role},
	{"foreign-keys", test_foreign_keys},
	{"broken-stays-broken", test_broken_stays_broken},
	{"closed-descriptors", test_closed_descriptors},
	{"spinning", test_spinning},
	{"refused-later", test_refused_later},
	{"load-file", test_load_file},
	{"keys-that-are-not-supported", test_keys_that_are_not_supported},
	{"sessions", test_sessions},
	{"privileges", test_privileges},
	{"threads", test_threads},
	{"half-a-handshake", test_half_a_handshake},
};

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	dir = argc > 2 ? argv[2] : ".";
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
		if (argc < 2)
			printf("%s\n", tests[i].name);
		else if (strcmp(argv[1], tests[i].name) == 0)
			tests[i].run();
	}
	if (argc > 1 && strcmp(argv[1], "load-scrypt") == 0)
		load_scrypt();
	return 0;
}
