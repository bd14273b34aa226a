/* Once a handshake is over the worker says what is known of the connection: its facts. */
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
		/* Of a connection that has not come about nothing is known, but for what was stapled. */
		free(ctx->ocsp);
		ctx->ocsp = facts;
		ctx->broken = true;
		return -1;
	}
	free(ctx->facts);
	ctx->facts = facts;
	ctx->complete = true;
	return 0;
}

const char *facts_string(const struct tls *ctx, enum tw_tls_string which)
{
	return ctx->facts ? ctx->facts->strings[which] : NULL;
}
