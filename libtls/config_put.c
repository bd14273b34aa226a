/*
 * A configuration keeps what it is given, which goes to the worker when the API says that it is
 * read.
 */
#include "tls_int.h"

int config_put(struct tls_config *config, struct thing **where, struct thing *loaded)
{
	if (!loaded)
		return -1;
	thing_release(*where);
	*where = loaded;
	config_changed(config);
	return 0;
}

int config_put_file(struct tls_config *config, struct thing **where, enum tw_tls_kind kind,
                    const char *file)
{
	return config_put(config, where, load_file(&config->error, kind, file));
}

int config_put_memory(struct tls_config *config, struct thing **where, enum tw_tls_kind kind,
                      const void *data, size_t size)
{
	if (!data || size == 0) {
		thing_release(*where);
		*where = NULL;
		config_changed(config);
		return 0;
	}
	return config_put(config, where, load_memory(&config->error, kind, data, size));
}

int config_put_string(struct tls_config *config, enum tw_tls_kind kind, const char *text)
{
	struct thing **where = &config->things[kind];
	if (!text)
		return config_put_memory(config, where, kind, NULL, 0);
	return config_put(config, where, load_memory(&config->error, kind, text, strlen(text)));
}

int config_put_name(struct tls_config *config, enum tw_tls_kind kind, const char *name)
{
	char *copy = NULL;
	if (name) {
		size_t n = strlen(name) + 1;
		copy = malloc(n);
		if (!copy)
			return error_set(&config->error, TLS_ERROR_OUT_OF_MEMORY, 0, "out of memory");
		memcpy(copy, name, n);
	}
	free(config->named[kind]);
	config->named[kind] = copy;
	config_changed(config);
	return 0;
}
