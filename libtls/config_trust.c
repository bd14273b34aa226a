/* Whom to trust: CA certificates and revocation lists. */
#include "tls_int.h"

#include <fcntl.h>
#include <limits.h>

int tls_config_set_ca_file(struct tls_config *config, const char *ca_file)
{
	return config_put_file(config, &config->things[TW_TLS_CA], TW_TLS_CA, ca_file);
}

int tls_config_set_ca_mem(struct tls_config *config, const uint8_t *ca, size_t len)
{
	return config_put_memory(config, &config->things[TW_TLS_CA], TW_TLS_CA, ca, len);
}

struct thing *load_folders(struct error *error, const char *paths)
{
	int fds[MOST_DESCRIPTORS], count = 0;
	char path[PATH_MAX];
	while (*paths && count < MOST_DESCRIPTORS) {
		size_t n = 0;
		while (paths[n] && paths[n] != ':')
			n++;
		if (n < sizeof path) {
			memcpy(path, paths, n);
			path[n] = '\0';
			long fd = SYS(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			if (fd >= 0)
				fds[count++] = (int)fd;
		}
		paths += n + (paths[n] == ':');
	}
	/* One that is not there has no certificates: libtls finds that out when it verifies. */
	struct thing *loaded = count ? load_fds(error, TW_TLS_CA_PATH, fds, count)
	                             : load_memory(error, TW_TLS_CA_PATH, "", 1);
	while (count)
		SYS(SYS_close, fds[--count]);
	return loaded;
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

static const char *variable(const char *name)
{
	size_t n = strlen(name);
	for (char **env = &environ ? environ : NULL; env && *env; env++) {
		size_t i = 0;
		while (i < n && (*env)[i] == name[i])
			i++;
		if (i == n && (*env)[n] == '=' && (*env)[n + 1])
			return *env + n + 1;
	}
	return NULL;
}

/*
 * The roots where none were set are the system's, or those that the environment names, as
 * OpenSSL has it. The program opens the file: it may be one that the worker cannot.
 */
void load_environment(struct thing *things[TW_TLS_THINGS])
{
	struct error ignored = {0};
	const char *file = variable("SSL_CERT_FILE"), *dir = variable("SSL_CERT_DIR");
	if (file) {
		long fd = SYS(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			things[TW_TLS_CA_ENV] = load_fd(&ignored, TW_TLS_CA_ENV, (int)fd);
			SYS(SYS_close, fd);
		} else {
			things[TW_TLS_CA_ENV] = load_memory(&ignored, TW_TLS_CA_ENV, "", 1);
		}
	}
	if (dir)
		things[TW_TLS_CA_PATH] = load_folders(&ignored, dir);
	error_clear(&ignored);
}
