/* Contexts: making, configuring and freeing them, and their transports. */
#include "tls_int.h"

#include <netdb.h>
#include <unistd.h>

extern __typeof__(gai_strerror) gai_strerror WEAK;
extern __typeof__(freeaddrinfo) freeaddrinfo WEAK;

int tls_init(void)
{
	return config_default() ? 0 : -1;
}

/* The first file that libretls on Debian would look at. */
const char *tls_default_ca_cert_file(void)
{
	return "/usr/lib/ssl/cert.pem";
}

/* ---- errors ---- */

int set_error(struct tls *ctx, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	error_vset(&ctx->error, TLS_ERROR_UNKNOWN, 0, format, list);
	va_end(list);
	return -1;
}

int set_error_errno(struct tls *ctx, int errno_value, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	error_vset(&ctx->error, TLS_ERROR_UNKNOWN, errno_value, format, list);
	va_end(list);
	return -1;
}

const char *tls_error(struct tls *ctx)
{
	if (ctx->role == SERVER && ctx->built) {
		char *left = __atomic_exchange_n(&ctx->built->error, NULL, __ATOMIC_ACQ_REL);
		if (left) {
			error_clear(&ctx->error);
			ctx->error.text = left;
		}
	}
	return ctx->error.text;
}

int tls_error_code(struct tls *ctx)
{
	return ctx->error.code;
}

/* ---- life ---- */

struct tls *context_new(enum role role)
{
	struct tls *ctx = calloc(1, sizeof *ctx);
	if (!ctx)
		return NULL;
	ctx->role = role;
	ctx->rfd = ctx->wfd = ctx->socket = -1;
	return ctx;
}

static struct tls *context_default(enum role role)
{
	struct tls *ctx = tls_init() < 0 ? NULL : context_new(role);
	if (ctx)
		ctx->config = config_hold(config_default());
	return ctx;
}

struct tls *tls_client(void)
{
	return context_default(CLIENT);
}

struct tls *tls_server(void)
{
	return context_default(SERVER);
}

/* Forgets the connection. Neither close_notify is sent nor a descriptor closed. */
static void disconnect(struct tls *ctx)
{
	pump_free(ctx);
	ring_free(ctx);
	free(ctx->servername);
	free(ctx->facts);
	free(ctx->ocsp);
	free(ctx->facts_data);
	error_clear(&ctx->error);
	thing_release(ctx->built);
	const struct tls fresh = {.role = ctx->role, .config = ctx->config, .rfd = -1, .wfd = -1, .socket = -1};
	*ctx = fresh;
}

void tls_reset(struct tls *ctx)
{
	disconnect(ctx);
	tls_config_free(ctx->config);
	ctx->config = NULL;
}

void tls_free(struct tls *ctx)
{
	if (!ctx)
		return;
	tls_reset(ctx);
	free(ctx);
}

int tls_configure(struct tls *ctx, struct tls_config *config)
{
	if (!config)
		config = config_default();
	if (!config)
		return -1;
	config_hold(config);
	tls_config_free(ctx->config);
	ctx->config = config;
	if (ctx->role != SERVER)
		return 0;
	/* The worker's configuration stays what it is, whatever becomes of this one. */
	struct thing *built = config_build(config, TW_TLS_SERVER, &ctx->error);
	if (!built)
		return -1;
	thing_release(ctx->built);
	ctx->built = built;
	return 0;
}

/* ---- clients ---- */

static bool is_configured(struct tls *ctx)
{
	if (ctx->config)
		return true;
	set_error(ctx, "context not configured");
	return false;
}

int connect_setup(struct tls *ctx, const char *servername)
{
	if (ctx->role != CLIENT)
		return set_error(ctx, "not a client context");
	if (!is_configured(ctx))
		return -1;
	if (servername) {
		size_t n = strlen(servername);
		if (n && servername[n - 1] == '.')
			n--;
		char *copy = malloc(n + 1);
		if (!copy)
			return error_set(&ctx->error, TLS_ERROR_OUT_OF_MEMORY, 0, "out of memory");
		memcpy(copy, servername, n);
		copy[n] = '\0';
		free(ctx->servername);
		ctx->servername = copy;
	}
	struct thing *built = config_build_client(ctx->config, &ctx->error);
	if (!built)
		return -1;
	thing_release(ctx->built);
	ctx->built = built;
	if (!servername && (ctx->config->flags & TW_TLS_VERIFY_NAME))
		return set_error(ctx, "server name not specified");
	ctx->connected = true;
	return 0;
}

