/*
 * Hooks pass calls on to the next definition of the function that they stand before. All of those
 * are looked up when the shim starts; a hook that is called before looks for its own.
 */
#include "symbols.h"

extern const char *gnu_get_libc_version(void) WEAK;

static void *_Atomic next_functions[NEXT_COUNT];

static const char *const next_names[NEXT_COUNT] = {
#define X(name) #name,
	NEXT_FUNCTIONS(X)
	COOKIE_FUNCTIONS(X)
#undef X
};

static const bool is_interposer[NEXT_COUNT] = {
#define X(name) [INTERPOSER_##name] = true,
	COOKIE_FUNCTIONS(X)
#undef X
};

/* Stands in next_functions for libc's own, in whose place the hook makes the system call. */
static char libcs_own;

/* Keeps what was found. musl's sendmsg and sendmmsg are more than the call: its headers have
 * smaller lengths than the kernel's struct msghdr, and what is beside them is put right. */
EARLY static void *keep(enum next_function which, void *found)
{
	bool more = !gnu_get_libc_version &&
	            (which == INTERPOSER_sendmsg || which == INTERPOSER_sendmmsg);
	if (found && is_interposer[which] && !more && symbols_libc_has(found))
		found = &libcs_own;
	next_functions[which] = found;
	return found;
}

EARLY void *next_function(enum next_function which)
{
	void *found = next_functions[which];
	if (!found) {
		int saved = get_errno();
		symbols_after(next_names, &next_names[which], &found, 1);
		found = keep(which, found);
		set_errno(saved);
	}
	return found == &libcs_own ? NULL : found;
}

void next_functions_find(void)
{
	void *found[NEXT_COUNT] = {NULL};
	symbols_after(next_names, next_names, found, NEXT_COUNT);
	for (int i = 0; i < NEXT_COUNT; i++)
		keep((enum next_function)i, found[i]);
}
