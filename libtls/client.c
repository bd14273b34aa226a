/* A client's context gets its transport from the program, or libtls connects one to a host. */
#include "tls_int.h"

#include <netdb.h>

extern __typeof__(gai_strerror) gai_strerror WEAK;
extern __typeof__(freeaddrinfo) freeaddrinfo WEAK;

/* RFC 6066, section 3, and OpenSSL (TLSEXT_MAXLEN_host_name). */
enum { MOST_SERVERNAME = 255 };

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
	size_t length = servername ? strlen(ctx->servername) : 1;
	if (length == 0 || length > MOST_SERVERNAME)
		return set_error(ctx, "server name indication failure");
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

int tls_connect(struct tls *ctx, const char *host, const char *port)
{
	return tls_connect_servername(ctx, host, port, NULL);
}

int tls_connect_servername(struct tls *ctx, const char *host, const char *port,
                           const char *servername)
{
	return connect_host(ctx, host, port, servername, NULL);
}
