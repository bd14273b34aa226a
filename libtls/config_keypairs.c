/* A configuration has keypairs: certificates with keys, and with OCSP responses to staple. */
#include "tls_int.h"

void keypair_clear(struct keypair *pair)
{
	thing_release(pair->cert);
	thing_release(pair->key);
	thing_release(pair->staple);
}

/* Where the three parts of a keypair come from: files, or memory where they are NULL. */
struct source {
	const char *file;
	const uint8_t *data;
	size_t size;
};

static int put_source(struct tls_config *config, struct thing **where, enum tw_tls_kind kind,
                      const struct source *from)
{
	if (from->file)
		return config_put_file(config, where, kind, from->file);
	return config_put_memory(config, where, kind, from->data, from->size);
}

static int put_keypair(struct tls_config *config, struct keypair *pair, const struct source *cert,
                       const struct source *key, const struct source *staple)
{
	if ((cert && put_source(config, &pair->cert, TW_TLS_CERT, cert) < 0) ||
	    (key && put_source(config, &pair->key, TW_TLS_KEY, key) < 0) ||
	    (staple && put_source(config, &pair->staple, TW_TLS_STAPLE, staple) < 0))
		return -1;
	return 0;
}

static int add_keypair(struct tls_config *config, const struct source *cert,
                       const struct source *key, const struct source *staple)
{
	struct keypair *pair = calloc(1, sizeof *pair);
	if (!pair)
		return config_fail(config, "%s", "out of memory");
	if (put_keypair(config, pair, cert, key, staple) < 0) {
		keypair_clear(pair);
		free(pair);
		return -1;
	}
	struct keypair *last = &config->first;
	while (last->next)
		last = last->next;
	last->next = pair;
	config_changed(config);
	return 0;
}

#define FROM_FILE(name) (&(const struct source){.file = (name)})
#define FROM_MEMORY(bytes, length) (&(const struct source){.data = (bytes), .size = (length)})

int tls_config_set_cert_file(struct tls_config *config, const char *cert_file)
{
	return put_keypair(config, &config->first, FROM_FILE(cert_file), NULL, NULL);
}

int tls_config_set_cert_mem(struct tls_config *config, const uint8_t *cert, size_t len)
{
	return put_keypair(config, &config->first, FROM_MEMORY(cert, len), NULL, NULL);
}

int tls_config_set_key_file(struct tls_config *config, const char *key_file)
{
	return put_keypair(config, &config->first, NULL, FROM_FILE(key_file), NULL);
}

int tls_config_set_key_mem(struct tls_config *config, const uint8_t *key, size_t len)
{
	return put_keypair(config, &config->first, NULL, FROM_MEMORY(key, len), NULL);
}

int tls_config_set_ocsp_staple_file(struct tls_config *config, const char *staple_file)
{
	return put_keypair(config, &config->first, NULL, NULL, FROM_FILE(staple_file));
}

int tls_config_set_ocsp_staple_mem(struct tls_config *config, const uint8_t *staple, size_t len)
{
	return put_keypair(config, &config->first, NULL, NULL, FROM_MEMORY(staple, len));
}

int tls_config_set_keypair_file(struct tls_config *config, const char *cert_file,
                                const char *key_file)
{
	return put_keypair(config, &config->first, FROM_FILE(cert_file), FROM_FILE(key_file), NULL);
}

int tls_config_set_keypair_mem(struct tls_config *config, const uint8_t *cert, size_t cert_len,
                               const uint8_t *key, size_t key_len)
{
	return put_keypair(config, &config->first, FROM_MEMORY(cert, cert_len),
	                   FROM_MEMORY(key, key_len), NULL);
}

int tls_config_set_keypair_ocsp_file(struct tls_config *config, const char *cert_file,
                                     const char *key_file, const char *staple_file)
{
	return put_keypair(config, &config->first, FROM_FILE(cert_file), FROM_FILE(key_file),
	                   FROM_FILE(staple_file));
}

int tls_config_set_keypair_ocsp_mem(struct tls_config *config, const uint8_t *cert, size_t cert_len,
                                    const uint8_t *key, size_t key_len, const uint8_t *staple,
                                    size_t staple_len)
{
	return put_keypair(config, &config->first, FROM_MEMORY(cert, cert_len),
	                   FROM_MEMORY(key, key_len), FROM_MEMORY(staple, staple_len));
}

int tls_config_add_keypair_file(struct tls_config *config, const char *cert_file,
                                const char *key_file)
{
	return add_keypair(config, FROM_FILE(cert_file), FROM_FILE(key_file), NULL);
}

int tls_config_add_keypair_mem(struct tls_config *config, const uint8_t *cert, size_t cert_len,
                               const uint8_t *key, size_t key_len)
{
	return add_keypair(config, FROM_MEMORY(cert, cert_len), FROM_MEMORY(key, key_len), NULL);
}

int tls_config_add_keypair_ocsp_file(struct tls_config *config, const char *cert_file,
                                     const char *key_file, const char *ocsp_staple_file)
{
	return add_keypair(config, FROM_FILE(cert_file), FROM_FILE(key_file),
	                   FROM_FILE(ocsp_staple_file));
}

int tls_config_add_keypair_ocsp_mem(struct tls_config *config, const uint8_t *cert, size_t cert_len,
                                    const uint8_t *key, size_t key_len, const uint8_t *staple,
                                    size_t staple_len)
{
	return add_keypair(config, FROM_MEMORY(cert, cert_len), FROM_MEMORY(key, key_len),
	                   FROM_MEMORY(staple, staple_len));
}

/* What is configured keeps its own: the worker's configurations hold the keys they use. */
void tls_config_clear_keys(struct tls_config *config)
{
	for (struct keypair *pair = &config->first; pair; pair = pair->next) {
		thing_release(pair->key);
		pair->key = NULL;
	}
	config_changed(config);
}
