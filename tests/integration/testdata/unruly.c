/* unruly HOW HOST PORT: connects again and again, while another thread of it, or who has started it, does
 * what gets in the way of a tracer:
 *   lines    once for each line that it reads, and then writes "ok", or why it has failed;
 *   closes   a thread closes all other descriptors, whosever they are;
 *   opens    a thread closes the socket, and is about to open something else under its number;
 *   executes a thread executes this program, which writes "executed";
 *   cannot   once, where pause(2) is forbidden by a filter of its own, and then writes "ok", or why it has failed.
 * What becomes of a single connect is not told but for lines: it is to end. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TIMES = 40, FD = 10, OTHERS = 30 };

static struct sockaddr_in to = {.sin_family = AF_INET};
static const char *how, *fifo = "unruly.fifo";
static volatile int over;

/* Returns an errno. */
static int connect_at(int fd)
{
	int made = socket(AF_INET, SOCK_STREAM, 0);
	if (made < 0)
		return errno;
	if (fd >= 0 && fd != made) {
		dup2(made, fd);
		close(made);
		made = fd;
	}
	int error = connect(made, (struct sockaddr *)&to, sizeof to) < 0 ? errno : 0;
	close(made);
	return error;
}

static void *close_others(void *unused)
{
	while (!over) {
		for (int fd = 3; fd < OTHERS; fd++) {
			if (fd != FD)
				close(fd);
		}
	}
	return unused;
}

/* What is put into the process for a moment has the lowest numbers: all below the socket's are taken but one. */
static void *open_another(void *unused)
{
	while (!over) {
		if (fcntl(FD + 2, F_GETFD) >= 0) { /* what is to come into the socket's place */
			close(FD);
			int fd = open(fifo, O_RDONLY); /* nobody writes */
			if (fd >= 0)
				close(fd);
		}
	}
	return unused;
}

static void *execute(void *unused)
{
	usleep((useconds_t)(atoi(getenv("AFTER"))));
	execl("/proc/self/exe", "unruly", "executed", NULL);
	return unused;
}

static int forbid_pause(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pause, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof code / sizeof *code, code};
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char **argv)
{
	char line[100];
	pthread_t other;
	if (argc == 2)
		return puts(argv[1]) < 0;
	how = argv[1];
	if (argc != 4 || inet_pton(AF_INET, argv[2], &to.sin_addr) != 1)
		return 2;
	to.sin_port = htons((unsigned short)atoi(argv[3]));
	if (strcmp(how, "lines") == 0) {
		while (fgets(line, sizeof line, stdin)) {
			int error = connect_at(-1);
			puts(error ? strerror(error) : "ok");
			fflush(stdout);
		}
		return 0;
	}
	if (strcmp(how, "cannot") == 0) {
		if (forbid_pause())
			return 2;
		int error = connect_at(-1);
		sleep(1); /* nothing comes of it later */
		return puts(error ? strerror(error) : "ok") < 0;
	}
	if (strcmp(how, "closes") == 0)
		pthread_create(&other, NULL, close_others, NULL);
	if (strcmp(how, "opens") == 0) {
		for (int fd = 3; fd < FD; fd++)
			dup2(2, fd);
		unlink(fifo);
		if (mkfifo(fifo, 0600) < 0)
			return 2;
		pthread_create(&other, NULL, open_another, NULL);
	}
	if (strcmp(how, "executes") == 0)
		pthread_create(&other, NULL, execute, NULL);
	for (int i = 0; i < TIMES || strcmp(how, "executes") == 0; i++) {
		connect_at(FD);
		while (strcmp(how, "opens") == 0 && i + 1 < TIMES) { /* until nothing waits for a writer */
			int writer = open(fifo, O_WRONLY | O_NONBLOCK);
			if (writer < 0)
				break;
			close(writer);
		}
	}
	over = 1;
	puts("connected");
	fflush(stdout);
	_exit(0);
}
