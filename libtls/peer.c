/* These functions tell what is known of a connection and of its peer. */
#include "tls_int.h"

static int64_t fact(const struct tls *ctx, enum tw_tls_number which, int64_t none)
{
	return ctx->facts ? ctx->facts->numbers[which] : none;
}

const char *tls_conn_version(struct tls *ctx)
{
	return facts_string(ctx, TW_TLS_VERSION);
}

const char *tls_conn_cipher(struct tls *ctx)
{
	return facts_string(ctx, TW_TLS_CIPHER);
}

int tls_conn_cipher_strength(struct tls *ctx)
{
	return (int)fact(ctx, TW_TLS_STRENGTH, 0);
}

const char *tls_conn_alpn_selected(struct tls *ctx)
{
	return facts_string(ctx, TW_TLS_SELECTED);
}

const char *tls_conn_servername(struct tls *ctx)
{
	return facts_string(ctx, TW_TLS_SERVERNAME);
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
	return facts_string(ctx, TW_TLS_SUBJECT);
}

const char *tls_peer_cert_issuer(struct tls *ctx)
{
	return facts_string(ctx, TW_TLS_ISSUER);
}

const char *tls_peer_cert_common_name(struct tls *ctx)
{
	return facts_string(ctx, TW_TLS_COMMON_NAME);
}

const char *tls_peer_cert_hash(struct tls *ctx)
{
	return facts_string(ctx, TW_TLS_HASH);
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
	const char *chain = facts_string(ctx, TW_TLS_CHAIN);
	*len = chain ? ctx->facts->chain_size : 0;
	return (const uint8_t *)chain;
}

int tls_peer_cert_contains_name(struct tls *ctx, const char *name)
{
	struct tw_tls_request request;
	struct tw_tls_reply reply;
	const char *chain = facts_string(ctx, TW_TLS_CHAIN);
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
