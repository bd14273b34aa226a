/* Configurations: what was said, and numbers for what was given. */
#include "tls_int.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/time.h>

enum { DEFAULT_DEPTH = 6, LEAST_LIFETIME = 4, MOST_LIFETIME = 86400 };

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

static void keypair_clear(struct keypair *pair)
{
	thing_release(pair->cert);
	thing_release(pair->key);
	thing_release(pair->staple);
}

/* A client's next connection asks the worker anew. */
static void changed(struct tls_config *config)
{
	thing_release(__atomic_exchange_n(&config->built, NULL, __ATOMIC_ACQ_REL));
}

void tls_config_free(struct tls_config *config)
{
	if (!config || __atomic_sub_fetch(&config->references, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	changed(config);
	error_clear(&config->error);
	for (int i = 0; i < TW_TLS_THINGS; i++)
		thing_release(config->things[i]);
	for (int i = 0; i < TW_TLS_TICKET_KEYS; i++)
		thing_release(config->tickets[i].key);
	for (int i = 0; i < LATER_COUNT; i++)
		free(config->later[i]);
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

static int fail(struct tls_config *config, const char *format, const char *argument)
{
	struct error *error = &config->error;
	return error_set(error, TLS_ERROR_UNKNOWN, 0, format, argument);
}

/* ---- what is given ---- */

/* Puts loaded, which may be NULL for a failure, in the place *where. */
static int put(struct tls_config *config, struct thing **where, struct thing *loaded)
{
	if (!loaded)
		return -1;
	thing_release(*where);
	*where = loaded;
	changed(config);
	return 0;
}

/* Opens a file as libtls reads one; what is the word for it in a sentence. */
static struct thing *load_file(struct error *error, enum tw_tls_kind kind, const char *what,
                               const char *file)
{
	struct stat st;
	struct thing *loaded = NULL;
	long fd = SYS(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		error_set(error, TLS_ERROR_UNKNOWN, (int)-fd, "failed to open %s file '%s'", what, file);
		return NULL;
	}
	if (stat_fd((int)fd, &st) == 0 && S_ISDIR(st.st_mode))
		error_set(error, TLS_ERROR_UNKNOWN, EISDIR, "failed to read %s file '%s'", what, file);
	else
		loaded = load_fd(error, kind, (int)fd);
	SYS(SYS_close, fd);
	return loaded;
}

static int put_file(struct tls_config *config, struct thing **where, enum tw_tls_kind kind,
                    const char *what, const char *file)
{
	return put(config, where, load_file(&config->error, kind, what, file));
}

static int put_memory(struct tls_config *config, struct thing **where, enum tw_tls_kind kind,
                      const void *data, size_t size)
{
	if (!data || size == 0) {
		thing_release(*where);
		*where = NULL;
		changed(config);
		return 0;
	}
	return put(config, where, load_memory(&config->error, kind, data, size));
}

static int put_string(struct tls_config *config, enum tw_tls_kind kind, const char *text)
{
	return put_memory(config, &config->things[kind], kind, text, text ? strlen(text) : 0);
}

int tls_config_set_ca_file(struct tls_config *config, const char *ca_file)
{
	return put_file(config, &config->things[TW_TLS_CA], TW_TLS_CA, "CA", ca_file);
}

int tls_config_set_ca_mem(struct tls_config *config, const uint8_t *ca, size_t len)
{
	return put_memory(config, &config->things[TW_TLS_CA], TW_TLS_CA, ca, len);
}

/* Opens the folders of a list that is separated by colons, for the worker to read. */
static struct thing *load_folders(struct error *error, const char *paths)
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
	struct thing **where = &config->things[TW_TLS_CA_PATH];
	if (!ca_path)
		return put_memory(config, where, TW_TLS_CA_PATH, NULL, 0);
	return put(config, where, load_folders(&config->error, ca_path));
}

int tls_config_set_crl_file(struct tls_config *config, const char *crl_file)
{
	return put_file(config, &config->things[TW_TLS_CRL], TW_TLS_CRL, "CRL", crl_file);
}

int tls_config_set_crl_mem(struct tls_config *config, const uint8_t *crl, size_t len)
{
	return put_memory(config, &config->things[TW_TLS_CRL], TW_TLS_CRL, crl, len);
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
	static const char *const words[] = {"certificate", "key", "ocsp"};
	if (from->file)
		return put_file(config, where, kind, words[kind - TW_TLS_CERT], from->file);
	return put_memory(config, where, kind, from->data, from->size);
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
		return fail(config, "%s", "out of memory");
	if (put_keypair(config, pair, cert, key, staple) < 0) {
		keypair_clear(pair);
		free(pair);
		return -1;
	}
	struct keypair *last = &config->first;
	while (last->next)
		last = last->next;
	last->next = pair;
	changed(config);
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
	changed(config);
}

/* ---- what is said ---- */

static void set_flags(struct tls_config *config, uint32_t set, uint32_t clear)
{
	config->flags = (config->flags & ~clear) | set;
	changed(config);
}

void tls_config_verify(struct tls_config *config)
{
	set_flags(config, TW_TLS_VERIFY_CERT | TW_TLS_VERIFY_NAME | TW_TLS_VERIFY_TIME, 0);
}

void tls_config_insecure_noverifycert(struct tls_config *config)
{
	set_flags(config, 0, TW_TLS_VERIFY_CERT);
}

void tls_config_insecure_noverifyname(struct tls_config *config)
{
	set_flags(config, 0, TW_TLS_VERIFY_NAME);
}

void tls_config_insecure_noverifytime(struct tls_config *config)
{
	set_flags(config, 0, TW_TLS_VERIFY_TIME);
}

void tls_config_ocsp_require_stapling(struct tls_config *config)
{
	set_flags(config, TW_TLS_REQUIRE_STAPLING, 0);
}

void tls_config_verify_client(struct tls_config *config)
{
	set_flags(config, TW_TLS_VERIFY_CLIENT, TW_TLS_VERIFY_CLIENT_OPTIONAL);
}

void tls_config_verify_client_optional(struct tls_config *config)
{
	set_flags(config, TW_TLS_VERIFY_CLIENT_OPTIONAL, TW_TLS_VERIFY_CLIENT);
}

void tls_config_prefer_ciphers_client(struct tls_config *config)
{
	set_flags(config, TW_TLS_PREFER_CLIENT, 0);
}

void tls_config_prefer_ciphers_server(struct tls_config *config)
{
	set_flags(config, 0, TW_TLS_PREFER_CLIENT);
}

/* For programs that put a signing engine of their own into OpenSSL: see config_build's answer. */
void tls_config_skip_private_key_check(struct tls_config *config)
{
	set_flags(config, TW_TLS_FOREIGN_KEY, 0);
}

void tls_config_use_fake_private_key(struct tls_config *config)
{
	set_flags(config, TW_TLS_FOREIGN_KEY, 0);
}

int tls_config_set_verify_depth(struct tls_config *config, int verify_depth)
{
	config->depth = verify_depth;
	changed(config);
	return 0;
}

int tls_config_set_protocols(struct tls_config *config, uint32_t protocols)
{
	config->protocols = protocols;
	changed(config);
	return 0;
}

int tls_config_set_ciphers(struct tls_config *config, const char *ciphers)
{
	return put_string(config, TW_TLS_CIPHERS, ciphers);
}

int tls_config_set_alpn(struct tls_config *config, const char *alpn)
{
	return put_string(config, TW_TLS_ALPN, alpn);
}

/* Whether two words are the same, in any case. */
static bool same(const char *a, const char *b)
{
	for (; *a && *b; a++, b++) {
		char x = *a >= 'A' && *a <= 'Z' ? (char)(*a | 0x20) : *a;
		if (x != *b)
			return false;
	}
	return !*a && !*b;
}

/* crypto/tls has no finite-field groups: the words are taken, and change nothing. */
int tls_config_set_dheparams(struct tls_config *config, const char *params)
{
	if (!params || same(params, "none") || same(params, "auto") || same(params, "legacy"))
		return 0;
	return fail(config, "invalid dhe param '%s'", params);
}

int tls_config_set_ecdhecurves(struct tls_config *config, const char *curves)
{
	if (!curves || same(curves, "default"))
		return put_string(config, TW_TLS_CURVES, NULL);
	return put_string(config, TW_TLS_CURVES, curves);
}

int tls_config_set_ecdhecurve(struct tls_config *config, const char *curve)
{
	if (!curve || same(curve, "none") || same(curve, "auto"))
		return put_string(config, TW_TLS_CURVES, NULL);
	for (const char *c = curve; *c; c++) {
		if (*c == ',' || *c == ':')
			return fail(config, "invalid ecdhe curve '%s'", curve);
	}
	return put_string(config, TW_TLS_CURVES, curve);
}

/* Reads one word of a protocol string: its bits, or 0. */
static uint32_t protocol_word(const char *word, size_t size)
{
	static const struct {
		const char *name;
		uint32_t bits;
	} words[] = {
		{"all", TLS_PROTOCOLS_ALL},           {"legacy", TLS_PROTOCOLS_ALL},
		{"default", TLS_PROTOCOLS_DEFAULT},   {"secure", TLS_PROTOCOLS_DEFAULT},
		{"tlsv1", TLS_PROTOCOL_TLSv1},        {"tlsv1.0", TLS_PROTOCOL_TLSv1_0},
		{"tlsv1.1", TLS_PROTOCOL_TLSv1_1},    {"tlsv1.2", TLS_PROTOCOL_TLSv1_2},
		{"tlsv1.3", TLS_PROTOCOL_TLSv1_3},
	};
	char copy[16];
	if (size >= sizeof copy)
		return 0;
	memcpy(copy, word, size);
	copy[size] = '\0';
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		if (same(copy, words[i].name))
			return words[i].bits;
	}
	return 0;
}

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

int tls_config_parse_protocols(uint32_t *protocols, const char *protostr)
{
	uint32_t result = 0;
	if (!protostr) {
		*protocols = TLS_PROTOCOLS_DEFAULT;
		return 0;
	}
	for (const char *s = protostr;; s++) {
		while (blank(*s))
			s++;
		bool remove = *s == '!';
		if (remove && result == 0)
			result = TLS_PROTOCOLS_ALL;
		s += remove;
		while (remove && blank(*s))
			s++;
		size_t n = 0;
		while (s[n] && s[n] != ',' && s[n] != ':')
			n++;
		size_t word = n;
		while (word && blank(s[word - 1]))
			word--;
		uint32_t bits = protocol_word(s, word);
		if (!bits)
			return -1;
		result = remove ? result & ~bits : result | bits;
		s += n;
		if (!*s)
			break;
	}
	*protocols = result;
	return 0;
}

/* ---- sessions ---- */

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
		return fail(config, "%s", "session ID too large");
	return put_memory(config, &config->things[TW_TLS_SESSION_ID], TW_TLS_SESSION_ID, session_id, len);
}

