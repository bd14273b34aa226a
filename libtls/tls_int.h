/*
 * The libtls of tlswrap, in the program: contexts and configurations. Certificates, keys,
 * sessions and the TLS itself are in the worker (proxy/libtls); this part keeps numbers for
 * them, and moves plaintext.
 *
 * The rules of the shim hold (preload/shim.h), but for one: these functions allocate where a
 * TLS library does, with the program's own malloc.
 */
#ifndef TLSWRAP_LIBTLS_H
#define TLSWRAP_LIBTLS_H

#include "../preload/shim.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "include/ressl.h"
#include "include/tls.h"

#include "functions.h"
#include "wire.h"

/* What is asked of libc, by weak references as in the rest of the shim. */
extern __typeof__(malloc) malloc WEAK;
extern __typeof__(calloc) calloc WEAK;
extern __typeof__(free) free WEAK;
extern int vsnprintf(char *, size_t, const char *, va_list) WEAK;
extern __typeof__(strerror) strerror WEAK;
extern char **environ WEAK;

/* ---- error.c ---- */

struct error {
	char *text; /* the owner's, NULL for none */
	int code;
};

void error_clear(struct error *error);
/* Replaces the error, with ": " and strerror(errno_value) behind it where that is not 0. set returns
 * -1. */
int error_set(struct error *error, int code, int errno_value, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void error_vset(struct error *error, int code, int errno_value, const char *format, va_list list)
	__attribute__((format(printf, 4, 0)));

/* Sets a configuration's error, and returns -1. */
int config_fail(struct tls_config *config, const char *format, const char *argument);

/* Sets a context's error, and returns -1. */
int set_error(struct tls *ctx, const char *format, ...) __attribute__((format(printf, 2, 3)));
int set_error_errno(struct tls *ctx, int errno_value, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- thing.c: what the worker keeps for us ---- */

/*
 * Something in the worker, counted. With the last reference it is dropped there too, unless
 * the process has forked since: the other one may hold it as well. It ends with the session
 * then.
 */
struct thing {
	uint64_t number;
	unsigned references;
	int pid;
	unsigned forks;
	char *error; /* of a server's configuration: what befell one of its connections */
};

struct thing *thing_hold(struct thing *thing);
void thing_release(struct thing *thing); /* NULL is fine */

/* Copies what fd holds, or size bytes, into the worker: NULL with *error set. */
struct thing *load_fd(struct error *error, enum tw_tls_kind kind, int fd);
struct thing *load_memory(struct error *error, enum tw_tls_kind kind, const void *data, size_t size);

/* The same for a key of tickets. *same tells whether known has these bytes, too. */
struct thing *load_ticket_key(struct error *error, const void *data, size_t size,
                              const struct thing *known, bool *same);

/* Makes a configuration of settings, size bytes: NULL with *error set. */
struct thing *thing_built(struct error *error, const struct tw_tls_settings *settings, size_t size);

/* ---- worker.c: requests ---- */

/* Fills in what every request has. */
void tls_request_init(struct tw_tls_request *request, enum tw_tls_op op);

/* Fills in what a START over any transport has. */
void tls_start_init(const struct tls *ctx, struct tw_tls_request *request);

/* As control_send and control_receive. */
long tls_request_send(int control, const struct tw_tls_request *request, const int *fds, int count);
long tls_reply_receive(int control, struct tw_tls_reply *reply, int *got);

/* One request, with count descriptors: 0, or -1 with *error set. *got as control_receive has it. */
int worker_ask(struct error *error, struct tw_tls_request *request, const int *fds, int count,
               struct tw_tls_reply *reply, int *got);

/* ---- descriptors.c ---- */

/* A memory file with these bytes, close-on-exec, its offset at 0; or -errno. */
long memory_file(const void *data, size_t size);

/* The mode, owner and size of a file; -errno. */
struct stat;
long stat_fd(int fd, struct stat *st);

/* All of a file in memory of malloc's; -errno. */
long read_all(int fd, uint8_t **data, size_t *size);

/* ---- load.c: what a configuration names ---- */

/* Opens a file as libtls reads one. */
struct thing *load_file(struct error *error, enum tw_tls_kind kind, const char *file);

/* Copies the certificates of the folders in a list that is separated by colons. */
struct thing *load_folders(struct error *error, const char *paths);

/* Loads the roots where none were set: the system's, or those that the environment names. */
void load_environment(struct thing *things[TW_TLS_THINGS]);

/* ---- configurations ---- */

struct keypair {
	struct keypair *next;
	struct thing *cert, *key, *staple;
};

struct tls_config {
	unsigned references;
	struct error error;
	struct thing *things[TW_TLS_THINGS];
	struct keypair first; /* the others are found by SNI */
	struct {
		uint32_t revision;
		struct thing *key;
	} tickets[TW_TLS_TICKET_KEYS];
	uint32_t flags; /* enum tw_tls_setting */
	uint32_t protocols;
	int depth;
	int lifetime;
	int session_fd;
	struct thing *built; /* what the worker made of all this for clients; NULL: ask */
	/* What is read when it is used, by its kind: the folders of CA certificates; with ressl, files
	 * and ciphers too. */
	char *named[TW_TLS_NAMES];
};

/* ---- config.c ---- */

struct tls_config *config_default(void);
struct tls_config *config_hold(struct tls_config *config);

/* ---- config_switches.c ---- */

/* Clears and sets flags of enum tw_tls_setting. */
void config_set_flags(struct tls_config *config, uint32_t set, uint32_t clear);

/* ---- config_put.c ---- */

/* Puts loaded, which may be NULL for a failure, in the place *where. So do the others with what
 * they load: 0, or -1 with the configuration's error set. */
int config_put(struct tls_config *config, struct thing **where, struct thing *loaded);
int config_put_file(struct tls_config *config, struct thing **where, enum tw_tls_kind kind,
                    const char *file);
/* Without data, the place is empty. */
int config_put_memory(struct tls_config *config, struct thing **where, enum tw_tls_kind kind,
                      const void *data, size_t size);
int config_put_string(struct tls_config *config, enum tw_tls_kind kind, const char *text);
/* Remembers what to read when it is used; NULL for nothing. */
int config_put_name(struct tls_config *config, enum tw_tls_kind kind, const char *name);

/* ---- config_keypairs.c ---- */

void keypair_clear(struct keypair *pair);

/* ---- config_build.c ---- */

/* Has the worker make a configuration: a reference, or NULL with *error set. */
struct thing *config_build(struct tls_config *config, uint32_t flags, struct error *error);

/* The same for a client: made once for all that share config, where nothing is read anew. */
struct thing *config_build_client(struct tls_config *config, struct error *error);

/* A client's next connection asks the worker anew. */
void config_changed(struct tls_config *config);

/* ---- facts.c ---- */

struct facts {
	int64_t numbers[TW_TLS_NUMBERS];
	const char *strings[TW_TLS_STRINGS];
	size_t chain_size;
	char data[]; /* that the strings point into */
};

/* Takes apart what the worker said, size bytes behind its struct: NULL where it does not fit. */
struct facts *facts_parse(const uint8_t *body, size_t size);

/* A context takes the facts over: 0, or -1 where they tell of a failure. */
int facts_take(struct tls *ctx, const uint8_t *data, size_t size);

/* What was said in words, or NULL. */
const char *facts_string(const struct tls *ctx, enum tw_tls_string which);

/* ---- contexts ---- */

enum role { CLIENT, SERVER, SERVER_CONNECTION };

struct tls {
	enum role role;
	struct tls_config *config;
	struct thing *built; /* a server's, taken at tls_configure, and its connections' */
	struct error error;

	char *servername;
	int rfd, wfd;
	int socket;     /* of tls_connect: ours to close */
	bool connected; /* there is a transport */
	bool started;   /* the worker has it */
	bool broken;    /* the handshake has failed */
	bool complete;  /* the handshake has succeeded */
	bool ended;     /* a read has met the end */
	bool truncated; /* and it was no close_notify */
	bool closing;   /* tls_close was called: nothing is written any more */
	bool closed;    /* close_notify was sent */
	bool lost;      /* reading has failed, and for good */
	unsigned wants; /* calls in a row that had to wait */
	uint64_t wanted; /* when the first of them was made, in nanoseconds */
	uint64_t number;
	struct facts *facts;
	struct facts *ocsp; /* of tls_ocsp_process_response, or of a handshake that has failed */

	/* The worker's facts, as far as they were read. */
	uint32_t facts_size, facts_have;
	uint8_t *facts_data;

	uint32_t frame_left;   /* bytes that are missing to the last frame */
	uint32_t frame_header; /* bytes of its header that are not sent */

	uint64_t sent; /* bytes, until there is a ring, or was asked for one in vain */
	struct ring *ring;

	size_t written; /* ressl: of the buffer that is being written */

	struct pump *pump;
};

/* ---- context.c ---- */

struct tls *context_new(enum role role);

/* ---- client.c ---- */

/* Makes a context's transport, and asks the worker whether its configuration is good. */
int connect_setup(struct tls *ctx, const char *servername);
/* tls_connect_servername, with a port that counts where none is given, or NULL. */
int connect_host(struct tls *ctx, const char *host, const char *port, const char *servername,
                 const char *default_port);

/* ---- stream.c: sockets ---- */

int stream_handshake(struct tls *ctx);
ssize_t stream_read(struct tls *ctx, void *buf, size_t len);
ssize_t stream_write(struct tls *ctx, const void *buf, size_t len);
int stream_close(struct tls *ctx);

/* ---- ring.c: memory that the worker shares, for connections that send much ---- */

/* Counts what was sent, and has a ring made when that is much. */
void ring_count(struct tls *ctx, size_t sent);

/* Sends a frame of len bytes by way of the ring: len, -errno, or 0 where it has to go through
 * the channel. No frame has begun. */
long ring_send(struct tls *ctx, const void *buf, uint32_t len);

void ring_free(struct tls *ctx);

/* ---- pump.c: callbacks ---- */

int pump_new(struct tls *ctx, tls_read_cb read_cb, tls_write_cb write_cb, void *arg);
void pump_free(struct tls *ctx);
int pump_handshake(struct tls *ctx);
ssize_t pump_read(struct tls *ctx, void *buf, size_t len);
ssize_t pump_write(struct tls *ctx, const void *buf, size_t len);
int pump_close(struct tls *ctx);

#endif
