/*
 * Signals are blocked while a hook is at work, so that a handler which jumps away finds nothing
 * half done. A call that may be interrupted asks then what has come meanwhile.
 */
#include "shim.h"

#include <signal.h>

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
