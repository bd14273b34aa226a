/*
 * The control protocol: what the shim and the worker say to each other.
 *
 * One connection to the worker's SOCK_SEQPACKET socket carries one request and
 * its reply, and is closed again. A listen goes on for one more message:
 * TW_TAKEN from the shim, when what the program is to listen on stands in the socket's place.
 *
 * Both ends run on one machine, so numbers are in its byte order. The layout is
 * the same for 32-bit and 64-bit programs; proxy/wire mirrors it and
 * proxy/wire/wire_test.go compares the two.
 */
#ifndef TLSWRAP_WIRE_H
#define TLSWRAP_WIRE_H

#include <stdint.h>

/* "TLW" and the version of the protocol. A worker refuses any other. */
#define TW_MAGIC 0x544c5702u

/*
 * A process that does not get to the control socket asks for a connection by prctl(TW_MAGIC), an option
 * that no kernel knows, with the cookie in the sixth register: under the run's filter the worker answers with one.
 */

#define TW_TOKEN_SIZE 16
#define TW_NAME_SIZE 256 /* a host name (RFC 1035: 253) or a path, with its NUL */
#define TW_MAX_ADDRS 32

enum tw_op {
	TW_HELLO = 1,    /* a process has begun; no reply, but with TW_STDERR, where its number is 1
	                    if the rules have "enforce". With a second descriptor, a socket of which
	                    name is the number in decimal digits, while channel is the address of a
	                    copy of the token, the reply has an error in numbers and in words where
	                    the worker cannot reach this process. EFAULT: not its memory, EBADF: not
	                    its descriptors */
	TW_CONNECT = 2,  /* may this socket connect to addrs[0]? with the socket, and a new one of the
	                    same kind, which the worker connects while the program puts the channel in
	                    the socket's place; or channel is the errno for which there is none. name
	                    is that of a function which can connect to what passes alone, and has no
	                    new socket, or "" */
	TW_TAKEN = 3,    /* after LISTEN: it is in place: go; no reply, but the worker ends the
	                    connection once it serves */
	TW_VERDICT = 4,  /* how did this channel's setup end? */
	TW_RESTART = 5,  /* give the upstream back, disconnected, to connect anew */
	TW_UPSTREAM = 6, /* lend the upstream for one call */
	TW_NAMES = 7,    /* name was looked up and has addrs; which to show? with /etc/hosts */
	TW_ADDRESS = 8,  /* what does the synthetic addrs[0] stand for? */
	TW_EXEC = 9,     /* can this file be preloaded into? with the file */
	TW_LISTEN = 10,  /* may this listening socket serve? with the socket. name is that of a
	                    function which is about to listen with it, or "" */
	TW_ACCEPT = 11,  /* may this accepted socket be served? with the socket; asked by
	                    tlswrap itself, before the program */
	TW_SWEEP = 12,   /* close what programs have stopped to listen on */
	TW_SUPERVISE = 13, /* this process is under a filter; with its listener
	                    (seccomp_unotify(2)), for which a socket comes that has hung up when
	                    nobody answers any more, and a file of what is left unanswered then
	                    (proxy/seccomp). Or without one: a thread of it is about to be,
	                    whose number is name in decimal digits, and is to be traced. Told by
	                    tlswrap itself, or by who keeps the listener */
	TW_FINISH = 14,  /* no process is left of the session; answered when it has ended, with all sent
	                    that was written. Asked by tlswrap itself, as process 1 */
	TW_NOTICES = 15, /* where does this process, which calls itself channel, leave notices? A struct
	                    tw_notices, or TW_ANSWER_GONE for one that is called otherwise here: by
	                    TW_PASSED */
	TW_PASSED = 16,  /* a connect to addrs[0] passes, unasked, and channel have passed of this process that
	                    nobody could be told of; without an address: notices were left. No reply */
};

