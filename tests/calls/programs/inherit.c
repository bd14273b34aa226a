/* Descriptors after the swap: their flags, their copies, other processes. */
#include "check.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

static void reap(pid_t child)
{
	int status;
	EQUAL(waitpid(child, &status, 0), child);
	EQUAL(status, 0);
}

static void has_peer(int fd, int want)
{
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	OK(getpeername(fd, (struct sockaddr *)&a, &len));
	EQUAL(ntohs(a.sin_port), want);
}

static void close_on_exec_is_kept(void)
{
	for (int flag = 0; flag <= FD_CLOEXEC; flag += FD_CLOEXEC) {
		int fd = tcp();
		OK(fcntl(fd, F_SETFD, flag));
		OK(dial(fd, "ECHO"));
		EQUAL(fcntl(fd, F_GETFD), flag);
	}
}

static void nonblocking_is_kept(void)
{
	for (int on = 0; on <= 1; on++) {
		int fd = tcp();
		set_blocking(fd, !on);
		if (dial(fd, "ECHO") < 0)
			EQUAL(errno, EINPROGRESS);
		EQUAL(!!(fcntl(fd, F_GETFL) & O_NONBLOCK), on);
		EQUAL(wait_for(fd, POLLOUT), POLLOUT);
		set_blocking(fd, on);
		EQUAL(!!(fcntl(fd, F_GETFL) & O_NONBLOCK), !on);
		ECHOES(fd);
	}
}

static void receive_timeout_is_kept(void)
{
	int fd = tcp();
	struct timeval limit = {0, 50000}, got;
	socklen_t len = sizeof got;
	OK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
	OK(dial(fd, "ECHO"));
	OK(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &got, &len));
	EQUAL(got.tv_sec, 0);
	CHECK(got.tv_usec >= 50000 && got.tv_usec < 60000);
	char byte;
	FAILS(recv(fd, &byte, 1, 0), EAGAIN);
	limit.tv_usec = 60000;
	OK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
	FAILS(recv(fd, &byte, 1, 0), EAGAIN);
	ECHOES(fd);
}

static volatile sig_atomic_t signalled;

static void on_io(int signal)
{
	(void)signal;
	signalled = 1;
}

static void signal_driven_io_is_kept(void)
{
	int fd = tcp();
	signal(SIGIO, on_io);
	OK(fcntl(fd, F_SETOWN, getpid()));
	OK(fcntl(fd, F_SETFL, O_ASYNC));
	OK(dial(fd, "ECHO"));
	EQUAL(fcntl(fd, F_GETFL) & O_ASYNC, O_ASYNC);
	EQUAL(fcntl(fd, F_GETOWN), getpid());
	sigset_t io, old;
	sigemptyset(&io);
	sigaddset(&io, SIGIO);
	OK(sigprocmask(SIG_BLOCK, &io, &old));
	signalled = 0;
	EQUAL(send(fd, "x\n", 2, 0), 2);
	while (!signalled)
		sigsuspend(&old);
}

static void a_forked_child_uses_it(void)
{
	int fd = connected("ECHO");
	pid_t child = fork();
	if (child == 0) {
		has_peer(fd, port("ECHO"));
		ECHOES(fd);
		_exit(0);
	}
	reap(child);
	ECHOES(fd);
}

static void a_forked_child_connects(void)
{
	pid_t child = fork();
	if (child == 0) {
		ECHOES(connected("ECHO"));
		_exit(0);
	}
	reap(child);
}

static void a_forked_child_waits_for_a_pending_one(void)
{
	int fd = tcp_nonblocking();
	FAILS(dial(fd, "PENDING"), EINPROGRESS);
	pid_t child = fork();
	if (child == 0) {
		tell("release");
		EQUAL(wait_for(fd, POLLOUT), POLLOUT);
		EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);
		has_peer(fd, port("PENDING"));
		ECHOES(fd);
		_exit(0);
	}
	close(fd);
	reap(child);
}

/* Started by the next two: argv[2] is the descriptor, argv[3] its port. */
static void executed(void)
{
	int fd = atoi(arguments[2]);
	has_peer(fd, atoi(arguments[3]));
	EQUAL(option(fd, SOL_SOCKET, SO_DOMAIN), AF_INET);
	ECHOES(fd);
}

static void survives_exec_with(char **env)
{
	int fd = connected("ECHO");
	char number[16], at[16];
	snprintf(number, sizeof number, "%d", fd);
	snprintf(at, sizeof at, "%d", port("ECHO"));
	char *argv[] = {arguments[0], "executed", number, at, NULL};
	OK(execve(argv[0], argv, env));
}
static void survives_exec(void) { survives_exec_with(environ); }
static void survives_exec_with_an_empty_environment(void)
{
	char *none[] = {NULL};
	survives_exec_with(none);
}

static void copies_made_after_connect_work(void)
{
	int fd = connected("ECHO");
	int copy = (int)OK(dup(fd));
	int other = (int)OK(dup2(fd, 50));
	int third = (int)OK(fcntl(fd, F_DUPFD_CLOEXEC, 60));
	close(fd);
	has_peer(copy, port("ECHO"));
	ECHOES(copy);
	has_peer(other, port("ECHO"));
	close(copy);
	ECHOES(other);
	close(other);
	has_peer(third, port("ECHO"));
	ECHOES(third);
}

