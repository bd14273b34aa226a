/* epoll, above all for descriptors that were in a set before connect. */
#include "check.h"

#include <sys/epoll.h>

#define MARK 0xdeadbeefcafef00dull

static int epoll(void) { return (int)OK(epoll_create1(EPOLL_CLOEXEC)); }

static void add(int ep, int fd, uint32_t events)
{
	struct epoll_event e = {.events = events};
	e.data.u64 = MARK;
	OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
}

/* The events of the one descriptor in the set; 0 where none comes within ms. */
static uint32_t events_of(int ep, int ms)
{
	struct epoll_event e[4];
	int n;
	do
		n = epoll_wait(ep, e, 4, ms);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return 0;
	EQUAL(n, 1);
	EQUAL(e[0].data.u64, MARK);
	return e[0].events;
}

static int pending_in(int ep, uint32_t events)
{
	int fd = tcp_nonblocking();
	add(ep, fd, events);
	FAILS(dial(fd, "PENDING"), EINPROGRESS);
	return fd;
}

static void before_connect(uint32_t mode)
{
	int ep = epoll();
	int fd = pending_in(ep, EPOLLIN | EPOLLOUT | EPOLLRDHUP | mode);
	EQUAL(events_of(ep, 0), 0);
	tell("release");
	EQUAL(events_of(ep, FOREVER), EPOLLOUT);
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);
	ECHOES(fd);
}

static void level_before_connect(void) { before_connect(0); }
static void edge_before_connect(void) { before_connect(EPOLLET); }

static void edge_before_connect_sees_data(void)
{
	int ep = epoll();
	int fd = pending_in(ep, EPOLLIN | EPOLLOUT | EPOLLET);
	tell("release");
	CHECK(events_of(ep, FOREVER) & EPOLLOUT);
	EQUAL(send(fd, "x\n", 2, 0), 2);
	while (!(events_of(ep, FOREVER) & EPOLLIN))
		;
	char back[2];
	EQUAL(recv(fd, back, 2, 0), 2);
}

static void oneshot_before_connect(void)
{
	int ep = epoll();
	int fd = pending_in(ep, EPOLLOUT | EPOLLONESHOT);
	EQUAL(events_of(ep, 0), 0);
	tell("release");
	EQUAL(events_of(ep, FOREVER), EPOLLOUT);
	EQUAL(events_of(ep, 0), 0);
	struct epoll_event e = {.events = EPOLLOUT | EPOLLONESHOT};
	e.data.u64 = MARK;
	OK(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
	EQUAL(events_of(ep, FOREVER), EPOLLOUT);
	EQUAL(events_of(ep, 0), 0);
}

/*
 * An unconnected socket is POLLHUP: that fires a registration, which then stays off. A
 * channel is registered anew, which the kernel never does without EPOLLERR and EPOLLHUP
 * (ep_insert): so a failure is seen all the same.
 */
static void oneshot_that_fired_before_connect_stays_off(void)
{
	int ep = epoll(), fd = tcp_nonblocking();
	add(ep, fd, EPOLLOUT | EPOLLONESHOT);
	CHECK(events_of(ep, FOREVER) & EPOLLHUP);
	FAILS(dial(fd, "BAD"), EINPROGRESS);
	CHECK(wait_for(fd, POLLOUT) & POLLERR);
	EQUAL(events_of(ep, 0), is_wrapped() ? EPOLLERR | EPOLLHUP : 0);
	EQUAL(events_of(ep, 0), 0);
}

static void after_connect(uint32_t mode)
{
	int ep = epoll(), fd = tcp_nonblocking();
	FAILS(dial(fd, "PENDING"), EINPROGRESS);
	add(ep, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | mode);
	EQUAL(events_of(ep, 0), 0);
	tell("release");
	EQUAL(events_of(ep, FOREVER), EPOLLOUT);
	ECHOES(fd);
}

static void level_after_connect(void) { after_connect(0); }
static void edge_after_connect(void) { after_connect(EPOLLET); }
static void oneshot_after_connect(void) { after_connect(EPOLLONESHOT); }

static void two_sets(void)
{
	int one = epoll(), two = epoll(), fd = tcp_nonblocking();
	add(one, fd, EPOLLOUT);
	add(two, fd, EPOLLIN | EPOLLET);
	FAILS(dial(fd, "PENDING"), EINPROGRESS);
	EQUAL(events_of(one, 0), 0);
	EQUAL(events_of(two, 0), 0);
	tell("release");
	EQUAL(events_of(one, FOREVER), EPOLLOUT);
	EQUAL(events_of(two, 0), 0);
	EQUAL(send(fd, "x\n", 2, 0), 2);
	EQUAL(events_of(two, FOREVER), EPOLLIN);
}

static void many_descriptors_in_one_set(void)
{
	enum { N = 50 };
	int ep = epoll(), fds[N];
	for (int i = 0; i < N; i++) {
		fds[i] = tcp_nonblocking();
		struct epoll_event e = {.events = EPOLLOUT | EPOLLONESHOT};
		e.data.u64 = MARK + (unsigned)i;
		OK(epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &e));
	}
	for (int i = 0; i < N; i++) {
		if (dial(fds[i], "ECHO") < 0)
			EQUAL(errno, EINPROGRESS);
	}
	uint64_t seen = 0;
	for (int left = N; left > 0;) {
		struct epoll_event e[N];
		int n = (int)OK(epoll_wait(ep, e, N, FOREVER));
		CHECK(n > 0);
		for (int i = 0; i < n; i++) {
			uint64_t which = e[i].data.u64 - MARK;
			CHECK(which < N && !(seen >> which & 1));
			seen |= 1ull << which;
			EQUAL(e[i].events, EPOLLOUT);
			ECHOES(fds[which]);
		}
		left -= n;
	}
}

