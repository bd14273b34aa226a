/* A connection that is being set up: what works on it, what interrupts it, how it ends. */
#include "check.h"

#include <pthread.h>
#include <setjmp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/wait.h>

static int pending(void)
{
	int fd = tcp_nonblocking();
	FAILS(dial(fd, "PENDING"), EINPROGRESS);
	return fd;
}

static void goes_on_well(int fd)
{
	tell("release");
	EQUAL(wait_for(fd, POLLOUT), POLLOUT);
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);
	ECHOES(fd);
}

static void is_neither_readable_nor_writable(void)
{
	int fd = pending();
	fd_set in, out;
	struct timeval now = {0, 0};
	EQUAL(poll_now(fd, POLLIN | POLLOUT | POLLRDHUP), 0);
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(fd, &in);
	FD_SET(fd, &out);
	EQUAL(select(fd + 1, &in, &out, NULL, &now), 0);
	goes_on_well(fd);
}

static void send_and_recv_would_block(void)
{
	int fd = pending();
	char byte = 'x';
	FAILS(send(fd, &byte, 1, MSG_NOSIGNAL), EAGAIN);
	FAILS(write(fd, &byte, 1), EAGAIN);
	FAILS(recv(fd, &byte, 1, 0), EAGAIN);
	FAILS(read(fd, &byte, 1), EAGAIN);
	goes_on_well(fd);
}

static void has_no_peer_and_no_error(void)
{
	int fd = pending();
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	FAILS(getpeername(fd, (struct sockaddr *)&a, &len), ENOTCONN);
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);
	OK(getsockname(fd, (struct sockaddr *)&a, &len));
	EQUAL(a.sin_family, AF_INET);
	goes_on_well(fd);
	len = sizeof a;
	OK(getpeername(fd, (struct sockaddr *)&a, &len));
}

static void second_connect_is_ealready(void)
{
	int fd = pending();
	FAILS(dial(fd, "PENDING"), EALREADY);
	FAILS(dial(fd, "ECHO"), EALREADY);
	goes_on_well(fd);
}

static void second_connect_that_blocks_waits(void)
{
	int fd = pending();
	set_blocking(fd, true);
	tell("release");
	OK(dial(fd, "PENDING"));
	FAILS(dial(fd, "PENDING"), EISCONN);
	ECHOES(fd);
}

static void refused_late(void)
{
	int fd = pending();
	EQUAL(poll_now(fd, POLLOUT), 0);
	tell("refuse");
	int events = wait_for(fd, POLLOUT);
	CHECK(events & POLLERR);
	CHECK(events & POLLHUP);
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), bad_errno());
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);
}

static void refused_late_while_blocked(void)
{
	int fd = tcp();
	tell("refuse");
	FAILS(dial(fd, "PENDING"), bad_errno());
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);
}

static void send_limit(int fd)
{
	struct timeval limit = {0, 50000};
	OK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit));
}

static void send_timeout_is_einprogress(void)
{
	int fd = tcp();
	send_limit(fd);
	FAILS(dial(fd, "PENDING"), EINPROGRESS);
	FAILS(dial(fd, "PENDING"), EALREADY);
	goes_on_well(fd);
	OK(dial(fd, "PENDING"));
	FAILS(dial(fd, "PENDING"), EISCONN);
}

/* ---- Signals ---- */

static volatile sig_atomic_t ticks, release_at;
static sigjmp_buf away;

static void on_tick(int signal)
{
	(void)signal;
	if (++ticks == release_at)
		tell("release");
}

static void jump(int signal)
{
	(void)signal;
	siglongjmp(away, 1);
}

static void tick(void (*handler)(int), int flags, int first_ms, int every_ms)
{
	struct sigaction action = {.sa_flags = flags};
	struct itimerval timer = {{0, every_ms * 1000}, {0, first_ms * 1000}};
	action.sa_handler = handler;
	OK(sigaction(SIGALRM, &action, NULL));
	OK(setitimer(ITIMER_REAL, &timer, NULL));
}

static void a_signal_interrupts(void)
{
	int fd = tcp();
	tick(on_tick, 0, 300, 0);
	FAILS(dial(fd, "PENDING"), EINTR);
	EQUAL(ticks, 1);
	goes_on_well(fd);
}