int tls_config_set_session_lifetime(struct tls_config *config, int lifetime)
{
	if (lifetime > MOST_LIFETIME)
		return fail(config, "%s", "session lifetime too large");
	if (lifetime != 0 && lifetime < LEAST_LIFETIME)
		return fail(config, "%s", "session lifetime too small");
	config->lifetime = lifetime;
	changed(config);
	return 0;
}

int tls_config_add_ticket_key(struct tls_config *config, uint32_t keyrev, unsigned char *key,
                              size_t keylen)
{
	if (keylen != TLS_TICKET_KEY_SIZE)
		return fail(config, "%s", "wrong amount of ticket key data");
	/* The number is part of what a ticket says: see libtls's struct. */
	for (int i = 0; i < TW_TLS_TICKET_KEYS; i++) {
		if (!config->tickets[i].key || config->tickets[i].revision != keyrev)
			continue;
		if (i == 0)
			return put(config, &config->tickets[0].key,
			           load_memory(&config->error, TW_TLS_TICKET_KEY, key, keylen));
		return fail(config, "%s", "ticket key already present");
	}
	struct thing *loaded = load_memory(&config->error, TW_TLS_TICKET_KEY, key, keylen);
	if (!loaded)
		return -1;
	thing_release(config->tickets[TW_TLS_TICKET_KEYS - 1].key);
	for (int i = TW_TLS_TICKET_KEYS - 1; i > 0; i--)
		config->tickets[i] = config->tickets[i - 1];
	config->tickets[0].key = loaded;
	config->tickets[0].revision = keyrev;
	changed(config);
	return 0;
}

/* ---- what the worker makes of it ---- */

static uint64_t number(const struct thing *thing)
{
	return thing ? thing->number : 0;
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
static void load_environment(struct thing *things[TW_TLS_THINGS])
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

/* ---- ressl: what is read when it is used ---- */

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
		put(config, where, loaded);
	}
	return 0;
}
