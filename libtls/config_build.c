/* What the worker makes of a configuration. */
#include "tls_int.h"

static uint64_t number(const struct thing *thing)
{
	return thing ? thing->number : 0;
}

struct thing *config_build(struct tls_config *config, uint32_t flags, struct error *error)
{
	struct thing *environment[TW_TLS_THINGS] = {0};
	uint32_t pairs = 0;
	for (struct keypair *pair = &config->first; pair; pair = pair->next)
		pairs++;
	size_t size = sizeof(struct tw_tls_settings) + pairs * sizeof(struct tw_tls_keypair);
	struct tw_tls_settings *settings = calloc(1, size);
	if (!settings) {
		error_set(error, TLS_ERROR_OUT_OF_MEMORY, 0, "out of memory");
		return NULL;
	}
	settings->flags = config->flags | flags;
	settings->protocols = config->protocols;
	settings->depth = config->depth;
	settings->lifetime = config->lifetime;
	settings->keypairs = pairs;
	if (!config->things[TW_TLS_CA] && !config->things[TW_TLS_CA_PATH])
		load_environment(environment);
	for (int i = 0; i < TW_TLS_THINGS; i++)
		settings->things[i] = number(config->things[i] ? config->things[i] : environment[i]);
	for (int i = 0; i < TW_TLS_TICKET_KEYS; i++)
		settings->tickets[i] = number(config->tickets[i].key);
	struct tw_tls_keypair *out = settings->keypair;
	for (struct keypair *pair = &config->first; pair; pair = pair->next, out++) {
		out->cert = number(pair->cert);
		out->key = number(pair->key);
		out->staple = number(pair->staple);
	}
	struct thing *built = thing_built(error, settings, size);
	for (int i = 0; i < TW_TLS_THINGS; i++)
		thing_release(environment[i]);
	free(settings);
	return built;
}

int config_read_later(struct tls_config *config, struct error *error)
{
	static const struct {
		enum tw_tls_kind kind;
		const char *word;
	} places[LATER_COUNT] = {
		[LATER_CA] = {TW_TLS_CA, "CA"},
		[LATER_CERT] = {TW_TLS_CERT, "certificate"},
		[LATER_KEY] = {TW_TLS_KEY, "key"},
		[LATER_CIPHERS] = {TW_TLS_CIPHERS, NULL},
	};
	for (int i = 0; i < LATER_COUNT; i++) {
		const char *text = config->later[i];
		struct thing **where = i == LATER_CERT  ? &config->first.cert
		                       : i == LATER_KEY ? &config->first.key
		                                        : &config->things[places[i].kind];
		if (!text)
			continue;
		struct thing *loaded = places[i].word ? load_file(error, places[i].kind, places[i].word, text)
		                                      : load_memory(error, places[i].kind, text, strlen(text));
		if (!loaded)
			return i == LATER_CIPHERS ? error_set(error, 0, 0, "failed to set ciphers") : -1;
		config_put(config, where, loaded);
	}
	return 0;
}
