/* What may be too large for the stack stands in pages of its own. */
#include "shim.h"

#include <sys/mman.h>

void *pages(size_t size)
{
#ifdef SYS_mmap2 /* 32-bit machines: the same, with its offset in pages */
	const long number = SYS_mmap2;
#else
	const long number = SYS_mmap;
#endif
	long at = SYS(number, NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return at < 0 && at > -4096 ? NULL : (void *)at;
}

void pages_free(void *at, size_t size)
{
	SYS(SYS_munmap, at, size);
}