static void refused_after_an_interruption_is_told_by_connect(void)
{
	int fd = tcp();
	tick(on_tick, 0, 300, 0);
	FAILS(dial(fd, "PENDING"), EINTR);
	tell("refuse");
	wait_for(fd, POLLOUT);
	FAILS(dial(fd, "PENDING"), bad_errno());
	if (is_wrapped()) /* and it was not tried a second time */
		EQUAL(atoi(ask("accepted PENDING")), 1);
}

static void connect_after_an_interruption_is_0_then_eisconn(void)
{
	int fd = tcp();
	tick(on_tick, 0, 300, 0);
	FAILS(dial(fd, "PENDING"), EINTR);
	tell("release");
	wait_for(fd, POLLOUT);
	OK(dial(fd, "PENDING"));
	FAILS(dial(fd, "PENDING"), EISCONN);
}

static void a_restarting_signal_does_not(void)
{
	int fd = tcp();
	release_at = 20;
	tick(on_tick, SA_RESTART, 5, 5);
	OK(dial(fd, "PENDING"));
	tick(on_tick, SA_RESTART, 0, 0);
	CHECK(ticks >= 20);
	ECHOES(fd);
}

static void a_restarting_signal_interrupts_with_a_timeout(void)
{
	int fd = tcp();
	struct timeval limit = {20, 0};
	OK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit));
	tick(on_tick, SA_RESTART, 300, 0);
	FAILS(dial(fd, "PENDING"), EINTR);
	goes_on_well(fd);
}

/* A signal comes at some moment of each connect, its very first included. */
static int dial_with_a_tick(int fd, const char *server, int flags, int us)
{
	struct sigaction action = {.sa_flags = flags};
	struct itimerval timer = {{0, us}, {0, us}}, none = {{0, 0}, {0, 0}};
	action.sa_handler = on_tick;
	OK(sigaction(SIGALRM, &action, NULL));
	OK(setitimer(ITIMER_REAL, &timer, NULL));
	int r = dial(fd, server), error = errno;
	OK(setitimer(ITIMER_REAL, &none, NULL));
	errno = error;
	return r;
}

static void at_any_moment(void (*each)(int fd, const char *server, int us))
{
	for (int us = 50; us < 1500; us += 50) {
		int fd = tcp();
		each(fd, us % 100 ? "ECHO" : "PLAIN", us);
		ECHOES(fd);
		close(fd);
	}
}

static void restarts(int fd, const char *server, int us)
{
	OK(dial_with_a_tick(fd, server, SA_RESTART, us));
	FAILS(dial(fd, server), EISCONN);
}

static void is_made_again(int fd, const char *server, int us)
{
	int r = dial_with_a_tick(fd, server, 0, us);
	if (r < 0) {
		EQUAL(errno, EINTR);
		OK(dial(fd, server));
	}
	FAILS(dial(fd, server), EISCONN);
}

static void is_polled_for(int fd, const char *server, int us)
{
	if (dial_with_a_tick(fd, server, 0, us) == 0)
		return;
	EQUAL(errno, EINTR);
	CHECK(wait_for(fd, POLLOUT) & POLLOUT);
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	OK(getsockname(fd, (struct sockaddr *)&a, &len));
	if (is_wrapped() && a.sin_port == 0) /* before the worker has read what is asked */
		OK(dial(fd, server));
}

static void restarting_signals_at_any_moment(void) { at_any_moment(restarts); }
static void signals_at_any_moment_then_connect(void) { at_any_moment(is_made_again); }
static void signals_at_any_moment_then_poll(void) { at_any_moment(is_polled_for); }

static void a_handler_that_jumps_away_leaves_nothing_open(void)
{
	int fd = tcp(), before = open_descriptors();
	for (int i = 1; i <= 10; i++) {
		if (sigsetjmp(away, 1) == 0) {
			/* The last one when the connection is on its way, as in the tests above. */
			tick(jump, 0, i < 10 ? 10 : 300, 0);
			dial(fd, "PENDING");
			FAIL("connect returned");
		}
	}
	EQUAL(open_descriptors(), before);
	set_blocking(fd, false);
	goes_on_well(fd);
}

static volatile sig_atomic_t handled;

static void connect_in_handler(int signal)
{
	(void)signal;
	int fd = connected("ECHO");
	ECHOES(fd);
	close(fd);
	handled = 1;
}

