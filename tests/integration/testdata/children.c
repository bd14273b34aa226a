/* children: prints what wait(2) says of a process without children, whether SIGCHLD
 * came, which signals are blocked or ignored, and the parent's pid. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t came;

static void note(int sig)
{
	(void)sig;
	came = 1;
}

int main(void)
{
	sigset_t blocked, waiting;
	struct sigaction now;
	sigemptyset(&blocked);
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	sigpending(&waiting);
	for (int sig = 1; sig < 65; sig++) {
		if (sig == 32 || sig == 33) /* libc's own */
			continue;
		sigaction(sig, NULL, &now);
		if (sigismember(&blocked, sig) == 1)
			printf("%d blocked\n", sig);
		if (sigismember(&waiting, sig) == 1)
			printf("%d pending\n", sig);
		if (now.sa_handler != SIG_DFL)
			printf("%d %s\n", sig, now.sa_handler == SIG_IGN ? "ignored" : "caught");
	}
	signal(SIGCHLD, note);
	int r = wait(NULL);
	printf("wait=%s sigchld=%d\n", r < 0 ? strerrorname_np(errno) : "child", came);
	return 0;
}
