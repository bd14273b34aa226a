/*
 * Host names. The driver gives these programs an /etc/hosts of their own (hosts in
 * calls_test.go): covered.test, six.test (IPv6 alone) and many.test have rules, plain.test has none, and
 * twin.test has none either but shares covered.test's address. covered is short for covered.test.
 */
#include "check.h"

#include <netdb.h>
#include <sys/wait.h>

#define COVERED4 "127.0.0.2"

static bool synthetic4(const void *ip)
{
	const unsigned char *b = ip;
	return b[0] == 198 && (b[1] & 0xfe) == 18;
}

static bool synthetic6(const void *ip)
{
	static const unsigned char prefix[6] = {0x20, 0x01, 0, 2};
	return memcmp(ip, prefix, sizeof prefix) == 0;
}

static const char *text4(const void *ip)
{
	static char s[INET_ADDRSTRLEN];
	return inet_ntop(AF_INET, ip, s, sizeof s);
}

static struct addrinfo *look_up(const char *name, int family, int type, int flags)
{
	struct addrinfo hints = {.ai_family = family, .ai_socktype = type, .ai_flags = flags}, *list;
	char service[8];
	snprintf(service, sizeof service, "%d", port("ECHO") & 0xffff);
	int r = getaddrinfo(name, service, &hints, &list);
	if (r != 0)
		FAIL("getaddrinfo %s: %s", name, gai_strerror(r));
	return list;
}

static struct in_addr ip_of(const struct addrinfo *ai)
{
	EQUAL(ai->ai_family, AF_INET);
	EQUAL(ai->ai_addrlen, sizeof(struct sockaddr_in));
	EQUAL(ntohs(((struct sockaddr_in *)ai->ai_addr)->sin_port), port("ECHO"));
	return ((struct sockaddr_in *)ai->ai_addr)->sin_addr;
}

static struct in_addr covered(void) { return ip_of(look_up("covered.test", AF_INET, SOCK_STREAM, 0)); }

static void connects(struct in_addr ip)
{
	struct sockaddr_in a = ip4("ECHO"), peer;
	socklen_t len = sizeof peer;
	a.sin_addr = ip;
	int fd = tcp();
	OK(connect(fd, (struct sockaddr *)&a, sizeof a));
	OK(getpeername(fd, (struct sockaddr *)&peer, &len));
	EQUAL(peer.sin_addr.s_addr, ip.s_addr);
	ECHOES(fd);
}

/* A rule is about the name at other ports, and about connecting. */
static void a_covered_name_is_bound_to(void)
{
	for (int passive = 0; passive < 2; passive++) {
		for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
			struct sockaddr_in a, got;
			socklen_t len = sizeof got;
			struct addrinfo *ai = look_up("covered.test", AF_INET, type, passive ? AI_PASSIVE : 0);
			memcpy(&a, ai->ai_addr, sizeof a);
			freeaddrinfo(ai);
			int fd = (int)OK(socket(AF_INET, type, 0));
			a.sin_port = 0;
			OK(bind(fd, (struct sockaddr *)&a, sizeof a));
			OK(getsockname(fd, (struct sockaddr *)&got, &len));
			if (strcmp(text4(&got.sin_addr), COVERED4) != 0)
				FAIL("it is bound to %s", text4(&got.sin_addr));
			OK(close(fd));
		}
	}
}

static void a_covered_name_is_synthetic(void)
{
	struct in_addr ip = covered();
	EQUAL(synthetic4(&ip), is_wrapped());
	connects(ip);
}

static void a_covered_name_is_synthetic_in_ipv6(void)
{
	struct addrinfo *ai = look_up("six.test", AF_INET6, SOCK_STREAM, 0);
	EQUAL(synthetic6(&((struct sockaddr_in6 *)ai->ai_addr)->sin6_addr), is_wrapped());
	int fd = (int)OK(socket(AF_INET6, SOCK_STREAM, 0));
	OK(connect(fd, ai->ai_addr, ai->ai_addrlen));
	ECHOES(fd);
	freeaddrinfo(ai);
}

static void a_covered_name_is_synthetic_when_mapped(void)
{
	struct addrinfo *ai = look_up("covered.test", AF_INET6, SOCK_STREAM, AI_V4MAPPED | AI_ALL);
	for (; ai; ai = ai->ai_next) {
		int fd = (int)OK(socket(AF_INET6, SOCK_STREAM, 0));
		OK(connect(fd, ai->ai_addr, ai->ai_addrlen));
		ECHOES(fd);
	}
}

