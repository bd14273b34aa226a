/* Configurations are made, shared by contexts, and freed with the last of them. */
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
