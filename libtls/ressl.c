/*
 * The API of 2014. A struct ressl is a struct tls, and most of this a change of convention: the
 * handshake is part of connecting and accepting, lengths come back by pointer, the end is an
 * error, and the socket is ressl_close's to close.
 */
#include "tls_int.h"

static struct tls *context(struct ressl *ctx)
{
	return (struct tls *)(void *)ctx;
}

static struct tls_config *config_of(struct ressl_config *config)
{
	return (struct tls_config *)(void *)config;
}

/* What configurations begin with, and what contexts have that were given none. */
static struct tls_config *default_config(void)
{
	struct tls_config *config = tls_config_new();
	if (!config)
		return NULL;
	config->protocols = RESSL_PROTOCOLS_DEFAULT;
	config->flags |= TW_TLS_RESSL;
	return config;
}

int ressl_init(void)
{
	return tls_init();
}

const char *ressl_error(struct ressl *ctx)
{
	return tls_error(context(ctx));
}

/* ---- configurations ---- */

struct ressl_config *ressl_config_new(void)
{
	return (struct ressl_config *)(void *)default_config();
}

/* Contexts only borrow a configuration; that ours hold it too does no harm. */
void ressl_config_free(struct ressl_config *config)
{
	tls_config_free(config_of(config));
}

/* Files are read, and ciphers looked at, when they are used. */
int ressl_config_set_ca_file(struct ressl_config *config, const char *ca_file)
{
	return config_put_name(config_of(config), TW_TLS_CA, ca_file);
}

int ressl_config_set_ca_path(struct ressl_config *config, const char *ca_path)
{
	return tls_config_set_ca_path(config_of(config), ca_path);
}

int ressl_config_set_cert_file(struct ressl_config *config, const char *cert_file)
{
	return config_put_name(config_of(config), TW_TLS_CERT, cert_file);
}

int ressl_config_set_cert_mem(struct ressl_config *config, const uint8_t *cert, size_t len)
{
	return tls_config_set_cert_mem(config_of(config), cert, len);
}

int ressl_config_set_key_file(struct ressl_config *config, const char *key_file)
{
	return config_put_name(config_of(config), TW_TLS_KEY, key_file);
}

int ressl_config_set_key_mem(struct ressl_config *config, const uint8_t *key, size_t len)
{
	return tls_config_set_key_mem(config_of(config), key, len);
}

int ressl_config_set_ciphers(struct ressl_config *config, const char *ciphers)
{
	return config_put_name(config_of(config), TW_TLS_CIPHERS, ciphers);
}

/* NULL is no ECDHE at all, for servers, which leaves suites without forward secrecy. */
int ressl_config_set_ecdhcurve(struct ressl_config *opaque, const char *name)
{
	struct tls_config *config = config_of(opaque);
	if (tls_config_set_ecdhecurve(config, name) < 0)
		return -1;
	config_set_flags(config, name ? 0 : TW_TLS_NO_ECDHE, name ? TW_TLS_NO_ECDHE : 0);
	return 0;
}

void ressl_config_set_protocols(struct ressl_config *config, uint32_t protocols)
{
	tls_config_set_protocols(config_of(config), protocols);
}

void ressl_config_set_verify_depth(struct ressl_config *config, int verify_depth)
{
	tls_config_set_verify_depth(config_of(config), verify_depth);
}

/* Certificates too: see ressl_config.c of 2014. */
void ressl_config_clear_keys(struct ressl_config *config)
{
	tls_config_set_cert_mem(config_of(config), NULL, 0);
	tls_config_clear_keys(config_of(config));
}

void ressl_config_insecure_noverifyhost(struct ressl_config *config)
{
	tls_config_insecure_noverifyname(config_of(config));
}

void ressl_config_insecure_noverifycert(struct ressl_config *config)
{
	tls_config_insecure_noverifycert(config_of(config));
}

void ressl_config_insecure_no_verify(struct ressl_config *config)
{
	tls_config_insecure_noverifyname(config_of(config));
	tls_config_insecure_noverifycert(config_of(config));
}

void ressl_config_verify(struct ressl_config *config)
{
	tls_config_verify(config_of(config));
}

/* ---- contexts ---- */

