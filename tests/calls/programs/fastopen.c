/* The other ways to connect: TCP Fast Open, and system calls by number. */
#include "check.h"

#include <sys/syscall.h>
#include <sys/uio.h>

static const char line[] = "words that must not be seen\n";
#define LINE (sizeof line - 1)

static void reads_back(int fd, size_t n)
{
	char back[4 * LINE];
	size_t have = 0;
	while (have < n) {
		wait_for(fd, POLLIN);
		ssize_t r = recv(fd, back + have, sizeof back - have, 0);
		CHECK(r > 0);
		have += (size_t)r;
	}
	EQUAL(have, n);
	for (size_t at = 0; at < n; at += LINE)
		CHECK(memcmp(back + at, line, LINE) == 0);
}

static ssize_t fast_sendto(int fd, const char *server)
{
	struct sockaddr_in a = ip4(server);
	return sendto(fd, line, LINE, MSG_FASTOPEN | MSG_NOSIGNAL, (struct sockaddr *)&a, sizeof a);
}

static ssize_t fast_sendmsg(int fd, const char *server)
{
	struct sockaddr_in a = ip4(server);
	struct iovec iov[2] = {{(void *)(uintptr_t)line, 5},
	                       {(void *)(uintptr_t)(line + 5), LINE - 5}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
	m.msg_name = &a;
	m.msg_namelen = sizeof a;
	return sendmsg(fd, &m, MSG_FASTOPEN | MSG_NOSIGNAL);
}

static int fast_sendmmsg(int fd, const char *server, int with_address)
{
	struct sockaddr_in a = ip4(server);
	struct iovec iov = {(void *)(uintptr_t)line, LINE};
	struct mmsghdr m[2];
	memset(m, 0, sizeof m);
	for (int i = 0; i < 2; i++) {
		m[i].msg_hdr.msg_iov = &iov;
		m[i].msg_hdr.msg_iovlen = 1;
		m[i].msg_hdr.msg_name = i < with_address ? &a : NULL;
		m[i].msg_hdr.msg_namelen = i < with_address ? sizeof a : 0;
	}
	int n = sendmmsg(fd, m, 2, MSG_FASTOPEN | MSG_NOSIGNAL);
	for (int i = 0; i < n; i++)
		EQUAL(m[i].msg_len, LINE);
	return n;
}

static void sendto_blocking(void)
{
	int fd = tcp();
	EQUAL(fast_sendto(fd, "ECHO"), LINE);
	reads_back(fd, LINE);
	ECHOES(fd);
}

static void sendmsg_blocking(void)
{
	int fd = tcp();
	EQUAL(fast_sendmsg(fd, "ECHO"), LINE);
	reads_back(fd, LINE);
}

/* The second message finds the socket connected. */
static void sendmmsg_blocking(void)
{
	int fd = tcp();
	EQUAL(fast_sendmmsg(fd, "ECHO", 2), 1);
	reads_back(fd, LINE);
}

static void connects_later(int fd, ssize_t sent)
{
	if (sent < 0) {
		EQUAL(errno, EINPROGRESS);
		EQUAL(poll_now(fd, POLLOUT), 0);
	}
	tell("release");
	EQUAL(wait_for(fd, POLLOUT), POLLOUT);
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);
	if (sent > 0)
		reads_back(fd, LINE);
	ECHOES(fd);
}

static void sendto_nonblocking(void)
{
	int fd = tcp_nonblocking();
	connects_later(fd, fast_sendto(fd, "PENDING"));
}

static void sendmsg_nonblocking(void)
{
	int fd = tcp_nonblocking();
	connects_later(fd, fast_sendmsg(fd, "PENDING"));
}

static void sendmmsg_nonblocking(void)
{
	int fd = tcp_nonblocking();
	int n = fast_sendmmsg(fd, "PENDING", 2);
	connects_later(fd, n < 0 ? -1 : (ssize_t)LINE);
}

static void sendto_refused(void)
{
	int fd = tcp();
	FAILS(fast_sendto(fd, "BAD"), bad_errno());
	FAILS(fast_sendmsg(fd, "BAD"), bad_errno());
	FAILS(fast_sendmmsg(fd, "BAD", 2), bad_errno());
	EQUAL(fast_sendto(fd, "ECHO"), LINE);
	reads_back(fd, LINE);
}

static void sendto_of_nothing_connects(void)
{
	int fd = tcp();
	struct sockaddr_in a = ip4("ECHO");
	EQUAL(sendto(fd, NULL, 0, MSG_FASTOPEN, (struct sockaddr *)&a, sizeof a), 0);
	ECHOES(fd);
}

static void sendto_when_connected_is_eisconn(void)
{
	int fd = connected("ECHO");
	FAILS(fast_sendto(fd, "ECHO"), EISCONN);
	ECHOES(fd);
}

