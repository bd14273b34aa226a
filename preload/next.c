/*
 * Hooks pass calls on to the next definition of the function that they stand before. All of those
 * are looked up when the shim starts; a hook that is called before looks for its own.
 */
#include "symbols.h"

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

void next_functions_find(void)
{
	void *found[NEXT_COUNT] = {NULL};
	symbols_after(next_names, next_names, found, NEXT_COUNT);
	for (int i = 0; i < NEXT_COUNT; i++)
		next_functions[i] = found[i];
}
