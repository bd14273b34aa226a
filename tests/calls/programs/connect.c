/* connect: success, refusal, again. */
#include "check.h"

#include <sys/mman.h>

#include <netinet/ip.h>
#include <sys/time.h>
#include <sys/uio.h>

static void is_at(int fd, const char *server)
{
	struct sockaddr_in peer, own, want = ip4(server);
	socklen_t len = sizeof peer;
	OK(getpeername(fd, (struct sockaddr *)&peer, &len));
	EQUAL(len, sizeof peer);
	EQUAL(peer.sin_family, AF_INET);
	EQUAL(peer.sin_port, want.sin_port);
	EQUAL(peer.sin_addr.s_addr, want.sin_addr.s_addr);
	len = sizeof own;
	OK(getsockname(fd, (struct sockaddr *)&own, &len));
	EQUAL(len, sizeof own);
	EQUAL(own.sin_family, AF_INET);
	EQUAL(own.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	char text[64];
	snprintf(text, sizeof text, "127.0.0.1:%d", ntohs(own.sin_port));
	if (strcmp(text, ask("peer %s", server)) != 0)
		FAIL("getsockname says %s, the server sees another", text);
}

static void blocking(void)
{
	int fd = connected("ECHO");
	is_at(fd, "ECHO");
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);
	ECHOES(fd);
}

static void blocking_again_is_eisconn(void)
{
	int fd = connected("ECHO");
	FAILS(dial(fd, "ECHO"), EISCONN);
	FAILS(dial(fd, "BAD"), EISCONN);
	ECHOES(fd);
}

static void nonblocking(void)
{
	int fd = tcp_nonblocking();
	if (dial(fd, "ECHO") != 0)
		EQUAL(errno, EINPROGRESS);
	EQUAL(wait_for(fd, POLLOUT), POLLOUT);
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);
	is_at(fd, "ECHO");
	ECHOES(fd);
}

static void nonblocking_again_is_0_then_eisconn(void)
{
	int fd = tcp_nonblocking();
	if (dial(fd, "ECHO") == 0)
		FAILS(dial(fd, "ECHO"), EISCONN);
	EQUAL(wait_for(fd, POLLOUT), POLLOUT);
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);
	if (dial(fd, "ECHO") != 0)
		EQUAL(errno, EISCONN);
	FAILS(dial(fd, "ECHO"), EISCONN);
	ECHOES(fd);
}

static void refused(void)
{
	int fd = tcp();
	FAILS(dial(fd, "BAD"), bad_errno());
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);
	char byte = 0;
	FAILS(send(fd, &byte, 1, MSG_NOSIGNAL), EPIPE);
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	FAILS(getpeername(fd, (struct sockaddr *)&a, &len), ENOTCONN);
}

static void refused_nonblocking(void)
{
	int fd = tcp_nonblocking();
	if (dial(fd, "BAD") == 0 || errno != EINPROGRESS)
		FAIL("the refusal came at once");
	int events = wait_for(fd, POLLOUT);
	if ((events & (POLLERR | POLLHUP)) != (POLLERR | POLLHUP))
		FAIL("poll: %#x, want POLLERR and POLLHUP", events);
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), bad_errno());
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);
}

static void refused_nonblocking_told_by_connect(void)
{
	int fd = tcp_nonblocking();
	FAILS(dial(fd, "BAD"), EINPROGRESS);
	wait_for(fd, POLLOUT);
	FAILS(dial(fd, "BAD"), bad_errno());
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);
}

/* A socket whose connect has failed, and nobody has asked. */
static int failed_untold(void)
{
	int fd = tcp_nonblocking();
	FAILS(dial(fd, "BAD"), EINPROGRESS);
	wait_for(fd, POLLOUT);
	return fd;
}

/* The first call tells, and what comes after it finds the end. */
#define TELLS(call)                                                                               \
	do {                                                                                      \
		int fd = failed_untold();                                                         \
		FAILS(call, bad_errno());                                                         \
		EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);                                       \
		EQUAL(read(fd, byte, 1), 0);                                                      \
		FAILS(send(fd, byte, 1, MSG_NOSIGNAL), EPIPE);                                    \
		close(fd);                                                                        \
	} while (0)

