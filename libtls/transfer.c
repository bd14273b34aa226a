/*
 * tls_handshake, tls_read, tls_write and tls_close do what both kinds of transport have in common,
 * and leave the rest to the one that the context has.
 */
#include "tls_int.h"

#include <poll.h>
#include <time.h>

enum {
	WANTS = 64,              /* calls in a row that had to wait, after which is looked how fast they come */
	FAST = 100 * 1000,       /* nanoseconds from one to the next, of a program that does not wait itself */
	A_LITTLE = 200 * 1000,   /* nanoseconds */
	SECOND = 1000 * 1000 * 1000,
};

static uint64_t clock_now(void)
{
	long at[2] = {0, 0}; /* struct timespec as the kernel's old call has it */
	SYS(SYS_clock_gettime, CLOCK_MONOTONIC, at);
	return (uint64_t)at[0] * SECOND + (uint64_t)at[1];
}

/*
 * A program that calls again and again, without poll(2), gets nowhere by that: the work is the worker's, which
 * it keeps from the processor. Its calls wait a little.
 */
static void slow_down(struct tls *ctx, ssize_t want)
{
	if (ctx->pump) /* the program's own callbacks have said so */
		return;
	if (ctx->wants++ == 0)
		ctx->wanted = clock_now();
	if (ctx->wants < WANTS)
		return;
	if (ctx->wants == WANTS && clock_now() - ctx->wanted > (uint64_t)WANTS * FAST) {
		ctx->wants = 0;
		return;
	}
	ctx->wants = WANTS + 1;
	struct pollfd p = {want == TLS_WANT_POLLIN ? ctx->rfd : ctx->wfd,
	                   want == TLS_WANT_POLLIN ? POLLIN : POLLOUT, 0};
	const long limit[2] = {0, A_LITTLE};
	SYS(SYS_ppoll, &p, 1, limit, NULL, 0);
}

/* As libtls has it: what errno says of a TLS call would mislead. */
static ssize_t end(struct tls *ctx, ssize_t result)
{
	if (result == TLS_WANT_POLLIN || result == TLS_WANT_POLLOUT)
		slow_down(ctx, result);
	else
		ctx->wants = 0;
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
	return (int)end(ctx, handshake(ctx));
}

ssize_t tls_read(struct tls *ctx, void *buf, size_t buflen)
{
	error_clear(&ctx->error);
	if (!ctx->complete) {
		int r = handshake(ctx);
		if (r != 0)
			return end(ctx, r);
	}
	if (buflen > INT32_MAX)
		return end(ctx, set_error(ctx, "buflen too long"));
	if (ctx->ended || buflen == 0)
		return end(ctx, 0);
	return end(ctx, ctx->pump ? pump_read(ctx, buf, buflen) : stream_read(ctx, buf, buflen));
}

ssize_t tls_write(struct tls *ctx, const void *buf, size_t buflen)
{
	error_clear(&ctx->error);
	if (!ctx->complete) {
		int r = handshake(ctx);
		if (r != 0)
			return end(ctx, r);
	}
	if (buflen > INT32_MAX)
		return end(ctx, set_error(ctx, "buflen too long"));
	if (ctx->closing)
		return end(ctx, set_error(ctx, "write failed: error:0A0000CF:SSL routines::protocol is shutdown"));
	if (buflen == 0)
		return end(ctx, 0);
	if (buflen > TW_TLS_FRAME)
		buflen = TW_TLS_FRAME;
	return end(ctx, ctx->pump ? pump_write(ctx, buf, buflen) : stream_write(ctx, buf, buflen));
}

int tls_close(struct tls *ctx)
{
	error_clear(&ctx->error);
	if (ctx->role == SERVER)
		return (int)end(ctx, set_error(ctx, "invalid operation for context"));
	int r = 0;
	if (ctx->complete && !ctx->closed) {
		ctx->closing = true;
		r = ctx->pump ? pump_close(ctx) : stream_close(ctx);
		if (r == TLS_WANT_POLLIN || r == TLS_WANT_POLLOUT)
			return (int)end(ctx, r);
		ctx->closed = true;
	}
	if (ctx->socket >= 0) {
		SYS(SYS_shutdown, ctx->socket, SHUT_RDWR);
		SYS(SYS_close, ctx->socket);
		ctx->socket = -1;
	}
	if (ctx->truncated)
		r = set_error(ctx, "EOF without close notify");
	return (int)end(ctx, r);
}