static void names_are_normalized(void)
{
	struct in_addr ip = ip_of(look_up("COVERED.Test", AF_INET, SOCK_STREAM, 0));
	EQUAL(synthetic4(&ip), is_wrapped());
	EQUAL(ip.s_addr, covered().s_addr);
}

static void the_same_name_gets_the_same_address(void)
{
	struct in_addr first = covered();
	for (int i = 0; i < 10; i++)
		EQUAL(covered().s_addr, first.s_addr);
}

static void without_hints(void)
{
	struct addrinfo *list;
	EQUAL(getaddrinfo("covered.test", NULL, NULL, &list), 0);
	int n = 0;
	for (struct addrinfo *ai = list; ai; ai = ai->ai_next, n++) {
		if (ai->ai_family == AF_INET)
			EQUAL(synthetic4(&((struct sockaddr_in *)ai->ai_addr)->sin_addr), is_wrapped());
		else
			EQUAL(synthetic6(&((struct sockaddr_in6 *)ai->ai_addr)->sin6_addr), is_wrapped());
	}
	CHECK(n >= 1);
	freeaddrinfo(list);
}

static void numeric_hosts_are_untouched(void)
{
	struct in_addr ip = ip_of(look_up(COVERED4, AF_INET, SOCK_STREAM, AI_NUMERICHOST));
	CHECK(strcmp(text4(&ip), COVERED4) == 0);
	ip = ip_of(look_up(COVERED4, AF_INET, SOCK_STREAM, 0));
	CHECK(strcmp(text4(&ip), COVERED4) == 0);
	connects(ip); /* and the rule's name is found by its address */
}

static void datagram_hints_keep_the_address(void)
{
	struct in_addr ip = ip_of(look_up("covered.test", AF_INET, SOCK_DGRAM, 0));
	CHECK(strcmp(text4(&ip), COVERED4) == 0);
	connects(ip);
}

static void an_uncovered_name_is_untouched(void)
{
	struct in_addr ip = ip_of(look_up("plain.test", AF_INET, SOCK_STREAM, 0));
	CHECK(strcmp(text4(&ip), "127.0.0.3") == 0);
}

static void a_name_that_shares_an_address_is_told_apart(void)
{
	struct in_addr twin = ip_of(look_up("twin.test", AF_INET, SOCK_STREAM, 0)), ip = covered();
	EQUAL(synthetic4(&twin), is_wrapped());
	if (is_wrapped())
		CHECK(twin.s_addr != ip.s_addr);
	struct sockaddr_in a = ip4("PLAIN");
	a.sin_addr = twin;
	int fd = tcp();
	OK(connect(fd, (struct sockaddr *)&a, sizeof a));
	ECHOES(fd);
}

static void a_short_name_is_the_long_one(void)
{
	struct in_addr ip = ip_of(look_up("covered", AF_INET, SOCK_STREAM, 0));
	EQUAL(synthetic4(&ip), is_wrapped());
	EQUAL(ip.s_addr, covered().s_addr);
	connects(ip);
}

static void many_addresses(void)
{
	enum { N = 40 };
	struct addrinfo *list = look_up("many.test", AF_INET, SOCK_STREAM, 0);
	in_addr_t seen[N];
	int n = 0;
	for (struct addrinfo *ai = list; ai; ai = ai->ai_next) {
		struct in_addr ip = ip_of(ai);
		EQUAL(synthetic4(&ip), is_wrapped());
		for (int i = 0; i < n; i++)
			CHECK(seen[i] != ip.s_addr);
		CHECK(n < N);
		seen[n++] = ip.s_addr;
	}
	EQUAL(n, N);
	connects((struct in_addr){seen[N - 1]});
}

static void failures_are_the_resolvers(void)
{
	struct addrinfo hints = {.ai_family = AF_INET}, *list;
	CHECK(getaddrinfo("missing.test", NULL, &hints, &list) != 0);
	EQUAL(getaddrinfo("covered.test", NULL, &(struct addrinfo){.ai_flags = AI_NUMERICHOST}, &list), EAI_NONAME);
	hints.ai_flags = AI_PASSIVE;
	EQUAL(getaddrinfo(NULL, "80", &hints, &list), 0);
	EQUAL(((struct sockaddr_in *)list->ai_addr)->sin_addr.s_addr, INADDR_ANY);
	CHECK(!gethostbyname("missing.test"));
	EQUAL(h_errno, HOST_NOT_FOUND);
}

