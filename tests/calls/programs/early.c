/* Connects that were made before main, by libearly.c's constructor. */
#include "check.h"

extern int early_fd, early_errno;

static void a_constructor_connects(void)
{
	EQUAL(early_errno, bad_errno());
	ECHOES(early_fd);
	EQUAL(option(early_fd, SOL_SOCKET, SO_DOMAIN), AF_INET);
}

const struct test tests[] = {
	{"a_constructor_connects", BOTH, a_constructor_connects},
	{0},
};
