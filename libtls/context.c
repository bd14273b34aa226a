/* Contexts are made, configured, reset and freed. */
#include "tls_int.h"

int tls_init(void)
{
	return config_default() ? 0 : -1;
}

/* The first file that libretls on Debian would look at. */
const char *tls_default_ca_cert_file(void)
{
	return "/usr/lib/ssl/cert.pem";
}

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