static const char words[] = "words that must not be seen\n";

/*
 * TCP connects every copy of a socket. A channel takes the place of those that this process
 * is known to have: what is written to another must not go out as it is.
 */
static void write_to_copy(int copy)
{
	ssize_t n = send(copy, words, sizeof words - 1, MSG_NOSIGNAL);
	if (n >= 0)
		EQUAL(n, sizeof words - 1);
	else
		CHECK(is_wrapped());
}

/* The server has been sent nothing but TLS, or the test ends in its complaint. */
static void nothing_has_left(int fd)
{
	shutdown(fd, SHUT_WR);
	ask("ended ECHO");
}

static void nothing_leaves_by(int fd, int copy)
{
	OK(dial(fd, "ECHO"));
	ECHOES(fd);
	write_to_copy(copy);
	nothing_has_left(fd);
}

static void nothing_leaves_by_a_copy_made_before_connect(void)
{
	int fd = tcp();
	nothing_leaves_by(fd, (int)OK(dup(fd)));
}

/* No hook sees how this one is made. */
static void nothing_leaves_by_a_copy_made_by_number(void)
{
	int fd = tcp();
	nothing_leaves_by(fd, (int)OK(syscall(SYS_dup, fd)));
}

static void nothing_leaves_by_a_copy_made_with_fcntl(void)
{
	int fd = tcp();
	nothing_leaves_by(fd, (int)OK(fcntl(fd, F_DUPFD_CLOEXEC, 30)));
}

/* The same, where the copy is another process's, which child makes. */
static void nothing_leaves_by_a_child_of(int fd, pid_t (*child)(void), int (*take)(int fd))
{
	int go[2];
	char byte = 0;
	OK(pipe(go));
	pid_t pid = child();
	if (pid == 0) {
		EQUAL(read(go[0], &byte, 1), 1);
		ssize_t n = send(take(fd), words, sizeof words - 1, MSG_NOSIGNAL);
		_exit(n < 0 && !is_wrapped());
	}
	OK(pid);
	OK(dial(fd, "ECHO"));
	ECHOES(fd);
	EQUAL(write(go[1], &byte, 1), 1);
	reap(pid);
	nothing_has_left(fd);
}

static int inherited(int fd)
{
	return fd;
}

static void nothing_leaves_by_a_forked_copy(void)
{
	nothing_leaves_by_a_child_of(tcp(), fork, inherited);
}

static void nothing_leaves_by_a_forked_copy_that_is_bound(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	int fd = tcp();
	OK(bind(fd, (struct sockaddr *)&a, sizeof a));
	nothing_leaves_by_a_child_of(fd, fork, inherited);
}

static void nothing_leaves_by_a_forked_copy_that_was_refused(void)
{
	int fd = tcp();
	FAILS(dial(fd, "CLOSED"), ECONNREFUSED);
	nothing_leaves_by_a_child_of(fd, fork, inherited);
}

/* No handler of pthread_atfork(3) runs. */
static pid_t cloned(void)
{
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static void nothing_leaves_by_a_cloned_copy(void)
{
	nothing_leaves_by_a_child_of(tcp(), cloned, inherited);
}

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
static int received;

static int was_received(int fd)
{
	(void)fd;
	return received;
}

/* pidfd_getfd(2) and SCM_RIGHTS, before connect. */
static void nothing_leaves_by_what_was_taken(void)
{
	int fd = tcp();
	int self = (int)OK(syscall(SYS_pidfd_open, getpid(), 0));
	received = (int)OK(syscall(SYS_pidfd_getfd, self, fd, 0));
	nothing_leaves_by_a_child_of(fd, fork, was_received);
}

static void send_descriptor(int over, int fd);
static int receive_descriptor(int over);

static void nothing_leaves_by_what_was_sent_to_itself(void)
{
	int fd = tcp(), over[2];
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, over));
	send_descriptor(over[0], fd);
	nothing_leaves_by(fd, receive_descriptor(over[1]));
}

/* Started by the next: argv[2] and argv[3] are one socket. */
static void executed_with_two(void)
{
	nothing_leaves_by(atoi(arguments[2]), atoi(arguments[3]));
}

static void nothing_leaves_by_a_copy_kept_over_exec(void)
{
	char one[16], two[16];
	int fd = tcp();
	snprintf(one, sizeof one, "%d", fd);
	snprintf(two, sizeof two, "%d", (int)OK(dup(fd)));
	char *argv[] = {arguments[0], "executed_with_two", one, two, NULL};
	OK(execve(argv[0], argv, environ));
}

/* As high as the machine lets us: 65,536 and more as root. */
static void a_copy_with_a_high_number_works(void)
{
	struct rlimit limit = {70000, 70000};
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
		OK(getrlimit(RLIMIT_NOFILE, &limit));
		limit.rlim_cur = limit.rlim_max;
		OK(setrlimit(RLIMIT_NOFILE, &limit));
	}
	int fd = tcp(), high = (int)limit.rlim_cur - 1;
	OK(dup2(fd, high));
	OK(dial(high, "ECHO"));
	has_peer(fd, port("ECHO"));
	ECHOES(high);
	ECHOES(fd);
	close(high);
	ECHOES(fd);
}

