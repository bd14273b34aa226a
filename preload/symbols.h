/* symbols.c: the symbol tables of the objects that are loaded. */
#ifndef TLSWRAP_SYMBOLS_H
#define TLSWRAP_SYMBOLS_H

#include "shim.h"

/* What the runtime of AddressSanitizer reaches before it is ready, by calling dlsym. */
#define EARLY __attribute__((no_sanitize("address")))

/*
 * The first definition of each name in the objects that were loaded after the one that
 * start lies in, as those had it when they were loaded: what RTLD_NEXT means. Leaves
 * alone what is not NULL in found, and what has no definition.
 */
void symbols_after(const void *start, const char *const *names, void **found, int count);

/* libc's own definition of a name, old versions of it too, or NULL. */
void *symbols_in_libc(const char *name);

/* Whether an address lies in libc. */
bool symbols_libc_has(const void *address);

/* What libc's table would have given to a caller that comes after the shim, or NULL. */
void *symbols_original_after(const void *caller, const char *name);

/* The file that the shim was loaded from, or NULL. */
const char *symbols_own_file(void);

/* Leads every name that both libc and the shim define to the shim, for whoever looks it
 * up in libc from now on. Where memory cannot be made writable nothing changes. */
void symbols_lead_here(void);

/* libtls/route.c: whether a file is one of the libraries that the shim stands in for, by its name. */
bool is_libtls(const char *path);

#endif
