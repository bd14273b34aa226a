/*
 * libtlswrap.so, the library that tlswrap preloads: what its files share.
 *
 * The shim is a guest in someone else's process. It starts no thread, keeps no
 * descriptor open, takes no lock, allocates nothing of its own (but for
 * getaddrinfo_a, where libc does both), prints nothing but one sentence (voice.c), and leaves
 * errno alone when a call succeeds. It has no DT_NEEDED entry, so
 * that one file loads into glibc and musl programs: whatever it takes from libc
 * is a weak reference, and everything else is a system call.
 *
 * Functions here return 0 or more, or -errno, as the kernel does. Only the hooks
 * themselves speak libc's convention.
 */
#ifndef TLSWRAP_SHIM_H
#define TLSWRAP_SHIM_H

#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "sys.h"
#include "wire.h"

#define EXPORT __attribute__((visibility("default")))
#define WEAK __attribute__((weak, visibility("default")))
#define ALIAS(name) __attribute__((alias(#name), visibility("default")))

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/* ---- next.c: the next definitions ---- */

/* Every function that a hook passes calls on to. */
#define NEXT_FUNCTIONS(X)                                                                         \
	X(sendto) X(epoll_ctl) X(getaddrinfo) X(freeaddrinfo) X(getnameinfo)                      \
	X(gethostbyname) X(gethostbyname2) X(gethostbyname_r) X(gethostbyname2_r)                 \
	X(gethostent) X(gethostent_r) X(rcmd) X(rcmd_af) X(rexec) X(rexec_af)                     \
	X(gethostbyaddr) X(gethostbyaddr_r) X(__h_errno_location) X(execve) X(execvpe)            \
	X(posix_spawn) X(posix_spawnp) X(pidfd_spawn) X(pidfd_spawnp) X(_IO_proc_open)            \
	X(dup) X(dup2) X(dup3) X(fcntl) X(setenv) X(prctl)                                                 \
	X(system) X(popen) X(wordexp)                                                             \
	X(read) X(readv) X(__read_chk) X(send) X(recv) X(recvfrom) X(recvmsg) X(recvmmsg) X(__recv_chk) X(__recvfrom_chk)                \
	X(__recvmsg64) X(__recvmmsg64) X(ioctl) X(dlopen) X(dlsym) X(dlvsym)

/* Those whose system call has to carry the cookie (sys.h). sendto's has no room for it: with
 * an address or MSG_FASTOPEN it becomes a sendmsg. */
#define COOKIE_FUNCTIONS(X)                                                                       \
	X(connect) X(bind) X(listen) X(accept4) X(getpeername) X(getsockname)                     \
	X(getsockopt) X(setsockopt) X(sendto) X(sendmsg) X(sendmmsg)

enum next_function {
#define X(name) NEXT_##name,
	NEXT_FUNCTIONS(X)
#undef X
#define X(name) INTERPOSER_##name,
	COOKIE_FUNCTIONS(X)
#undef X
	NEXT_COUNT
};

/*
 * The definition of a function that comes after ours in the program's search
 * order, or NULL where there is none. Safe from any thread; safe in a signal
 * handler once the constructor has run.
 */
void *next_function(enum next_function which);
#define NEXT(name) ((__typeof__(&(name)))next_function(NEXT_##name))

/* The same for COOKIE_FUNCTIONS, and NULL also where the next definition is libc's own, which makes
 * the call without the cookie: the hook makes it then. */
#define INTERPOSER(name) ((__typeof__(&(name)))next_function(INTERPOSER_##name))

/* Finds them all. */
void next_functions_find(void);

/* ---- cancel.c ---- */

/* What stands around a system call that a thread can be cancelled in. */
int cancel_begin(void);
void cancel_end(int type);

/* SYS for what libc has a cancellation point for. */
#define SYS_CANCELLABLE(...)                                                                      \
	__extension__({                                                                           \
		int type_ = cancel_begin();                                                       \
		long result_ = SYS(__VA_ARGS__);                                                  \
		cancel_end(type_);                                                                \
		result_;                                                                          \
	})

/* ---- errno.c ---- */

/* The calling thread's errno. */
int get_errno(void);
void set_errno(int value);

/* Turns a result of ours into libc's: -1 and errno for a negative one. */
static inline int finish(long result)
{
	if (result < 0) {
		set_errno((int)-result);
		return -1;
	}
	return (int)result;
}

