/* A process says hello to the worker, which watches from then on whether it lives. */
#include "shim.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

/* A pidfd of this process, or -1 where the worker can get one of its own (Linux 6.5): no
 * call is made that a filter of the program's may not know. */
static int own_pidfd(int control)
{
	int theirs;
	socklen_t len = sizeof theirs;
	long r = SYS(SYS_getsockopt, control, SOL_SOCKET, SO_PEERPIDFD, &theirs, &len);
	if (r == 0)
		SYS(SYS_close, theirs);
	if (r != -ENOPROTOOPT)
		return -1;
	return (int)SYS(SYS_pidfd_open, SYS(SYS_getpid), 0);
}

/* Nobody waits for an answer: the worker reads what lies in its queue before it
 * decides that its last process is gone. */
void control_hello(void)
{
	struct tw_request request;
	uint64_t mask;
	if (!control_setting())
		return;
	signals_block(&mask);
	long control = control_open();
	if (control >= 0) {
		request_init(&request, TW_HELLO);
		int pidfd = own_pidfd((int)control);
		(void)control_send((int)control, &request, pidfd);
		if (pidfd >= 0)
			SYS(SYS_close, pidfd);
		SYS(SYS_close, control);
	}
	signals_restore(&mask);
}