int tls_connect_fds(struct tls *ctx, int fd_read, int fd_write, const char *servername)
{
	if (fd_read < 0 || fd_write < 0)
		return set_error(ctx, "invalid file descriptors");
	ctx->rfd = fd_read;
	ctx->wfd = fd_write;
	return connect_setup(ctx, servername);
}

int tls_connect_socket(struct tls *ctx, int s, const char *servername)
{
	return tls_connect_fds(ctx, s, s, servername);
}

int tls_connect_cbs(struct tls *ctx, tls_read_cb read_cb, tls_write_cb write_cb, void *cb_arg,
                    const char *servername)
{
	if (connect_setup(ctx, servername) < 0)
		return -1;
	return pump_new(ctx, read_cb, write_cb, cb_arg);
}

int tls_connect(struct tls *ctx, const char *host, const char *port)
{
	return tls_connect_servername(ctx, host, port, NULL);
}

int tls_connect_servername(struct tls *ctx, const char *host, const char *port,
                           const char *servername)
{
	return connect_host(ctx, host, port, servername, NULL);
}

/* Splits "host:port" and "[v6]:port" in place: the port, or NULL. */
static const char *split_port(char **host)
{
	char *h = *host, *colon = NULL;
	if (*h == '[') {
		char *end = h;
		while (*end && *end != ']')
			end++;
		if (!*end || end[1] != ':')
			return NULL;
		*end = '\0';
		*host = h + 1;
		colon = end + 1;
	} else {
		for (char *c = h; *c; c++) {
			if (*c == ':')
				colon = c;
		}
		if (!colon)
			return NULL;
		*colon = '\0';
	}
	return colon[1] ? colon + 1 : NULL;
}

/*
 * Connects as the program itself would: the rules hold, a host that they deny is denied. What
 * passes gets the program's own TLS; where a rule says "tls", that is around it.
 */
static int connect_addresses(struct tls *ctx, const struct addrinfo *list)
{
	int fd = -1;
	for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
		fd = finish(SYS(SYS_socket, a->ai_family, a->ai_socktype, a->ai_protocol));
		if (fd < 0) {
			set_error_errno(ctx, get_errno(), "socket");
			continue;
		}
		if (connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
			set_error_errno(ctx, get_errno(), "connect");
			SYS(SYS_close, fd);
			fd = -1;
		}
	}
	return fd;
}

int connect_host(struct tls *ctx, const char *host, const char *port, const char *servername,
                 const char *default_port)
{
	if (ctx->role != CLIENT)
		return set_error(ctx, "not a client context");
	if (!host)
		return set_error(ctx, "host not specified");
	size_t n = strlen(host);
	char *copy = malloc(n + 1);
	if (!copy)
		return error_set(&ctx->error, TLS_ERROR_OUT_OF_MEMORY, 0, "out of memory");
	memcpy(copy, host, n + 1);
	char *name = copy;
	if (!port) {
		port = split_port(&name);
		if (!port)
			port = default_port;
	}
	int fd = -1, r = -1;
	if (!port) {
		set_error(ctx, "no port provided");
		goto done;
	}
	/* Literals first, so that they are never looked up. */
	const struct {
		int family, flags;
	} tries[] = {{AF_INET, AI_NUMERICHOST}, {AF_INET6, AI_NUMERICHOST}, {AF_UNSPEC, AI_ADDRCONFIG}};
	struct addrinfo *list = NULL;
	int error = EAI_NONAME;
	for (size_t i = 0; i < sizeof tries / sizeof *tries && error; i++) {
		const struct addrinfo hints = {.ai_family = tries[i].family,
		                               .ai_flags = tries[i].flags,
		                               .ai_socktype = SOCK_STREAM};
		list = NULL;
		error = getaddrinfo(name, port, &hints, &list);
	}
	if (error) {
		set_error(ctx, "%s", gai_strerror(error));
		goto done;
	}
	fd = connect_addresses(ctx, list);
	freeaddrinfo(list);
	if (fd < 0)
		goto done;
	error_clear(&ctx->error); /* of addresses that did not answer */
	r = tls_connect_socket(ctx, fd, servername ? servername : name);
	if (r < 0)
		SYS(SYS_close, fd);
	else
		ctx->socket = fd;
done:
	free(copy);
	return r;
}

