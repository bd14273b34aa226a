/*
 * Some of the calls that libc's functions make are cancellation points (pthreads(7)), and a system
 * call of the shim's own is none. Where it stands for such a function, a thread that is cancelled
 * while it waits there ends as libc's own did before glibc 2.41: cancellation is asynchronous
 * meanwhile.
 */
#include "shim.h"

#include <pthread.h>

extern __typeof__(pthread_setcanceltype) pthread_setcanceltype WEAK;
extern __typeof__(pthread_testcancel) pthread_testcancel WEAK;
extern char __libc_single_threaded WEAK; /* since glibc 2.32 */

enum { UNCHANGED = -1 };

int cancel_begin(void)
{
	int type;
	if (!pthread_setcanceltype || !pthread_testcancel)
		return UNCHANGED;
	pthread_testcancel();
	if (&__libc_single_threaded && __libc_single_threaded)
		return UNCHANGED;
	return pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type) == 0 ? type : UNCHANGED;
}

void cancel_end(int type)
{
	if (type != UNCHANGED)
		pthread_setcanceltype(type, NULL);
}