/* The stack has a page below it that faults. */
static void in_a_handler_on_a_small_stack(void)
{
#if defined(__SANITIZE_ADDRESS__)
	const size_t page = 4096, size = 32768; /* its frames are twice as large */
#else
	const size_t page = 4096, size = 16384;
#endif
	char *area = mmap(NULL, page + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
	                  -1, 0);
	CHECK(area != MAP_FAILED);
	OK(mprotect(area, page, PROT_NONE));
	stack_t stack = {.ss_sp = area + page, .ss_size = size};
	OK(sigaltstack(&stack, NULL));
	struct sigaction action = {.sa_flags = SA_ONSTACK};
	action.sa_handler = connect_in_handler;
	OK(sigaction(SIGUSR1, &action, NULL));
	OK(raise(SIGUSR1));
	CHECK(handled);
}

/* ---- Threads ---- */

static int shared_fd;
static volatile pid_t connecting;

static void *connect_in_thread(void *unused)
{
	(void)unused;
	connecting = (pid_t)syscall(SYS_gettid);
	int r = dial(shared_fd, "PENDING");
	return (void *)(intptr_t)(r < 0 ? errno : 0);
}

static void *cancelled_connect(void *unused)
{
	(void)unused;
	dial(shared_fd, "PENDING");
	return NULL;
}

/* Waits until the other thread's connect is under way: then the socket has a port. */
static void wait_until_begun(void)
{
	for (;;) {
		struct sockaddr_in a;
		socklen_t len = sizeof a;
		OK(getsockname(shared_fd, (struct sockaddr *)&a, &len));
		if (a.sin_port)
			return;
	}
}

static void cancelling_leaves_nothing_open(void)
{
	shared_fd = tcp();
	pthread_t thread;
	void *result;
	int before = open_descriptors();
	EQUAL(pthread_create(&thread, NULL, cancelled_connect, NULL), 0);
	wait_until_begun();
	EQUAL(pthread_cancel(thread), 0);
	EQUAL(pthread_join(thread, &result), 0);
	CHECK(result == PTHREAD_CANCELED);
	EQUAL(open_descriptors(), before);
	set_blocking(shared_fd, false);
	goes_on_well(shared_fd);
}

/* Where nobody accepts, and another connect waits for somebody to. */
static struct sockaddr_in full(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int fd = tcp();
	OK(bind(fd, (struct sockaddr *)&a, sizeof a));
	OK(listen(fd, 0));
	OK(getsockname(fd, (struct sockaddr *)&a, &len));
	OK(connect(tcp(), (struct sockaddr *)&a, sizeof a));
	return a;
}

static void *connect_to(void *address)
{
	connect(shared_fd, address, sizeof(struct sockaddr_in));
	return NULL;
}

static void a_native_connect_is_cancelled(void)
{
	struct sockaddr_in a = full();
	pthread_t thread;
	void *result;
	shared_fd = tcp();
	int before = open_descriptors();
	EQUAL(pthread_create(&thread, NULL, connect_to, &a), 0);
	wait_until_begun();
	EQUAL(pthread_cancel(thread), 0);
	EQUAL(pthread_join(thread, &result), 0);
	CHECK(result == PTHREAD_CANCELED);
	EQUAL(open_descriptors(), before);
}

/* Cancellation that is disabled or deferred stays so. */
static void *connect_and_go_on(void *unused)
{
	int state, type;
	(void)unused;
	EQUAL(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state), 0);
	EQUAL(pthread_cancel(pthread_self()), 0);
	close(connected("PLAIN"));
	EQUAL(pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type), 0);
	EQUAL(type, PTHREAD_CANCEL_DEFERRED);
	EQUAL(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state), 0);
	EQUAL(state, PTHREAD_CANCEL_DISABLE);
	connected("PLAIN");
	FAIL("connect is no cancellation point");
	return NULL;
}

static void cancellation_is_as_it_was(void)
{
	pthread_t thread;
	void *result;
	EQUAL(pthread_create(&thread, NULL, connect_and_go_on, NULL), 0);
	EQUAL(pthread_join(thread, &result), 0);
	CHECK(result == PTHREAD_CANCELED);
}

/* A connect goes on when its descriptor is closed, and ends as it would have. Something else, which can
 * be written to, has the number then. */
static void closed_by_another_thread(const char *then, int error)
{
	pthread_t thread;
	void *result;
	shared_fd = tcp();
	EQUAL(pthread_create(&thread, NULL, connect_in_thread, NULL), 0);
	wait_until_begun();
	wait_until_in(connecting, shared_fd, SYS_connect, SYS_sendto);
	OK(close(shared_fd));
	EQUAL(open("/dev/null", O_RDWR | O_CLOEXEC), shared_fd);
	tell(then);
	EQUAL(pthread_join(thread, &result), 0);
	EQUAL((intptr_t)result, error);
}

