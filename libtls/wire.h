/*
 * The part of the control protocol (preload/wire.h) that libtls speaks.
 *
 * Everything that a program gives, a file, memory, or words, goes to the worker as a
 * descriptor when the API says that it is read, and stays there: the shim keeps the number
 * that the worker gave it. A configuration is a list of such numbers. proxy/wire
 * mirrors this file.
 */
#ifndef TLSWRAP_LIBTLS_WIRE_H
#define TLSWRAP_LIBTLS_WIRE_H

#include <stdint.h>

#include "../preload/wire.h"

/* Continues enum tw_op. */
enum tw_tls_op {
	TW_TLS_LOAD = 32,  /* keep what this descriptor holds: kind; a number, and 1 where it is what that in
	                      the request stands for already */
	TW_TLS_BUILD = 33, /* make a configuration of struct tw_tls_settings; a number */
	TW_TLS_DROP = 34,  /* forget a number; no reply */
	TW_TLS_START = 35, /* speak TLS on these descriptors; a channel, or a pump */
	TW_TLS_END = 36,   /* how did this connection end? text */
	TW_TLS_NAME = 37,  /* is this chain for the name in body? value */
	TW_TLS_OCSP = 38,  /* what does a response say of a chain? struct tw_tls_facts, in a descriptor */
	TW_TLS_DECRYPT = 39, /* the private key in this file, by the password in body; a descriptor */
	TW_TLS_RING = 40, /* memory for what this connection sends: struct tw_tls_ring, in a descriptor */
};

/* What LOAD brings, and where it stands in a configuration. */
enum tw_tls_kind {
	TW_TLS_CA,
	TW_TLS_CA_PATH,
	TW_TLS_CA_ENV, /* SSL_CERT_FILE: as TW_TLS_CA, but one without certificates is no error */
	TW_TLS_CRL,
	TW_TLS_CIPHERS,
	TW_TLS_CURVES,
	TW_TLS_ALPN,
	TW_TLS_SESSION_ID,
	TW_TLS_THINGS, /* so many have one place each */
	TW_TLS_CERT = TW_TLS_THINGS,
	TW_TLS_KEY,
	TW_TLS_NAMES, /* up to here, kinds that may be read when they are used */
	TW_TLS_STAPLE = TW_TLS_NAMES,
	TW_TLS_TICKET_KEY,
};

enum tw_tls_setting {
	TW_TLS_SERVER = 1 << 0,
	TW_TLS_VERIFY_CERT = 1 << 1,
	TW_TLS_VERIFY_NAME = 1 << 2,
	TW_TLS_VERIFY_TIME = 1 << 3,
	TW_TLS_VERIFY_CLIENT = 1 << 4,
	TW_TLS_VERIFY_CLIENT_OPTIONAL = 1 << 5,
	TW_TLS_REQUIRE_STAPLING = 1 << 6,
	TW_TLS_FOREIGN_KEY = 1 << 7, /* an OpenSSL engine of the program's would sign */
	TW_TLS_RESSL = 1 << 8,       /* names as in 2014: a common name counts beside others */
	TW_TLS_NO_ECDHE = 1 << 9,    /* a server with RSA key exchange alone */
};

#define TW_TLS_TICKET_KEYS 4

struct tw_tls_keypair {
	uint64_t cert, key, staple;
};

/* BUILD: in a memory file, with keypairs entries at its end. 0 is what was not set. */
struct tw_tls_settings {
	uint32_t flags;
	uint32_t protocols;
	int32_t depth;
	int32_t lifetime; /* of TLS sessions, in seconds; 0: no tickets */
	uint64_t things[TW_TLS_THINGS];
	uint64_t tickets[TW_TLS_TICKET_KEYS]; /* newest first */
	uint32_t keypairs;
	uint32_t reserved;
	struct tw_tls_keypair keypair[];
};

/* START: what to do, and which descriptors come along. */
enum tw_tls_start {
	TW_TLS_TWO_WAYS = 1 << 0,  /* the second descriptor is for writing */
	TW_TLS_SESSION = 1 << 1,   /* the last is the client's session file */
	TW_TLS_CALLBACKS = 1 << 2, /* none is a transport: the answer is a pump */
};

#define TW_TLS_BODY 1024

struct tw_tls_request {
	uint32_t magic;
	uint16_t op;
	uint16_t kind; /* of LOAD, START */
	uint8_t token[TW_TOKEN_SIZE];
	uint64_t number; /* a configuration, or for END a connection */
	uint32_t size;   /* of what is used of body */
	uint32_t settings; /* of START: enum tw_tls_setting, as the configuration has them now */
	uint8_t body[TW_TLS_BODY];
};

