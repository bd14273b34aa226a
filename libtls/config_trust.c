/* CA certificates and revocation lists tell a configuration whom to trust. */
#include "tls_int.h"

int tls_config_set_ca_file(struct tls_config *config, const char *ca_file)
{
	return config_put_file(config, &config->things[TW_TLS_CA], TW_TLS_CA, ca_file);
}

int tls_config_set_ca_mem(struct tls_config *config, const uint8_t *ca, size_t len)
{
	return config_put_memory(config, &config->things[TW_TLS_CA], TW_TLS_CA, ca, len);
}

int tls_config_set_ca_path(struct tls_config *config, const char *ca_path)
{
	return config_put_name(config, TW_TLS_CA_PATH, ca_path);
}

int tls_config_set_crl_file(struct tls_config *config, const char *crl_file)
{
	return config_put_file(config, &config->things[TW_TLS_CRL], TW_TLS_CRL, crl_file);
}

int tls_config_set_crl_mem(struct tls_config *config, const uint8_t *crl, size_t len)
{
	return config_put_memory(config, &config->things[TW_TLS_CRL], TW_TLS_CRL, crl, len);
}