/* ---- answers of a kernel that may also refuse to answer: a seccomp filter can ---- */

/* Yes, no, or that it cannot be told. It is no bool, so that who asks has to say what becomes of
 * the third. */
struct told {
	enum { CANNOT_BE_TOLD, TOLD_NO, TOLD_YES } is;
};

static inline struct told told_if(bool yes)
{
	return (struct told){yes ? TOLD_YES : TOLD_NO};
}

static inline bool surely(struct told answer)
{
	return answer.is == TOLD_YES;
}

static inline bool possibly(struct told answer)
{
	return answer.is != TOLD_NO;
}

/* ---- setting.c: where the worker is ---- */

/*
 * Remembers TLSWRAP_CONTROL from env, the environment that the program was started with, which it
 * may wipe later.
 */
void control_remember(char **env);

/*
 * From now on the shim leaves the program's calls to the kernel as they come, without the cookie, and
 * makes none of its own for them: only for a process that the kernel holds.
 */
void step_aside(void);
bool stands_aside(void);

/* "TLSWRAP_CONTROL=…" as the program was started with it, or NULL. Static storage. */
const char *control_setting(void);

/* What it says. */
struct worker {
	bool quiet; /* nothing is to be said to people */
	unsigned uid;
	uint8_t token[TW_TOKEN_SIZE];
	uintptr_t cookie; /* of the token, which the kernel's filter knows the shim's calls by */
	struct sockaddr_un address;
	socklen_t address_len;
};

/* The same, or NULL where there is none. Static storage. */
const struct worker *control_worker(void);

/* The path of the shim, as this process has it in LD_PRELOAD from its start, or "". Static storage. */
const char *own_library(void);

/* ---- voice.c ---- */

/* Notes what standard error is when the process starts. */
void voice_remember(void);

/* Says, once in a process's life, that the worker is not reached. */
void voice_unreached(void);

/* ---- signals.c ---- */

/* Blocks every signal and keeps the old mask in *old; undoes that. */
void signals_block(uint64_t *old);
void signals_restore(const uint64_t *old);

/* Whether a signal has come meanwhile that will interrupt the hooked call: with a timeout of the
 * socket's (timed) also one whose handler wants it restarted (signal(7)). */
bool signals_interrupt(const uint64_t *old, bool timed);

/* ---- streams.c ---- */

/* What a call gave for a descriptor, or the same one under a number that is no standard stream's:
 * it or -errno. */
long above_streams(long fd);

/* ---- message.c ---- */

/*
 * One message with count descriptors, at most MOST_DESCRIPTORS, and one that may bring a
 * descriptor, *got, or else -1, and where second is not NULL one more. They return what the
 * kernel does.
 */
#define MOST_DESCRIPTORS 3
long message_send(int control, const void *data, size_t size, const int *fds, int count);
long message_receive(int control, void *data, size_t size, int *got, int *second);

/* ---- control.c: requests to the worker ---- */

/*
 * A connection to the worker. control_open returns it, or -EMFILE, -ENFILE, or
 * -ENETDOWN for every other failure: no worker, a stranger in its place, a lost
 * environment. The caller closes it. Call with signals blocked.
 */
long control_open(void);

/* Whether the kernel hands the worker what this process calls past the shim. */
bool held_by_kernel(void);

/* Fills in what every request has. */
void request_init(struct tw_request *request, enum tw_op op);

/* Sends a request, with count descriptors, which stay the caller's: 0 or -ENETDOWN. */
long control_send(int control, const struct tw_request *request, const int *fds, int count);

/*
 * Receives a reply, within 10 s, or what channel_ask has set. Where got is not NULL it is set to the descriptor
 * that came along, close-on-exec and the caller's to close, or to -1; one that
 * does not fit into the program's table is -EMFILE. With TW_ANSWER_PASS *life may be another.
 */
long control_receive(int control, struct tw_reply *reply, int *got, int *life);

/* What the trace calls an answer (enum tw_answer), or NULL. */
const char *answer_word(uint16_t answer);

/* One request and its reply on a connection of its own. */
long control_ask(const struct tw_request *request, int fd, struct tw_reply *reply, int *got);

/* ---- hello.c ---- */

/* Tells the worker that this process lives. */
void control_hello(void);

/* Finds out whether there is Yama, before the first hello. */
void ptracer_find(void);

