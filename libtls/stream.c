/*
 * TLS on descriptors. At the first handshake, read or write the program's descriptor goes to
 * the worker, and a channel takes its place: what the program polls is what becomes readable
 * here. The worker sends the facts, and then plaintext as it is; this end sends frames (wire.h).
 */
#include "tls_int.h"

#include <fcntl.h>
#include <sys/uio.h>

static bool would_block(long r)
{
	return r == -EAGAIN || r == -EINTR;
}

/* Puts stand_in in the place of both descriptors. */
static long replace(const struct tls *ctx, int stand_in)
{
	if (ctx->wfd != ctx->rfd) {
		long second = SYS(SYS_fcntl, stand_in, F_DUPFD_CLOEXEC, 3);
		if (second < 0) {
			SYS(SYS_close, stand_in);
			return second;
		}
		long r = socket_replace(ctx->wfd, (int)second);
		if (r < 0) {
			SYS(SYS_close, stand_in);
			return r;
		}
	}
	return socket_replace(ctx->rfd, stand_in);
}

/* The exchange that makes the descriptor a channel. Call with signals blocked. */
static long begin(struct tls *ctx, struct tw_tls_reply *reply)
{
	struct tw_tls_request request;
	int fds[MOST_DESCRIPTORS], count = 0, stand_in;
	tls_start_init(ctx, &request);
	fds[count++] = ctx->rfd;
	if (ctx->wfd != ctx->rfd) {
		request.kind |= TW_TLS_TWO_WAYS;
		fds[count++] = ctx->wfd;
	}
	if (ctx->role == CLIENT && ctx->config && ctx->config->session_fd >= 0) {
		request.kind |= TW_TLS_SESSION;
		fds[count++] = ctx->config->session_fd;
	}
	long r = control_open();
	if (r < 0)
		return r;
	int control = (int)r;
	r = tls_request_send(control, &request, fds, count);
	if (r == 0)
		r = tls_reply_receive(control, reply, &stand_in);
	if (r == 0 && reply->answer == TW_ANSWER_CHANNEL) {
		ctx->number = reply->number;
		r = replace(ctx, stand_in);
		if (r == 0) {
			/* Up to here nothing has happened to the transport. */
			struct tw_request taken;
			request_init(&taken, TW_TAKEN);
			r = control_send(control, &taken, NULL, 0);
		}
	}
	SYS(SYS_close, control);
	return r;
}

static int start(struct tls *ctx)
{
	struct tw_tls_reply reply;
	uint64_t mask;
	signals_block(&mask);
	/* First, or a descriptor of ours gets the number of one that is closed. */
	long r = SYS(SYS_fcntl, ctx->rfd, F_GETFD);
	if (r >= 0)
		r = SYS(SYS_fcntl, ctx->wfd, F_GETFD);
	if (r >= 0)
		r = begin(ctx, &reply);
	signals_restore(&mask);
	if (r < 0)
		return set_error_errno(ctx, (int)-r, "handshake failed");
	if (reply.answer != TW_ANSWER_CHANNEL)
		return set_error(ctx, "%s", reply.text);
	ctx->started = true;
	return 0;
}

/*
 * Why a call on a channel has failed, or met an end too early. Where the connection is not any more the
 * worker knows; all else is of the program's own descriptor.
 */
static int broken(struct tls *ctx, const char *what, long result)
{
	struct tw_tls_request request;
	struct tw_tls_reply reply;
	struct error failure = {0};
	if (result < 0 && result != -ECONNRESET && result != -EPIPE)
		return set_error_errno(ctx, (int)-result, "%s failed", what);
	tls_request_init(&request, TW_TLS_END);
	request.number = ctx->number;
	if (worker_ask(&failure, &request, NULL, 0, &reply, NULL) < 0)
		set_error(ctx, "%s failed: %s", what, failure.text);
	else
		set_error(ctx, "%s failed: %s", what, reply.text);
	error_clear(&failure);
	return -1;
}

/* Reads until size bytes of the facts are there: 0, or a result for the program. */
static int fill(struct tls *ctx, void *data, uint32_t from, uint32_t size)
{
	while (ctx->facts_have < from + size) {
		uint32_t done = ctx->facts_have - from;
		long n = SYS(SYS_recvfrom, ctx->rfd, (char *)data + done, size - done, 0, NULL, NULL);
		if (would_block(n))
			return TLS_WANT_POLLIN;
		if (n <= 0) {
			ctx->broken = true;
			return broken(ctx, "handshake", n);
		}
		ctx->facts_have += (uint32_t)n;
	}
	return 0;
}

