/* What the shim asks of libc, by weak references: see shim.h. */
#include "symbols.h"

extern int *__errno_location(void) WEAK;
extern char **environ WEAK;
extern const char *gnu_get_libc_version(void) WEAK;
extern int pthread_atfork(void (*)(void), void (*)(void), void (*)(void)) WEAK;
extern int __register_atfork(void (*)(void), void (*)(void), void (*)(void), void *) WEAK;

static void *_Atomic next_functions[NEXT_COUNT];

static const char *const next_names[NEXT_COUNT] = {
#define X(name) #name,
	NEXT_FUNCTIONS(X)
#undef X
};

EARLY void *next_function(enum next_function which)
{
	void *found = next_functions[which];
	if (!found) {
		int saved = get_errno();
		symbols_after(next_names, &next_names[which], &found, 1);
		next_functions[which] = found;
		set_errno(saved);
	}
	return found;
}

static void find_next_functions(void)
{
	void *found[NEXT_COUNT] = {NULL};
	symbols_after(next_names, next_names, found, NEXT_COUNT);
	for (int i = 0; i < NEXT_COUNT; i++)
		next_functions[i] = found[i];
}

EARLY int get_errno(void)
{
	return __errno_location ? *__errno_location() : 0;
}

EARLY void set_errno(int value)
{
	if (__errno_location)
		*__errno_location() = value;
}

/* fork(2), in the child. */
static void forked(void)
{
	map_forked();
	control_hello();
}

/* glibc gives constructors argc, argv and envp, and may not have set environ yet;
 * musl gives them nothing, and has. */
__attribute__((constructor)) static void start(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	control_remember(gnu_get_libc_version ? envp : &environ ? environ : NULL);
	find_next_functions();
	symbols_lead_here();
	/* fork is not hooked: this also sees daemon(3) and forkpty(3), which call
	 * libc's own. glibc has pthread_atfork only in its static part. */
	if (__register_atfork)
		__register_atfork(fork_begins, NULL, forked, NULL);
	else if (pthread_atfork)
		pthread_atfork(fork_begins, NULL, forked);
	control_hello();
}
