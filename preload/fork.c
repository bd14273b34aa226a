/*
 * What a fork means to the child: memory that it shares with its parent by then is the
 * parent's, and it has to say hello. So forks are counted, and the child is told.
 *
 * fork is not hooked: libc's own atfork handlers also see daemon(3) and forkpty(3), which call
 * libc's fork themselves.
 */
#include "shim.h"

extern int pthread_atfork(void (*)(void), void (*)(void), void (*)(void)) WEAK;
extern int __register_atfork(void (*)(void), void (*)(void), void (*)(void), void *) WEAK;

static unsigned forks;
static long own_pid;

unsigned forks_so_far(void)
{
	return __atomic_load_n(&forks, __ATOMIC_RELAXED);
}

bool memory_is_own(void)
{
	return SYS(SYS_getpid) == own_pid;
}

/* In the parent, before it forks. */
static void begins(void)
{
	__atomic_add_fetch(&forks, 1, __ATOMIC_RELAXED);
}

/* In the child. */
static void forked(void)
{
	notices_forked(own_pid);
	own_pid = SYS(SYS_getpid);
	map_forked();
	if (!stands_aside())
		(void)control_hello();
}

void forks_watch(void)
{
	own_pid = SYS(SYS_getpid);
	/* glibc has pthread_atfork only in its static part. */
	if (__register_atfork)
		__register_atfork(begins, NULL, forked, NULL);
	else if (pthread_atfork)
		pthread_atfork(begins, NULL, forked);
}
