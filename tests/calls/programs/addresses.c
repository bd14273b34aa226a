/* What connect is given: addresses of every kind, and descriptors of every kind. */
#include "check.h"

#include <sys/mman.h>
#include <sys/un.h>

#define LEN6_RFC2133 24 /* without sin6_scope_id */

static struct sockaddr_in6 mapped(const char *server)
{
	struct sockaddr_in6 a = ip6(server);
	OK(inet_pton(AF_INET6, "::ffff:127.0.0.1", &a.sin6_addr));
	return a;
}

static void connects6(const struct sockaddr_in6 *a, socklen_t len)
{
	int fd = (int)OK(socket(AF_INET6, SOCK_STREAM, 0));
	OK(connect(fd, (const struct sockaddr *)a, len));
	struct sockaddr_in6 peer, own;
	len = sizeof peer;
	OK(getpeername(fd, (struct sockaddr *)&peer, &len));
	EQUAL(len, sizeof peer);
	EQUAL(peer.sin6_family, AF_INET6);
	EQUAL(peer.sin6_port, a->sin6_port);
	CHECK(memcmp(&peer.sin6_addr, &a->sin6_addr, 16) == 0);
	len = sizeof own;
	OK(getsockname(fd, (struct sockaddr *)&own, &len));
	EQUAL(own.sin6_family, AF_INET6);
	EQUAL(option(fd, SOL_SOCKET, SO_DOMAIN), AF_INET6);
	ECHOES(fd);
}

static void ipv6(void)
{
	struct sockaddr_in6 a = ip6("ECHO");
	connects6(&a, sizeof a);
}

static void ipv6_without_scope(void)
{
	struct sockaddr_in6 a = ip6("ECHO");
	connects6(&a, LEN6_RFC2133);
}

static void ipv4_mapped(void)
{
	struct sockaddr_in6 a = mapped("ECHO");
	connects6(&a, sizeof a);
}

static void ipv4_mapped_refused(void)
{
	struct sockaddr_in6 a = mapped("BAD");
	int fd = (int)OK(socket(AF_INET6, SOCK_STREAM, 0));
	FAILS(connect(fd, (struct sockaddr *)&a, sizeof a), bad_errno());
	a = mapped("ECHO");
	OK(connect(fd, (struct sockaddr *)&a, sizeof a));
	ECHOES(fd);
}

/* connect to "any" is a connect to this host (inet(7), tcp_v6_connect). */
static void any_ipv4_is_this_host(void)
{
	int fd = tcp();
	struct sockaddr_in a = ip4("ECHO");
	a.sin_addr.s_addr = INADDR_ANY;
	OK(connect(fd, (struct sockaddr *)&a, sizeof a));
	ECHOES(fd);
}

static void any_ipv6_is_this_host(void)
{
	int fd = (int)OK(socket(AF_INET6, SOCK_STREAM, 0));
	struct sockaddr_in6 a = ip6("ECHO");
	a.sin6_addr = in6addr_any;
	OK(connect(fd, (struct sockaddr *)&a, sizeof a));
	ECHOES(fd);
}

static void any_ipv4_mapped_is_this_host(void)
{
	int fd = (int)OK(socket(AF_INET6, SOCK_STREAM, 0));
	struct sockaddr_in6 a = ip6("ECHO");
	OK(inet_pton(AF_INET6, "::ffff:0.0.0.0", &a.sin6_addr));
	OK(connect(fd, (struct sockaddr *)&a, sizeof a));
	ECHOES(fd);
}

static void longer_length(void)
{
	int fd = tcp();
	struct sockaddr_storage s = {0};
	struct sockaddr_in a = ip4("ECHO");
	memcpy(&s, &a, sizeof a);
	OK(connect(fd, (struct sockaddr *)&s, sizeof s));
	ECHOES(fd);
}

static void wrong_lengths(void)
{
	int fd = tcp(), fd6 = (int)OK(socket(AF_INET6, SOCK_STREAM, 0));
	struct {
		struct sockaddr_in a;
		char more[256];
	} v4 = {ip4("ECHO"), {0}};
	struct sockaddr_in6 v6 = ip6("ECHO");
	FAILS(connect(fd, (struct sockaddr *)&v4, sizeof v4.a - 1), EINVAL);
	FAILS(connect(fd, (struct sockaddr *)&v4, 2), EINVAL);
	FAILS(connect(fd, (struct sockaddr *)&v4, 0), EINVAL);
	FAILS(connect(fd, (struct sockaddr *)&v4, 129), EINVAL);
	FAILS(connect(fd, (struct sockaddr *)&v4, (socklen_t)-1), EINVAL);
	FAILS(connect(fd6, (struct sockaddr *)&v6, LEN6_RFC2133 - 1), EINVAL);
	OK(dial(fd, "ECHO"));
	ECHOES(fd);
}

