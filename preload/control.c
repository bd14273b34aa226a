/*
 * This is the shim's side of the control protocol (wire.h): it connects to the worker, sends
 * requests and receives replies.
 */
#include "trace.h"

#include <string.h>

/* A worker that does not answer in this time counts as missing. */
#define REPLY_SECONDS 10

static bool is_worker(const struct worker *worker, int control)
{
	struct ucred peer;
	socklen_t len = sizeof peer;
	return SYS(SYS_getsockopt, control, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       peer.uid == worker->uid;
}

/* Lets neither direction of a connection take longer. */
static void limit_time(int fd)
{
	/* struct timeval as the kernel's SO_*TIMEO_OLD has it: two longs. */
	const long limit[2] = {REPLY_SECONDS, 0};
	SYS(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, limit, sizeof limit);
	SYS(SYS_setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, limit, sizeof limit);
}

/*
 * A connection by the socket, or -errno. From other namespaces, another root folder or under a filter of somebody's
 * there may be no way to it.
 */
static long reach_by_socket(const struct worker *worker)
{
	long fd = above_streams(SYS(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
	if (fd < 0)
		return fd == -EMFILE || fd == -ENFILE ? fd : -ENETDOWN;

	limit_time((int)fd);
	long r;
	do
		r = SYS(SYS_connect, fd, &worker->address, worker->address_len);
	while (r == -EINTR); /* after SIGSTOP and SIGCONT */
	if (r < 0 || !is_worker(worker, (int)fd)) {
		SYS(SYS_close, fd);
		return -ENETDOWN;
	}
	return fd;
}

/*
 * One that the worker gives to processes that its filter is under, or -errno. Nobody else can answer. The filter
 * knows this call by the cookie, also where the shim stands aside.
 */
static long reach_by_kernel(const struct worker *worker)
{
	long fd = above_streams(SYS(SYS_prctl, TW_MAGIC, 0L, 0L, 0L, 0L, worker->cookie));
	if (fd >= 0)
		limit_time((int)fd);
	return fd < 0 && fd != -EMFILE && fd != -ENFILE ? -ENETDOWN : fd;
}

bool held_by_kernel(void)
{
	const struct worker *worker = control_worker();
	long fd = worker ? reach_by_kernel(worker) : -1;
	if (fd >= 0)
		SYS(SYS_close, fd);
	return fd >= 0;
}

static long reach(void)
{
	const struct worker *worker = control_worker();
	if (!worker)
		return -ENETDOWN;
	long fd = reach_by_socket(worker);
	return fd == -ENETDOWN ? reach_by_kernel(worker) : fd;
}

long control_open(void)
{
	long fd = reach();
	if (fd < 0)
		TRACE("worker", RESULT(fd));
	return fd;
}

void request_init(struct tw_request *request, enum tw_op op)
{
	const struct worker *worker = control_worker();
	memset(request, 0, offsetof(struct tw_request, addrs));
	request->magic = TW_MAGIC;
	request->op = (uint16_t)op;
	if (worker)
		memcpy(request->token, worker->token, TW_TOKEN_SIZE);
}

/* What the trace calls operations and answers. */
static const char *const op_words[] = {
	[TW_HELLO] = "hello",     [TW_CONNECT] = "connect",   [TW_TAKEN] = "taken",
	[TW_VERDICT] = "verdict", [TW_RESTART] = "restart",   [TW_UPSTREAM] = "upstream",
	[TW_NAMES] = "names",     [TW_ADDRESS] = "address",   [TW_EXEC] = "exec",
	[TW_LISTEN] = "listen",   [TW_ACCEPT] = "accept",     [TW_SWEEP] = "sweep",
	[TW_SUPERVISE] = "supervise", [TW_FINISH] = "finish",
	[TW_NOTICES] = "notices", [TW_PASSED] = "passed",
};

const char *answer_word(uint16_t answer)
{
	static const char *const words[] = {
		[TW_ANSWER_PASS] = "pass",       [TW_ANSWER_CHANNEL] = "channel",
		[TW_ANSWER_ERROR] = "error",     [TW_ANSWER_PENDING] = "pending",
		[TW_ANSWER_GOOD] = "good",       [TW_ANSWER_ISCONN] = "isconn",
		[TW_ANSWER_FD] = "fd",           [TW_ANSWER_ADDRS] = "addrs",
		[TW_ANSWER_EXEC] = "exec",       [TW_ANSWER_SCRIPT] = "script",
		[TW_ANSWER_GONE] = "gone",       [TW_ANSWER_ARGUMENT] = "argument",
		[TW_ANSWER_PROGRAM] = "program",
	};
	return answer < sizeof words / sizeof *words ? words[answer] : NULL;
}

long control_send(int control, const struct tw_request *request, const int *fds, int count)
{
	size_t length = offsetof(struct tw_request, addrs) + request->count * sizeof(struct tw_addr);
	long r = message_send(control, request, length, fds, count) == (long)length ? 0 : -ENETDOWN;
	TRACE("ask", WORD("op", op_words[request->op]), FLAGS("flags", request->flags),
	      TEXT("name", request->name[0] && !(request->flags & TW_ARGUMENT) ? request->name : NULL),
	      ADDRESSES("addresses", request->addrs, request->count), RESULT(r));
	return r;
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
	if (failure)
		TRACE("answer", RESULT(failure));
	else
		TRACE("answer", WORD("is", answer_word(reply->answer)),
		      ADDRESSES("addresses", reply->addrs, reply->count), RESULT(-reply->error));
	return failure;
}

long control_ask(const struct tw_request *request, int fd, struct tw_reply *reply, int *got)
{
	uint64_t mask;
	signals_block(&mask);
	long control = control_open();
	long r = control;
	if (control >= 0) {
		r = control_send((int)control, request, &fd, fd >= 0);
		if (r == 0)
			r = control_receive((int)control, reply, got, NULL);
		SYS(SYS_close, control);
	}
	if (r == -ENETDOWN && request->op != TW_EXEC) /* what comes of that is not known yet */
		voice_unreached();
	signals_restore(&mask);
	return r;
}
