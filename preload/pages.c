/* What may be too large for the stack stands in pages of its own. */
#include "shim.h"

#include <sys/mman.h>

static void *map_pages(size_t size, int access)
{
#ifdef SYS_mmap2 /* 32-bit machines: the same, with its offset in pages */
	const long number = SYS_mmap2;
#else
	const long number = SYS_mmap;
#endif
	long at = SYS(number, NULL, size, access, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return at < 0 && at > -4096 ? NULL : (void *)at;
}

void *pages(size_t size)
{
	return map_pages(size, PROT_READ | PROT_WRITE);
}

const void *unreadable(void)
{
	enum { SIZE = 4096 };
	static void *kept;
	void *other = NULL, *mine = __atomic_load_n(&kept, __ATOMIC_ACQUIRE);
	if (mine)
		return mine;
	mine = map_pages(SIZE, PROT_NONE);
	if (mine && !__atomic_compare_exchange_n(&kept, &other, mine, false, __ATOMIC_ACQ_REL,
	                                         __ATOMIC_ACQUIRE)) {
		pages_free(mine, SIZE);
		return other;
	}
	return mine;
}

void pages_free(void *at, size_t size)
{
	SYS(SYS_munmap, at, size);
}
