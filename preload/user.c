/*
 * What the program points to. The kernel answers a bad pointer with EFAULT, and so do the hooks,
 * which look at some of it before the kernel does. They read it once, into a copy, and go by the
 * copy: another thread may change it meanwhile.
 */
#include "shim.h"

#include <string.h>

/* Whether all of size bytes at from can be read. A page can be read as a whole or not at all, and
 * rt_sigprocmask(2) copies its argument before it looks at how. */
static bool can_read(const void *from, size_t size)
{
	const uintptr_t page = 4096; /* or a part of one */
	uintptr_t start = (uintptr_t)from, end;
	if (size == 0)
		return true;
	if (__builtin_add_overflow(start, size - 1, &end))
		return false;
	for (uintptr_t at = start & ~(page - 1);; at += page) {
		if (SYS(SYS_rt_sigprocmask, -1, at + 8, NULL, 8) == -EFAULT) /* NULL would be no argument */
			return false;
		if (end - at < page)
			return true;
	}
}

long copy_in(void *to, const void *from, size_t size)
{
	if (!can_read(from, size))
		return -EFAULT;
	memcpy(to, from, size);
	return 0;
}
