/*
 * libc keeps an errno for each thread. The hooks set it where a call fails, and put it back where
 * one succeeds.
 */
#include "symbols.h"

extern int *__errno_location(void) WEAK;

EARLY int get_errno(void)
{
	return __errno_location ? *__errno_location() : 0;
}

EARLY void set_errno(int value)
{
	if (__errno_location)
		*__errno_location() = value;
}