static void closing_does_not_end_a_blocked_connect(void)
{
	closed_by_another_thread("release", 0);
}

static void closing_does_not_make_a_refused_connect_a_good_one(void)
{
	closed_by_another_thread("refuse", bad_errno());
}

static void shut_down_by_another_thread(int how)
{
	shared_fd = tcp();
	pthread_t thread;
	void *result;
	EQUAL(pthread_create(&thread, NULL, connect_in_thread, NULL), 0);
	wait_until_begun();
	OK(shutdown(shared_fd, how));
	EQUAL(pthread_join(thread, &result), 0);
	EQUAL((intptr_t)result, ECONNRESET);
}

static void shutdown_ends_a_blocked_connect(void) { shut_down_by_another_thread(SHUT_RDWR); }
static void shutdown_of_writing_ends_a_blocked_connect(void)
{
	shut_down_by_another_thread(SHUT_WR);
}

/* ---- Closing ---- */

static void closing_ends_it_at_the_server(void)
{
	int fd = pending();
	ask("arrived PENDING");
	close(fd);
	if (strcmp(ask("ended PENDING"), "goes on") == 0)
		FAIL("the server still waits");
}

static void exiting_ends_it_at_the_server(void)
{
	pid_t child = fork();
	if (child == 0) {
		pending();
		ask("arrived PENDING");
		_exit(0);
	}
	EQUAL(waitpid(child, NULL, 0), child);
	if (strcmp(ask("ended PENDING"), "goes on") == 0)
		FAIL("the server still waits");
}

const struct test tests[] = {
	{"is_neither_readable_nor_writable", BOTH, is_neither_readable_nor_writable},
	{"send_and_recv_would_block", BOTH, send_and_recv_would_block},
	{"has_no_peer_and_no_error", BOTH, has_no_peer_and_no_error},
	{"second_connect_is_ealready", BOTH, second_connect_is_ealready},
	{"second_connect_that_blocks_waits", BOTH, second_connect_that_blocks_waits},
	{"refused_late", BOTH, refused_late},
	{"refused_late_while_blocked", BOTH, refused_late_while_blocked},
	{"send_timeout_is_einprogress", BOTH, send_timeout_is_einprogress},
	{"a_signal_interrupts", BOTH, a_signal_interrupts},
	{"refused_after_an_interruption_is_told_by_connect", BOTH,
	 refused_after_an_interruption_is_told_by_connect},
	{"connect_after_an_interruption_is_0_then_eisconn", BOTH,
	 connect_after_an_interruption_is_0_then_eisconn},
	{"a_restarting_signal_does_not", BOTH, a_restarting_signal_does_not},
	{"a_restarting_signal_interrupts_with_a_timeout", BOTH,
	 a_restarting_signal_interrupts_with_a_timeout},
	{"restarting_signals_at_any_moment", BOTH, restarting_signals_at_any_moment},
	{"signals_at_any_moment_then_connect", BOTH, signals_at_any_moment_then_connect},
	{"signals_at_any_moment_then_poll", BOTH, signals_at_any_moment_then_poll},
	{"a_handler_that_jumps_away_leaves_nothing_open", BOTH,
	 a_handler_that_jumps_away_leaves_nothing_open},
	{"in_a_handler_on_a_small_stack", BOTH, in_a_handler_on_a_small_stack},
	{"cancelling_leaves_nothing_open", BOTH, cancelling_leaves_nothing_open},
	{"a_native_connect_is_cancelled", BOTH, a_native_connect_is_cancelled},
	{"cancellation_is_as_it_was", BOTH, cancellation_is_as_it_was},
	{"closing_does_not_end_a_blocked_connect", WRAPPED, closing_does_not_end_a_blocked_connect},
	{"closing_does_not_make_a_refused_connect_a_good_one", WRAPPED,
	 closing_does_not_make_a_refused_connect_a_good_one},
	{"shutdown_ends_a_blocked_connect", BOTH, shutdown_ends_a_blocked_connect},
	{"shutdown_of_writing_ends_a_blocked_connect", BOTH_ONCE,
	 shutdown_of_writing_ends_a_blocked_connect},
	{"closing_ends_it_at_the_server", WRAPPED, closing_ends_it_at_the_server},
	{"exiting_ends_it_at_the_server", WRAPPED, exiting_ends_it_at_the_server},
	{0},
};