static void wrong_families(void)
{
	int fd = tcp(), fd6 = (int)OK(socket(AF_INET6, SOCK_STREAM, 0));
	struct sockaddr_in v4 = ip4("ECHO");
	struct sockaddr_in6 v6 = ip6("ECHO"), v6_mapped = mapped("ECHO");
	struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "nowhere"};
	FAILS(connect(fd, (struct sockaddr *)&v6, sizeof v6), EAFNOSUPPORT);
	FAILS(connect(fd, (struct sockaddr *)&v6_mapped, sizeof v6_mapped), EAFNOSUPPORT);
	FAILS(connect(fd, (struct sockaddr *)&un, sizeof un), EAFNOSUPPORT);
	FAILS(connect(fd6, (struct sockaddr *)&v4, sizeof v4), EINVAL);
	FAILS(connect(fd6, (struct sockaddr *)&un, sizeof un), EAFNOSUPPORT);
	OK(dial(fd, "ECHO"));
	ECHOES(fd);
}

static void no_address(void)
{
	int fd = tcp();
	const struct sockaddr *volatile nowhere = NULL;
	FAILS(connect(fd, nowhere, sizeof(struct sockaddr_in)), EFAULT);
	nowhere = (const struct sockaddr *)(uintptr_t)16;
	FAILS(connect(fd, nowhere, sizeof(struct sockaddr_in)), EFAULT);
}

/* The address is the last thing before memory that faults. */
static void nothing_is_read_behind_the_address(void)
{
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(page != MAP_FAILED);
	OK(mprotect(page + 4096, 4096, PROT_NONE));
	struct sockaddr_in a = ip4("ECHO");
	char *at = page + 4096 - sizeof a;
	memcpy(at, &a, sizeof a);
	int fd = tcp();
	OK(connect(fd, (struct sockaddr *)at, sizeof a));
	ECHOES(fd);
}

static void peer_and_own_name_with_bad_arguments(void)
{
	int fd = connected("ECHO");
	struct sockaddr_in a;
	socklen_t len = sizeof a, *volatile none = NULL;
	struct sockaddr *volatile nowhere = NULL;
	FAILS(getpeername(fd, nowhere, &len), EFAULT);
	FAILS(getsockname(fd, nowhere, &len), EFAULT);
	FAILS(getpeername(fd, (struct sockaddr *)&a, none), EFAULT);
	FAILS(getsockname(fd, (struct sockaddr *)&a, none), EFAULT);
	len = (socklen_t)-1;
	FAILS(getpeername(fd, (struct sockaddr *)&a, &len), EINVAL);
	FAILS(getsockname(fd, (struct sockaddr *)&a, &len), EINVAL);
}

static void peer_name_is_cut_to_fit(void)
{
	int fd = connected("ECHO");
	unsigned char a[4] = {0, 0, 0x55, 0x55};
	socklen_t len = 2;
	OK(getpeername(fd, (struct sockaddr *)a, &len));
	EQUAL(len, sizeof(struct sockaddr_in));
	EQUAL(a[2], 0x55);
	len = 0;
	OK(getpeername(fd, NULL, &len));
	EQUAL(len, sizeof(struct sockaddr_in));
}

static void bad_descriptors(void)
{
	int pipes[2];
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	OK(pipe(pipes));
	FAILS(dial(-1, "ECHO"), EBADF);
	FAILS(dial(12345, "ECHO"), EBADF);
	FAILS(dial(pipes[0], "ECHO"), ENOTSOCK);
	FAILS(getpeername(-1, (struct sockaddr *)&a, &len), EBADF);
	FAILS(getsockname(pipes[0], (struct sockaddr *)&a, &len), ENOTSOCK);
	FAILS(getpeername(tcp(), (struct sockaddr *)&a, &len), ENOTCONN);
}

