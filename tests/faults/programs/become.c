/*
 * Puts itself below the seccomp filter that it reads from descriptor 3, and becomes argv[1].
 * The filter's listener takes number 3. Before it goes on it stops, so that its parent can take
 * the listener (pidfd_getfd(2)): whatever it called itself might wait for an answer.
 */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5) /* Linux 5.19 */
#endif

int main(int argc, char **argv)
{
	static struct sock_filter code[512];
	ssize_t n = read(3, code, sizeof code);
	struct sock_fprog filter = {(unsigned short)((size_t)n / sizeof *code), code};
	if (argc < 2 || n <= 0)
		return 2;
	close(3);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
	            SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
	            &filter) != 3)
		return 2;
	raise(SIGSTOP);
	execv(argv[1], argv + 1);
	return 2;
}