static void refused_nonblocking_told_by_the_first_read(void)
{
	char byte[1] = "";
	struct iovec part = {byte, 1};
	struct mmsghdr m = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
	TELLS(read(fd, byte, 1));
	TELLS(readv(fd, &part, 1));
	TELLS(recv(fd, byte, 1, 0));
	TELLS(recvfrom(fd, byte, 1, 0, NULL, NULL));
	TELLS(recvmsg(fd, &m.msg_hdr, 0));
	TELLS(recvmmsg(fd, &m, 1, 0, NULL));
}

static void refused_nonblocking_told_by_the_first_send(void)
{
	char byte[1] = "";
	struct iovec part = {byte, 1};
	struct mmsghdr m = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
	TELLS(send(fd, byte, 1, MSG_NOSIGNAL));
	TELLS(sendto(fd, byte, 1, MSG_NOSIGNAL, NULL, 0));
	TELLS(sendmsg(fd, &m.msg_hdr, MSG_NOSIGNAL));
	TELLS(sendmmsg(fd, &m, 1, MSG_NOSIGNAL));
}

/* Who asks is told, and reading tells no more. */
static void a_read_after_so_error_is_the_end(void)
{
	char byte;
	int fd = failed_untold();
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), bad_errno());
	EQUAL(read(fd, &byte, 1), 0);
}

static void starts_over_after_refusal(void)
{
	int fd = tcp();
	FAILS(dial(fd, "BAD"), bad_errno());
	OK(dial(fd, "ECHO"));
	is_at(fd, "ECHO");
	ECHOES(fd);
}

static void starts_over_after_so_error(void)
{
	int fd = tcp_nonblocking();
	FAILS(dial(fd, "BAD"), EINPROGRESS);
	wait_for(fd, POLLOUT);
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), bad_errno());
	/* TCP says ECONNABORTED once where SO_ERROR took the error (inet_stream_connect). */
	if (dial(fd, "ECHO") < 0 && errno == ECONNABORTED && dial(fd, "ECHO") < 0)
		EQUAL(errno, EINPROGRESS);
	EQUAL(wait_for(fd, POLLOUT), POLLOUT);
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);
	is_at(fd, "ECHO");
	ECHOES(fd);
}

static void starts_over_many_times(void)
{
	int fd = tcp();
	for (int i = 0; i < 20; i++)
		FAILS(dial(fd, "BAD"), bad_errno());
	OK(dial(fd, "ECHO"));
	ECHOES(fd);
}

static void options_survive_a_refusal(void)
{
	int fd = tcp();
	struct timeval limit = {7, 0};
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(fd, IPPROTO_IP, IP_TOS, IPTOS_LOWDELAY);
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	OK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
	OK(fcntl(fd, F_SETFD, FD_CLOEXEC));
	FAILS(dial(fd, "BAD"), bad_errno());
	for (int round = 0; round < 2; round++) {
		EQUAL(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
		EQUAL(option(fd, IPPROTO_IP, IP_TOS), IPTOS_LOWDELAY);
		EQUAL(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
		socklen_t len = sizeof limit;
		limit.tv_sec = 0;
		OK(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, &len));
		EQUAL(limit.tv_sec, 7);
		EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
		if (round == 0)
			OK(dial(fd, "ECHO"));
	}
	ECHOES(fd);
}

static void disconnect(int fd)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	OK(connect(fd, &none, sizeof none));
}

static void af_unspec_disconnects(void)
{
	int fd = connected("ECHO");
	disconnect(fd);
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	FAILS(getpeername(fd, (struct sockaddr *)&a, &len), ENOTCONN);
	OK(dial(fd, "ECHO"));
	ECHOES(fd);
	disconnect(fd);
	OK(dial(fd, "PLAIN"));
	ECHOES(fd);
}

