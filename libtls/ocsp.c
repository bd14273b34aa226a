/*
 * The peer has stapled an OCSP response, or the program has brought one. These functions tell what
 * it says.
 */
#include "tls_int.h"

static const struct facts *ocsp(const struct tls *ctx)
{
	return ctx->ocsp ? ctx->ocsp : ctx->facts;
}

static int64_t ocsp_fact(const struct tls *ctx, enum tw_tls_number which)
{
	return ocsp(ctx) ? ocsp(ctx)->numbers[which] : -1;
}

const char *tls_peer_ocsp_url(struct tls *ctx)
{
	return ocsp(ctx) ? ocsp(ctx)->strings[TW_TLS_OCSP_URL] : NULL;
}

const char *tls_peer_ocsp_result(struct tls *ctx)
{
	return ocsp(ctx) ? ocsp(ctx)->strings[TW_TLS_OCSP_RESULT] : NULL;
}

int tls_peer_ocsp_response_status(struct tls *ctx)
{
	return (int)ocsp_fact(ctx, TW_TLS_OCSP_STATUS);
}

int tls_peer_ocsp_cert_status(struct tls *ctx)
{
	return (int)ocsp_fact(ctx, TW_TLS_OCSP_CERT_STATUS);
}

int tls_peer_ocsp_crl_reason(struct tls *ctx)
{
	return (int)ocsp_fact(ctx, TW_TLS_OCSP_CRL_REASON);
}

time_t tls_peer_ocsp_this_update(struct tls *ctx)
{
	return (time_t)ocsp_fact(ctx, TW_TLS_OCSP_THIS_UPDATE);
}

time_t tls_peer_ocsp_next_update(struct tls *ctx)
{
	return (time_t)ocsp_fact(ctx, TW_TLS_OCSP_NEXT_UPDATE);
}

time_t tls_peer_ocsp_revocation_time(struct tls *ctx)
{
	return (time_t)ocsp_fact(ctx, TW_TLS_OCSP_REVOCATION_TIME);
}

static int ocsp_take(struct tls *ctx, int fd)
{
	uint8_t *data;
	size_t length;
	long r = fd < 0 ? -EBADF : read_all(fd, &data, &length);
	if (r < 0)
		return set_error_errno(ctx, (int)-r, "memory file");
	struct facts *facts = facts_parse(data, length);
	free(data);
	if (!facts)
		return set_error(ctx, "tlswrap's worker does not make sense");
	free(ctx->ocsp);
	ctx->ocsp = facts;
	if (!facts->numbers[TW_TLS_FAILED])
		return 0;
	return set_error(ctx, "%s", facts->strings[TW_TLS_ERROR] ? facts->strings[TW_TLS_ERROR] : "");
}

/* The worker gets the configuration, the chain, and behind it the response. */
int tls_ocsp_process_response(struct tls *ctx, const unsigned char *response, size_t size)
{
	struct tw_tls_request request;
	struct tw_tls_reply reply;
	const char *chain = facts_string(ctx, TW_TLS_CHAIN);
	if (!chain || !ctx->config)
		return set_error(ctx, "no peer certificate for OCSP");
	long pem = memory_file(chain, ctx->facts->chain_size);
	long der = pem < 0 ? pem : memory_file(response, size);
	int got = -1, r = -1;
	if (der < 0) {
		set_error_errno(ctx, (int)-der, "memory file");
	} else {
		struct thing *built = ctx->built ? thing_hold(ctx->built)
		                                 : config_build(ctx->config, 0, &ctx->error);
		const int sent[2] = {(int)pem, (int)der};
		tls_request_init(&request, TW_TLS_OCSP);
		request.number = built ? built->number : 0;
		if (built)
			r = worker_ask(&ctx->error, &request, sent, 2, &reply, &got);
		thing_release(built);
		SYS(SYS_close, der);
	}
	if (pem >= 0)
		SYS(SYS_close, pem);
	if (r == 0)
		r = ocsp_take(ctx, got);
	if (got >= 0)
		SYS(SYS_close, got);
	return r;
}
