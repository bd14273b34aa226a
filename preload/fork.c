/*
 * What a fork means to the child: memory that it shares with its parent by then is the
 * parent's, and it has to say hello.
 */
#include "shim.h"

static unsigned forks;

unsigned forks_so_far(void)
{
	return __atomic_load_n(&forks, __ATOMIC_RELAXED);
}

void fork_begins(void)
{
	__atomic_add_fetch(&forks, 1, __ATOMIC_RELAXED);
}
