/* Configurations: their life, and what is switched on and off. */
#include "tls_int.h"

enum { DEFAULT_DEPTH = 6 };

struct tls_config *tls_config_new(void)
{
	struct tls_config *config = calloc(1, sizeof *config);
	if (!config)
		return NULL;
	config->references = 1;
	config->flags = TW_TLS_VERIFY_CERT | TW_TLS_VERIFY_NAME | TW_TLS_VERIFY_TIME;
	config->protocols = TLS_PROTOCOLS_DEFAULT;
	config->depth = DEFAULT_DEPTH;
	config->session_fd = -1;
	return config;
}

/* What contexts have that were given none. It lasts as long as the process. */
struct tls_config *config_default(void)
{
	static struct tls_config *shared;
	struct tls_config *config = __atomic_load_n(&shared, __ATOMIC_ACQUIRE);
	if (config)
		return config;
	struct tls_config *none = NULL;
	config = tls_config_new();
	if (config && !__atomic_compare_exchange_n(&shared, &none, config, false, __ATOMIC_ACQ_REL,
	                                           __ATOMIC_ACQUIRE)) {
		tls_config_free(config);
		config = none;
	}
	return config;
}

struct tls_config *config_hold(struct tls_config *config)
{
	if (config)
		__atomic_add_fetch(&config->references, 1, __ATOMIC_RELAXED);
	return config;
}

void config_changed(struct tls_config *config)
{
	thing_release(__atomic_exchange_n(&config->built, NULL, __ATOMIC_ACQ_REL));
}

void tls_config_free(struct tls_config *config)
{
	if (!config || __atomic_sub_fetch(&config->references, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	config_changed(config);
	error_clear(&config->error);
	for (int i = 0; i < TW_TLS_THINGS; i++)
		thing_release(config->things[i]);
	for (int i = 0; i < TW_TLS_TICKET_KEYS; i++)
		thing_release(config->tickets[i].key);
	for (int i = 0; i < TW_TLS_NAMES; i++)
		free(config->named[i]);
	keypair_clear(&config->first);
	for (struct keypair *pair = config->first.next; pair;) {
		struct keypair *next = pair->next;
		keypair_clear(pair);
		free(pair);
		pair = next;
	}
	free(config);
}

const char *tls_config_error(struct tls_config *config)
{
	return config->error.text;
}

int tls_config_error_code(struct tls_config *config)
{
	return config->error.code;
}

int config_fail(struct tls_config *config, const char *format, const char *argument)
{
	struct error *error = &config->error;
	return error_set(error, TLS_ERROR_UNKNOWN, 0, format, argument);
}

/* ---- switches ---- */

void config_set_flags(struct tls_config *config, uint32_t set, uint32_t clear)
{
	config->flags = (config->flags & ~clear) | set;
	config_changed(config);
}

void tls_config_verify(struct tls_config *config)
{
	config_set_flags(config, TW_TLS_VERIFY_CERT | TW_TLS_VERIFY_NAME | TW_TLS_VERIFY_TIME, 0);
}

void tls_config_insecure_noverifycert(struct tls_config *config)
{
	config_set_flags(config, 0, TW_TLS_VERIFY_CERT);
}

void tls_config_insecure_noverifyname(struct tls_config *config)
{
	config_set_flags(config, 0, TW_TLS_VERIFY_NAME);
}

void tls_config_insecure_noverifytime(struct tls_config *config)
{
	config_set_flags(config, 0, TW_TLS_VERIFY_TIME);
}

void tls_config_ocsp_require_stapling(struct tls_config *config)
{
	config_set_flags(config, TW_TLS_REQUIRE_STAPLING, 0);
}

void tls_config_verify_client(struct tls_config *config)
{
	config_set_flags(config, TW_TLS_VERIFY_CLIENT, TW_TLS_VERIFY_CLIENT_OPTIONAL);
}

void tls_config_verify_client_optional(struct tls_config *config)
{
	config_set_flags(config, TW_TLS_VERIFY_CLIENT_OPTIONAL, TW_TLS_VERIFY_CLIENT);
}

/* crypto/tls chooses by an order of its own, which it does not let anyone change. */
void tls_config_prefer_ciphers_client(struct tls_config *config)
{
	(void)config;
}

void tls_config_prefer_ciphers_server(struct tls_config *config)
{
	(void)config;
}

/* For programs that put a signing engine of their own into OpenSSL: see config_build's answer. */
void tls_config_skip_private_key_check(struct tls_config *config)
{
	config_set_flags(config, TW_TLS_FOREIGN_KEY, 0);
}

void tls_config_use_fake_private_key(struct tls_config *config)
{
	config_set_flags(config, TW_TLS_FOREIGN_KEY, 0);
}

int tls_config_set_verify_depth(struct tls_config *config, int verify_depth)
{
	config->depth = verify_depth;
	config_changed(config);
	return 0;
}
