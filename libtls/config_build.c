/*
 * The worker makes of a configuration what its connections use. For clients that is made once, and
 * lasts until the configuration changes.
 */
#include "tls_int.h"

static uint64_t number(const struct thing *thing)
{
	return thing ? thing->number : 0;
}

static void release(struct thing *things[TW_TLS_NAMES])
{
	for (int i = 0; i < TW_TLS_NAMES; i++)
		thing_release(things[i]);
}

/* Whether a configuration is used for what is named: ressl's clients had no certificates. */
static bool is_used(uint32_t flags, enum tw_tls_kind kind)
{
	switch (kind) {
	case TW_TLS_CA:
		return flags & TW_TLS_VERIFY_CERT;
	case TW_TLS_CERT:
	case TW_TLS_KEY:
		return flags & TW_TLS_SERVER;
	default:
		return true;
	}
}

/* Reads what was only named, and the roots where none were set: 0, or -1 with *error set. */
static int read_now(const struct tls_config *config, struct thing *now[TW_TLS_NAMES],
                    uint32_t flags, struct error *error)
{
	for (enum tw_tls_kind kind = 0; kind < TW_TLS_NAMES; kind++) {
		const char *name = config->named[kind];
		if (!name || !is_used(flags, kind))
			continue;
		if (kind == TW_TLS_CA_PATH)
			now[kind] = load_folders(error, name);
		else if (kind == TW_TLS_CIPHERS)
			now[kind] = load_memory(error, kind, name, strlen(name));
		else
			now[kind] = load_file(error, kind, name);
		if (!now[kind])
			return kind == TW_TLS_CIPHERS ? error_set(error, 0, 0, "failed to set ciphers") : -1;
	}
	if (!config->things[TW_TLS_CA] && !now[TW_TLS_CA] && !now[TW_TLS_CA_PATH])
		load_environment(now);
	return 0;
}

static struct thing *build(const struct tls_config *config, struct thing *const now[TW_TLS_NAMES],
                           uint32_t flags, struct error *error)
{
	uint32_t pairs = 0;
	for (const struct keypair *pair = &config->first; pair; pair = pair->next)
		pairs++;
	size_t size = sizeof(struct tw_tls_settings) + pairs * sizeof(struct tw_tls_keypair);
	struct tw_tls_settings *settings = calloc(1, size);
	if (!settings) {
		error_set(error, TLS_ERROR_OUT_OF_MEMORY, 0, "out of memory");
		return NULL;
	}
	settings->flags = flags;
	settings->protocols = config->protocols;
	settings->depth = config->depth;
	settings->lifetime = config->lifetime;
	settings->keypairs = pairs;
	for (int i = 0; i < TW_TLS_THINGS; i++)
		settings->things[i] = number(now[i] ? now[i] : config->things[i]);
	for (int i = 0; i < TW_TLS_TICKET_KEYS; i++)
		settings->tickets[i] = number(config->tickets[i].key);
	struct tw_tls_keypair *out = settings->keypair;
	for (const struct keypair *pair = &config->first; pair; pair = pair->next, out++) {
		out->cert = number(pair->cert);
		out->key = number(pair->key);
		out->staple = number(pair->staple);
	}
	if (now[TW_TLS_CERT])
		settings->keypair[0].cert = number(now[TW_TLS_CERT]);
	if (now[TW_TLS_KEY])
		settings->keypair[0].key = number(now[TW_TLS_KEY]);
	struct thing *built = thing_built(error, settings, size);
	free(settings);
	return built;
}

struct thing *config_build(struct tls_config *config, uint32_t flags, struct error *error)
{
	struct thing *now[TW_TLS_NAMES] = {0}, *built = NULL;
	flags |= config->flags;
	if (read_now(config, now, flags, error) == 0)
		built = build(config, now, flags, error);
	release(now);
	return built;
}

struct thing *config_build_client(struct tls_config *config, struct error *error)
{
	struct thing *built = __atomic_load_n(&config->built, __ATOMIC_ACQUIRE), *none = NULL;
	if (built)
		return thing_hold(built);
	built = config_build(config, 0, error);
	for (int i = 0; i < TW_TLS_NAMES; i++) {
		if (config->named[i])
			return built;
	}
	if (built && !__atomic_compare_exchange_n(&config->built, &none, thing_hold(built), false,
	                                          __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		thing_release(built);
	return built;
}

void config_changed(struct tls_config *config)
{
	thing_release(__atomic_exchange_n(&config->built, NULL, __ATOMIC_ACQ_REL));
}