enum { MOST_FACTS = 64 << 20 };

int stream_handshake(struct tls *ctx)
{
	int r = ctx->started ? 0 : start(ctx);
	if (r < 0) {
		ctx->broken = true;
		return r;
	}
	const uint32_t head = sizeof ctx->facts_size;
	r = fill(ctx, &ctx->facts_size, 0, head);
	if (r < 0)
		return r;
	if (!ctx->facts_data) {
		if (ctx->facts_size <= MOST_FACTS)
			ctx->facts_data = malloc(ctx->facts_size + 1);
		if (!ctx->facts_data) {
			ctx->broken = true;
			return error_set(&ctx->error, TLS_ERROR_OUT_OF_MEMORY, 0, "out of memory");
		}
	}
	r = fill(ctx, ctx->facts_data, head, ctx->facts_size);
	if (r < 0)
		return r;
	r = facts_take(ctx, ctx->facts_data, ctx->facts_size);
	free(ctx->facts_data);
	ctx->facts_data = NULL;
	return r;
}

ssize_t stream_read(struct tls *ctx, void *buf, size_t len)
{
	/* What follows a reset looks like the end. */
	long n = ctx->lost ? -ECONNRESET : SYS(SYS_recvfrom, ctx->rfd, buf, len, 0, NULL, NULL);
	if (n > 0)
		return n;
	if (would_block(n))
		return TLS_WANT_POLLIN;
	if (n < 0) {
		ctx->lost = n == -ECONNRESET;
		return broken(ctx, "read", n);
	}
	/* tls_close tells which end it was. The worker is asked while it has the connection. */
	struct tw_tls_request request;
	struct tw_tls_reply reply;
	struct error ignored = {0};
	tls_request_init(&request, TW_TLS_END);
	request.number = ctx->number;
	ctx->truncated = worker_ask(&ignored, &request, NULL, 0, &reply, NULL) < 0 || reply.value;
	error_clear(&ignored);
	ctx->ended = true;
	return 0;
}

/*
 * Sends what is missing to the frame that was begun, or a new one. A frame goes in as a whole
 * or not at all as long as the socket has room for one (unix_stream_sendmsg).
 */
static long send_frame(struct tls *ctx, const void *buf, uint32_t len)
{
	if (ctx->frame_left == 0 && ctx->frame_header == 0) {
		ctx->frame_left = len;
		ctx->frame_header = sizeof ctx->frame_left;
	}
	uint32_t size = len < ctx->frame_left ? len : ctx->frame_left;
	uint32_t header = ctx->frame_left;
	struct iovec iov[2] = {
		{(char *)&header + sizeof header - ctx->frame_header, ctx->frame_header},
		{(void *)(uintptr_t)buf, size},
	};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	long n = SYS(SYS_sendmsg, ctx->wfd, &msg, MSG_NOSIGNAL);
	if (n < 0) {
		if (ctx->frame_header == sizeof header)
			ctx->frame_left = ctx->frame_header = 0; /* nothing of it is out */
		return n;
	}
	uint32_t sent = (uint32_t)n;
	if (sent < ctx->frame_header) {
		ctx->frame_header -= sent;
		return -EAGAIN;
	}
	sent -= ctx->frame_header;
	ctx->frame_header = 0;
	ctx->frame_left -= sent;
	return len && !sent ? -EAGAIN : (long)sent;
}

ssize_t stream_write(struct tls *ctx, const void *buf, size_t len)
{
	long n = 0;
	if (ctx->frame_left == 0 && ctx->frame_header == 0)
		n = ring_send(ctx, buf, (uint32_t)len);
	if (n == 0)
		n = send_frame(ctx, buf, (uint32_t)len);
	if (n >= 0) {
		ring_count(ctx, (size_t)n);
		return n;
	}
	return would_block(n) ? TLS_WANT_POLLOUT : broken(ctx, "write", n);
}

int stream_close(struct tls *ctx)
{
	/* A frame that was begun cannot be ended: the peer is not to take it for the end. */
	if (ctx->frame_left == 0 && would_block(send_frame(ctx, NULL, 0)))
		return TLS_WANT_POLLOUT;
	return 0;
}
