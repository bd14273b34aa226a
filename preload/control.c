/* The shim's side of the control protocol: see wire.h. */
#include "shim.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>

extern char **environ WEAK;

/* Longest TLSWRAP_CONTROL that is taken: a socket's path has 107 bytes. */
#define SETTING_SIZE 256

/* A worker that does not answer in this time counts as missing. */
#define REPLY_SECONDS 10

static struct {
	_Atomic int ready;
	char setting[SETTING_SIZE]; /* with the variable's name */
	unsigned uid;
	uint8_t token[TW_TOKEN_SIZE];
	struct sockaddr_un address;
	socklen_t address_len;
} worker;

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* Reads "1:UID:TOKEN:ADDRESS" into worker. */
static bool parse_setting(const char *s)
{
	if (s[0] != '1' || s[1] != ':')
		return false;
	s += 2;
	unsigned uid = 0;
	for (; *s >= '0' && *s <= '9'; s++)
		uid = uid * 10 + (unsigned)(*s - '0');
	if (*s++ != ':')
		return false;
	worker.uid = uid;
	for (int i = 0; i < TW_TOKEN_SIZE; i++, s += 2) {
		int high = hex_digit(s[0]);
		int low = high < 0 ? -1 : hex_digit(s[1]);
		if (low < 0)
			return false;
		worker.token[i] = (uint8_t)(high << 4 | low);
	}
	if (*s++ != ':')
		return false;
	size_t n = strlen(s);
	if (n < 2 || n >= sizeof worker.address.sun_path)
		return false;
	worker.address.sun_family = AF_UNIX;
	memcpy(worker.address.sun_path, s, n);
	worker.address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	if (s[0] == '@')
		worker.address.sun_path[0] = '\0';
	return true;
}

/* Threads that come here at once, before the constructor ran, write the same bytes. */
void control_remember(char **env)
{
	static const char name[] = TW_ENV "=";
	if (worker.ready || !env)
		return;
	for (; *env; env++) {
		size_t n = strlen(*env);
		if (n < sizeof name || n >= SETTING_SIZE || memcmp(*env, name, sizeof name - 1) != 0)
			continue;
		if (!parse_setting(*env + sizeof name - 1))
			return;
		memcpy(worker.setting, *env, n + 1);
		worker.ready = 1;
		return;
	}
}

const char *control_setting(void)
{
	if (!worker.ready && &environ)
		control_remember(environ);
	return worker.ready ? worker.setting : NULL;
}

void signals_block(uint64_t *old)
{
	const uint64_t all = ~(uint64_t)0;
	SYS(SYS_rt_sigprocmask, SIG_SETMASK, &all, old, sizeof all);
}

void signals_restore(const uint64_t *old)
{
	SYS(SYS_rt_sigprocmask, SIG_SETMASK, old, NULL, sizeof *old);
}

bool signals_interrupt(const uint64_t *old, bool timed)
{
	uint64_t pending = 0;
	SYS(SYS_rt_sigpending, &pending, sizeof pending);
	pending &= ~*old;
	for (int signal = 1; signal <= 64; signal++) {
		/* struct sigaction as the kernel has it begins with these two. */
		struct {
			unsigned long handler, flags, rest[8];
		} action = {0};
		if (!(pending >> (signal - 1) & 1) ||
		    SYS(SYS_rt_sigaction, signal, NULL, &action, sizeof *old) < 0)
			continue;
		if (action.handler != (unsigned long)SIG_DFL &&
		    action.handler != (unsigned long)SIG_IGN && (timed || !(action.flags & SA_RESTART)))
			return true;
	}
	return false;
}