static void af_unspec_after_refusal(void)
{
	int fd = tcp();
	FAILS(dial(fd, "BAD"), bad_errno());
	disconnect(fd);
	OK(dial(fd, "ECHO"));
	ECHOES(fd);
}

static void af_unspec_on_a_new_socket(void)
{
	int fd = tcp();
	disconnect(fd);
	OK(dial(fd, "ECHO"));
	ECHOES(fd);
}

static void plain_then_covered(void)
{
	int fd = connected("PLAIN");
	ECHOES(fd);
	disconnect(fd);
	OK(dial(fd, "ECHO"));
	ECHOES(fd);
}

static void closed_port(void)
{
	int fd = tcp();
	FAILS(dial(fd, "CLOSED"), ECONNREFUSED);
	OK(dial(fd, "ECHO"));
	ECHOES(fd);
}

/* A program that does not know the errno may go on, and ask again at once. */
static void asking_again_at_once_makes_no_handshake(void)
{
	int fd = tcp_nonblocking(), error = EINPROGRESS;
	for (int i = 0; i < 20 || error == EINPROGRESS; i++) {
		error = dial(fd, "BAD") == 0 ? 0 : errno;
		if (error == EINPROGRESS || error == EALREADY)
			wait_for(fd, POLLOUT);
		else
			EQUAL(error, EKEYREJECTED);
	}
	for (int i = 0; i < 5; i++)
		FAILS(dial(tcp(), "BAD"), EKEYREJECTED);
	int handshakes = atoi(ask("accepted BAD"));
	if (handshakes > 8) /* one a second */
		FAIL("%d handshakes", handshakes);
	set_blocking(fd, true);
	OK(dial(fd, "ECHO"));
}

/* Of a program that has a page there, such as a DOS emulator, no byte of it goes out. */
static void memory_at_0_is_not_sent(void)
{
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (page == MAP_FAILED) {
		printf("this test needs CAP_SYS_RAWIO\n");
		return;
	}
	int fd = connected("SINK");
	OK(shutdown(fd, SHUT_WR));
	if (strncmp(ask("got SINK"), "0 ", 2) != 0)
		FAIL("the server got a byte");
}

const struct test tests[] = {
	{"memory_at_0_is_not_sent", BOTH, memory_at_0_is_not_sent},
	{"blocking", BOTH, blocking},
	{"blocking_again_is_eisconn", BOTH, blocking_again_is_eisconn},
	{"nonblocking", BOTH, nonblocking},
	{"nonblocking_again_is_0_then_eisconn", BOTH, nonblocking_again_is_0_then_eisconn},
	{"refused", BOTH, refused},
	{"refused_nonblocking", BOTH, refused_nonblocking},
	{"refused_nonblocking_told_by_connect", BOTH, refused_nonblocking_told_by_connect},
	{"refused_nonblocking_told_by_the_first_read", BOTH, refused_nonblocking_told_by_the_first_read},
	{"refused_nonblocking_told_by_the_first_send", BOTH, refused_nonblocking_told_by_the_first_send},
	{"a_read_after_so_error_is_the_end", BOTH, a_read_after_so_error_is_the_end},
	{"starts_over_after_refusal", BOTH, starts_over_after_refusal},
	{"starts_over_after_so_error", BOTH, starts_over_after_so_error},
	{"starts_over_many_times", BOTH, starts_over_many_times},
	{"options_survive_a_refusal", BOTH, options_survive_a_refusal},
	{"af_unspec_disconnects", BOTH, af_unspec_disconnects},
	{"af_unspec_after_refusal", BOTH, af_unspec_after_refusal},
	{"af_unspec_on_a_new_socket", BOTH, af_unspec_on_a_new_socket},
	{"plain_then_covered", BOTH, plain_then_covered},
	{"closed_port", BOTH, closed_port},
	{"asking_again_at_once_makes_no_handshake", WRAPPED, asking_again_at_once_makes_no_handshake},
	{0},
};
