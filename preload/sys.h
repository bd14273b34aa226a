/*
 * System calls without libc: no errno, no cancellation point, no hook of
 * anybody's. They return what the kernel does: a result, or -errno.
 *
 * A call of fewer than six arguments carries a cookie in the sixth, which the kernel does not look
 * at: a filter (seccomp(2)) can tell it from a call that passes the shim by. No other file makes
 * system calls (tests/house).
 */
#ifndef TLSWRAP_SYS_H
#define TLSWRAP_SYS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>

#define HIDDEN __attribute__((visibility("hidden")))

/*
 * setting.c: the first 8 bytes of the session's token as a number, on 32-bit machines its low half;
 * 0 where there is no session. A hook that runs before the shim's constructor has it looked for.
 */
extern HIDDEN uintptr_t sys_cookie;
extern HIDDEN bool sys_cookie_final;
HIDDEN uintptr_t sys_cookie_early(void);

static inline long sys_cookie_now(void)
{
	return (long)(__builtin_expect(sys_cookie_final, true) ? sys_cookie : sys_cookie_early());
}

#if defined(__i386__)
/* sys.c: makes the call whose number and arguments these are. */
HIDDEN long sys_i386(const long call[7]);
#endif

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
	const long call[7] = {n, a, b, c, d, e, f};
	return sys_i386(call);
#else
#error "tlswrap: no system call convention for this machine"
#endif
}

/*
 * SYS(number, arguments...): of the first five, missing ones are 0; the sixth is the cookie. Of the
 * calls that have a sixth only futex(2) is made with fewer, for what does not look at it.
 */
#define SYS(...)                                                                                  \
	sys6(SYS_FIRST(__VA_ARGS__, 0, 0, 0, 0, 0, 0),                                            \
	     SYS_SIXTH(__VA_ARGS__, SYS_COOKIES, 0))
#define SYS_FIRST(n, a, b, c, d, e, ...) (n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e)
#define SYS_SIXTH(...) SYS_TAKE_SIXTH(__VA_ARGS__)
#define SYS_TAKE_SIXTH(n, a, b, c, d, e, f, ...) (long)(f)
#define SYS_COOKIES                                                                               \
	sys_cookie_now(), sys_cookie_now(), sys_cookie_now(), sys_cookie_now(), sys_cookie_now(), \
		sys_cookie_now()

#endif
