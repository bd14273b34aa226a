/* A configuration says in which file a session lasts, and what becomes of tickets. */
#include "tls_int.h"

#include <sys/stat.h>

enum { LEAST_LIFETIME = 4, MOST_LIFETIME = 86400 };

int tls_config_set_session_fd(struct tls_config *config, int session_fd)
{
	struct stat st;
	struct error *error = &config->error;
	if (session_fd == -1) {
		config->session_fd = -1;
		return 0;
	}
	long r = stat_fd(session_fd, &st);
	if (r < 0)
		return error_set(error, 0, (int)-r, "failed to stat session file");
	if (!S_ISREG(st.st_mode))
		return error_set(error, 0, 0, "session file is not a regular file");
	unsigned own = (unsigned)SYS(SYS_getuid);
	if (st.st_uid != own)
		return error_set(error, 0, 0, "session file has incorrect owner (uid %u != %u)",
		                 st.st_uid, own);
	unsigned mode = st.st_mode & (S_IRWXU | S_IRWXG | S_IRWXO);
	if (mode != (S_IRUSR | S_IWUSR))
		return error_set(error, 0, 0, "session file has incorrect permissions (%o != 600)", mode);
	config->session_fd = session_fd;
	return 0;
}

int tls_config_set_session_id(struct tls_config *config, const unsigned char *session_id, size_t len)
{
	if (len > TLS_MAX_SESSION_ID_LENGTH)
		return config_fail(config, "%s", "session ID too large");
	return config_put_memory(config, &config->things[TW_TLS_SESSION_ID], TW_TLS_SESSION_ID, session_id, len);
}

int tls_config_set_session_lifetime(struct tls_config *config, int lifetime)
{
	if (lifetime > MOST_LIFETIME)
		return config_fail(config, "%s", "session lifetime too large");
	if (lifetime != 0 && lifetime < LEAST_LIFETIME)
		return config_fail(config, "%s", "session lifetime too small");
	config->lifetime = lifetime;
	config_changed(config);
	return 0;
}

int tls_config_add_ticket_key(struct tls_config *config, uint32_t keyrev, unsigned char *key,
                              size_t keylen)
{
	if (keylen != TLS_TICKET_KEY_SIZE)
		return config_fail(config, "%s", "wrong amount of ticket key data");
	bool same = false;
	struct thing *loaded = load_ticket_key(&config->error, key, keylen, config->tickets[0].key, &same);
	if (!loaded)
		return -1;
	/* The number is part of what a ticket says: see libtls's struct. A place without a key has 0. */
	for (int i = 0; i < TW_TLS_TICKET_KEYS; i++) {
		if (config->tickets[i].revision != keyrev)
			continue;
		thing_release(loaded);
		return i == 0 && same ? 0 : config_fail(config, "%s", "ticket key already present");
	}
	thing_release(config->tickets[TW_TLS_TICKET_KEYS - 1].key);
	for (int i = TW_TLS_TICKET_KEYS - 1; i > 0; i--)
		config->tickets[i] = config->tickets[i - 1];
	config->tickets[0].key = loaded;
	config->tickets[0].revision = keyrev;
	config_changed(config);
	return 0;
}
