/* The shim is a guest: what it leaves behind, and what it needs. */
#include "check.h"

#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define ANY 12345 /* an errno that nothing sets */
#define KEEPS_ERRNO(call)                                                                         \
	do {                                                                                      \
		errno = ANY;                                                                      \
		OK(call);                                                                         \
		EQUAL(errno, ANY);                                                                \
	} while (0)

static void errno_is_kept_on_success(void)
{
	const char *servers[] = {"ECHO", "PLAIN"};
	for (int i = 0; i < 2; i++) {
		int fd = tcp(), value = 1, ep = (int)OK(epoll_create1(0));
		struct sockaddr_in a = ip4(servers[i]), other;
		struct epoll_event e = {.events = EPOLLIN};
		struct iovec iov = {"x", 1};
		struct mmsghdr m = {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}};
		socklen_t len = sizeof value, other_len = sizeof other;
		KEEPS_ERRNO(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
		KEEPS_ERRNO(connect(fd, (struct sockaddr *)&a, sizeof a));
		KEEPS_ERRNO(getpeername(fd, (struct sockaddr *)&other, &other_len));
		KEEPS_ERRNO(getsockname(fd, (struct sockaddr *)&other, &other_len));
		KEEPS_ERRNO(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value));
		KEEPS_ERRNO(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &len));
		KEEPS_ERRNO(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &len));
		KEEPS_ERRNO(sendto(fd, "x", 1, 0, NULL, 0));
		KEEPS_ERRNO(sendmsg(fd, &m.msg_hdr, 0));
		KEEPS_ERRNO(sendmmsg(fd, &m, 1, 0));
		KEEPS_ERRNO(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
		KEEPS_ERRNO(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
		KEEPS_ERRNO(dup2(fd, 40));
		KEEPS_ERRNO(fcntl(fd, F_DUPFD, 50));
		KEEPS_ERRNO(syscall(SYS_getpid));
		int fast = tcp();
		KEEPS_ERRNO(sendto(fast, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&a, sizeof a));
	}
}

static void nothing_stays_open_after_many_connects(void)
{
	const char *servers[] = {"ECHO", "BAD", "PLAIN", "CLOSED"};
	int before = open_descriptors();
	for (int i = 0; i < 1000; i++) {
		int fd = i % 8 < 4 ? tcp() : tcp_nonblocking();
		dial(fd, servers[i % 4]);
		if (i % 8 >= 4)
			wait_for(fd, POLLOUT);
		option(fd, SOL_SOCKET, SO_ERROR);
		option(fd, IPPROTO_TCP, TCP_NODELAY);
		if (i % 16 == 1)
			dial(fd, "ECHO");
		close(fd);
	}
	EQUAL(open_descriptors(), before);
}

static void no_thread_is_started(void)
{
	int before = count_entries("/proc/self/task");
	int fd = connected("ECHO");
	EQUAL(count_entries("/proc/self/task"), before);
	ECHOES(fd);
	EQUAL(waitpid(-1, NULL, WNOHANG), -1); /* and no child */
	EQUAL(errno, ECHILD);
}

static void limit_descriptors(rlim_t n)
{
	struct rlimit limit;
	OK(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = n;
	OK(setrlimit(RLIMIT_NOFILE, &limit));
}

/* Closes what the test itself inherited, so that the table has no holes. */
static void close_others(void)
{
	for (int fd = DRIVER + 1; fd < 256; fd++)
		close(fd);
}

static void a_full_table_is_emfile_and_changes_nothing(void)
{
	close_others();
	int fd = tcp(), value = 77;
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, value);
	int lowest = (int)OK(dup(0)); /* so many are open, without holes */
	close(lowest);
	for (int room = 0; room < 2; room++) {
		limit_descriptors((rlim_t)(lowest + room));
		FAILS(dial(fd, "ECHO"), EMFILE);
		limit_descriptors(256);
		EQUAL(open_descriptors(), lowest + 3); /* with ".", ".." and the folder's own */
		EQUAL(atoi(ask("accepted ECHO")), 0);
		EQUAL(option(fd, SOL_SOCKET, SO_DOMAIN), AF_INET);
		EQUAL(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), value);
		char byte;
		FAILS(recv(fd, &byte, 1, 0), ENOTCONN);
	}
	OK(dial(fd, "ECHO"));
	ECHOES(fd);
}

static void a_full_table_on_a_channel_is_emfile(void)
{
	close_others();
	int fd = connected("ECHO"), value;
	socklen_t len = sizeof value;
	int lowest = (int)OK(dup(0));
	close(lowest);
	limit_descriptors((rlim_t)lowest);
	FAILS(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &len), EMFILE);
	limit_descriptors(256);
	ECHOES(fd);
}

/* What the kernel asks the worker about needs no descriptor of the program's. */
static void a_full_table_is_no_obstacle(void)
{
	close_others();
	int fd = tcp(), other = tcp_nonblocking(), value;
	socklen_t len = sizeof value;
	int lowest = (int)OK(dup(0));
	close(lowest);
	limit_descriptors((rlim_t)lowest);
	OK(dial(fd, "ECHO"));
	ECHOES(fd);
	OK(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &len));
	FAILS(dial(other, "ECHO"), EINPROGRESS);
	wait_for(other, POLLOUT);
	EQUAL(option(other, SOL_SOCKET, SO_ERROR), 0);
	ECHOES(other);
	limit_descriptors(256);
	EQUAL(open_descriptors(), lowest + 3); /* with ".", ".." and the folder's own */
}

static void works_without_standard_descriptors(void)
{
	dup2(2, 9);
	close(0);
	close(1);
	close(2);
	int fd = tcp();
	EQUAL(fd, 0);
	OK(dial(fd, "ECHO"));
	ECHOES(fd);
	EQUAL(tcp(), 1);
	FAILS(dial(1, "BAD"), bad_errno());
	EQUAL(tcp(), 2);
	OK(dial(2, "PLAIN"));
	ECHOES(2);
}

static void the_end_of_a_pipe_is_not_held(void)
{
	int pipes[2];
	char byte;
	OK(pipe(pipes));
	pid_t child = fork();
	if (child == 0) {
		close(pipes[0]);
		ECHOES(connected("ECHO"));
		_exit(0);
	}
	close(pipes[1]);
	EQUAL(read(pipes[0], &byte, 1), 0);
	waitpid(child, NULL, 0);
}

/* The driver gave this program the end of a pipe too. */
static void what_was_inherited_is_not_held(void)
{
	OK(fcntl(INHERITED, F_GETFD));
	close(INHERITED);
	if (strcmp(ask("inherited"), "closed") != 0)
		FAIL("somebody still holds what this program inherited");
}

const struct test tests[] = {
	{"errno_is_kept_on_success", BOTH, errno_is_kept_on_success},
	{"nothing_stays_open_after_many_connects", BOTH_ONCE, nothing_stays_open_after_many_connects},
	{"no_thread_is_started", BOTH, no_thread_is_started},
	{"a_full_table_is_emfile_and_changes_nothing", WRAPPED,
	 a_full_table_is_emfile_and_changes_nothing},
	{"a_full_table_on_a_channel_is_emfile", WRAPPED, a_full_table_on_a_channel_is_emfile},
	{"a_full_table_is_no_obstacle", NOTIFIED, a_full_table_is_no_obstacle},
	{"works_without_standard_descriptors", BOTH, works_without_standard_descriptors},
	{"what_was_inherited_is_not_held", BOTH, what_was_inherited_is_not_held},
	{"the_end_of_a_pipe_is_not_held", BOTH, the_end_of_a_pipe_is_not_held},
	{0},
};