/* Lets the worker look into this process, which has shared its parent's memory (vfork(2)) and is
 * about to start a program: that keeps it over exec, where it says no hello. */
void ptracer_allow(void);

/* ---- user.c: what the program points to ---- */

/* Copies size bytes of the program's: 0, or -EFAULT where they cannot be read. */
long copy_in(void *to, const void *from, size_t size);

/* Copies size bytes to the program: 0, or -EFAULT where they cannot be written. */
long copy_out(void *to, const void *from, size_t size);

/*
 * Copy a string, and pointers up to NULL, at most size bytes or count pointers: how many come
 * before the NUL or NULL, or size or count where it is not among them, or -EFAULT. Where to is
 * NULL they only count.
 */
long string_in(char *to, const char *from, size_t size);
long pointers_in(char **to, char *const *from, size_t count);

/* ---- address.c: socket addresses ---- */

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
	struct sockaddr_storage storage;
};

/* Whether an Internet address can be read out of len bytes at addr; if so, reads it. */
bool address_read(const struct sockaddr *addr, socklen_t len, struct tw_addr *out);

/* Writes an address; returns its length. */
socklen_t address_write(const struct tw_addr *addr, union address *out);

/*
 * What stands in the sixth argument of a call that goes to an address: the cookie, but where a program
 * asks a DNS server by itself. That the kernel is to hand over: the worker answers (proxy/dns).
 */
long address_cookie(const void *addr, socklen_t len);

/* Whether this is an IPv4 address in the form of an IPv6 one (RFC 4291, section 2.5.5.2). */
bool address_mapped(const struct tw_addr *addr);

/* Whether ip stands for a name (198.18.0.0/15 and 2001:2::/48, also IPv4-mapped). */
bool address_synthetic(const struct tw_addr *addr);

/* Copies an address out as getsockname does: cut to *len, which gets the true length. 0 or -errno. */
long address_copy(const union address *from, socklen_t from_len, struct sockaddr *to,
                  socklen_t *len);

/* ---- resolve.c ---- */

/*
 * Replaces a synthetic address by what it stands for: -EHOSTUNREACH where that is
 * nothing. Where name is not NULL it gets the name, TW_NAME_SIZE bytes.
 */
long address_resolve(struct tw_addr *addr, char *name);

/* ---- channel_name.c: descriptors that are channels ---- */

struct channel {
	uint64_t id;
	bool listens;        /* it is what a program listens on: see TW_LISTEN_PREFIX */
	bool words;          /* its client's first words follow at once: see TW_NAME_WORDS */
	struct tw_addr peer; /* where the program connected to, or its client */
};

#define SOCKET_CHANNEL (-1000) /* no address family */

/*
 * What fd is: its address family, or SOCKET_CHANNEL with *channel filled in, or
 * -errno; AF_UNSPEC where the shim stands aside. Nothing is remembered: the descriptor's own name tells.
 */
long socket_kind(int fd, struct channel *channel);

/* ---- socket.c: what the kernel says of a socket ---- */

/*
 * Whether the setup of fd, a channel, has ended well and it has not broken since: until
 * then it has no room, and a failure closes it. No may also mean that others use it.
 */
bool channel_good(int fd);

/* The marks that the program's end of a channel bears. */
int channel_marks(int fd);

/* Marks it once more. The kernel keeps that with the socket, for all processes that have it. */
void channel_mark(int fd, enum tw_mark mark);

/* Whether fd is in non-blocking mode. */
bool socket_nonblocking(int fd);

/* poll(2) for one descriptor, without waiting: the events, or -errno. */
long socket_poll(int fd, short events);

/* Whether fd, an Internet socket, is one of TCP. */
struct told is_tcp(int fd);

/* ---- aside.c ---- */

/* seccomp(2), with its arguments. */
long filter_by_number(const long a[6]);

/* ---- proc.c ---- */

#define PROC_PATH_SIZE 48

/* Makes the path of what folder, /proc/self/fd/ or one beside it, has about fd: PROC_PATH_SIZE bytes. */
void proc_path(char *path, const char *folder, int fd);

/* ---- swap.c ---- */

/*
 * Puts the socket stand_in in the place of fd and of its duplicates in this process,
 * with fd's flags, timeouts and epoll registrations, and closes stand_in. On failure fd
 * itself is as before.
 */
long socket_replace(int fd, int stand_in);

