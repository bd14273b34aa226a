/*
 * System calls without libc: no errno, no cancellation point, no hook of
 * anybody's. They return what the kernel does: a result, or -errno.
 */
#ifndef TLSWRAP_SYS_H
#define TLSWRAP_SYS_H

#include <sys/syscall.h>

static inline long sys6(long n, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;
	__asm__ volatile("syscall"
	                 : "=a"(ret)
	                 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
	                 : "rcx", "r11", "memory");
	return ret;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0"
	                 : "+r"(x0)
	                 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
	                 : "memory", "cc");
	return x0;
#elif defined(__i386__)
	/* Six arguments need ebp and, in position-independent code, ebx: both are
	 * saved by hand, and the arguments come from memory that eax points to. */
	long args[7] = {n, a, b, c, d, e, f};
	long ret;
	__asm__ volatile("push %%ebp; push %%ebx\n\t"
	                 "mov 24(%%eax), %%ebp\n\t"
	                 "mov 4(%%eax), %%ebx\n\t"
	                 "mov 8(%%eax), %%ecx\n\t"
	                 "mov 12(%%eax), %%edx\n\t"
	                 "mov 16(%%eax), %%esi\n\t"
	                 "mov 20(%%eax), %%edi\n\t"
	                 "mov 0(%%eax), %%eax\n\t"
	                 "int $0x80\n\t"
	                 "pop %%ebx; pop %%ebp"
	                 : "=a"(ret)
	                 : "a"(args)
	                 : "ecx", "edx", "esi", "edi", "memory");
	return ret;
#else
#error "tlswrap: no system call convention for this machine"
#endif
}

#define SYS6(n, a, b, c, d, e, f, ...)                                                            \
	sys6((n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* SYS(number, arguments...): missing arguments are 0. */
#define SYS(...) SYS6(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)

#endif
