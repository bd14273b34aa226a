/* These functions switch on and off what is verified, and say how deep a chain may be. */
#include "tls_int.h"

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