static void a_copy_made_before_connect_works(void)
{
	int fd = tcp(), copy = (int)OK(dup(fd));
	OK(dial(fd, "ECHO"));
	has_peer(copy, port("ECHO"));
	ECHOES(copy);
	close(fd);
	ECHOES(copy);
}

static void a_copy_made_before_connect_can_be_closed(void)
{
	int fd = tcp();
	close((int)OK(dup(fd)));
	int copy = (int)OK(dup(fd));
	OK(dial(fd, "ECHO"));
	close(copy);
	ECHOES(fd);
}

static void stdio_works(void)
{
	FILE *f = fdopen(connected("ECHO"), "r+");
	char line[64];
	CHECK(f);
	CHECK(fputs("one line\n", f) >= 0);
	EQUAL(fflush(f), 0);
	CHECK(fgets(line, sizeof line, f));
	CHECK(strcmp(line, "one line\n") == 0);
	EQUAL(fclose(f), 0);
	if (strcmp(ask("ended ECHO"), "eof") != 0)
		FAIL("the server saw no end");
}

static void send_descriptor(int over, int fd)
{
	char byte = 0, space[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	m.msg_control = space;
	m.msg_controllen = sizeof space;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	EQUAL(sendmsg(over, &m, 0), 1);
}

static int receive_descriptor(int over)
{
	char byte, space[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	m.msg_control = space;
	m.msg_controllen = sizeof space;
	EQUAL(recvmsg(over, &m, 0), 1);
	int fd;
	CHECK(CMSG_FIRSTHDR(&m));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	return fd;
}

static void can_be_passed_to_another_process(void)
{
	int over[2];
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, over));
	pid_t child = fork();
	if (child == 0) {
		int fd = receive_descriptor(over[1]);
		has_peer(fd, port("ECHO"));
		EQUAL(option(fd, SOL_SOCKET, SO_DOMAIN), AF_INET);
		ECHOES(fd);
		_exit(0);
	}
	int fd = connected("ECHO");
	send_descriptor(over[0], fd);
	close(fd);
	reap(child);
}

const struct test tests[] = {
	{"close_on_exec_is_kept", BOTH, close_on_exec_is_kept},
	{"nonblocking_is_kept", BOTH, nonblocking_is_kept},
	{"receive_timeout_is_kept", BOTH, receive_timeout_is_kept},
	{"signal_driven_io_is_kept", BOTH, signal_driven_io_is_kept},
	{"a_forked_child_uses_it", BOTH, a_forked_child_uses_it},
	{"a_forked_child_connects", BOTH, a_forked_child_connects},
	{"a_forked_child_waits_for_a_pending_one", BOTH, a_forked_child_waits_for_a_pending_one},
	{"executed", HELPER, executed},
	{"survives_exec", BOTH, survives_exec},
	{"survives_exec_with_an_empty_environment", BOTH, survives_exec_with_an_empty_environment},
	{"copies_made_after_connect_work", BOTH, copies_made_after_connect_work},
	{"executed_with_two", HELPER, executed_with_two},
	{"nothing_leaves_by_a_copy_made_before_connect", BOTH,
	 nothing_leaves_by_a_copy_made_before_connect},
	{"nothing_leaves_by_a_copy_made_by_number", BOTH,
	 nothing_leaves_by_a_copy_made_by_number},
	{"nothing_leaves_by_a_copy_made_with_fcntl", BOTH,
	 nothing_leaves_by_a_copy_made_with_fcntl},
	{"nothing_leaves_by_a_forked_copy", BOTH, nothing_leaves_by_a_forked_copy},
	{"nothing_leaves_by_a_forked_copy_that_is_bound", BOTH,
	 nothing_leaves_by_a_forked_copy_that_is_bound},
	{"nothing_leaves_by_a_forked_copy_that_was_refused", BOTH,
	 nothing_leaves_by_a_forked_copy_that_was_refused},
	{"nothing_leaves_by_a_cloned_copy", BOTH, nothing_leaves_by_a_cloned_copy},
	{"nothing_leaves_by_what_was_taken", BOTH, nothing_leaves_by_what_was_taken},
	{"nothing_leaves_by_what_was_sent_to_itself", BOTH,
	 nothing_leaves_by_what_was_sent_to_itself},
	{"nothing_leaves_by_a_copy_kept_over_exec", BOTH,
	 nothing_leaves_by_a_copy_kept_over_exec},
	{"a_copy_with_a_high_number_works", BOTH, a_copy_with_a_high_number_works},
	{"a_copy_made_before_connect_works", BOTH, a_copy_made_before_connect_works},
	{"a_copy_made_before_connect_can_be_closed", BOTH,
	 a_copy_made_before_connect_can_be_closed},
	{"stdio_works", BOTH, stdio_works},
	{"can_be_passed_to_another_process", BOTH, can_be_passed_to_another_process},
	{0},
};
