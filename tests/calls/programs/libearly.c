/* A library that connects before main, and before the shim's own constructor. */
#define NO_MAIN
#include "check.h"

int early_fd = -1, early_errno;

__attribute__((constructor)) static void connect_early(void)
{
	if (!getenv("PORT_ECHO"))
		return; /* asked for --list */
	int bad = tcp();
	early_errno = dial(bad, "BAD") < 0 ? errno : 0;
	close(bad);
	early_fd = connected("ECHO");
	ECHOES(early_fd);
}
