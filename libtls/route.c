/*
 * What is exported as tls_* and ressl_*. Other libraries have functions of these names too
 * (tls_init, tls_read), and a preloaded library comes before all of them. So what is exported
 * is a jump: to ours where libtls or libressl is what the call would have reached without
 * us, and else to what it would have reached. It leaves every argument alone, whatever
 * the other function takes.
 */
#include "../preload/symbols.h"
#include "tls_int.h"

#include <dlfcn.h>

extern __typeof__(dlclose) dlclose WEAK;
extern int dladdr(const void *, Dl_info *) WEAK;

#define X(name) #name,
static const char *const names[] = {TLS_FUNCTIONS(X) RESSL_FUNCTIONS(X)};
#undef X

#define X(name) (void *)name,
static void *const ours[] = {TLS_FUNCTIONS(X) RESSL_FUNCTIONS(X)};
#undef X

/* Where calls go, once that is the same for every caller. */
__attribute__((used)) void *tlswrap_routes[sizeof names / sizeof *names];

__attribute__((used)) void *tlswrap_route(size_t index, const void *caller);

bool is_libtls(const char *path)
{
	static const char *const known[] = {"libtls.so", "libtls-", "libretls", "libressl.so"};
	const char *name = path;
	for (; *path; path++) {
		if (*path == '/')
			name = path + 1;
	}
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		size_t n = 0;
		while (known[i][n] && name[n] == known[i][n])
			n++;
		if (!known[i][n])
			return true;
	}
	return false;
}

/* Whether calls that would reach found are for us. */
static bool is_ours(const void *found)
{
	Dl_info other, own;
	if (!dladdr || !dladdr(found, &other) || !dladdr(names, &own))
		return true;
	return other.dli_fbase == own.dli_fbase || is_libtls(other.dli_fname);
}