static void mod_and_del_after_connect(void)
{
	int ep = epoll();
	int fd = pending_in(ep, EPOLLIN);
	struct epoll_event e = {.events = EPOLLOUT};
	e.data.u64 = MARK;
	OK(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
	FAILS(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e), EEXIST);
	tell("release");
	EQUAL(events_of(ep, FOREVER), EPOLLOUT);
	OK(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
	EQUAL(events_of(ep, 0), 0);
	FAILS(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL), ENOENT);
	FAILS(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e), ENOENT);
}

static void failure_is_seen(void)
{
	int ep = epoll(), fd = tcp_nonblocking();
	add(ep, fd, EPOLLIN);
	FAILS(dial(fd, "BAD"), EINPROGRESS);
	uint32_t events = events_of(ep, FOREVER);
	CHECK(events & EPOLLERR);
	CHECK(events & EPOLLHUP);
	EQUAL(option(fd, SOL_SOCKET, SO_ERROR), bad_errno());
}

static void stays_in_the_set_when_it_starts_over(void)
{
	int ep = epoll(), fd = tcp_nonblocking();
	add(ep, fd, EPOLLOUT);
	FAILS(dial(fd, "BAD"), EINPROGRESS);
	CHECK(events_of(ep, FOREVER) & EPOLLERR);
	FAILS(dial(fd, "BAD"), bad_errno());
	if (dial(fd, "ECHO") < 0)
		EQUAL(errno, EINPROGRESS);
	EQUAL(events_of(ep, FOREVER), EPOLLOUT);
	ECHOES(fd);
}

static void a_set_moved_by_dup_still_reports(void)
{
	int first = epoll(), fd = tcp_nonblocking();
	add(first, fd, EPOLLOUT);
	int ep = (int)OK(fcntl(first, F_DUPFD_CLOEXEC, 20));
	close(first);
	if (dial(fd, "ECHO") < 0)
		EQUAL(errno, EINPROGRESS);
	EQUAL(events_of(ep, FOREVER), EPOLLOUT);
}

static void passed_connections_stay_in_the_set(void)
{
	int ep = epoll(), fd = tcp_nonblocking();
	add(ep, fd, EPOLLOUT);
	if (dial(fd, "PLAIN") < 0)
		EQUAL(errno, EINPROGRESS);
	EQUAL(events_of(ep, FOREVER), EPOLLOUT);
	ECHOES(fd);
}

/* The set holds a registration of what had this number before. */
static void a_closed_descriptors_number_is_not_confused(void)
{
	int ep = epoll(), fd = tcp_nonblocking();
	add(ep, fd, EPOLLOUT);
	close(fd);
	EQUAL(tcp_nonblocking(), fd);
	if (dial(fd, "ECHO") < 0)
		EQUAL(errno, EINPROGRESS);
	EQUAL(wait_for(fd, POLLOUT), POLLOUT);
	EQUAL(events_of(ep, 0), 0);
	add(ep, fd, EPOLLOUT);
	EQUAL(events_of(ep, FOREVER), EPOLLOUT);
}

static void many_sets(void)
{
	enum { SETS = 50 };
	int set[SETS], fd = tcp_nonblocking();
	for (int i = 0; i < SETS; i++)
		add(set[i] = epoll(), fd, EPOLLIN | EPOLLOUT);
	FAILS(dial(fd, "PENDING"), EINPROGRESS);
	for (int i = 0; i < SETS; i++)
		EQUAL(events_of(set[i], 0), 0);
	tell("release");
	for (int i = 0; i < SETS; i++)
		EQUAL(events_of(set[i], FOREVER), EPOLLOUT);
	ECHOES(fd);
}

const struct test tests[] = {
	{"level_before_connect", BOTH, level_before_connect},
	{"edge_before_connect", BOTH, edge_before_connect},
	{"edge_before_connect_sees_data", BOTH, edge_before_connect_sees_data},
	{"oneshot_before_connect", BOTH, oneshot_before_connect},
	{"oneshot_that_fired_before_connect_stays_off", BOTH,
	 oneshot_that_fired_before_connect_stays_off},
	{"level_after_connect", BOTH, level_after_connect},
	{"edge_after_connect", BOTH, edge_after_connect},
	{"oneshot_after_connect", BOTH, oneshot_after_connect},
	{"two_sets", BOTH, two_sets},
	{"many_sets", BOTH, many_sets},
	{"many_descriptors_in_one_set", BOTH, many_descriptors_in_one_set},
	{"mod_and_del_after_connect", BOTH, mod_and_del_after_connect},
	{"failure_is_seen", BOTH, failure_is_seen},
	{"stays_in_the_set_when_it_starts_over", BOTH, stays_in_the_set_when_it_starts_over},
	{"a_set_moved_by_dup_still_reports", BOTH, a_set_moved_by_dup_still_reports},
	{"passed_connections_stay_in_the_set", BOTH, passed_connections_stay_in_the_set},
	{"a_closed_descriptors_number_is_not_confused", BOTH,
	 a_closed_descriptors_number_is_not_confused},
	{0},
};