static void udp_is_untouched(void)
{
	int fd = (int)OK(socket(AF_INET, SOCK_DGRAM, 0)), other = (int)OK(socket(AF_INET, SOCK_DGRAM, 0));
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof a;
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	OK(bind(other, (struct sockaddr *)&a, sizeof a));
	OK(getsockname(other, (struct sockaddr *)&a, &len));
	OK(connect(fd, (struct sockaddr *)&a, sizeof a));
	EQUAL(send(fd, "x", 1, 0), 1);
	char byte;
	EQUAL(recv(other, &byte, 1, 0), 1);
	/* To a covered port, even: a rule is about TCP. */
	OK(dial(fd, "ECHO"));
	EQUAL(option(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_UDP);
}

static void unix_is_untouched(void)
{
	int listener = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0)), fd = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0));
	struct sockaddr_un a = {.sun_family = AF_UNIX}, got;
	socklen_t len = sizeof a.sun_family;
	OK(bind(listener, (struct sockaddr *)&a, len)); /* any abstract name */
	len = sizeof a;
	OK(getsockname(listener, (struct sockaddr *)&a, &len));
	OK(listen(listener, 1));
	OK(connect(fd, (struct sockaddr *)&a, len));
	socklen_t got_len = sizeof got;
	OK(getpeername(fd, (struct sockaddr *)&got, &got_len));
	EQUAL(got_len, len);
	EQUAL(got.sun_family, AF_UNIX);
	EQUAL(option(fd, SOL_SOCKET, SO_DOMAIN), AF_UNIX);
	FAILS(connect(fd, (struct sockaddr *)&a, len), EISCONN);
}

static void a_listener_is_eisconn(void)
{
	int fd = tcp();
	OK(listen(fd, 1));
	FAILS(dial(fd, "ECHO"), EISCONN);
}

static void an_accepted_socket_is_eisconn(void)
{
	int listener = tcp();
	struct sockaddr_in a;
	socklen_t len = sizeof a;
	OK(listen(listener, 1));
	OK(getsockname(listener, (struct sockaddr *)&a, &len));
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = tcp();
	OK(connect(fd, (struct sockaddr *)&a, sizeof a));
	int served = (int)OK(accept(listener, NULL, NULL));
	FAILS(dial(served, "ECHO"), EISCONN);
	FAILS(dial(fd, "ECHO"), EISCONN);
}

static void a_passed_connection_is_eisconn(void)
{
	int fd = connected("PLAIN");
	FAILS(dial(fd, "ECHO"), EISCONN);
	FAILS(dial(fd, "PLAIN"), EISCONN);
	ECHOES(fd);
}

static void multipath_tcp(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 262 /* IPPROTO_MPTCP */);
	if (fd < 0 && (errno == EPROTONOSUPPORT || errno == ENOPROTOOPT || errno == EINVAL))
		return; /* this kernel has none, so no program does */
	OK(dial(fd, "ECHO"));
	ECHOES(fd);
}

const struct test tests[] = {
	{"ipv6", BOTH, ipv6},
	{"ipv6_without_scope", BOTH, ipv6_without_scope},
	{"ipv4_mapped", BOTH, ipv4_mapped},
	{"ipv4_mapped_refused", BOTH, ipv4_mapped_refused},
	{"any_ipv4_is_this_host", BOTH, any_ipv4_is_this_host},
	{"any_ipv6_is_this_host", BOTH, any_ipv6_is_this_host},
	{"any_ipv4_mapped_is_this_host", BOTH, any_ipv4_mapped_is_this_host},
	{"longer_length", BOTH, longer_length},
	{"wrong_lengths", BOTH, wrong_lengths},
	{"wrong_families", BOTH, wrong_families},
	{"no_address", BOTH, no_address},
	{"nothing_is_read_behind_the_address", BOTH, nothing_is_read_behind_the_address},
	{"peer_and_own_name_with_bad_arguments", BOTH, peer_and_own_name_with_bad_arguments},
	{"peer_name_is_cut_to_fit", BOTH, peer_name_is_cut_to_fit},
	{"bad_descriptors", BOTH, bad_descriptors},
	{"udp_is_untouched", BOTH, udp_is_untouched},
	{"unix_is_untouched", BOTH, unix_is_untouched},
	{"a_listener_is_eisconn", BOTH, a_listener_is_eisconn},
	{"an_accepted_socket_is_eisconn", BOTH, an_accepted_socket_is_eisconn},
	{"a_passed_connection_is_eisconn", BOTH, a_passed_connection_is_eisconn},
	{"multipath_tcp", BOTH, multipath_tcp},
	{0},
};