/* The definition that caller would reach in a scope of its own: that of a plugin. */
static void *found_by(const void *caller, const char *name)
{
	Dl_info info;
	__typeof__(&dlopen) open = NEXT(dlopen);
	__typeof__(&dlsym) find = NEXT(dlsym);
	if (!dladdr || !open || !find || !dlclose || !dladdr(caller, &info) || !info.dli_fname)
		return NULL;
	void *library = open(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
	if (!library) /* the program itself */
		return NULL;
	void *found = find(library, name);
	dlclose(library);
	return found;
}

void *tlswrap_route(size_t index, const void *caller)
{
	int saved = get_errno();
	void *target = ours[index];
	__typeof__(&dlsym) find = NEXT(dlsym);
	void *found = find ? find(RTLD_NEXT, names[index]) : NULL;
	if (found) {
		if (!is_ours(found))
			target = found;
		__atomic_store_n(&tlswrap_routes[index], target, __ATOMIC_RELEASE);
	} else if (find) {
		found = found_by(caller, names[index]);
		if (found && !is_ours(found))
			target = found;
	}
	set_errno(saved);
	return target;
}

#if defined(__x86_64__)
/* al counts the vector registers of a variadic call; r10 is the static chain. */
__asm__(".text\n"
        ".macro route name\n"
        "	.globl \\name\n"
        "	.type \\name, @function\n"
        "\\name:\n"
        "	endbr64\n"
        "	mov tlswrap_routes+8*\\@(%rip), %r11\n"
        "	test %r11, %r11\n"
        "	je 1f\n"
        "	jmp *%r11\n"
        "1:	mov $\\@, %r11d\n"
        "	jmp tlswrap_find\n"
        "	.size \\name, . - \\name\n"
        ".endm\n");
#define X(name) __asm__("route " #name "\n");
TLS_FUNCTIONS(X)
RESSL_FUNCTIONS(X)
#undef X
__asm__("tlswrap_find:\n"
        "	push %rdi\n"
        "	push %rsi\n"
        "	push %rdx\n"
        "	push %rcx\n"
        "	push %r8\n"
        "	push %r9\n"
        "	push %rax\n"
        "	push %r10\n"
        "	sub $136, %rsp\n"
        "	movups %xmm0, 0(%rsp)\n"
        "	movups %xmm1, 16(%rsp)\n"
        "	movups %xmm2, 32(%rsp)\n"
        "	movups %xmm3, 48(%rsp)\n"
        "	movups %xmm4, 64(%rsp)\n"
        "	movups %xmm5, 80(%rsp)\n"
        "	movups %xmm6, 96(%rsp)\n"
        "	movups %xmm7, 112(%rsp)\n"
        "	mov %r11, %rdi\n"
        "	mov 200(%rsp), %rsi\n"
        "	call tlswrap_route\n"
        "	mov %rax, %r11\n"
        "	movups 0(%rsp), %xmm0\n"
        "	movups 16(%rsp), %xmm1\n"
        "	movups 32(%rsp), %xmm2\n"
        "	movups 48(%rsp), %xmm3\n"
        "	movups 64(%rsp), %xmm4\n"
        "	movups 80(%rsp), %xmm5\n"
        "	movups 96(%rsp), %xmm6\n"
        "	movups 112(%rsp), %xmm7\n"
        "	add $136, %rsp\n"
        "	pop %r10\n"
        "	pop %rax\n"
        "	pop %r9\n"
        "	pop %r8\n"
        "	pop %rcx\n"
        "	pop %rdx\n"
        "	pop %rsi\n"
        "	pop %rdi\n"
        "	jmp *%r11\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".macro route name\n"
        "	.globl \\name\n"
        "	.type \\name, %function\n"
        "\\name:\n"
        "	hint 34\n" /* bti c */
        "	adrp x16, tlswrap_routes+8*\\@\n"
        "	ldr x16, [x16, :lo12:tlswrap_routes+8*\\@]\n"
        "	cbz x16, 1f\n"
        "	br x16\n"
        "1:	mov x17, \\@\n"
        "	b tlswrap_find\n"
        "	.size \\name, . - \\name\n"
        ".endm\n");
#define X(name) __asm__("route " #name "\n");
TLS_FUNCTIONS(X)
RESSL_FUNCTIONS(X)
#undef X
__asm__("tlswrap_find:\n"
        "	stp x29, x30, [sp, #-224]!\n"
        "	mov x29, sp\n"
        "	stp x0, x1, [sp, #16]\n"
        "	stp x2, x3, [sp, #32]\n"
        "	stp x4, x5, [sp, #48]\n"
        "	stp x6, x7, [sp, #64]\n"
        "	str x8, [sp, #80]\n"
        "	stp q0, q1, [sp, #96]\n"
        "	stp q2, q3, [sp, #128]\n"
        "	stp q4, q5, [sp, #160]\n"
        "	stp q6, q7, [sp, #192]\n"
        "	mov x0, x17\n"
        "	mov x1, x30\n"
        "	bl tlswrap_route\n"
        "	mov x16, x0\n"
        "	ldp x0, x1, [sp, #16]\n"
        "	ldp x2, x3, [sp, #32]\n"
        "	ldp x4, x5, [sp, #48]\n"
        "	ldp x6, x7, [sp, #64]\n"
        "	ldr x8, [sp, #80]\n"
        "	ldp q0, q1, [sp, #96]\n"
        "	ldp q2, q3, [sp, #128]\n"
        "	ldp q4, q5, [sp, #160]\n"
        "	ldp q6, q7, [sp, #192]\n"
        "	ldp x29, x30, [sp], #224\n"
        "	br x16\n");
#elif defined(__i386__)
/* Arguments are on the stack; eax, ecx and edx are nobody's. */
__asm__(".text\n"
        ".macro route name\n"
        "	.globl \\name\n"
        "	.type \\name, @function\n"
        "\\name:\n"
        "	call 2f\n"
        "2:	pop %ecx\n"
        "	mov tlswrap_routes+4*\\@-2b(%ecx), %eax\n"
        "	test %eax, %eax\n"
        "	je 1f\n"
        "	jmp *%eax\n"
        "1:	mov (%esp), %edx\n"
        "	sub $4, %esp\n"
        "	push %edx\n"
        "	push $\\@\n"
        "	call tlswrap_route\n"
        "	add $12, %esp\n"
        "	jmp *%eax\n"
        "	.size \\name, . - \\name\n"
        ".endm\n");
#define X(name) __asm__("route " #name "\n");
TLS_FUNCTIONS(X)
RESSL_FUNCTIONS(X)
#undef X
#else
#error "tlswrap: no jump for this machine"
#endif