/* ---- servers ---- */

static struct tls *accept_context(struct tls *ctx)
{
	if (ctx->role != SERVER) {
		set_error(ctx, "not a server context");
		return NULL;
	}
	if (!ctx->built) {
		set_error(ctx, "connection context failure");
		return NULL;
	}
	struct tls *made = context_new(SERVER_CONNECTION);
	if (!made) {
		set_error(ctx, "connection context failure");
		return NULL;
	}
	made->config = config_hold(ctx->config);
	made->built = thing_hold(ctx->built);
	made->connected = true;
	return made;
}

int tls_accept_fds(struct tls *ctx, struct tls **cctx, int fd_read, int fd_write)
{
	*cctx = NULL;
	if (ctx->role == SERVER && (fd_read < 0 || fd_write < 0))
		return set_error(ctx, "invalid file descriptors");
	struct tls *made = accept_context(ctx);
	if (!made)
		return -1;
	made->rfd = fd_read;
	made->wfd = fd_write;
	*cctx = made;
	return 0;
}

int tls_accept_socket(struct tls *ctx, struct tls **cctx, int s)
{
	return tls_accept_fds(ctx, cctx, s, s);
}

int tls_accept_cbs(struct tls *ctx, struct tls **cctx, tls_read_cb read_cb, tls_write_cb write_cb,
                   void *cb_arg)
{
	*cctx = NULL;
	struct tls *made = accept_context(ctx);
	if (!made)
		return -1;
	if (pump_new(made, read_cb, write_cb, cb_arg) < 0) {
		set_error(ctx, "%s", made->error.text ? made->error.text : "connection context failure");
		tls_free(made);
		return -1;
	}
	*cctx = made;
	return 0;
}

/* ---- handshake, read, write, close: what both kinds of transport have in common ---- */

/* As libtls has it: what errno says of a TLS call would mislead. */
static ssize_t end(ssize_t result)
{
	set_errno(0);
	return result;
}

static int handshake(struct tls *ctx)
{
	if (ctx->role == SERVER)
		return set_error(ctx, "invalid operation for context");
	if (ctx->complete)
		return set_error(ctx, "handshake already completed");
	if (!ctx->connected)
		return set_error(ctx, "context not connected");
	if (ctx->broken)
		return set_error(ctx, "handshake failed");
	return ctx->pump ? pump_handshake(ctx) : stream_handshake(ctx);
}

int tls_handshake(struct tls *ctx)
{
	error_clear(&ctx->error);
	return (int)end(handshake(ctx));
}

ssize_t tls_read(struct tls *ctx, void *buf, size_t buflen)
{
	error_clear(&ctx->error);
	if (!ctx->complete) {
		int r = handshake(ctx);
		if (r != 0)
			return end(r);
	}
	if (buflen > INT32_MAX)
		return end(set_error(ctx, "buflen too long"));
	if (ctx->ended || buflen == 0)
		return end(0);
	return end(ctx->pump ? pump_read(ctx, buf, buflen) : stream_read(ctx, buf, buflen));
}

ssize_t tls_write(struct tls *ctx, const void *buf, size_t buflen)
{
	error_clear(&ctx->error);
	if (!ctx->complete) {
		int r = handshake(ctx);
		if (r != 0)
			return end(r);
	}
	if (buflen > INT32_MAX)
		return end(set_error(ctx, "buflen too long"));
	if (buflen == 0)
		return end(0);
	if (buflen > TW_TLS_FRAME)
		buflen = TW_TLS_FRAME;
	return end(ctx->pump ? pump_write(ctx, buf, buflen) : stream_write(ctx, buf, buflen));
}

int tls_close(struct tls *ctx)
{
	error_clear(&ctx->error);
	if (ctx->role == SERVER)
		return (int)end(set_error(ctx, "invalid operation for context"));
	int r = 0;
	if (ctx->complete && !ctx->closed) {
		r = ctx->pump ? pump_close(ctx) : stream_close(ctx);
		if (r == TLS_WANT_POLLIN || r == TLS_WANT_POLLOUT)
			return (int)end(r);
		ctx->closed = true;
	}
	if (ctx->socket >= 0) {
		SYS(SYS_shutdown, ctx->socket, SHUT_RDWR);
		SYS(SYS_close, ctx->socket);
		ctx->socket = -1;
	}
	if (ctx->truncated)
		r = set_error(ctx, "EOF without close notify");
	return (int)end(r);
}