static bool is_worker(int control)
{
	struct ucred peer;
	socklen_t len = sizeof peer;
	return SYS(SYS_getsockopt, control, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       peer.uid == worker.uid;
}

long control_open(void)
{
	if (!control_setting())
		return -ENETDOWN;
	long fd = SYS(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd >= 0 && fd <= 2) {
		/* A daemon that closed its standard streams may still write to them. */
		long above = SYS(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
		SYS(SYS_close, fd);
		fd = above;
	}
	if (fd < 0)
		return fd == -EMFILE || fd == -ENFILE ? fd : -ENETDOWN;

	/* struct timeval as the kernel's SO_*TIMEO_OLD has it: two longs. */
	const long limit[2] = {REPLY_SECONDS, 0};
	SYS(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, limit, sizeof limit);
	SYS(SYS_setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, limit, sizeof limit);
	long r;
	do
		r = SYS(SYS_connect, fd, &worker.address, worker.address_len);
	while (r == -EINTR); /* after SIGSTOP and SIGCONT */
	if (r < 0 || !is_worker((int)fd)) {
		SYS(SYS_close, fd);
		return -ENETDOWN;
	}
	return fd;
}

void request_init(struct tw_request *request, enum tw_op op)
{
	(void)control_setting();
	memset(request, 0, offsetof(struct tw_request, addrs));
	request->magic = TW_MAGIC;
	request->op = (uint16_t)op;
	memcpy(request->token, worker.token, TW_TOKEN_SIZE);
}

union descriptor_message {
	struct cmsghdr header;
	char space[CMSG_SPACE(MOST_DESCRIPTORS * sizeof(int))];
};

long message_send(int control, const void *data, size_t size, const int *fds, int count)
{
	struct iovec iov = {(void *)(uintptr_t)data, size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	union descriptor_message with;
	if (count > 0) {
		size_t bytes = (size_t)count * sizeof(int);
		memset(&with, 0, sizeof with);
		msg.msg_control = with.space;
		msg.msg_controllen = CMSG_SPACE(bytes);
		with.header.cmsg_level = SOL_SOCKET;
		with.header.cmsg_type = SCM_RIGHTS;
		with.header.cmsg_len = CMSG_LEN(bytes);
		memcpy(CMSG_DATA(&with.header), fds, bytes);
	}
	long n;
	do
		n = SYS(SYS_sendmsg, control, &msg, MSG_NOSIGNAL);
	while (n == -EINTR);
	return n;
}

long message_receive(int control, void *data, size_t size, int *got, int *second)
{
	struct iovec iov = {data, size};
	union descriptor_message with;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = with.space};
	/* An end is believed the second time: the worker may send and close between the
	 * kernel's looks at the queue and at the end (__skb_wait_for_more_packets). */
	long n;
	int ends = 0;
	do {
		msg.msg_controllen = CMSG_LEN((second ? 2 : 1) * sizeof(int));
		n = SYS(SYS_recvmsg, control, &msg, MSG_CMSG_CLOEXEC);
	} while (n == -EINTR || (n == 0 && ends++ == 0));
	*got = -1;
	if (second)
		*second = -1;
	if (n >= 0 && msg.msg_controllen >= CMSG_LEN(sizeof(int)) &&
	    with.header.cmsg_type == SCM_RIGHTS) {
		memcpy(got, CMSG_DATA(&with.header), sizeof *got);
		if (second && with.header.cmsg_len >= CMSG_LEN(2 * sizeof(int)))
			memcpy(second, CMSG_DATA(&with.header) + sizeof *got, sizeof *second);
	}
	return n;
}

long control_send(int control, const struct tw_request *request, int fd)
{
	size_t length = offsetof(struct tw_request, addrs) + request->count * sizeof(struct tw_addr);
	return message_send(control, request, length, &fd, fd >= 0) == (long)length ? 0 : -ENETDOWN;
}

long control_receive(int control, struct tw_reply *reply, int *got, int *life)
{
	int fd;
	long n = message_receive(control, reply, sizeof *reply, &fd, life);
	long failure = 0;
	if (n < (long)offsetof(struct tw_reply, addrs) || reply->magic != TW_MAGIC ||
	    reply->count > TW_MAX_ADDRS ||
	    n != (long)(offsetof(struct tw_reply, addrs) + reply->count * sizeof(struct tw_addr)) ||
	    reply->name[TW_NAME_SIZE - 1] != '\0')
		failure = -ENETDOWN;
	else if ((reply->answer == TW_ANSWER_CHANNEL || reply->answer == TW_ANSWER_FD) && fd < 0)
		failure = -EMFILE;
	if (fd >= 0 && (failure || !got)) {
		SYS(SYS_close, fd);
		fd = -1;
	}
	if (life && *life >= 0 && (failure || reply->answer != TW_ANSWER_PASS)) {
		SYS(SYS_close, *life);
		*life = -1;
	}
	if (got)
		*got = fd;
	return failure;
}

long control_ask(const struct tw_request *request, int fd, struct tw_reply *reply, int *got)
{
	uint64_t mask;
	signals_block(&mask);
	long control = control_open();
	long r = control;
	if (control >= 0) {
		r = control_send((int)control, request, fd);
		if (r == 0)
			r = control_receive((int)control, reply, got, NULL);
		SYS(SYS_close, control);
	}
	signals_restore(&mask);
	return r;
}

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

/* A pidfd of this process, or -1 where the worker can get one of its own (Linux 6.5): no
 * call is made that a filter of the program's may not know. */
static int own_pidfd(int control)
{
	int theirs;
	socklen_t len = sizeof theirs;
	long r = SYS(SYS_getsockopt, control, SOL_SOCKET, SO_PEERPIDFD, &theirs, &len);
	if (r == 0)
		SYS(SYS_close, theirs);
	if (r != -ENOPROTOOPT)
		return -1;
	return (int)SYS(SYS_pidfd_open, SYS(SYS_getpid), 0);
}

/* Nobody waits for an answer: the worker reads what lies in its queue before it
 * decides that its last process is gone. */
void control_hello(void)
{
	struct tw_request request;
	uint64_t mask;
	if (!control_setting())
		return;
	signals_block(&mask);
	long control = control_open();
	if (control >= 0) {
		request_init(&request, TW_HELLO);
		int pidfd = own_pidfd((int)control);
		(void)control_send((int)control, &request, pidfd);
		if (pidfd >= 0)
			SYS(SYS_close, pidfd);
		SYS(SYS_close, control);
	}
	signals_restore(&mask);
}
