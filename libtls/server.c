/* A server's context makes another one for each connection that the program accepts. */
#include "tls_int.h"

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
