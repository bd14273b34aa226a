/*
 * A process says hello to the worker, which watches from then on whether it lives, and may look into
 * it where Yama would let nobody but its parents (ptrace(2), ptrace_scope): what the kernel hands over
 * about it the worker could not answer otherwise.
 */
#include "shim.h"

#include <fcntl.h>
#include <sys/prctl.h>

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

static bool has_yama;
static int worker_pid; /* 0 before it is needed */

void ptracer_find(void)
{
	long scope = SYS(SYS_openat, AT_FDCWD, "/proc/sys/kernel/yama/ptrace_scope", O_RDONLY | O_CLOEXEC);
	has_yama = scope >= 0;
	if (has_yama)
		SYS(SYS_close, scope);
}

void ptracer_allow(void)
{
	if (worker_pid > 0)
		SYS(SYS_prctl, PR_SET_PTRACER, worker_pid);
}

/* Finds out who the worker is: who listens. */
static void ptracer_learn(int control)
{
	struct ucred peer;
	socklen_t len = sizeof peer;
	if (has_yama && SYS(SYS_getsockopt, control, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
		worker_pid = peer.pid;
	ptracer_allow();
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
		ptracer_learn((int)control);
		int pidfd = own_pidfd((int)control);
		(void)control_send((int)control, &request, &pidfd, pidfd >= 0);
		if (pidfd >= 0)
			SYS(SYS_close, pidfd);
		SYS(SYS_close, control);
	}
	signals_restore(&mask);
}