static void is_covered(const struct hostent *h)
{
	CHECK(h);
	EQUAL(h->h_addrtype, AF_INET);
	EQUAL(h->h_length, 4);
	CHECK(strcmp(h->h_name, "covered.test") == 0);
	struct in_addr ip;
	memcpy(&ip, h->h_addr_list[0], 4);
	EQUAL(synthetic4(&ip), is_wrapped());
	connects(ip);
}

static void by_gethostbyname(void) { is_covered(gethostbyname("covered.test")); }
static void by_gethostbyname2(void) { is_covered(gethostbyname2("covered.test", AF_INET)); }

static void by_gethostbyname_r(void)
{
	struct hostent h, *result = NULL;
	char buffer[1024];
	int error;
	EQUAL(gethostbyname_r("covered.test", &h, buffer, sizeof buffer, &result, &error), 0);
	is_covered(result);
	EQUAL(gethostbyname2_r("covered.test", AF_INET, &h, buffer, sizeof buffer, &result, &error), 0);
	is_covered(result);
	EQUAL(gethostbyname_r("covered.test", &h, buffer, 8, &result, &error), ERANGE);
}

static void by_gethostbyname2_in_ipv6(void)
{
	struct hostent *h = gethostbyname2("six.test", AF_INET6);
	CHECK(h);
	EQUAL(h->h_length, 16);
	EQUAL(synthetic6(h->h_addr_list[0]), is_wrapped());
}

static void by_gethostbyaddr(void)
{
	struct in_addr ip = covered();
	struct hostent h, *result = gethostbyaddr(&ip, sizeof ip, AF_INET);
	char buffer[1024];
	int error;
	CHECK(result && strcmp(result->h_name, "covered.test") == 0);
	EQUAL(gethostbyaddr_r(&ip, sizeof ip, AF_INET, &h, buffer, sizeof buffer, &result, &error), 0);
	CHECK(result && strcmp(result->h_name, "covered.test") == 0);
}

static void by_getnameinfo(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = covered()};
	char host[256], service[32];
	a.sin_port = htons(443);
	EQUAL(getnameinfo((struct sockaddr *)&a, sizeof a, host, sizeof host, service, sizeof service, NI_NUMERICSERV), 0);
	CHECK(strcmp(host, "covered.test") == 0 && strcmp(service, "443") == 0);
	EQUAL(getnameinfo((struct sockaddr *)&a, sizeof a, host, sizeof host, NULL, 0, NI_NAMEREQD), 0);
	EQUAL(getnameinfo((struct sockaddr *)&a, sizeof a, host, sizeof host, NULL, 0, NI_NUMERICHOST), 0);
	CHECK(strcmp(host, text4(&a.sin_addr)) == 0);
	EQUAL(getnameinfo((struct sockaddr *)&a, sizeof a, host, 3, NULL, 0, 0), EAI_OVERFLOW);
}

static void by_gethostent(void)
{
#ifdef __GLIBC__ /* musl's has no entries */
	struct hostent h, *result;
	char buffer[4096];
	int error;
	sethostent(0);
	do
		result = gethostent();
	while (result && strcmp(result->h_name, "covered.test") != 0);
	is_covered(result);
	sethostent(0);
	do
		EQUAL(gethostent_r(&h, buffer, sizeof buffer, &result, &error), 0);
	while (strcmp(result->h_name, "covered.test") != 0);
	is_covered(result);
	endhostent();
#endif
}

#ifdef __GLIBC__

static const struct addrinfo hints4 = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
static char echo_port[8];

static struct gaicb request_for(const char *name)
{
	snprintf(echo_port, sizeof echo_port, "%d", port("ECHO") & 0xffff);
	return (struct gaicb){.ar_name = name, .ar_service = echo_port, .ar_request = &hints4};
}

static void is_covered_list(struct gaicb *request)
{
	EQUAL(gai_error(request), 0);
	int cancelled = gai_cancel(request); /* libc's own thread may not have put it aside yet */
	CHECK(cancelled == EAI_ALLDONE || cancelled == EAI_NOTCANCELED);
	struct in_addr ip = ip_of(request->ar_result);
	EQUAL(synthetic4(&ip), is_wrapped());
	connects(ip);
	freeaddrinfo(request->ar_result);
}

static void by_getaddrinfo_a_waiting(void)
{
	struct gaicb one = request_for("covered.test"), two = request_for("missing.test");
	struct gaicb *list[] = {&one, NULL, &two};
	EQUAL(getaddrinfo_a(GAI_WAIT, list, 3, NULL), 0);
	is_covered_list(&one);
	CHECK(gai_error(&two) == EAI_NONAME || gai_error(&two) == EAI_AGAIN);
	errno = 0;
	EQUAL(getaddrinfo_a(7, list, 3, NULL), EAI_SYSTEM);
	EQUAL(errno, EINVAL);
}

