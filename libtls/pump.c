/*
 * TLS over the program's callbacks. The program moves the records; the engine is in the worker,
 * at the other end of a socket that belongs to the context (wire.h). It is asked for one step
 * at a time, and a call returns TLS_WANT_* only where a callback has: then the step stays open,
 * and the next call goes on with it.
 */
#include "tls_int.h"

enum {
	RECORD_HEADER = 5,
	/* RFC 5246, section 6.2.3: the longest record. Of a longer one the header will do. */
	MOST_RECORD = (1 << 14) + 2048,
};

struct message {
	struct tw_tls_pump_header header;
	uint8_t bytes[TW_PUMP_MOST];
};

struct pump {
	tls_read_cb read;
	tls_write_cb write;
	void *arg;
	int link;

	unsigned open;   /* steps that were asked for: bits 1 << TW_PUMP_* */
	unsigned done;   /* steps that have ended, for the next call */
	unsigned failed; /* and that badly */
	bool wanted;     /* the worker waits for a record */
	size_t writing;  /* bytes of the open write */

	uint8_t *facts; /* as they come */
	size_t facts_size;
	char *sentence; /* of what has failed */

	/* Plaintext that was not read yet. */
	size_t plain_at, plain_size;
	uint8_t plain[TW_TLS_FRAME];

	/* Ciphertext that was not sent yet. */
	size_t out_at, out_size;
	uint8_t out[TW_PUMP_MOST];

	/* The record at hand. */
	struct tw_tls_pump_header in_header;
	uint8_t in[RECORD_HEADER + MOST_RECORD];
	size_t in_size;

	struct message message;
};

int pump_new(struct tls *ctx, tls_read_cb read_cb, tls_write_cb write_cb, void *arg)
{
	if (!read_cb || !write_cb)
		return set_error(ctx, "no callbacks provided");
	pump_free(ctx);
	struct pump *pump = calloc(1, sizeof *pump);
	if (!pump)
		return error_set(&ctx->error, TLS_ERROR_OUT_OF_MEMORY, 0, "out of memory");
	pump->read = read_cb;
	pump->write = write_cb;
	pump->arg = arg;
	pump->link = -1;
	ctx->pump = pump;
	return 0;
}

void pump_free(struct tls *ctx)
{
	struct pump *pump = ctx->pump;
	if (!pump)
		return;
	if (pump->link >= 0)
		SYS(SYS_close, pump->link);
	free(pump->facts);
	free(pump->sentence);
	memset(pump->plain, 0, sizeof pump->plain);
	free(pump);
	ctx->pump = NULL;
}

/* Begins the connection in the worker. */
static int start(struct tls *ctx)
{
	struct tw_tls_request request;
	struct tw_tls_reply reply;
	int session = ctx->config ? ctx->config->session_fd : -1;
	bool with_session = ctx->role == CLIENT && session >= 0;
	tls_start_init(ctx, &request);
	request.kind = TW_TLS_CALLBACKS | (with_session ? TW_TLS_SESSION : 0);
	if (worker_ask(&ctx->error, &request, &session, with_session, &reply, &ctx->pump->link) < 0)
		return -1;
	ctx->started = true;
	return 0;
}

static int lost(struct tls *ctx)
{
	return set_error(ctx, "tlswrap's worker has gone away");
}

