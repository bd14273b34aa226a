/*
 * dlopen, dlsym and dlvsym are hooked, so that libtls by its name is the shim, and so that a
 * library which wraps what the shim hooks, and asks for what comes after it, is not led back.
 */
#include "symbols.h"

#include <dlfcn.h>

extern const char *gnu_get_libc_version(void) WEAK;

enum loader_call { CALL_DLOPEN, CALL_DLSYM, CALL_DLVSYM };

__attribute__((used)) void *tlswrap_loader(void **arguments, const void *caller,
                                           enum loader_call which);

EARLY static void *itself(void *result)
{
	return result;
}

/* glibc takes a library for one that it has where both are one file, and then also by
 * this name. RTLD_NOLOAD keeps others' files out. The names are found by our RUNPATH. */
EARLY static void take_names(__typeof__(&dlopen) next)
{
	static const char *const names[] = {"libtls.so.26", "libtls.so.28", "libressl.so"};
	static bool _Atomic done;
	if (done)
		return;
	done = true;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		(void)next(names[i], RTLD_LAZY | RTLD_NOLOAD);
}

EARLY static void *open_call(void **arguments)
{
	__typeof__(&dlopen) next = NEXT(dlopen);
	const char *file = arguments[0];
	if (!next)
		return NULL;
	if (file && is_libtls(file)) {
		const char *own = symbols_own_file();
		if (own)
			arguments[0] = (void *)(uintptr_t)own;
	} else if (gnu_get_libc_version && (int)(intptr_t)arguments[1] & RTLD_DEEPBIND) {
		take_names(next);
	}
	return (void *)next;
}

/*
 * Where the call of which goes on that caller has made with arguments, which may be
 * changed for it. It goes on by a jump, for the loader looks at who calls: for RTLD_NEXT,
 * RUNPATH, $ORIGIN, and namespaces.
 */
EARLY void *tlswrap_loader(void **arguments, const void *caller, enum loader_call which)
{
	int saved = get_errno();
	void *target = NULL;
	if (which == CALL_DLOPEN) {
		target = open_call(arguments);
	} else {
		void *found = NULL;
		if (arguments[0] == RTLD_NEXT && arguments[1])
			found = symbols_original_after(caller, arguments[1]);
		if (found)
			arguments[0] = found;
		else
			target = which == CALL_DLSYM ? (void *)NEXT(dlsym) : (void *)NEXT(dlvsym);
		if (found)
			target = (void *)itself;
	}
	if (!target) {
		arguments[0] = NULL;
		target = (void *)itself;
	}
	set_errno(saved);
	return target;
}

#if defined(__x86_64__)
__asm__(".text\n"
        ".macro loader_call name, number\n"
        "	.globl \\name\n"
        "	.type \\name, @function\n"
        "\\name:\n"
        "	endbr64\n"
        "	push %rdx\n"
        "	push %rsi\n"
        "	push %rdi\n"
        "	mov %rsp, %rdi\n"
        "	mov 24(%rsp), %rsi\n"
        "	mov $\\number, %edx\n"
        "	call tlswrap_loader\n"
        "	pop %rdi\n"
        "	pop %rsi\n"
        "	pop %rdx\n"
        "	jmp *%rax\n"
        "	.size \\name, . - \\name\n"
        ".endm\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".macro loader_call name, number\n"
        "	.globl \\name\n"
        "	.type \\name, %function\n"
        "\\name:\n"
        "	hint 34\n" /* bti c */
        "	stp x29, x30, [sp, #-48]!\n"
        "	mov x29, sp\n"
        "	stp x0, x1, [sp, #16]\n"
        "	str x2, [sp, #32]\n"
        "	add x0, sp, #16\n"
        "	mov x1, x30\n"
        "	mov x2, \\number\n"
        "	bl tlswrap_loader\n"
        "	mov x16, x0\n"
        "	ldp x0, x1, [sp, #16]\n"
        "	ldr x2, [sp, #32]\n"
        "	ldp x29, x30, [sp], #48\n"
        "	br x16\n"
        "	.size \\name, . - \\name\n"
        ".endm\n");
#elif defined(__i386__)
__asm__(".text\n"
        ".macro loader_call name, number\n"
        "	.globl \\name\n"
        "	.type \\name, @function\n"
        "\\name:\n"
        "	lea 4(%esp), %eax\n"
        "	mov (%esp), %ecx\n"
        "	push $\\number\n"
        "	push %ecx\n"
        "	push %eax\n"
        "	call tlswrap_loader\n"
        "	add $12, %esp\n"
        "	jmp *%eax\n"
        "	.size \\name, . - \\name\n"
        ".endm\n");
#else
#error "tlswrap: no jump for this machine"
#endif
__asm__("loader_call dlopen 0\n"
        "loader_call dlsym 1\n"
        "loader_call dlvsym 2\n");
