/*
 * What passes is not asked about. Where the session wants to be told of it (tlswrap -v, a log) the worker finds a
 * notice in memory (struct tw_notices): what becomes of the connect does not depend on that, however it ends.
 */
#include "trace.h"

#include <string.h>
#include <sys/mman.h>

static struct tw_notices *notices; /* NULL before they are needed */
static struct tw_notices nowhere;  /* they are this where they are out of reach for the process */
static uint32_t untold;            /* connects that the worker could not be told of otherwise either */

/* Those in memory that is there, or NULL. */
static struct tw_notices *within_reach(struct tw_notices *found)
{
	return found == &nowhere ? NULL : found;
}

void notices_forked(long parent)
{
	if (!notices || SYS(SYS_getppid) == parent)
		return;
	notices = NULL; /* the memory stays: what this has interrupted may be writing there */
	untold = 0;
}

/* Of so many connects the worker is told of one again, where it could not be told of one before. */
#define TRIES 256

/* How long the worker is waited for: a stopped one answers nothing. */
#define ANSWER_MICROSECONDS 100000L

static void limit_answer(int control)
{
	const long limit[2] = {0, ANSWER_MICROSECONDS};
	SYS(SYS_setsockopt, control, SOL_SOCKET, SO_RCVTIMEO, limit, sizeof limit);
}

/* The memory file that the worker has for notices, or a negative number. */
static int ask_file(void)
{
	struct tw_request request;
	struct tw_reply reply;
	int fd = -1;
	long control = control_open();
	if (control < 0)
		return -1;
	limit_answer((int)control);
	request_init(&request, TW_NOTICES);
	request.channel = (uint64_t)SYS(SYS_getpid);
	if (control_send((int)control, &request, NULL, 0) == 0)
		(void)control_receive((int)control, &reply, &fd, NULL);
	SYS(SYS_close, control);
	return fd;
}

static struct tw_notices *map_file(int fd)
{
#ifdef SYS_mmap2
	const long number = SYS_mmap2;
#else
	const long number = SYS_mmap;
#endif
	long at = SYS(number, NULL, sizeof *notices, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return at < 0 && at > -4096 ? NULL : (struct tw_notices *)at;
}

/*
 * The session's notices, or NULL. What the first of several threads has found counts for all, so that none tells of one
 * connect in one way, and of the next in another which is faster.
 */
static struct tw_notices *get_notices(void)
{
	struct tw_notices *first = NULL, *mine = &nowhere;
	int fd = ask_file();
	if (fd >= 0) {
		mine = map_file(fd);
		SYS(SYS_close, fd);
	}
	if (!mine)
		mine = &nowhere;
	if (__atomic_compare_exchange_n(&notices, &first, mine, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return within_reach(mine);
	if (within_reach(mine))
		SYS(SYS_munmap, mine, sizeof *mine);
	return within_reach(first);
}

/* Leaves a notice. A thread that ends here leaves a place that is never filled in, which the worker passes over. */
static void leave(struct tw_notices *in, const struct tw_addr *to)
{
	uint32_t number = __atomic_load_n(&in->next, __ATOMIC_RELAXED);
	do {
		if (number - __atomic_load_n(&in->taken, __ATOMIC_ACQUIRE) >= TW_NOTICES_MOST) {
			__atomic_add_fetch(&in->untold, 1, __ATOMIC_RELAXED);
			return;
		}
	} while (!__atomic_compare_exchange_n(&in->next, &number, number + 1, true, __ATOMIC_ACQ_REL,
	                                      __ATOMIC_RELAXED));
	struct tw_notice *notice = &in->at[number % TW_NOTICES_MOST];
	notice->pid = (int32_t)SYS(SYS_getpid);
	notice->to = *to;
	__atomic_store_n(&notice->turn, number + 1, __ATOMIC_RELEASE);
}

/*
 * Sends the worker a notice, or with count 0 that some were left, by way of the control socket. A notice is waited for
 * until the worker has it, which closes the connection then, so that the next one does not overtake it.
 */
static long send_by_control(const struct tw_addr *to, uint32_t count)
{
	struct tw_request request;
	long control = control_open();
	if (control < 0)
		return control;
	request_init(&request, TW_PASSED);
	request.channel = __atomic_exchange_n(&untold, 0, __ATOMIC_RELAXED);
	request.count = count;
	request.addrs[0] = *to;
	long r = control_send((int)control, &request, NULL, 0);
	if (r == 0 && count) {
		char none;
		limit_answer((int)control);
		SYS(SYS_recvfrom, control, &none, 1, 0, NULL, NULL);
	}
	if (r < 0)
		__atomic_add_fetch(&untold, (uint32_t)request.channel, __ATOMIC_RELAXED);
	SYS(SYS_close, control);
	return r;
}

/* Wakes the worker. -EAGAIN: the bell has been rung before, and not been heard yet. */
static long ring(const struct tw_bell *bell)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct iovec part = {(void *)(uintptr_t)bell->token, sizeof bell->token};
	struct msghdr message = {.msg_name = &address,
	                         .msg_namelen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bell->length),
	                         .msg_iov = &part,
	                         .msg_iovlen = 1};
	if (bell->length > sizeof bell->name)
		return -EINVAL;
	memcpy(address.sun_path, bell->name, bell->length);
	long fd = above_streams(SYS(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	if (fd < 0)
		return fd;
	long n = SYS(SYS_sendmsg, fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	SYS(SYS_close, fd);
	return n;
}

void notice_passed(int fd, const struct tw_addr *to)
{
	struct tw_bell bell;
	uint64_t mask;
	if (!map_bell(&bell) || !possibly(is_tcp(fd)))
		return;
	TRACE("notice", ADDRESSES("addresses", to, 1), RESULT(0));
	struct tw_notices *found = __atomic_load_n(&notices, __ATOMIC_ACQUIRE), *in = within_reach(found);
	if (in) {
		leave(in, to);
		__atomic_thread_fence(__ATOMIC_SEQ_CST); /* the worker falls asleep and then looks once more */
		if (!__atomic_load_n(&in->asleep, __ATOMIC_RELAXED))
			return;
	}
	signals_block(&mask);
	if (!found && (in = get_notices()))
		leave(in, to);
	if (!in) {
		/* A try that fails may take a while, so most are not made after it. */
		uint32_t failed = __atomic_load_n(&untold, __ATOMIC_RELAXED);
		if (failed % TRIES || send_by_control(to, 1) < 0)
			__atomic_add_fetch(&untold, 1, __ATOMIC_RELAXED);
	} else {
		static uint32_t unheard;
		long r = ring(&bell);
		if (r < 0 && r != -EAGAIN && __atomic_fetch_add(&unheard, 1, __ATOMIC_RELAXED) % TRIES == 0)
			(void)send_by_control(to, 0);
	}
	signals_restore(&mask);
}