static int send_message(struct tls *ctx, const struct tw_tls_pump_header *header, const void *data,
                        size_t size)
{
	struct iovec iov[2] = {{(void *)(uintptr_t)header, sizeof *header},
	                       {(void *)(uintptr_t)data, size}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	long n;
	do
		n = SYS(SYS_sendmsg, ctx->pump->link, &msg, MSG_NOSIGNAL);
	while (n == -EINTR);
	return n == (long)(sizeof *header + size) ? 0 : lost(ctx);
}

/* Asks for a step, if it is not open already. */
static int ask(struct tls *ctx, enum tw_tls_pump step, uint32_t value, const void *data, size_t size)
{
	struct pump *pump = ctx->pump;
	if ((pump->open | pump->done) & 1u << step)
		return 0;
	const struct tw_tls_pump_header header = {(uint32_t)step, value};
	if (send_message(ctx, &header, data, size) < 0)
		return -1;
	pump->open |= 1u << step;
	return 0;
}

/* What a callback has returned that is no number of bytes. */
static int callback_failed(struct tls *ctx, ssize_t n, const char *what)
{
	if (n == TLS_WANT_POLLIN || n == TLS_WANT_POLLOUT)
		return (int)n;
	return set_error(ctx, "%s failed: %s", what, strerror(get_errno()));
}

/* Gives the program what it is to send. */
static int flush(struct tls *ctx, const char *what)
{
	struct pump *pump = ctx->pump;
	while (pump->out_at < pump->out_size) {
		size_t left = pump->out_size - pump->out_at;
		ssize_t n = pump->write(ctx, pump->out + pump->out_at, left, pump->arg);
		if (n <= 0 || (size_t)n > left)
			return callback_failed(ctx, n, what);
		pump->out_at += (size_t)n;
	}
	return 0;
}

static size_t record_size(const struct pump *pump)
{
	if (pump->in_size < RECORD_HEADER)
		return RECORD_HEADER;
	size_t length = (size_t)pump->in[3] << 8 | pump->in[4];
	return length > MOST_RECORD ? RECORD_HEADER : RECORD_HEADER + length;
}

/* Has the program read one record, and not a byte more, for the worker. */
static int fetch(struct tls *ctx, const char *what)
{
	struct pump *pump = ctx->pump;
	while (pump->in_size < record_size(pump)) {
		size_t left = record_size(pump) - pump->in_size;
		ssize_t n = pump->read(ctx, pump->in + pump->in_size, left, pump->arg);
		if (n == 0) {
			pump->in_size = 0; /* the end, also in the middle of a record */
			break;
		}
		if (n < 0 || (size_t)n > left)
			return callback_failed(ctx, n, what);
		pump->in_size += (size_t)n;
	}
	const struct tw_tls_pump_header header = {TW_PUMP_IN, 0};
	size_t size = pump->in_size;
	pump->in_size = 0;
	pump->wanted = false;
	return send_message(ctx, &header, pump->in, size);
}

static int keep_facts(struct tls *ctx, const uint8_t *data, size_t size)
{
	struct pump *pump = ctx->pump;
	uint8_t *all = malloc(pump->facts_size + size);
	if (!all)
		return error_set(&ctx->error, TLS_ERROR_OUT_OF_MEMORY, 0, "out of memory");
	if (pump->facts)
		memcpy(all, pump->facts, pump->facts_size);
	memcpy(all + pump->facts_size, data, size);
	free(pump->facts);
	pump->facts = all;
	pump->facts_size += size;
	return 0;
}

/* The end of a step. */
static int ended(struct tls *ctx, const struct message *message, size_t size)
{
	struct pump *pump = ctx->pump;
	uint32_t step = message->header.value & 0xff, more = message->header.value >> 8;
	if (message->header.kind == TW_PUMP_FAILED) {
		free(pump->sentence);
		pump->sentence = calloc(1, size + 1);
		if (pump->sentence)
			memcpy(pump->sentence, message->bytes, size);
		pump->failed |= 1u << step;
	} else if (step == TW_PUMP_HANDSHAKE) {
		if (keep_facts(ctx, message->bytes, size) < 0)
			return -1;
		if (more)
			return 0;
	} else if (step == TW_PUMP_READ) {
		if (size > sizeof pump->plain)
			return lost(ctx);
		memcpy(pump->plain, message->bytes, size);
		pump->plain_at = 0;
		pump->plain_size = size;
		ctx->ended = more != 0;
		ctx->truncated = more == 2;
	}
	pump->open &= ~(1u << step);
	pump->done |= 1u << step;
	return 0;
}

/* Takes one message of the worker's. */
static int receive(struct tls *ctx)
{
	struct pump *pump = ctx->pump;
	struct message *message = &pump->message;
	long n;
	do
		n = SYS(SYS_recvfrom, pump->link, message, sizeof *message, 0, NULL, NULL);
	while (n == -EINTR);
	if (n < (long)sizeof message->header)
		return lost(ctx);
	size_t size = (size_t)n - sizeof message->header;
	switch (message->header.kind) {
	case TW_PUMP_OUT:
		memcpy(pump->out, message->bytes, size);
		pump->out_at = 0;
		pump->out_size = size;
		return 0;
	case TW_PUMP_WANT:
		pump->wanted = true;
		return 0;
	case TW_PUMP_DONE:
	case TW_PUMP_FAILED:
		return ended(ctx, message, size);
	default:
		return lost(ctx);
	}
}

/* Goes on until a step has ended: 0, -1, or what a callback has said. */
static int finish_step(struct tls *ctx, enum tw_tls_pump step, const char *what)
{
	struct pump *pump = ctx->pump;
	const unsigned bit = 1u << step;
	for (;;) {
		int r = flush(ctx, what);
		if (r == 0 && (pump->done & bit))
			break;
		/* A read that waits for a record does not keep a write from its end. */
		if (r == 0)
			r = pump->wanted && (step == TW_PUMP_READ || step == TW_PUMP_HANDSHAKE)
			            ? fetch(ctx, what)
			            : receive(ctx);
		if (r < 0)
			return r;
	}
	pump->done &= ~bit;
	if (pump->failed & bit) {
		pump->failed &= ~bit;
		return set_error(ctx, "%s failed: %s", what, pump->sentence ? pump->sentence : "");
	}
	return 0;
}

int pump_handshake(struct tls *ctx)
{
	struct pump *pump = ctx->pump;
	int r = ctx->started ? 0 : start(ctx);
	if (r == 0)
		r = ask(ctx, TW_PUMP_HANDSHAKE, 0, NULL, 0);
	if (r == 0)
		r = finish_step(ctx, TW_PUMP_HANDSHAKE, "handshake");
	if (r < 0) {
		ctx->broken = r == -1;
		return r;
	}
	uint32_t head; /* their size, which is known here */
	if (pump->facts_size < sizeof head)
		return lost(ctx);
	r = facts_take(ctx, pump->facts + sizeof head, pump->facts_size - sizeof head);
	free(pump->facts);
	pump->facts = NULL;
	pump->facts_size = 0;
	return r;
}

ssize_t pump_read(struct tls *ctx, void *buf, size_t len)
{
	struct pump *pump = ctx->pump;
	if (pump->plain_at == pump->plain_size) {
		int r = ask(ctx, TW_PUMP_READ, sizeof pump->plain, NULL, 0);
		if (r == 0)
			r = finish_step(ctx, TW_PUMP_READ, "read");
		if (r < 0)
			return r;
	}
	size_t n = pump->plain_size - pump->plain_at;
	if (n > len)
		n = len;
	memcpy(buf, pump->plain + pump->plain_at, n);
	pump->plain_at += n;
	return (ssize_t)n;
}

ssize_t pump_write(struct tls *ctx, const void *buf, size_t len)
{
	struct pump *pump = ctx->pump;
	if (!((pump->open | pump->done) & 1u << TW_PUMP_WRITE))
		pump->writing = len;
	int r = ask(ctx, TW_PUMP_WRITE, 0, buf, len);
	if (r == 0)
		r = finish_step(ctx, TW_PUMP_WRITE, "write");
	return r < 0 ? r : (ssize_t)pump->writing;
}

int pump_close(struct tls *ctx)
{
	int r = ask(ctx, TW_PUMP_CLOSE, 0, NULL, 0);
	if (r == 0)
		r = finish_step(ctx, TW_PUMP_CLOSE, "shutdown");
	return r == -1 ? 0 : r; /* of a connection that has broken nothing is asked */
}