static void by_getaddrinfo_a_not_waiting(void)
{
	struct gaicb one = request_for("covered.test"), two = request_for("plain.test");
	struct gaicb *list[] = {&one, &two};
	EQUAL(getaddrinfo_a(GAI_NOWAIT, list, 2, NULL), 0);
	/* One at a time: of two that end at the same moment glibc's gai_suspend leaves its stack in the other's list. */
	for (size_t i = 0; i < 2; i++) {
		const struct gaicb *wait[] = {NULL, list[i]};
		while (gai_error(list[i]) == EAI_INPROGRESS) {
			int r = gai_suspend(wait, 2, &(struct timespec){20, 0});
			CHECK(r == 0 || r == EAI_ALLDONE);
		}
	}
	const struct gaicb *none[] = {NULL, &one};
	EQUAL(gai_suspend(none, 2, NULL), EAI_ALLDONE);
	is_covered_list(&one);
	EQUAL(gai_error(&two), 0);
}

static void by_getaddrinfo_a_with_a_signal(void)
{
	struct gaicb one = request_for("covered.test"), *list[] = {&one};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 42};
	sigset_t set;
	siginfo_t info;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	OK(sigprocmask(SIG_BLOCK, &set, NULL));
	EQUAL(getaddrinfo_a(GAI_NOWAIT, list, 1, &event), 0);
	EQUAL(sigtimedwait(&set, &info, &(struct timespec){20, 0}), SIGUSR1);
	EQUAL(info.si_value.sival_int, 42);
	EQUAL(info.si_code, SI_ASYNCNL);
	is_covered_list(&one);
}

static int told[2];

static void tell_us(union sigval value) { OK(write(told[1], &value.sival_int, sizeof value.sival_int)); }

static void by_getaddrinfo_a_with_a_function(void)
{
	struct gaicb one = request_for("covered.test"), *list[] = {&one};
	struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = tell_us, .sigev_value.sival_int = 43};
	int value = 0;
	OK(pipe(told));
	EQUAL(getaddrinfo_a(GAI_NOWAIT, list, 1, &event), 0);
	EQUAL(read(told[0], &value, sizeof value), sizeof value);
	EQUAL(value, 43);
	is_covered_list(&one);
	OK(setuid(getuid())); /* which takes every thread's part */
}

/* These connect inside libc, where the kernel sees it. The server's answer to rcmd is what it was sent. */
static void rcmd_connects_by_the_rules(void)
{
	char *host = (char *)"covered.test";
	unsigned short to = htons((unsigned short)port("ECHO"));
	struct sockaddr_in peer;
	socklen_t len = sizeof peer;
	int fd = (int)OK(rcmd(&host, to, "a", "b", "c", NULL));
	OK(getpeername(fd, (struct sockaddr *)&peer, &len));
	EQUAL(peer.sin_family, AF_INET);
	EQUAL(peer.sin_port, to);
	char words[7]; /* "a", "b" and "c" with their ends; the byte before them was the answer */
	EQUAL(recv(fd, words, 6, MSG_WAITALL), 6);
	EQUAL(memcmp(words, "a\0b\0c", 6), 0);
}

static void rcmd_and_rexec_are_refused(void)
{
	char *host = (char *)"covered.test";
	unsigned short to = htons((unsigned short)port("ECHO"));
	FAILS(rcmd(&host, to, "a", "b", "c", NULL), EACCES);
	FAILS(rcmd_af(&host, to, "a", "b", "c", NULL, AF_INET), EACCES);
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	FAILS(rexec(&host, to, "a", "b", "c", NULL), EACCES);
	FAILS(rexec_af(&host, to, "a", "b", "c", NULL, AF_UNSPEC), EACCES);
}

#endif

