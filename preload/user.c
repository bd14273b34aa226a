/*
 * What the program points to. The kernel answers a bad pointer with EFAULT, and so do the hooks,
 * which look at some of it before the kernel does. They read it once, into a copy, and go by the
 * copy: another thread may change it meanwhile.
 */
#include "shim.h"

#include <string.h>

enum { PAGE = 4096, WINDOW = 8 }; /* PAGE may be a part of one */

/* rt_sigprocmask(2) copies its argument before it looks at how. */
static bool window_readable(uintptr_t at)
{
	return SYS(SYS_rt_sigprocmask, -1, at, NULL, WINDOW) != -EFAULT;
}

/*
 * Whether all of size bytes at from can be read. A page can be as a whole or not at all, so one
 * window in each is looked at; inside of what is asked about, since a memory checker minds.
 */
static bool can_read(const void *from, size_t size)
{
	uintptr_t start = (uintptr_t)from, end;
	if (size == 0)
		return true;
	if (start < PAGE || __builtin_add_overflow(start, size, &end))
		return false;
	if (size < WINDOW) {
		for (uintptr_t at = start;; at = end - 1) {
			uintptr_t last = (at | (PAGE - 1)) - (WINDOW - 1); /* window of this page */
			if (!window_readable(at < last ? at : last))
				return false;
			if ((at ^ (end - 1)) < PAGE)
				return true;
		}
	}
	for (uintptr_t at = start; at + WINDOW <= end; at = (at | (PAGE - 1)) + 1) {
		if (!window_readable(at))
			return false;
	}
	return window_readable(end - WINDOW);
}

long copy_in(void *to, const void *from, size_t size)
{
	if (!can_read(from, size))
		return -EFAULT;
	memcpy(to, from, size);
	return 0;
}
