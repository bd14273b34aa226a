/* Programs that serve: listen, accept, bind, and what is asked of such sockets. */
#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

static int serve_port(void) { return setting("PORT_SERVE"); }

static struct sockaddr_in here(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return a;
}

static int bound_to(int port)
{
	struct sockaddr_in a = here(port);
	int fd = tcp();
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	OK(bind(fd, (struct sockaddr *)&a, sizeof a));
	return fd;
}

static int listening(void)
{
	int fd = bound_to(serve_port());
	OK(listen(fd, 16));
	return fd;
}

/* One more client connects. Returns its number; its port on request. */
static int client(const char *how, int to, int *its_port)
{
	int number, port;
	const char *answer = ask("%s %d", how, to);
	if (sscanf(answer, "%d 127.0.0.1:%d", &number, &port) != 2)
		FAIL("the client says %s", answer);
	if (its_port)
		*its_port = port;
	return number;
}

static int dialled(void) { return client("dial", serve_port(), NULL); }

#define ANSWERS(want, ...)                                                                        \
	do {                                                                                      \
		const char *got_ = ask(__VA_ARGS__);                                              \
		if (strcmp(got_, (want)) != 0)                                                    \
			FAIL("the client says %s, want %s", got_, (want));                        \
	} while (0)

/* A line comes from the client, and one goes to it. */
static void talks(int fd, int number)
{
	char line[8] = "";
	ANSWERS("ok", "say %d hello", number);
	wait_for(fd, POLLIN);
	EQUAL(recv(fd, line, sizeof line, 0), 6);
	EQUAL(memcmp(line, "hello\n", 6), 0);
	EQUAL(send(fd, "answer\n", 7, MSG_NOSIGNAL), 7);
	ANSWERS("answer", "hear %d", number);
}

static void accepts(void)
{
	int fd = listening();
	int number = dialled(), conn = (int)OK(accept(fd, NULL, NULL));
	talks(conn, number);
	OK(close(conn));
	ANSWERS("eof", "hear %d", number);
}

static void addresses_are_the_clients(void)
{
	int fd = listening(), port;
	client("dial", serve_port(), &port);
	struct sockaddr_in a, b;
	socklen_t len = sizeof a;
	int conn = (int)OK(accept(fd, (struct sockaddr *)&a, &len));
	EQUAL(len, sizeof a);
	EQUAL(a.sin_family, AF_INET);
	EQUAL(ntohs(a.sin_port), port);
	EQUAL(ntohl(a.sin_addr.s_addr), INADDR_LOOPBACK);
	len = sizeof b;
	OK(getpeername(conn, (struct sockaddr *)&b, &len));
	EQUAL(len, sizeof b);
	EQUAL(memcmp(&a, &b, sizeof a), 0);
	len = sizeof b;
	OK(getsockname(conn, (struct sockaddr *)&b, &len));
	EQUAL(ntohs(b.sin_port), serve_port());
	EQUAL(ntohl(b.sin_addr.s_addr), INADDR_LOOPBACK);
}

static void short_addresses_are_cut(void)
{
	int fd = listening(), port;
	client("dial", serve_port(), &port);
	unsigned char a[sizeof(struct sockaddr_in)];
	memset(a, 0xaa, sizeof a);
	socklen_t len = 4;
	OK(accept(fd, (struct sockaddr *)a, &len));
	EQUAL(len, sizeof(struct sockaddr_in));
	EQUAL(a[2] << 8 | a[3], port);
	EQUAL(a[4], 0xaa);
}

static void dual_stack_sees_mapped_clients(void)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)serve_port())};
	int fd = (int)OK(socket(AF_INET6, SOCK_STREAM, 0));
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	OK(bind(fd, (struct sockaddr *)&a, sizeof a));
	OK(listen(fd, 1));
	int port, number = client("dial", serve_port(), &port);
	socklen_t len = sizeof a;
	int conn = (int)OK(accept(fd, (struct sockaddr *)&a, &len));
	EQUAL(len, sizeof a);
	EQUAL(a.sin6_family, AF_INET6);
	EQUAL(ntohs(a.sin6_port), port);
	CHECK(IN6_IS_ADDR_V4MAPPED(&a.sin6_addr));
	talks(conn, number);
}