static void datagrams_reach_the_real_host(void)
{
	int server = (int)OK(socket(AF_INET, SOCK_DGRAM, 0)), fd = (int)OK(socket(AF_INET, SOCK_DGRAM, 0));
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof a;
	OK(inet_pton(AF_INET, COVERED4, &a.sin_addr));
	OK(bind(server, (struct sockaddr *)&a, sizeof a));
	OK(getsockname(server, (struct sockaddr *)&a, &len));
	a.sin_addr = covered();
	char got[8];
	EQUAL(sendto(fd, "1", 1, 0, (struct sockaddr *)&a, sizeof a), 1);
	EQUAL(recv(server, got, sizeof got, 0), 1);
	struct iovec iov = {"22", 2};
	struct mmsghdr m[2];
	memset(m, 0, sizeof m);
	for (int i = 0; i < 2; i++)
		m[i].msg_hdr = (struct msghdr){.msg_name = &a, .msg_namelen = sizeof a, .msg_iov = &iov, .msg_iovlen = 1};
	EQUAL(sendmsg(fd, &m[0].msg_hdr, 0), 2);
	EQUAL(recv(server, got, sizeof got, 0), 2);
	EQUAL(sendmmsg(fd, m, 2, 0), 2);
	EQUAL(recv(server, got, sizeof got, 0), 2);
	EQUAL(recv(server, got, sizeof got, 0), 2);
	OK(connect(fd, (struct sockaddr *)&a, sizeof a));
	EQUAL(send(fd, "333", 3, 0), 3);
	EQUAL(recv(server, got, sizeof got, 0), 3);
}

static void a_child_knows_the_address(void)
{
	struct in_addr ip = covered();
	int status;
	pid_t child = fork();
	if (child == 0) {
		connects(ip);
		_exit(0);
	}
	EQUAL(waitpid(child, &status, 0), child);
	EQUAL(status, 0);
}

static void an_address_that_stands_for_nothing(void)
{
	struct sockaddr_in a = ip4("PLAIN");
	OK(inet_pton(AF_INET, "198.19.255.254", &a.sin_addr));
	FAILS(connect(tcp(), (struct sockaddr *)&a, sizeof a), EHOSTUNREACH);
	int fd = (int)OK(socket(AF_INET, SOCK_DGRAM, 0));
	FAILS(sendto(fd, "x", 1, 0, (struct sockaddr *)&a, sizeof a), EHOSTUNREACH);
}

const struct test tests[] = {
	{"a_covered_name_is_bound_to", BOTH, a_covered_name_is_bound_to},
	{"a_covered_name_is_synthetic", BOTH, a_covered_name_is_synthetic},
	{"a_covered_name_is_synthetic_in_ipv6", BOTH, a_covered_name_is_synthetic_in_ipv6},
	{"a_covered_name_is_synthetic_when_mapped", BOTH, a_covered_name_is_synthetic_when_mapped},
	{"names_are_normalized", BOTH, names_are_normalized},
	{"the_same_name_gets_the_same_address", BOTH, the_same_name_gets_the_same_address},
	{"without_hints", BOTH, without_hints},
	{"numeric_hosts_are_untouched", BOTH, numeric_hosts_are_untouched},
	{"datagram_hints_keep_the_address", BOTH, datagram_hints_keep_the_address},
	{"an_uncovered_name_is_untouched", BOTH, an_uncovered_name_is_untouched},
	{"a_name_that_shares_an_address_is_told_apart", BOTH,
	 a_name_that_shares_an_address_is_told_apart},
	{"a_short_name_is_the_long_one", BOTH, a_short_name_is_the_long_one},
	{"many_addresses", BOTH, many_addresses},
	{"failures_are_the_resolvers", BOTH, failures_are_the_resolvers},
	{"gethostbyname", BOTH, by_gethostbyname},
	{"gethostbyname2", BOTH, by_gethostbyname2},
	{"gethostbyname_r", BOTH, by_gethostbyname_r},
	{"gethostbyname2_in_ipv6", BOTH, by_gethostbyname2_in_ipv6},
	{"gethostbyaddr", BOTH, by_gethostbyaddr},
	{"getnameinfo", BOTH, by_getnameinfo},
	{"gethostent", BOTH, by_gethostent},
#ifdef __GLIBC__
	{"getaddrinfo_a_waiting", BOTH, by_getaddrinfo_a_waiting},
	{"getaddrinfo_a_not_waiting", BOTH, by_getaddrinfo_a_not_waiting},
	{"getaddrinfo_a_with_a_signal", BOTH, by_getaddrinfo_a_with_a_signal},
	{"getaddrinfo_a_with_a_function", BOTH, by_getaddrinfo_a_with_a_function},
	{"rcmd_and_rexec_are_refused", UNNOTICED, rcmd_and_rexec_are_refused},
	{"rcmd_connects_by_the_rules", NOTICED, rcmd_connects_by_the_rules},
#endif
	{"datagrams_reach_the_real_host", BOTH, datagrams_reach_the_real_host},
	{"a_child_knows_the_address", BOTH, a_child_knows_the_address},
	{"an_address_that_stands_for_nothing", WRAPPED, an_address_that_stands_for_nothing},
	{0},
};