enum tw_flag {
	TW_CONSUME = 1 << 0,      /* VERDICT: connect() asks; see TW_ANSWER_ISCONN.
	                             CONNECT: connect() waits, and reports a good end itself */
	TW_NO_NEW_PRIVS = 1 << 1, /* EXEC: set-user-ID bits will be ignored */
	TW_STDERR = 1 << 2,       /* HELLO: the descriptor sent is for sentences */
	TW_VERBOSE = 1 << 3,      /* HELLO: a line for every connection */
	TW_QUIET = 1 << 4,        /* HELLO: no sentences */
	TW_DATAGRAM = 1 << 5,     /* NAMES: looked up for UDP; remember, change nothing */
	TW_UNTOLD = 1 << 6,       /* VERDICT: it did not report it yet */
	TW_IDS_DIFFER = 1 << 7,   /* EXEC: real and effective user or group differ */
	TW_IDS_RESET = 1 << 8,    /* EXEC: they do, and will not when the program starts */
	TW_LIBRARY_NOEXEC = 1 << 9, /* EXEC, again: the library is mounted noexec */
	TW_UNFOLLOWED = 1 << 10,  /* EXEC: it cannot be told which folder name is in */
	TW_DESTINATION = 1 << 11, /* ADDRESS: something is to go there, and is refused where that is nothing */
	TW_INTERPRETER = 1 << 12, /* EXEC: the kernel starts another file with this one */
	TW_ARGUMENT = 1 << 13,    /* EXEC: the file is a dynamic loader, and name one of its
	                             arguments, or "" after the last */
	TW_MAPPED = 1 << 14,      /* EXEC: a dynamic loader maps the file; the kernel does not start it */
	TW_LIBRARY_AWAY = 1 << 15, /* EXEC, again: the library cannot be reached from there */
};

enum tw_answer {
	TW_ANSWER_PASS = 1,    /* make the native call, with addrs[0]; maybe the map, and the life */
	TW_ANSWER_CHANNEL = 2, /* put the descriptor sent in the socket's place */
	TW_ANSWER_ERROR = 3,   /* fail with error */
	TW_ANSWER_PENDING = 4, /* setup goes on */
	TW_ANSWER_GOOD = 5,    /* connected and verified */
	TW_ANSWER_ISCONN = 6,  /* the same, and connect() has said so before */
	TW_ANSWER_FD = 7,      /* the descriptor asked for */
	TW_ANSWER_ADDRS = 8,   /* addrs, in the order asked, and name */
	TW_ANSWER_EXEC = 9,    /* can be preloaded into, with the library name */
	TW_ANSWER_SCRIPT = 10, /* name is what the kernel starts it with; ask for that */
	TW_ANSWER_GONE = 11,   /* no such channel, or not any more */
	TW_ANSWER_ARGUMENT = 12, /* a dynamic loader: ask again, with the argument number after this one */
	TW_ANSWER_PROGRAM = 13,  /* the argument is the program's file; ask for that */
};

/* An Internet address. ip holds 4 or 16 bytes in network order; port is in host order. */
struct tw_addr {
	uint16_t family; /* AF_INET or AF_INET6 */
	uint16_t port;
	uint32_t scope; /* sin6_scope_id */
	uint8_t ip[16];
};

/*
 * Requests and replies end after addrs[count]: a message is
 * offsetof(addrs) + count * sizeof(struct tw_addr) bytes long, exactly.
 */
struct tw_request {
	uint32_t magic;
	uint16_t op;
	uint16_t flags;
	uint8_t token[TW_TOKEN_SIZE]; /* names the session; see TLSWRAP_CONTROL */
	uint64_t channel;
	uint32_t count;
	uint32_t reserved; /* 0 */
	char name[TW_NAME_SIZE];
	struct tw_addr addrs[TW_MAX_ADDRS];
};

struct tw_reply {
	uint32_t magic;
	uint16_t answer;
	uint16_t number; /* of TW_ANSWER_ARGUMENT; of TW_UPSTREAM: bytes that the program has written and
	                    the worker has not read, or 65535 for more */
	int32_t error; /* errno, positive */
	uint32_t count;
	char name[TW_NAME_SIZE];
	struct tw_addr addrs[TW_MAX_ADDRS];
};

/*
 * With TW_ANSWER_PASS the worker sends two memory files. The first is the session's map: a bit for every
 * port, set where some rule does more than pass (bit port % 8 of byte port / 8), and what
 * the first of the synthetic addresses stand for. A connect to a port whose bit is clear
 * needs no question. The worker changes the file when its rules change, and adds an
 * address before it shows it to a program; it does not shrink.
 */
struct tw_real6 {
	uint8_t ip[16];
	uint32_t scope;
	uint32_t known; /* 0: ask */
};

