/*
 * getaddrinfo_a, which glibc does by itself in threads of its own: here the look-ups are
 * made by our getaddrinfo. For GAI_NOWAIT that takes a thread, as it does in glibc, and
 * memory for what the thread is to do. The program knows only of its own struct gaicb.
 */
#include "trace.h"

#include <linux/futex.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

extern __typeof__(pthread_create) pthread_create WEAK;
extern __typeof__(pthread_detach) pthread_detach WEAK;
extern __typeof__(malloc) malloc WEAK;
extern __typeof__(free) free WEAK;

/* What one call with GAI_NOWAIT has begun. */
struct job {
	struct sigevent event;
	int count;
	struct gaicb *list[];
};

/* Counts look-ups that have ended, for those that wait. */
static uint32_t ended;

static int state(const struct gaicb *request)
{
	return __atomic_load_n(&request->__return, __ATOMIC_ACQUIRE);
}

static void look_up(struct gaicb *request)
{
	int r = getaddrinfo(request->ar_name, request->ar_service, request->ar_request,
	                    &request->ar_result);
	__atomic_store_n(&request->__return, r, __ATOMIC_RELEASE);
	__atomic_add_fetch(&ended, 1, __ATOMIC_RELEASE);
	SYS(SYS_futex, &ended, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT32_MAX);
}

/* Tells the program that all has ended. The calling thread is nobody else's. */
static void notify(const struct sigevent *event)
{
	if (event->sigev_notify == SIGEV_SIGNAL) {
		siginfo_t info;
		memset(&info, 0, sizeof info);
		info.si_signo = event->sigev_signo;
		info.si_code = SI_ASYNCNL;
		info.si_pid = (pid_t)SYS(SYS_getpid);
		info.si_uid = (uid_t)SYS(SYS_getuid);
		info.si_value = event->sigev_value;
		SYS(SYS_rt_sigqueueinfo, info.si_pid, info.si_signo, &info);
	} else if (event->sigev_notify == SIGEV_THREAD && event->sigev_notify_function) {
		const uint64_t none = 0;
		signals_restore(&none); /* as in a thread of glibc's for this */
		event->sigev_notify_function(event->sigev_value);
	}
}

static void *run(void *argument)
{
	struct job *job = argument;
	struct sigevent event = job->event;
	for (int i = 0; i < job->count; i++)
		look_up(job->list[i]);
	if (free)
		free(job);
	notify(&event);
	return NULL;
}

/* Runs job in a thread that no signal gets to, but for the two that glibc itself sends
 * to all threads (SIGCANCEL, SIGSETXID): 0 or an error number. */
static int start(struct job *job)
{
	uint64_t old;
	const uint64_t most = ~((uint64_t)3 << 31);
	pthread_t thread;
	SYS(SYS_rt_sigprocmask, SIG_BLOCK, &most, &old, sizeof most);
	int r = pthread_create(&thread, NULL, run, job);
	signals_restore(&old);
	if (r == 0)
		pthread_detach(thread);
	return r;
}

EXPORT int getaddrinfo_a(int mode, struct gaicb *list[restrict], int count,
                         struct sigevent *restrict event)
{
	TRACE("getaddrinfo_a", NUMBER("mode", mode), NUMBER("count", count));
	if ((mode != GAI_WAIT && mode != GAI_NOWAIT) || count < 0) {
		set_errno(EINVAL);
		return EAI_SYSTEM;
	}
	struct job *job = NULL;
	if (mode == GAI_NOWAIT) {
		if (!pthread_create || !pthread_detach || !malloc || !free)
			return EAI_AGAIN;
		job = malloc(sizeof *job + (size_t)count * sizeof(struct gaicb *));
		if (!job)
			return EAI_MEMORY;
		memset(job, 0, sizeof *job);
		job->event.sigev_notify = SIGEV_NONE;
		if (event)
			job->event = *event;
	}
	for (int i = 0; i < count; i++) {
		if (!list[i])
			continue;
		__atomic_store_n(&list[i]->__return, EAI_INPROGRESS, __ATOMIC_RELAXED);
		if (job)
			job->list[job->count++] = list[i];
	}
	for (int i = 0; !job && i < count; i++) {
		if (list[i])
			look_up(list[i]);
	}
	if (!job || start(job) == 0)
		return 0;
	for (int i = 0; i < job->count; i++)
		__atomic_store_n(&job->list[i]->__return, EAI_AGAIN, __ATOMIC_RELEASE);
	free(job);
	return EAI_AGAIN;
}

/* How many of the requests have not ended. */
static int unfinished(const struct gaicb *const list[], int count)
{
	int n = 0;
	for (int i = 0; i < count; i++)
		n += list[i] && state(list[i]) == EAI_INPROGRESS;
	return n;
}

/* A time as the kernel's old calls have it. */
struct moment {
	long seconds, nanoseconds;
};

static struct moment now(void)
{
	struct moment at = {0};
	SYS(SYS_clock_gettime, CLOCK_MONOTONIC, &at);
	return at;
}

#define SECOND 1000000000L
#define LONG_TIME 1000000000L /* in seconds, to be added to a clock that began with the machine */

/* Waits until one of the requests that have not ended ends, or for as long as limit says. */
static int suspend(const struct gaicb *const list[], int count, const struct moment *limit)
{
	int left = unfinished(list, count);
	struct moment end = {0};
	if (left == 0)
		return EAI_ALLDONE;
	if (limit) {
		end = now();
		end.seconds += limit->seconds < LONG_TIME ? limit->seconds : LONG_TIME;
		end.nanoseconds += limit->nanoseconds;
		if (end.nanoseconds >= SECOND) {
			end.seconds++;
			end.nanoseconds -= SECOND;
		}
	}
	for (;;) {
		uint32_t seen = __atomic_load_n(&ended, __ATOMIC_ACQUIRE);
		if (unfinished(list, count) < left)
			return 0;
		struct moment rest = now();
		rest.seconds = end.seconds - rest.seconds;
		rest.nanoseconds = end.nanoseconds - rest.nanoseconds;
		if (rest.nanoseconds < 0) {
			rest.seconds--;
			rest.nanoseconds += SECOND;
		}
		if (limit && rest.seconds < 0)
			return EAI_AGAIN;
		long r = SYS(SYS_futex, &ended, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, seen,
		             limit ? &rest : NULL);
		if (r == -EINTR)
			return unfinished(list, count) < left ? 0 : EAI_INTR;
	}
}

EXPORT int gai_suspend(const struct gaicb *const list[], int count, const struct timespec *limit)
{
	struct moment moment;
	if (limit)
		moment = (struct moment){limit->tv_sec, limit->tv_nsec};
	return suspend(list, count, limit ? &moment : NULL);
}

/* What programs of 32 bits with a time of 64 call. */
struct time64 {
	int64_t seconds;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	int32_t padding;
#endif
	int32_t nanoseconds;
};

int __gai_suspend_time64(const struct gaicb *const list[], int count, const struct time64 *limit);

EXPORT int __gai_suspend_time64(const struct gaicb *const list[], int count,
                                const struct time64 *limit)
{
	struct moment moment;
	if (limit) {
		int64_t seconds = limit->seconds < LONG_TIME ? limit->seconds : LONG_TIME;
		moment = (struct moment){(long)seconds, limit->nanoseconds};
	}
	return suspend(list, count, limit ? &moment : NULL);
}

/* No look-up can be stopped once it was begun. */
EXPORT int gai_cancel(struct gaicb *request)
{
	return state(request) == EAI_INPROGRESS ? EAI_NOTCANCELED : EAI_ALLDONE;
}
