/* Requests go to the worker here, and its replies come back (wire.h). */
#include "tls_int.h"
#include "../preload/trace.h"

void tls_request_init(struct tw_tls_request *request, enum tw_tls_op op)
{
	struct tw_request head;
	memset(request, 0, offsetof(struct tw_tls_request, body));
	request_init(&head, TW_HELLO);
	request->magic = TW_MAGIC;
	request->op = (uint16_t)op;
	memcpy(request->token, head.token, sizeof request->token);
}

void tls_start_init(const struct tls *ctx, struct tw_tls_request *request)
{
	tls_request_init(request, TW_TLS_START);
	request->number = ctx->built->number;
	request->settings = ctx->config ? ctx->config->flags : 0;
	/* connect_setup has seen to it that it fits. */
	size_t n = ctx->servername ? strlen(ctx->servername) : 0;
	if (n)
		memcpy(request->body, ctx->servername, n);
	request->size = (uint32_t)n;
}

/* What the trace calls operations. */
static const char *op_word(uint16_t op)
{
	static const char *const words[] = {
		"tls_load", "tls_build", "tls_drop", "tls_start", "tls_end", "tls_name",
		"tls_ocsp", "tls_decrypt", "tls_ring",
	};
	return words[op - TW_TLS_LOAD];
}

long tls_request_send(int control, const struct tw_tls_request *request, const int *fds, int count)
{
	size_t n = offsetof(struct tw_tls_request, body) + request->size;
	long r = message_send(control, request, n, fds, count) == (long)n ? 0 : -ENETDOWN;
	TRACE("ask", WORD("op", op_word(request->op)), NUMBER("kind", request->kind), RESULT(r));
	return r;
}

long tls_reply_receive(int control, struct tw_tls_reply *reply, int *got)
{
	int fd = -1;
	long n = message_receive(control, reply, sizeof *reply, &fd, NULL);
	long failure = 0;
	if (n <= (long)offsetof(struct tw_tls_reply, text) || reply->magic != TW_MAGIC ||
	    ((char *)reply)[n - 1] != '\0')
		failure = -ENETDOWN;
	else if ((reply->answer == TW_ANSWER_CHANNEL || reply->answer == TW_ANSWER_FD) && fd < 0)
		failure = -EMFILE;
	if (fd >= 0 && (failure || !got)) {
		SYS(SYS_close, fd);
		fd = -1;
	}
	if (got)
		*got = fd;
	TRACE("answer", WORD("is", failure ? NULL : answer_word(reply->answer)), RESULT(failure));
	return failure;
}

static int lost(struct error *error)
{
	return error_set(error, TLS_ERROR_UNKNOWN, 0,
	                 "tlswrap's worker does not answer: the program must be run by tlswrap");
}

int worker_ask(struct error *error, struct tw_tls_request *request, const int *fds, int count,
               struct tw_tls_reply *reply, int *got)
{
	uint64_t mask;
	signals_block(&mask);
	long r = control_open();
	if (r >= 0) {
		int control = (int)r;
		r = tls_request_send(control, request, fds, count);
		if (r == 0)
			r = tls_reply_receive(control, reply, got);
		SYS(SYS_close, control);
	}
	signals_restore(&mask);
	if (r < 0)
		return lost(error);
	if (reply->answer == TW_ANSWER_ERROR)
		return error_set(error, TLS_ERROR_UNKNOWN, 0, "%s", reply->text);
	return 0;
}