static struct ressl *new_context(enum role role)
{
	struct tls *ctx = context_new(role);
	if (ctx)
		ctx->config = default_config();
	if (ctx && !ctx->config) {
		tls_free(ctx);
		ctx = NULL;
	}
	return (struct ressl *)(void *)ctx;
}

struct ressl *ressl_client(void)
{
	return new_context(CLIENT);
}

struct ressl *ressl_server(void)
{
	return new_context(SERVER);
}

int ressl_configure(struct ressl *opaque, struct ressl_config *config)
{
	struct tls *ctx = context(opaque);
	struct tls_config *chosen = config ? config_hold(config_of(config)) : default_config();
	if (!chosen)
		return -1;
	int r = tls_configure(ctx, chosen);
	tls_config_free(chosen);
	return r;
}

/* Unlike tls_reset, it keeps the configuration. */
void ressl_reset(struct ressl *opaque)
{
	struct tls *ctx = context(opaque);
	struct tls_config *config = config_hold(ctx->config);
	struct thing *built = ctx->role == SERVER ? thing_hold(ctx->built) : NULL;
	tls_reset(ctx);
	ctx->config = config;
	ctx->built = built;
}

void ressl_free(struct ressl *ctx)
{
	tls_free(context(ctx));
}

/* ---- connections ---- */

int ressl_accept(struct ressl *ctx, struct ressl **cctx)
{
	(void)ctx;
	(void)cctx;
	return -1; /* as it was in 2014 */
}

int ressl_listen(struct ressl *ctx, const char *host, const char *port, int af)
{
	(void)ctx;
	(void)host;
	(void)port;
	(void)af;
	return -1; /* as it was in 2014 */
}

static int connected(struct tls *ctx, int r)
{
	if (r == 0)
		r = tls_handshake(ctx);
	if (r == TLS_WANT_POLLIN || r == TLS_WANT_POLLOUT)
		r = set_error(ctx, "SSL connect failed: %i", -r); /* SSL_ERROR_WANT_READ is 2 */
	return r;
}

int ressl_connect(struct ressl *opaque, const char *host, const char *port)
{
	struct tls *ctx = context(opaque);
	return connected(ctx, connect_host(ctx, host, port, NULL, "443"));
}

int ressl_connect_socket(struct ressl *opaque, int s, const char *hostname)
{
	struct tls *ctx = context(opaque);
	int r = tls_connect_socket(ctx, s, hostname);
	ctx->socket = s; /* ressl_close's, also where this has failed */
	return connected(ctx, r);
}

int ressl_accept_socket(struct ressl *opaque, struct ressl **cctx, int socket)
{
	struct tls *ctx = context(opaque);
	struct tls *made = context(*cctx);
	if (!made) {
		if (tls_accept_socket(ctx, &made, socket) < 0)
			return -1;
		made->socket = socket;
		*cctx = (struct ressl *)(void *)made;
	}
	int r = tls_handshake(made);
	if (r == -1)
		set_error(ctx, "%s", made->error.text ? made->error.text : "ssl accept failure");
	return r;
}

int ressl_read(struct ressl *opaque, void *buf, size_t buflen, size_t *outlen)
{
	struct tls *ctx = context(opaque);
	*outlen = 0;
	ssize_t n = tls_read(ctx, buf, buflen);
	if (n == 0 && buflen > 0)
		return set_error(ctx, "read failed (6)"); /* SSL_ERROR_ZERO_RETURN */
	if (n < 0)
		return (int)n;
	*outlen = (size_t)n;
	return 0;
}

/* All or AGAIN: what a call has sent is remembered for the next, with the same buffer. */
int ressl_write(struct ressl *opaque, const void *buf, size_t buflen, size_t *outlen)
{
	struct tls *ctx = context(opaque);
	*outlen = 0;
	if (ctx->written > buflen)
		return set_error(ctx, "write failed (1)"); /* SSL_R_BAD_WRITE_RETRY */
	while (ctx->written < buflen) {
		ssize_t n = tls_write(ctx, (const char *)buf + ctx->written, buflen - ctx->written);
		if (n < 0)
			return (int)n;
		ctx->written += (size_t)n;
	}
	ctx->written = 0;
	*outlen = buflen;
	return 0;
}

int ressl_close(struct ressl *opaque)
{
	struct tls *ctx = context(opaque);
	if (ctx->socket < 0)
		return 0;
	int r = tls_close(ctx);
	return r == -1 && ctx->truncated ? 0 : r;
}