/*
 * Where the session wants to be told of connects that need no question, a program leaves a notice in memory that
 * all programs of the session and the worker share: it takes the place whose number is next, if the worker has
 * taken so many that this one is free, and sets its turn to that number and 1 when it is filled in. What a
 * program does wrong there makes lines of its own session wrong, late or missing, and nothing else.
 *
 * While asleep is not 0 the worker looks for notices only when the bell is rung: by a datagram.
 */
#define TW_NOTICES_MOST 4096

struct tw_notice {
	uint32_t turn;
	int32_t pid;
	struct tw_addr to;
};

struct tw_notices {
	uint32_t next;   /* notices that programs have begun */
	uint32_t taken;  /* of them, by the worker */
	uint32_t asleep;
	uint32_t untold; /* connects that there was no place for */
	uint32_t reserved[4];
	struct tw_notice at[TW_NOTICES_MOST]; /* each at its number's remainder */
};

/*
 * The bell is a SOCK_DGRAM socket at an abstract address, which takes nothing but token: the kernel drops the rest
 * (SO_ATTACH_FILTER, socket(7)). It is not the session's, since somebody may have taken the address of a worker that
 * has died.
 */
struct tw_bell {
	uint32_t length; /* of name; 0: nobody wants notices */
	uint8_t token[TW_TOKEN_SIZE];
	char name[12]; /* with the NUL that it begins with (unix(7)) */
};

struct tw_map {
	uint8_t connects[8192]; /* ports that programs connect to */
	uint8_t listens[8192];  /* ports that programs listen on */
	struct tw_bell bell;
	uint32_t real4[1 << 17]; /* what 198.18.0.0/15 stands for, in network order; 0: ask */
	struct tw_real6 real6[1 << 16]; /* what 2001:2::/112 stands for */
};

/*
 * The second tells whether the worker lives: the map of one that died is not to be believed,
 * as its successor may have other rules. owner is a robust futex (set_robust_list(2)) that a
 * thread of the worker's holds. However that ends, the kernel sets FUTEX_OWNER_DIED, before it
 * closes the worker's descriptors: so before another worker can listen in its place.
 */
struct tw_life {
	uint32_t owner;
};

/*
 * The worker binds the program's end of a channel to the abstract address
 *
 *   \0tlswrap/CHANNEL/PEER
 *
 * CHANNEL is 16 hexadecimal digits. PEER is the address that the program
 * connected to: '4' or '6', the port in 4 digits, the scope in 8, the address in
 * 8 or 32. No name is in it: everybody can read /proc/net/unix.
 */
#define TW_NAME_PREFIX "tlswrap/"

/*
 * What a program listens on in the place of a TCP socket is an AF_UNIX socket with the
 * name of a file that is gone again, in some folder:
 *
 *   .../tlswrap-listen-LISTENER
 *
 * LISTENER is 16 hexadecimal digits, and takes the place of CHANNEL in requests. Sockets
 * that are accepted there have that name too; the worker's end has a channel's, with the
 * client's address as PEER. As its first words the shim writes the session's token
 * there: the worker believes no other end. A channel's name there that ends with TW_NAME_WORDS says
 * that the client's first words follow at once: who accepts waits for them.
 */
#define TW_LISTEN_PREFIX "/tlswrap-listen-"
#define TW_NAME_WORDS "+"
#define TW_WORDS_TIME 100 /* ms, that they are waited for */

/*
 * The program's end of a channel has this for SO_SNDBUF, the most that the kernel gives to
 * everybody (net.core.wmem_max): the less a program has to wait, the more it and the worker
 * do at once. It could not be less than 136 KiB. In the worker's queue one byte always stays,
 * and with it the whole message that it came in counts. sendfile(2) makes messages of 64
 * KiB, and room is only told of where no more than a quarter of the buffer is in use
 * (unix_writable; the kernel doubles the size, socket(7)).
 */
#define TW_SEND_BUFFER (208 << 10)

/* What the SO_PRIORITY of the program's end of a channel says, where it means nothing else. */
enum tw_mark {
	TW_WELCOMED = 1 << 0, /* the worker has accepted it for the program */
	TW_DELAYS = 1 << 1,   /* the program has cleared the upstream's TCP_NODELAY once, which is set before */
};

/*
 * TLSWRAP_CONTROL=1:UID:TOKEN:ADDRESS, or with 1q where nothing is to be said to people, tells the shim where its worker is: the
 * worker's user, the session's token in hexadecimal, and the control socket,
 * @name for an abstract one or an absolute path.
 */
#define TW_ENV "TLSWRAP_CONTROL"

#endif