static void accept4_sets_flags(void)
{
	int fd = listening();
	dialled();
	dialled();
	int plain = (int)OK(accept4(fd, NULL, NULL, 0));
	EQUAL(fcntl(plain, F_GETFD), 0);
	EQUAL(fcntl(plain, F_GETFL) & O_NONBLOCK, 0);
	int set = (int)OK(accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
	EQUAL(fcntl(set, F_GETFD), FD_CLOEXEC);
	EQUAL(fcntl(set, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	char byte;
	FAILS(recv(set, &byte, 1, 0), EAGAIN);
#ifdef __GLIBC__ /* musl tries again without flags, and waits */
	FAILS(accept4(fd, NULL, NULL, 0x1234), EINVAL);
#endif
}

static void nonblocking_accept(void)
{
	int fd = listening();
	set_blocking(fd, false);
	EQUAL(poll_now(fd, POLLIN | POLLOUT), 0);
	FAILS(accept(fd, NULL, NULL), EAGAIN);
	int number = dialled();
	EQUAL(wait_for(fd, POLLIN), POLLIN);
	int conn = (int)OK(accept(fd, NULL, NULL));
	EQUAL(fcntl(conn, F_GETFL) & O_NONBLOCK, 0);
	FAILS(accept(fd, NULL, NULL), EAGAIN);
	talks(conn, number);
}

static void by_raw_calls(void)
{
	int fd = bound_to(serve_port());
#ifdef SYS_listen
	OK(syscall(SYS_listen, fd, 16));
	int number = dialled();
	int conn = (int)OK(syscall(SYS_accept4, fd, NULL, NULL, SOCK_CLOEXEC));
	EQUAL(fcntl(conn, F_GETFD), FD_CLOEXEC);
	talks(conn, number);
#endif
}

static void listener_says_what_it_is(void)
{
	int fd = listening();
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	OK(getsockname(fd, (struct sockaddr *)&a, &len));
	EQUAL(len, sizeof a);
	EQUAL(a.sin_family, AF_INET);
	EQUAL(ntohs(a.sin_port), serve_port());
	EQUAL(ntohl(a.sin_addr.s_addr), INADDR_LOOPBACK);
	FAILS(getpeername(fd, (struct sockaddr *)&a, &len), ENOTCONN);
	EQUAL(option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
	EQUAL(option(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
	EQUAL(option(fd, SOL_SOCKET, SO_DOMAIN), AF_INET);
	EQUAL(option(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);
	EQUAL(option(fd, SOL_SOCKET, SO_REUSEADDR), 1);
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	EQUAL(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
}

static void listener_is_no_connection(void)
{
	int fd = listening();
	struct sockaddr_in a = here(serve_port());
	char byte = 'x';
	FAILS(connect(fd, (struct sockaddr *)&a, sizeof a), EISCONN);
	FAILS(recv(fd, &byte, 1, 0), is_wrapped() ? EINVAL : ENOTCONN);
	FAILS(send(fd, &byte, 1, MSG_NOSIGNAL), is_wrapped() ? ENOTCONN : EPIPE);
	OK(listen(fd, 5)); /* the backlog may change */
	int number = dialled();
	talks((int)OK(accept(fd, NULL, NULL)), number);
}

static void accepted_has_tcps_options(void)
{
	int fd = listening();
	int number = dialled(), conn = (int)OK(accept(fd, NULL, NULL));
	EQUAL(option(conn, SOL_SOCKET, SO_DOMAIN), AF_INET);
	EQUAL(option(conn, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
	EQUAL(option(conn, SOL_SOCKET, SO_ACCEPTCONN), 0);
	set_option(conn, SOL_SOCKET, SO_KEEPALIVE, 1);
	EQUAL(option(conn, SOL_SOCKET, SO_KEEPALIVE), 1);
	set_option(conn, IPPROTO_TCP, TCP_NODELAY, 1);
	EQUAL(option(conn, IPPROTO_TCP, TCP_NODELAY), 1);
	EQUAL(option(conn, SOL_SOCKET, SO_ERROR), 0);
	talks(conn, number);
}

static void accepted_inherits_timeouts(void)
{
	for (int when = 0; when <= 1; when++) {
		struct timeval receive = {3, 0}, send = {4, 0}, got;
		int fd = bound_to(serve_port());
		if (when == 1)
			OK(listen(fd, 16));
		OK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &receive, sizeof receive));
		OK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &send, sizeof send));
		set_option(fd, SOL_SOCKET, SO_RCVLOWAT, 2);
		if (when == 0)
			OK(listen(fd, 16));
		int number = dialled(), conn = (int)OK(accept(fd, NULL, NULL));
		socklen_t len = sizeof got;
		OK(getsockopt(conn, SOL_SOCKET, SO_RCVTIMEO, &got, &len));
		EQUAL(got.tv_sec, 3);
		len = sizeof got;
		OK(getsockopt(conn, SOL_SOCKET, SO_SNDTIMEO, &got, &len));
		EQUAL(got.tv_sec, 4);
		EQUAL(option(conn, SOL_SOCKET, SO_RCVLOWAT), 2);
		talks(conn, number);
		OK(close(conn));
		OK(close(fd));
	}
}

static void half_close_both_ways(void)
{
	int fd = listening();
	int number = dialled(), conn = (int)OK(accept(fd, NULL, NULL));
	char byte;
	ANSWERS("ok", "finish %d", number);
	EQUAL(recv(conn, &byte, 1, 0), 0);
	EQUAL(send(conn, "still\n", 6, MSG_NOSIGNAL), 6);
	ANSWERS("still", "hear %d", number);
	OK(shutdown(conn, SHUT_WR));
	ANSWERS("eof", "hear %d", number);
}

static void abort_is_a_reset(void)
{
	int fd = listening();
	int number = dialled(), conn = (int)OK(accept(fd, NULL, NULL));
	char byte;
	talks(conn, number);
	ANSWERS("ok", "abort %d", number);
	wait_for(conn, POLLIN);
	FAILS(recv(conn, &byte, 1, 0), ECONNRESET);
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	OK(getsockname(conn, (struct sockaddr *)&a, &len));
	EQUAL(ntohs(a.sin_port), serve_port());
	EQUAL(option(conn, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
	FAILS(getpeername(conn, (struct sockaddr *)&a, &len), ENOTCONN);
}

/* In the order in which their handshakes have ended, which is not always that of connect. */
static void all_clients_come(void)
{
	int fd = listening();
	enum { CLIENTS = 5 };
	int number[CLIENTS], port[CLIENTS];
	for (int i = 0; i < CLIENTS; i++)
		number[i] = client("dial", serve_port(), &port[i]);
	for (int i = 0; i < CLIENTS; i++) {
		struct sockaddr_in a;
		socklen_t len = sizeof a;
		int conn = (int)OK(accept(fd, (struct sockaddr *)&a, &len)), who = 0;
		while (who < CLIENTS && port[who] != ntohs(a.sin_port))
			who++;
		CHECK(who < CLIENTS);
		talks(conn, number[who]);
		port[who] = -1;
	}
}

static void *accept_one(void *listener)
{
	int conn = (int)OK(accept(*(int *)listener, NULL, NULL));
	char line[8];
	EQUAL(recv(conn, line, sizeof line, 0), 6);
	EQUAL(send(conn, "answer\n", 7, MSG_NOSIGNAL), 7);
	return NULL;
}

static void threads_wait_for_clients(void)
{
	int fd = listening();
	enum { THREADS = 4 };
	pthread_t thread[THREADS];
	for (int i = 0; i < THREADS; i++)
		EQUAL(pthread_create(&thread[i], NULL, accept_one, &fd), 0);
	for (int i = 0; i < THREADS; i++) {
		int number = dialled();
		ANSWERS("ok", "say %d hello", number);
		ANSWERS("answer", "hear %d", number);
	}
	for (int i = 0; i < THREADS; i++)
		EQUAL(pthread_join(thread[i], NULL), 0);
}

static void children_and_duplicates_accept(void)
{
	int fd = listening(), copy = (int)OK(dup(fd)), status;
	OK(close(fd));
	int first = dialled();
	pid_t pid = (pid_t)OK(fork());
	if (pid == 0) {
		talks((int)OK(accept(copy, NULL, NULL)), first);
		_exit(0);
	}
	OK(waitpid(pid, &status, 0));
	EQUAL(status, 0);
	int second = dialled();
	talks((int)OK(accept(copy, NULL, NULL)), second);
}

static void epoll_from_before_listen(void)
{
	int fd = bound_to(serve_port()), set = (int)OK(epoll_create1(0));
	struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.u32 = 7};
	OK(epoll_ctl(set, EPOLL_CTL_ADD, fd, &e));
	OK(listen(fd, 4));
	set_blocking(fd, false);
	for (int i = 0; i < 3; i++) {
		int number = dialled();
		do
			EQUAL(epoll_wait(set, &e, 1, FOREVER), 1);
		while (!(e.events & EPOLLIN)); /* before listen a socket has hung up */
		EQUAL(e.data.u32, 7);
		talks((int)OK(accept(fd, NULL, NULL)), number);
	}
}

static void ignore(int signal) { (void)signal; }

static void accept_is_interrupted(void)
{
	int fd = listening();
	struct sigaction act = {.sa_handler = ignore};
	struct itimerval soon = {{0, 20000}, {0, 20000}}, never = {{0, 0}, {0, 0}};
	OK(sigaction(SIGALRM, &act, NULL));
	OK(setitimer(ITIMER_REAL, &soon, NULL));
	FAILS(accept(fd, NULL, NULL), EINTR);
	OK(setitimer(ITIMER_REAL, &never, NULL));
}

static void accept_times_out(void)
{
	int fd = listening();
	struct timeval limit = {0, 50000};
	OK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
	FAILS(accept(fd, NULL, NULL), EAGAIN);
}

static void *shut_soon(void *listener)
{
	while (poll_now(*(int *)listener, POLLIN) == 0 && usleep(20000) == 0)
		OK(shutdown(*(int *)listener, SHUT_RDWR));
	return NULL;
}

static void shutdown_ends_accept(void)
{
	int fd = listening();
	pthread_t thread;
	EQUAL(pthread_create(&thread, NULL, shut_soon, &fd), 0);
	FAILS(accept(fd, NULL, NULL), EINVAL);
	EQUAL(pthread_join(thread, NULL), 0);
}

static _Atomic pid_t accepting;

static void *accept_nobody(void *listener)
{
	accepting = (pid_t)syscall(SYS_gettid);
	accept(*(int *)listener, NULL, NULL);
	return NULL;
}

#if defined(SYS_accept)
#define OTHER_ACCEPT SYS_accept
#else
#define OTHER_ACCEPT SYS_accept4
#endif

static void cancels_accept(int fd)
{
	pthread_t thread;
	void *result;
	int before = open_descriptors();
	EQUAL(pthread_create(&thread, NULL, accept_nobody, &fd), 0);
	while (!accepting)
		sched_yield();
	wait_until_in(accepting, fd, SYS_accept4, OTHER_ACCEPT);
	EQUAL(pthread_cancel(thread), 0);
	EQUAL(pthread_join(thread, &result), 0);
	CHECK(result == PTHREAD_CANCELED);
	EQUAL(open_descriptors(), before);
}

static void accept_is_cancelled(void)
{
	int fd = listening();
	cancels_accept(fd);
	int number = dialled();
	talks((int)OK(accept(fd, NULL, NULL)), number);
}

static void a_native_accept_is_cancelled(void)
{
	int fd = tcp();
	OK(listen(fd, 1));
	cancels_accept(fd);
}

static void port_is_free_after_close(void)
{
	for (int i = 0; i < 3; i++) {
		int fd = listening();
		int number = dialled(), conn = (int)OK(accept(fd, NULL, NULL));
		OK(close(fd));
		talks(conn, number); /* outlives the listener */
		OK(close(conn));
		ANSWERS("eof", "hear %d", number);
	}
}

/* Connects to itself: 0 or an errno. */
static int calls_itself(void)
{
	struct sockaddr_in a = here(serve_port());
	int fd = tcp(), error = connect(fd, (struct sockaddr *)&a, sizeof a) < 0 ? errno : 0;
	OK(close(fd));
	return error;
}

static void a_closed_listener_refuses_at_once(void)
{
	for (int i = 0; i < 5; i++) {
		int fd = listening();
		EQUAL(calls_itself(), 0);
		OK(close(fd));
		EQUAL(calls_itself(), ECONNREFUSED);
		fd = listening();
		OK(dup2(DRIVER, fd));
		EQUAL(calls_itself(), ECONNREFUSED);
		OK(close(fd));
	}
}

static void a_listener_lasts_as_long_as_a_child_has_it(void)
{
	int fd = listening(), ends[2], status;
	OK(pipe(ends));
	pid_t pid = (pid_t)OK(fork());
	if (pid == 0) {
		char byte;
		OK(close(ends[1]));
		_exit((int)read(ends[0], &byte, 1));
	}
	OK(close(fd));
	int number = dialled();
	EQUAL(calls_itself(), 0);
	OK(close(ends[1]));
	OK(waitpid(pid, &status, 0));
	EQUAL(status, 0);
	EQUAL(calls_itself(), ECONNREFUSED);
	ANSWERS("reset", "hear %d", number);
}

/* Started with standard input and output in the place of the child's. */
static void says_that_it_runs(void)
{
	char byte = 'r';
	EQUAL(write(1, &byte, 1), 1);
	EQUAL(read(0, &byte, 1), 0);
}

static void exec_closes_a_listener(void)
{
	int in[2], out[2], status;
	char byte;
	OK(pipe2(in, O_CLOEXEC));
	OK(pipe2(out, O_CLOEXEC));
	pid_t pid = (pid_t)OK(fork());
	if (pid == 0) {
		OK(fcntl(listening(), F_SETFD, FD_CLOEXEC));
		OK(dup2(in[0], 0));
		OK(dup2(out[1], 1));
		OK(execv(arguments[0], (char *[]){arguments[0], (char *)"says_that_it_runs", NULL}));
	}
	OK(close(in[0]));
	OK(close(out[1]));
	EQUAL(read(out[0], &byte, 1), 1);
	EQUAL(calls_itself(), ECONNREFUSED);
	OK(close(in[1]));
	OK(waitpid(pid, &status, 0));
	EQUAL(status, 0);
}

/* Whoever waits when a program stops to listen is reset, however it stops. */
static void whom_nobody_accepts_is_reset(void)
{
	enum { CLOSED, OVERWRITTEN, SHUT, KILLED, WAYS };
	for (int how = 0; how < WAYS; how++) {
		int fd = listening(), status;
		int waits = dialled(), speaks = dialled(), silent = client("stall", serve_port(), NULL);
		ANSWERS("ok", "say %d hello", speaks);
		if (how == OVERWRITTEN)
			OK(dup2(DRIVER, fd));
		if (how == SHUT)
			OK(shutdown(fd, SHUT_RDWR));
		pid_t pid = how == KILLED ? (pid_t)OK(fork()) : -1;
		if (pid == 0)
			for (;;)
				pause();
		OK(close(fd));
		if (how == KILLED) {
			OK(kill(pid, SIGKILL));
			OK(waitpid(pid, &status, 0));
		}
		ANSWERS("reset", "hear %d", waits);
		ANSWERS("reset", "hear %d", speaks);
		ANSWERS("reset", "hear %d", silent);
	}
}

/* A thread that waits in accept does not keep alive what its process listened on. */
static void a_killed_process_does_not_listen(void)
{
	for (int i = 0; i < 3; i++) {
		int fd = listening(), status;
		pid_t pid = (pid_t)OK(fork());
		if (pid == 0) {
			for (;;)
				OK(accept(fd, NULL, NULL));
		}
		OK(close(fd));
		wait_until_in(pid, fd, SYS_accept4, OTHER_ACCEPT);
		OK(kill(pid, SIGKILL));
		OK(waitpid(pid, &status, 0));
		EQUAL(calls_itself(), ECONNREFUSED);
		OK(close(listening()));
	}
}

/* Whether anybody listens at a port, as /proc/net/tcp has it. */
static bool somebody_listens(int at)
{
	char line[256], want[32];
	bool found = false;
	FILE *file = fopen("/proc/net/tcp", "r");
	CHECK(file);
	snprintf(want, sizeof want, ":%04X 00000000:0000 0A ", (unsigned)at);
	while (fgets(line, sizeof line, file))
		found |= strstr(line, want) != NULL;
	fclose(file);
	return found;
}

static void a_closed_listener_leaves_its_port(void)
{
	struct timespec start, now;
	int fd = listening();
	OK(clock_gettime(CLOCK_MONOTONIC, &start));
	CHECK(somebody_listens(serve_port()));
	OK(close(fd));
	while (somebody_listens(serve_port())) {
		OK(clock_gettime(CLOCK_MONOTONIC, &now));
		CHECK(now.tv_sec - start.tv_sec < 2 && "it does not take a second");
	}
}

static void port_is_taken_while_it_listens(void)
{
	struct sockaddr_in a = here(serve_port());
	listening();
	FAILS(bind(tcp(), (struct sockaddr *)&a, sizeof a), EADDRINUSE);
}

static void what_does_not_listen_cannot_accept(void)
{
	int pipes[2];
	OK(pipe(pipes));
	FAILS(accept(bound_to(serve_port()), NULL, NULL), EINVAL);
	FAILS(accept(pipes[0], NULL, NULL), ENOTSOCK);
	FAILS(accept(-1, NULL, NULL), EBADF);
	FAILS(listen(pipes[0], 1), ENOTSOCK);
	FAILS(listen(-1, 1), EBADF);
}

static void other_ports_are_native(void)
{
	struct sockaddr_in a = here(0);
	socklen_t len = sizeof a;
	int fd = tcp(), caller = tcp();
	OK(bind(fd, (struct sockaddr *)&a, sizeof a));
	OK(listen(fd, 1));
	OK(getsockname(fd, (struct sockaddr *)&a, &len));
	OK(connect(caller, (struct sockaddr *)&a, sizeof a));
	int conn = (int)OK(accept(fd, NULL, NULL));
	EQUAL(send(caller, "x", 1, 0), 1);
	char byte = 0;
	EQUAL(recv(conn, &byte, 1, 0), 1);
	EQUAL(byte, 'x');
}

static void clients_words_name_no_sender(void)
{
	int fd = listening(), number = dialled(), conn = (int)OK(accept(fd, NULL, NULL));
	struct sockaddr_storage from;
	struct iovec part;
	char line[8];
	for (int how = 0; how < 3; how++) {
		socklen_t len = sizeof from;
		struct mmsghdr m = {.msg_hdr = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1}};
		part = (struct iovec){line, sizeof line};
		ANSWERS("ok", "say %d hello", number);
		wait_for(conn, POLLIN);
		if (how == 0)
			EQUAL(recvfrom(conn, line, sizeof line, 0, (struct sockaddr *)&from, &len), 6);
		else if (how == 1)
			EQUAL(recvmsg(conn, &m.msg_hdr, 0), 6);
		else
			EQUAL(recvmmsg(conn, &m, 1, 0, NULL), 1);
		EQUAL(how == 0 ? len : m.msg_hdr.msg_namelen, 0);
	}
}

static void nothing_stays_open(void)
{
	int before = open_descriptors();
	for (int i = 0; i < 3; i++) {
		int fd = listening(), number = dialled();
		int conn = (int)OK(accept(fd, NULL, NULL));
		talks(conn, number);
		OK(close(conn));
		OK(close(fd));
	}
	EQUAL(open_descriptors(), before);
}

/* A server may take a client for idle whose first words are not there yet. */
static void what_came_with_the_handshake_is_there(void)
{
	enum { CLIENTS = 40 };
	int fd = listening(), late = 0;
	for (int i = 0; i < CLIENTS; i++) {
		char line[8];
		client("greet", serve_port(), NULL);
		int conn = (int)OK(accept(fd, NULL, NULL));
		if (recv(conn, line, sizeof line, MSG_DONTWAIT) != 6)
			late++;
		OK(close(conn));
	}
	EQUAL(late, 0);
}

/* A client that never shakes hands is not seen, and does not stand in others' way. */
static void silent_clients_are_not_seen(void)
{
	int fd = listening();
	for (int i = 0; i < 20; i++)
		client("stall", serve_port(), NULL);
	set_blocking(fd, false);
	FAILS(accept(fd, NULL, NULL), EAGAIN);
	int number = dialled();
	EQUAL(wait_for(fd, POLLIN), POLLIN);
	talks((int)OK(accept(fd, NULL, NULL)), number);
	FAILS(accept(fd, NULL, NULL), EAGAIN);
}

const struct test tests[] = {
	{"accepts", BOTH, accepts},
	{"addresses_are_the_clients", BOTH, addresses_are_the_clients},
	{"short_addresses_are_cut", BOTH, short_addresses_are_cut},
	{"dual_stack_sees_mapped_clients", BOTH, dual_stack_sees_mapped_clients},
	{"accept4_sets_flags", BOTH, accept4_sets_flags},
	{"nonblocking_accept", BOTH, nonblocking_accept},
	{"by_raw_calls", BOTH, by_raw_calls},
	{"listener_says_what_it_is", BOTH, listener_says_what_it_is},
	{"listener_is_no_connection", BOTH, listener_is_no_connection},
	{"accepted_has_tcps_options", BOTH, accepted_has_tcps_options},
	{"accepted_inherits_timeouts", BOTH, accepted_inherits_timeouts},
	{"half_close_both_ways", BOTH, half_close_both_ways},
	{"abort_is_a_reset", BOTH, abort_is_a_reset},
	{"all_clients_come", BOTH, all_clients_come},
	{"threads_wait_for_clients", BOTH, threads_wait_for_clients},
	{"children_and_duplicates_accept", BOTH, children_and_duplicates_accept},
	{"epoll_from_before_listen", BOTH, epoll_from_before_listen},
	{"accept_is_interrupted", BOTH, accept_is_interrupted},
	{"accept_times_out", BOTH, accept_times_out},
	{"shutdown_ends_accept", BOTH, shutdown_ends_accept},
	{"accept_is_cancelled", BOTH, accept_is_cancelled},
	{"a_native_accept_is_cancelled", BOTH, a_native_accept_is_cancelled},
	{"port_is_free_after_close", BOTH, port_is_free_after_close},
	{"a_closed_listener_refuses_at_once", BOTH, a_closed_listener_refuses_at_once},
	{"a_listener_lasts_as_long_as_a_child_has_it", BOTH, a_listener_lasts_as_long_as_a_child_has_it},
	{"says_that_it_runs", HELPER, says_that_it_runs},
	{"exec_closes_a_listener", BOTH, exec_closes_a_listener},
	{"whom_nobody_accepts_is_reset", BOTH, whom_nobody_accepts_is_reset},
	{"a_killed_process_does_not_listen", BOTH, a_killed_process_does_not_listen},
	{"a_closed_listener_leaves_its_port", BOTH, a_closed_listener_leaves_its_port},
	{"port_is_taken_while_it_listens", BOTH, port_is_taken_while_it_listens},
	{"what_does_not_listen_cannot_accept", BOTH, what_does_not_listen_cannot_accept},
	{"other_ports_are_native", BOTH, other_ports_are_native},
	{"clients_words_name_no_sender", BOTH, clients_words_name_no_sender},
	{"nothing_stays_open", BOTH, nothing_stays_open},
	{"what_came_with_the_handshake_is_there", WRAPPED, what_came_with_the_handshake_is_there},
	{"silent_clients_are_not_seen", WRAPPED, silent_clients_are_not_seen},
	{NULL, NULL, NULL},
};