/* Gives to the socket options that belong to a descriptor, not to the network, as from has them. */
void options_copy(int from, int to);

/* ---- ask.c: what the worker is asked about a socket ---- */

/*
 * Shows the worker the socket fd with request. TW_ANSWER_PASS: it stays as it is;
 * TW_ANSWER_CHANNEL: what the worker gave stands in its place; or -errno, and it stays as it
 * was. Call with signals blocked.
 */
long channel_ask(int fd, struct tw_request *request, struct tw_reply *reply);

/* Asks the worker for a descriptor of this channel (TW_RESTART, TW_UPSTREAM). */
long channel_borrow(const struct channel *channel, enum tw_op op);

/* ---- fork.c ---- */

/* Has forks counted from now on, and the worker told of children. */
void forks_watch(void);

/* How often this process has begun to fork. */
unsigned forks_so_far(void);

/* Whether this process is known to share its memory with no other, as a vforked child does. */
bool memory_is_own(void);

/* ---- dup.c ---- */

/* The next descriptor of the same socket as fd with a number above after, or -1. */
int next_duplicate(int fd, int after);

/* ---- epoll.c ---- */

/* The epoll sets that fd is in, to be carried over to what takes its place. */
struct epoll_place {
	int epfd;
	uint32_t events;
	uint64_t data;
};
struct epoll_places {
	size_t count;
	struct epoll_place *at; /* few, or where those are not enough, mapped memory */
	size_t room;
	struct epoll_place few[8];
};

/* Notes that to is a duplicate of from, which may be an epoll set. */
void epoll_duplicated(int from, int to);

/*
 * Takes fd out of every epoll set that it was seen to enter, into *places: 0, and then
 * epoll_enter has to follow, or -errno.
 */
long epoll_leave(int fd, struct epoll_places *places);
void epoll_enter(int fd, struct epoll_places *places);

/* ---- pages.c ---- */

/* Memory of size bytes that is not on the stack: NULL where there is none. pages_free gives it back. */
void *pages(size_t size);
void pages_free(void *at, size_t size);

/* Where nothing can be read, or NULL, where page 0 may be mapped, when there is no memory. */
const void *unreadable(void);

/* ---- map.c ---- */

/* Whether the worker has said that no rule is about this port: see struct tw_map. */
bool port_passes(uint16_t port);

/* The same for a port of this machine's. */
bool listen_passes(uint16_t port);

/* Whether the session wants to be told of connects that pass, and what wakes the worker for that. */
bool map_bell(struct tw_bell *bell);

/* Replaces a synthetic address by what it stands for, where the map tells. */
bool map_resolve(struct tw_addr *addr);

/* Keeps the map in the memory file fd for as long as the worker lives that the memory file life
 * tells of, and closes both. Either may be negative: there is none. */
void map_keep(int fd, int life);

/* In a forked child: threads that kept a map are not there. */
void map_forked(void);

/* ---- notice.c ---- */

/* Tells the worker, where the session wants that, of a connect of fd's that passes. */
void notice_passed(int fd, const struct tw_addr *to);

/* In a forked child, whose parent calls itself parent. Where the child calls it otherwise it may be in a PID namespace
 * of its own, and asks anew whether it can leave notices. */
void notices_forked(long parent);

/* ---- inside.c: what connects or listens inside libc ---- */

/*
 * Whether the function call may connect to *to, len bytes, as it is: 0, with the real address in
 * *to where that was synthetic, or -errno.
 */
long connect_inside(union address *to, socklen_t len, const char *call);

/* Whether it may listen with fd, which is bound: 0 or -errno. */
long listen_inside(int fd, const char *call);

/* ---- told.c: the true errno ---- */

/* What the worker says that setting this channel up has ended in, or otherwise. */
int setup_error(const struct channel *channel, int otherwise);

/* The end of a call that has received, or sent, n bytes, which are -1 where it has failed: then errno is
 * changed to that of a setup that nobody has asked about yet. */
ssize_t received(int fd, ssize_t n);
ssize_t sent(int fd, ssize_t n);

/* ---- connect.c ---- */

#define CALL_NATIVE 1

/*
 * connect(2) as the rules have it: 0, -errno, or CALL_NATIVE, and then the caller
 * makes the native call with native and *native_len in place of what it was given.
 */
long connect_ruled(int fd, const struct sockaddr *addr, socklen_t len, union address *native,
                   socklen_t *native_len);

#endif
