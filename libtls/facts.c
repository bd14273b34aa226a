/* What is known of a connection: the worker's words, and the functions that tell them. */
#include "tls_int.h"

struct facts *facts_parse(const uint8_t *body, size_t size)
{
	const size_t numbers = sizeof(int64_t) * TW_TLS_NUMBERS;
	if (size < numbers)
		return NULL;
	struct facts *facts = calloc(1, sizeof *facts + size);
	if (!facts)
		return NULL;
	memcpy(facts->numbers, body, numbers);
	memcpy(facts->data, body + numbers, size - numbers);
	const char *at = facts->data;
	size_t left = size - numbers;
	for (int i = 0; i < TW_TLS_STRINGS; i++) {
		uint32_t length; /* with the NUL */
		if (left < sizeof length)
			goto unfit;
		memcpy(&length, at, sizeof length);
		at += sizeof length;
		left -= sizeof length;
		if (length == 0)
			continue;
		if (length > left || at[length - 1] != '\0')
			goto unfit;
		facts->strings[i] = at;
		if (i == TW_TLS_CHAIN)
			facts->chain_size = length - 1;
		at += length;
		left -= length;
	}
	return facts;
unfit:
	free(facts);
	return NULL;
}

/* Leaves a sentence for the context that has accepted this one, if that is still there. */
static void tell_listener(struct tls *ctx, const char *sentence)
{
	if (!sentence || !ctx->built)
		return;
	size_t n = strlen(sentence) + 1;
	char *copy = malloc(n);
	if (copy) {
		memcpy(copy, sentence, n);
		free(__atomic_exchange_n(&ctx->built->error, copy, __ATOMIC_ACQ_REL));
	}
}

int facts_take(struct tls *ctx, const uint8_t *data, size_t size)
{
	struct facts *facts = facts_parse(data, size);
	if (!facts)
		return set_error(ctx, "handshake failed: tlswrap's worker does not make sense");
	const char *error = facts->strings[TW_TLS_ERROR];
	if (facts->numbers[TW_TLS_FAILED]) {
		set_error(ctx, "%s", error ? error : "handshake failed");
		tell_listener(ctx, facts->strings[TW_TLS_LISTENER_ERROR]);
		free(facts);
		ctx->broken = true;
		return -1;
	}
	free(ctx->facts);
	ctx->facts = facts;
	ctx->complete = true;
	return 0;
}

static const char *string(const struct tls *ctx, enum tw_tls_string which)
{
	return ctx->facts ? ctx->facts->strings[which] : NULL;
}

static int64_t fact(const struct tls *ctx, enum tw_tls_number which, int64_t none)
{
	return ctx->facts ? ctx->facts->numbers[which] : none;
}

const char *tls_conn_version(struct tls *ctx)
{
	return string(ctx, TW_TLS_VERSION);
}

const char *tls_conn_cipher(struct tls *ctx)
{
	return string(ctx, TW_TLS_CIPHER);
}

int tls_conn_cipher_strength(struct tls *ctx)
{
	return (int)fact(ctx, TW_TLS_STRENGTH, 0);
}

const char *tls_conn_alpn_selected(struct tls *ctx)
{
	return string(ctx, TW_TLS_SELECTED);
}

const char *tls_conn_servername(struct tls *ctx)
{
	return string(ctx, TW_TLS_SERVERNAME);
}

int tls_conn_session_resumed(struct tls *ctx)
{
	return (int)fact(ctx, TW_TLS_RESUMED, 0);
}

int tls_peer_cert_provided(struct tls *ctx)
{
	return (int)fact(ctx, TW_TLS_PROVIDED, 0);
}

const char *tls_peer_cert_subject(struct tls *ctx)
{
	return string(ctx, TW_TLS_SUBJECT);
}

const char *tls_peer_cert_issuer(struct tls *ctx)
{
	return string(ctx, TW_TLS_ISSUER);
}

const char *tls_peer_cert_common_name(struct tls *ctx)
{
	return string(ctx, TW_TLS_COMMON_NAME);
}

const char *tls_peer_cert_hash(struct tls *ctx)
{
	return string(ctx, TW_TLS_HASH);
}

time_t tls_peer_cert_notbefore(struct tls *ctx)
{
	return (time_t)fact(ctx, TW_TLS_NOT_BEFORE, -1);
}

time_t tls_peer_cert_notafter(struct tls *ctx)
{
	return (time_t)fact(ctx, TW_TLS_NOT_AFTER, -1);
}

const uint8_t *tls_peer_cert_chain_pem(struct tls *ctx, size_t *len)
{
	const char *chain = string(ctx, TW_TLS_CHAIN);
	*len = chain ? ctx->facts->chain_size : 0;
	return (const uint8_t *)chain;
}

int tls_peer_cert_contains_name(struct tls *ctx, const char *name)
{
	struct tw_tls_request request;
	struct tw_tls_reply reply;
	const char *chain = string(ctx, TW_TLS_CHAIN);
	if (!chain)
		return 0;
	size_t n = strlen(name);
	if (n > sizeof request.body)
		return 0; /* longer than any name */
	long fd = memory_file(chain, ctx->facts->chain_size);
	if (fd < 0) {
		set_error_errno(ctx, (int)-fd, "memory file");
		return 0;
	}
	const int sent = (int)fd;
	tls_request_init(&request, TW_TLS_NAME);
	memcpy(request.body, name, n);
	request.size = (uint32_t)n;
	int r = worker_ask(&ctx->error, &request, &sent, 1, &reply, NULL);
	SYS(SYS_close, fd);
	return r == 0 && reply.value;
}

/* ---- OCSP: what was stapled, or what tls_ocsp_process_response was given ---- */

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
	const char *chain = string(ctx, TW_TLS_CHAIN);
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