/* TW_ANSWER_GOOD, TW_ANSWER_FD or TW_ANSWER_CHANNEL; TW_ANSWER_ERROR with libtls's sentence. */
struct tw_tls_reply {
	uint32_t magic;
	uint16_t answer;
	uint16_t value;
	uint64_t number;
	char text[TW_TLS_BODY]; /* NUL-terminated */
};

/*
 * What is known of a connection. A channel begins with it; so does the answer of a pump
 * to its handshake. Numbers, and after them the strings: each is its length + 1, or 0 for none,
 * in a uint32_t, its bytes and a NUL.
 */
enum tw_tls_number {
	TW_TLS_FAILED,   /* 1: the handshake has, and TW_TLS_ERROR says how */
	TW_TLS_STRENGTH,
	TW_TLS_RESUMED,
	TW_TLS_PROVIDED,
	TW_TLS_NOT_BEFORE,
	TW_TLS_NOT_AFTER,
	TW_TLS_OCSP_STATUS,
	TW_TLS_OCSP_CERT_STATUS,
	TW_TLS_OCSP_CRL_REASON,
	TW_TLS_OCSP_THIS_UPDATE,
	TW_TLS_OCSP_NEXT_UPDATE,
	TW_TLS_OCSP_REVOCATION_TIME,
	TW_TLS_NUMBERS
};

enum tw_tls_string {
	TW_TLS_ERROR,
	TW_TLS_LISTENER_ERROR, /* for the context that has accepted it */
	TW_TLS_VERSION,
	TW_TLS_CIPHER,
	TW_TLS_SELECTED, /* ALPN */
	TW_TLS_SERVERNAME,
	TW_TLS_SUBJECT,
	TW_TLS_ISSUER,
	TW_TLS_COMMON_NAME,
	TW_TLS_HASH,
	TW_TLS_CHAIN, /* PEM */
	TW_TLS_OCSP_URL,
	TW_TLS_OCSP_RESULT,
	TW_TLS_STRINGS
};

struct tw_tls_facts {
	uint32_t size; /* of all of this and the strings */
	uint32_t reserved;
	int64_t numbers[TW_TLS_NUMBERS];
};

/*
 * On a channel the worker sends plaintext as it is after the facts. The program's end sends
 * frames: the length of what follows in a uint32_t, or 0 for tls_close. An end without
 * that is no close_notify.
 */
#define TW_TLS_FRAME 16384

/*
 * Where a connection sends much, the bytes of a frame may lie in memory that program and worker
 * share. Then only its header goes through the channel: the length, the slot, TW_TLS_IN_RING.
 * Slots are used in turn; taken counts those that the worker has done with. Where none is free
 * the bytes follow their header as before, so it is the channel that makes a program wait, and
 * what poll tells of.
 */
#define TW_TLS_RING_SLOTS 32
#define TW_TLS_IN_RING 0x80000000u
#define TW_TLS_SLOT_SHIFT 16

struct tw_tls_ring {
	uint32_t taken;
	uint8_t reserved[4092];
	uint8_t slots[TW_TLS_RING_SLOTS][TW_TLS_FRAME];
};

/*
 * A pump is a SOCK_SEQPACKET socket, for callbacks. The shim asks for one thing; the worker
 * answers with any number of OUT and then WANT, DONE or FAILED. What is wanted is one record,
 * or an empty IN for the end. Only one of each direction is open at a time.
 */
enum tw_tls_pump {
	TW_PUMP_HANDSHAKE = 1,
	TW_PUMP_READ = 2,  /* value: the most */
	TW_PUMP_WRITE = 3, /* with the bytes */
	TW_PUMP_CLOSE = 4,
	TW_PUMP_IN = 5, /* with a record */

	TW_PUMP_OUT = 16,    /* with ciphertext */
	TW_PUMP_WANT = 17,   /* a record */
	TW_PUMP_DONE = 18,   /* with facts, or plaintext; value: 1 the end, 2 without close_notify */
	TW_PUMP_FAILED = 19, /* with a sentence */
};

struct tw_tls_pump_header {
	uint32_t kind;
	uint32_t value;
};

#define TW_PUMP_MOST (32 << 10) /* of a message's bytes; larger facts come in several DONE, value 3 */

#endif
