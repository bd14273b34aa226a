/*
 * tls_handshake, tls_read, tls_write and tls_close do what both kinds of transport have in common,
 * and leave the rest to the one that the context has.
 */
#include "tls_int.h"

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
	if (ctx->closing)
		return end(set_error(ctx, "write failed: error:0A0000CF:SSL routines::protocol is shutdown"));
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
		ctx->closing = true;
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