static void sendto_without_address(void)
{
	int fd = tcp();
	FAILS(sendto(fd, line, LINE, MSG_FASTOPEN | MSG_NOSIGNAL, NULL, 0), EINVAL);
	OK(dial(fd, "ECHO"));
	ECHOES(fd);
}

static void sendto_passed(void)
{
	int fd = tcp();
	EQUAL(fast_sendto(fd, "PLAIN"), LINE);
	reads_back(fd, LINE);
}

static void option_then_connect(void)
{
	int fd = tcp();
	set_option(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1);
	OK(dial(fd, "ECHO"));
	ECHOES(fd);
}

static void option_then_connect_nonblocking(void)
{
	int fd = tcp_nonblocking();
	set_option(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1);
	if (dial(fd, "ECHO") < 0)
		EQUAL(errno, EINPROGRESS);
	EQUAL(wait_for(fd, POLLOUT), POLLOUT);
	ECHOES(fd);
}

static void option_then_refusal(void)
{
	int fd = tcp();
	set_option(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1);
	FAILS(dial(fd, "BAD"), bad_errno());
}

/* ---- By number. 32-bit programs have socketcall(2) too, which libc does not use. ---- */

static void connect_by_number(void)
{
	int fd = tcp();
	struct sockaddr_in a = ip4("ECHO"), peer, own;
	EQUAL(syscall(SYS_connect, fd, &a, sizeof a), 0);
	socklen_t len = sizeof peer;
	EQUAL(syscall(SYS_getpeername, fd, &peer, &len), 0);
	EQUAL(peer.sin_family, AF_INET);
	EQUAL(peer.sin_port, a.sin_port);
	len = sizeof own;
	EQUAL(syscall(SYS_getsockname, fd, &own, &len), 0);
	EQUAL(own.sin_family, AF_INET);
	int value = 0;
	len = sizeof value;
	EQUAL(syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, &value, &len), 0);
	EQUAL(value, AF_INET);
	value = 1;
	EQUAL(syscall(SYS_setsockopt, fd, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value), 0);
	EQUAL(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
	ECHOES(fd);
}

static void refused_by_number(void)
{
	int fd = tcp();
	struct sockaddr_in a = ip4("BAD");
	FAILS(syscall(SYS_connect, fd, &a, sizeof a), bad_errno());
}

static void sendto_by_number(void)
{
	int fd = tcp();
	struct sockaddr_in a = ip4("ECHO");
	EQUAL(syscall(SYS_sendto, fd, line, LINE, MSG_FASTOPEN, &a, sizeof a), LINE);
	reads_back(fd, LINE);
}

static void other_numbers_reach_the_kernel(void)
{
	EQUAL(syscall(SYS_getpid), getpid());
	int fds[2];
	EQUAL(syscall(SYS_pipe2, fds, O_CLOEXEC), 0);
	EQUAL(syscall(SYS_write, fds[1], "ab", 2), 2);
	FAILS(syscall(SYS_close, -1), EBADF);
	FAILS(syscall(100000), ENOSYS);
	/* Six arguments. */
	char *p = (char *)(intptr_t)syscall(
#ifdef SYS_mmap2
		SYS_mmap2,
#else
		SYS_mmap,
#endif
		NULL, 4096, 3, 0x22, -1, 0);
	CHECK(p != (char *)-1);
	*p = 1;
}

const struct test tests[] = {
	{"sendto_blocking", BOTH, sendto_blocking},
	{"sendmsg_blocking", BOTH, sendmsg_blocking},
	{"sendmmsg_blocking", BOTH, sendmmsg_blocking},
	{"sendto_nonblocking", BOTH, sendto_nonblocking},
	{"sendmsg_nonblocking", BOTH, sendmsg_nonblocking},
	{"sendmmsg_nonblocking", BOTH, sendmmsg_nonblocking},
	{"sendto_refused", BOTH, sendto_refused},
	{"sendto_of_nothing_connects", BOTH, sendto_of_nothing_connects},
	{"sendto_when_connected_is_eisconn", BOTH, sendto_when_connected_is_eisconn},
	{"sendto_without_address", BOTH, sendto_without_address},
	{"sendto_passed", BOTH, sendto_passed},
	{"option_then_connect", BOTH, option_then_connect},
	{"option_then_connect_nonblocking", BOTH, option_then_connect_nonblocking},
	{"option_then_refusal", BOTH, option_then_refusal},
	{"connect_by_number", BOTH, connect_by_number},
	{"refused_by_number", BOTH, refused_by_number},
	{"sendto_by_number", BOTH, sendto_by_number},
	{"other_numbers_reach_the_kernel", BOTH, other_numbers_reach_the_kernel},
	{0},
};
