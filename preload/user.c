/*
 * What the program points to. The kernel answers a bad pointer with EFAULT, and so do the hooks,
 * which look at some of it before the kernel does, or write in its stead. They read it once, into
 * a copy, and go by the copy: another thread may change it meanwhile.
 *
 * madvise(2) tells whether memory can be touched, without touching what is in it, which a memory
 * checker might mind. A thread that unmaps memory while another is in a call with it still
 * ends the program.
 */
#include "shim.h"

#include <string.h>
#include <sys/auxv.h>

extern __typeof__(getauxval) getauxval WEAK;

enum access { READ = 22, WRITE = 23 }; /* MADV_POPULATE_READ, MADV_POPULATE_WRITE */

static uintptr_t page_size(void)
{
	uintptr_t page = getauxval ? getauxval(AT_PAGESZ) : 0;
	return page ? page : 4096;
}

static long populate(uintptr_t first, uintptr_t last, enum access access)
{
	uintptr_t page = page_size();
	first &= -page;
	return SYS(SYS_madvise, first, (last & -page) - first + page, access);
}

/*
 * Whether all of size bytes at at, one or more, can be accessed. Linux before 5.14 and some seccomp filters do
 * not tell of any memory: then it is taken for good, as libc takes what its functions get. So it is where the
 * shim stands aside, as a filter may end the program for the question.
 */
static bool accessible(const void *at, size_t size, enum access access)
{
	uintptr_t last, here = (uintptr_t)&last;
	if (stands_aside())
		return true;
	if (__builtin_add_overflow((uintptr_t)at, size - 1, &last))
		return false;
	return populate((uintptr_t)at, last, access) == 0 || populate(here, here, access) < 0;
}

long copy_in(void *to, const void *from, size_t size)
{
	if (size == 0)
		return 0;
	if (!accessible(from, size, READ))
		return -EFAULT;
	memcpy(to, from, size);
	return 0;
}

long copy_out(void *to, const void *from, size_t size)
{
	if (size == 0)
		return 0;
	if (!accessible(to, size, WRITE))
		return -EFAULT;
	memcpy(to, from, size);
	return 0;
}

long string_in(char *to, const char *from, size_t size)
{
	const volatile char *s = from;
	for (size_t i = 0; i < size; i++) {
		if ((i == 0 || (uintptr_t)(from + i) % page_size() == 0) &&
		    !accessible(from + i, 1, READ))
			return -EFAULT;
		char c = s[i];
		if (to)
			to[i] = c;
		if (!c)
			return (long)i;
	}
	return (long)size;
}

long pointers_in(char **to, char *const *from, size_t count)
{
	typedef char *unaligned __attribute__((aligned(1)));
	const volatile unaligned *p = (const volatile unaligned *)from;
	for (size_t i = 0; i < count; i++) {
		uintptr_t last = (uintptr_t)(p + i) + sizeof *p - 1;
		if ((i == 0 || last % page_size() < sizeof *p) &&
		    !accessible((const void *)(uintptr_t)(p + i), sizeof *p, READ))
			return -EFAULT;
		char *pointer = p[i];
		if (to)
			to[i] = pointer;
		if (!pointer)
			return (long)i;
	}
	return (long)count;
}
