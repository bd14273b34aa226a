/* Socket options, and a bound source port, before and after connect. */
#include "check.h"

#include <net/if.h>
#include <netinet/ip.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <time.h>
#ifndef SO_PRIORITY
#define SO_PRIORITY 12
#endif

struct setting {
	const char *name;
	int level, option, value;
};

static const struct setting settings[] = {
	{"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, 1},
	{"TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, 77},
	{"TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL, 7},
	{"TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT, 3},
	{"TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT, 12345},
	{"TCP_CORK", IPPROTO_TCP, TCP_CORK, 0},
	{"IP_TOS", IPPROTO_IP, IP_TOS, IPTOS_THROUGHPUT},
	{"IP_TTL", IPPROTO_IP, IP_TTL, 33},
	{"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, 1},
	{"SO_PRIORITY", SOL_SOCKET, SO_PRIORITY, 4},
	{"SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR, 1},
	{"SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE, 1},
	{"SO_MARK", SOL_SOCKET, SO_MARK, 5},
	{"IP_RECVERR", IPPROTO_IP, IP_RECVERR, 1},
	{0},
};

static void set_before_connect_are_kept(void)
{
	int fd = tcp();
	for (const struct setting *s = settings; s->name; s++)
		set_option(fd, s->level, s->option, s->value);
	OK(dial(fd, "ECHO"));
	for (const struct setting *s = settings; s->name; s++) {
		if (option(fd, s->level, s->option) != s->value)
			FAIL("%s was lost", s->name);
	}
	ECHOES(fd);
}

static void set_after_connect(void)
{
	int fd = connected("ECHO");
	for (const struct setting *s = settings; s->name; s++) {
		set_option(fd, s->level, s->option, s->value);
		if (option(fd, s->level, s->option) != s->value)
			FAIL("%s does not stick", s->name);
	}
	ECHOES(fd);
}

static void set_while_pending(void)
{
	int fd = tcp_nonblocking();
	FAILS(dial(fd, "PENDING"), EINPROGRESS);
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	EQUAL(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
	tell("release");
	wait_for(fd, POLLOUT);
	EQUAL(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
	EQUAL(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
}

static void says_that_it_is_tcp(void)
{
	int fd = connected("ECHO");
	EQUAL(option(fd, SOL_SOCKET, SO_DOMAIN), AF_INET);
	EQUAL(option(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
	EQUAL(option(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
	EQUAL(option(fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
	struct tcp_info info;
	socklen_t len = sizeof info;
	OK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	EQUAL(info.tcpi_state, TCP_ESTABLISHED);
	CHECK(option(fd, IPPROTO_TCP, TCP_MAXSEG) > 500);
	CHECK(option(fd, IPPROTO_IP, IP_MTU) > 500);
	char name[32];
	len = sizeof name;
	OK(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len));
	struct sockaddr_storage any;
	len = sizeof any;
	OK(getsockname(fd, (struct sockaddr *)&any, &len));
	EQUAL(any.ss_family, AF_INET);
}

static void linger(void)
{
	struct linger set = {1, 9}, got;
	for (int when = 0; when <= 1; when++) {
		int fd = tcp();
		socklen_t len = sizeof got;
		if (when == 0)
			OK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &set, sizeof set));
		OK(dial(fd, "ECHO"));
		if (when == 1)
			OK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &set, sizeof set));
		OK(getsockopt(fd, SOL_SOCKET, SO_LINGER, &got, &len));
		EQUAL(got.l_onoff, 1);
		EQUAL(got.l_linger, 9);
		ECHOES(fd);
	}
}

static void buffer_sizes(void)
{
	for (int when = 0; when <= 1; when++) {
		int fd = tcp();
		if (when == 1)
			OK(dial(fd, "ECHO"));
		set_option(fd, SOL_SOCKET, SO_SNDBUF, 20000);
		set_option(fd, SOL_SOCKET, SO_RCVBUF, 30000);
		if (when == 0)
			OK(dial(fd, "ECHO"));
		EQUAL(option(fd, SOL_SOCKET, SO_SNDBUF), 40000);
		EQUAL(option(fd, SOL_SOCKET, SO_RCVBUF), 60000);
		ECHOES(fd);
	}
}

/* 5 MB go out as poll allows, and all of them arrive. */
static void small_send_buffer(int when)
{
	enum { TOTAL = 5 << 20 };
	static char data[64 << 10], want[64], got[64];
	int fd = tcp_nonblocking();
	if (when == 0)
		set_option(fd, SOL_SOCKET, SO_SNDBUF, 4096);
	if (dial(fd, "SINK") < 0)
		EQUAL(errno, EINPROGRESS);
	EQUAL(wait_for(fd, POLLOUT), POLLOUT);
	if (when == 1)
		set_option(fd, SOL_SOCKET, SO_SNDBUF, 4096);
	for (int left = TOTAL; left > 0;) {
		wait_for(fd, POLLOUT);
		int n = (int)send(fd, data, left < (int)sizeof data ? (size_t)left : sizeof data,
		                  MSG_NOSIGNAL);
		if (n < 0)
			EQUAL(errno, EAGAIN);
		else
			left -= n;
	}
	OK(shutdown(fd, SHUT_WR));
	wait_for(fd, POLLIN);
	CHECK(recv(fd, got, sizeof got - 1, 0) > 0);
	snprintf(want, sizeof want, "%d ", TOTAL);
	if (strncmp(want, got, strlen(want)) != 0)
		FAIL("the server got %s", got);
}
static void small_send_buffer_before(void) { small_send_buffer(0); }
static void small_send_buffer_after(void) { small_send_buffer(1); }

static void source_port_is_kept(void)
{
	int fd = tcp();
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof a;
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	OK(bind(fd, (struct sockaddr *)&a, sizeof a));
	OK(getsockname(fd, (struct sockaddr *)&a, &len));
	char want[64];
	snprintf(want, sizeof want, "127.0.0.1:%d", ntohs(a.sin_port));
	OK(dial(fd, "ECHO"));
	ECHOES(fd);
	if (strcmp(want, ask("peer ECHO")) != 0)
		FAIL("the server does not see %s", want);
	len = sizeof a;
	OK(getsockname(fd, (struct sockaddr *)&a, &len));
	EQUAL(ntohs(a.sin_port), atoi(strchr(want, ':') + 1));
}

/* With rights that the program has given up since: as rcp and VPN clients do. */
static void what_only_root_may_set_is_kept(void)
{
	if (geteuid() != 0) {
		printf("this test needs root\n");
		return;
	}
	int fd = tcp(), low = 1023;
	set_option(fd, SOL_SOCKET, SO_MARK, 5);
	struct sockaddr_in a = {.sin_family = AF_INET};
	for (; low > 512; low--) {
		a.sin_port = htons((uint16_t)low);
		if (bind(fd, (struct sockaddr *)&a, sizeof a) == 0)
			break;
		EQUAL(errno, EADDRINUSE);
	}
	OK(setresuid(65534, 65534, 65534));
	OK(dial(fd, "ECHO"));
	ECHOES(fd);
	EQUAL(option(fd, SOL_SOCKET, SO_MARK), 5);
	EQUAL(option(fd, SOL_SOCKET, SO_REUSEADDR), 0);
	EQUAL(atoi(strchr(ask("peer ECHO"), ':') + 1), low);
}

static void source_address_is_kept(void)
{
	int fd = tcp();
	struct sockaddr_in a = {.sin_family = AF_INET};
	OK(inet_pton(AF_INET, "127.0.0.9", &a.sin_addr));
	OK(bind(fd, (struct sockaddr *)&a, sizeof a));
	OK(dial(fd, "ECHO"));
	if (strncmp(ask("peer ECHO"), "127.0.0.9:", 10) != 0)
		FAIL("the server sees another address");
}

static void bad_arguments(void)
{
	int fd = connected("ECHO"), value = 1;
	socklen_t len = sizeof value;
	FAILS(getsockopt(fd, SOL_SOCKET, 9999, &value, &len), ENOPROTOOPT);
	FAILS(getsockopt(fd, IPPROTO_TCP, 9999, &value, &len), ENOPROTOOPT);
	FAILS(setsockopt(fd, SOL_SOCKET, 9999, &value, sizeof value), ENOPROTOOPT);
	FAILS(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, 1), EINVAL);
	FAILS(getsockopt(fd, SOL_SOCKET, SO_ERROR, NULL, &len), EFAULT);
	int *volatile nowhere = NULL;
	FAILS(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, (socklen_t *)nowhere), EFAULT);
	len = (socklen_t)-1;
	FAILS(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &len), EINVAL);
	ECHOES(fd);
}

/* What a program writes is gathered in the channel: records are not held back. */
static void a_cork_costs_no_time(void)
{
	enum { ROUNDS = 20 };
	struct timespec start, now;
	int fd = connected("ECHO"), on = 1;
	set_option(fd, IPPROTO_TCP, TCP_CORK, 1);
	OK(clock_gettime(CLOCK_MONOTONIC, &start));
	for (int i = 0; i < ROUNDS; i++)
		ECHOES(fd);
	OK(clock_gettime(CLOCK_MONOTONIC, &now));
	CHECK(now.tv_sec - start.tv_sec < 2); /* 200 ms for each (tcp(7)) are more */
	set_option(fd, IPPROTO_TCP, TCP_CORK, 0);
	ECHOES(fd);
	FAILS(setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, 1), EINVAL);
}

/* The upstream's bytes are records. */
static void what_is_of_records_is_refused(void)
{
	enum { OF_ZEROCOPY_RECEIVE = 35, OF_INQ = 36, OF_ULP = 31 };
	int fd = connected("ECHO"), on = 1;
	char room[64] = {0};
	socklen_t len = sizeof room;
	FAILS(setsockopt(fd, IPPROTO_TCP, OF_INQ, &on, sizeof on), EOPNOTSUPP);
	FAILS(setsockopt(fd, IPPROTO_TCP, OF_ULP, "tls", 3), EOPNOTSUPP);
	FAILS(getsockopt(fd, IPPROTO_TCP, OF_ZEROCOPY_RECEIVE, room, &len), EOPNOTSUPP);
	ECHOES(fd);
}

static void worth_waking_up_for(void)
{
	int fd = tcp();
	set_option(fd, SOL_SOCKET, SO_RCVLOWAT, 5);
	OK(dial(fd, "ECHO"));
	EQUAL(option(fd, SOL_SOCKET, SO_RCVLOWAT), 5);
	ECHOES(fd);
}

static void asked_after_a_reset(void)
{
	int fd = connected("CUT");
	char got[128];
	ssize_t n;
	EQUAL(send(fd, "hello\n", 6, MSG_NOSIGNAL), 6);
	while ((n = recv(fd, got, sizeof got, 0)) > 0)
		;
	EQUAL(errno, ECONNRESET);
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	OK(getsockname(fd, (struct sockaddr *)&a, &len));
	EQUAL(a.sin_family, AF_INET);
	EQUAL(ntohl(a.sin_addr.s_addr), INADDR_LOOPBACK);
	CHECK(a.sin_port != 0);
	FAILS(getpeername(fd, (struct sockaddr *)&a, &len), ENOTCONN);
	EQUAL(option(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
	EQUAL(option(fd, SOL_SOCKET, SO_DOMAIN), AF_INET);
	EQUAL(option(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	EQUAL(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	FAILS(dial(fd, "ECHO"), EISCONN);
}

static void ioctls(void)
{
	int fd = connected("ECHO"), n = -1, on = 1;
	EQUAL(send(fd, "12345\n", 6, 0), 6);
	wait_for(fd, POLLIN);
	OK(ioctl(fd, FIONREAD, &n));
	EQUAL(n, 6);
	OK(ioctl(fd, FIONBIO, &on));
	char back[16];
	EQUAL(recv(fd, back, sizeof back, 0), 6);
	FAILS(recv(fd, back, sizeof back, 0), EAGAIN);
}

/* Some wait until all that they have written has arrived. */
static void what_is_on_its_way_is_counted(void)
{
	enum { SIZE = 50000 };
	static char data[SIZE];
	int fd = connected("SINK"), n = 0;
	EQUAL(send(fd, data, SIZE, 0), SIZE);
	do
		OK(ioctl(fd, TIOCOUTQ, &n));
	while (n > 0);
	OK(close(fd));
	if (strncmp(ask("got SINK"), "50000 ", 6) != 0)
		FAIL("the server got %s", ask("got SINK"));
}

/* A program that waits for completions must get them, or be told beforehand. */
static void zero_copy_completes_or_is_refused(void)
{
	for (int when = 0; when <= 1; when++) {
		int fd = tcp(), one = 1, r = 0;
		if (when == 0)
			r = setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof one);
		OK(dial(fd, "ECHO"));
		if (when == 1)
			r = setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof one);
		if (r < 0)
			continue;
		EQUAL(send(fd, "x\n", 2, MSG_ZEROCOPY), 2);
		CHECK(wait_for(fd, 0) & POLLERR);
	}
}

static void zero_copy_where_no_rule_is(void)
{
	int fd = connected("PLAIN");
	set_option(fd, SOL_SOCKET, SO_ZEROCOPY, 1);
	EQUAL(send(fd, "x\n", 2, MSG_ZEROCOPY), 2);
	CHECK(wait_for(fd, 0) & POLLERR);
}

/* Of a socket that has not said yet that it wants signals. */
static void owner_and_signal_are_kept(void)
{
	int fd = tcp();
	OK(fcntl(fd, F_SETOWN, getpid()));
	OK(fcntl(fd, F_SETSIG, SIGUSR1));
	OK(dial(fd, "ECHO"));
	EQUAL(fcntl(fd, F_GETOWN), getpid());
	EQUAL(fcntl(fd, F_GETSIG), SIGUSR1);
}

static void interfaces_are_asked_for(void)
{
	int fd = connected("ECHO");
	struct ifreq lo = {.ifr_name = "lo"};
	OK(ioctl(fd, SIOCGIFINDEX, &lo));
	CHECK(lo.ifr_ifindex > 0);
	OK(ioctl(fd, SIOCGIFADDR, &lo));
	EQUAL(ntohl(((struct sockaddr_in *)&lo.ifr_addr)->sin_addr.s_addr), INADDR_LOOPBACK);
	FAILS(ioctl(fd, SIOCGIFADDR, NULL), EFAULT);
}

const struct test tests[] = {
	{"set_before_connect_are_kept", BOTH, set_before_connect_are_kept},
	{"set_after_connect", BOTH, set_after_connect},
	{"set_while_pending", BOTH, set_while_pending},
	{"says_that_it_is_tcp", BOTH, says_that_it_is_tcp},
	{"linger", BOTH, linger},
	{"buffer_sizes", BOTH, buffer_sizes},
	{"small_send_buffer_before", BOTH, small_send_buffer_before},
	{"small_send_buffer_after", BOTH, small_send_buffer_after},
	{"source_port_is_kept", BOTH, source_port_is_kept},
	{"what_only_root_may_set_is_kept", BOTH, what_only_root_may_set_is_kept},
	{"source_address_is_kept", BOTH, source_address_is_kept},
	{"bad_arguments", BOTH, bad_arguments},
	{"a_cork_costs_no_time", WRAPPED, a_cork_costs_no_time},
	{"what_is_of_records_is_refused", WRAPPED, what_is_of_records_is_refused},
	{"worth_waking_up_for", BOTH, worth_waking_up_for},
	{"asked_after_a_reset", BOTH, asked_after_a_reset},
	{"ioctls", BOTH, ioctls},
	{"what_is_on_its_way_is_counted", BOTH, what_is_on_its_way_is_counted},
	{"zero_copy_completes_or_is_refused", BOTH_ONCE, zero_copy_completes_or_is_refused},
	{"zero_copy_where_no_rule_is", BOTH_ONCE, zero_copy_where_no_rule_is},
	{"owner_and_signal_are_kept", BOTH, owner_and_signal_are_kept},
	{"interfaces_are_asked_for", BOTH, interfaces_are_asked_for},
	{0},
};
