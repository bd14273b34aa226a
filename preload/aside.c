/*
 * A filter that a program puts over itself (seccomp(2)) may end it for calls that the program does not
 * make, and the shim does: those by which it asks the worker. So where the kernel hands the worker what
 * passes the shim by, the shim makes none from then on. What the filter lets through is handed over.
 */
#include "shim.h"

#include <linux/seccomp.h>
#include <stdarg.h>
#include <sys/prctl.h>

/* The end of a call that puts a filter over the program: it is asked before whether the kernel holds it. */
static long filtered(bool held, long r)
{
	if (held && r >= 0)
		step_aside();
	return finish(r);
}

long filter_by_number(const long a[6])
{
	bool held = a[0] != SECCOMP_GET_ACTION_AVAIL && a[0] != SECCOMP_GET_NOTIF_SIZES && held_by_kernel();
	return filtered(held, SYS(SYS_seccomp, a[0], a[1], a[2]));
}

/* It passes all on that may have been given, as libc's does. */
__attribute__((no_sanitize_address)) EXPORT int prctl(int option, ...)
{
	va_list list;
	long a[4];
	va_start(list, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (option == PR_SET_SECCOMP) {
		bool held = held_by_kernel();
		return (int)filtered(held, SYS(SYS_prctl, option, a[0], a[1], a[2], a[3]));
	}
	__typeof__(&prctl) real = NEXT(prctl);
	return real ? real(option, a[0], a[1], a[2], a[3])
	            : (int)finish(SYS(SYS_prctl, option, a[0], a[1], a[2], a[3]));
}

/* 32-bit programs with a 64-bit time_t. */
EXPORT int __prctl_time64(int option, ...) __attribute__((nothrow, leaf)) ALIAS(prctl);
