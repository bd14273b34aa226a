/* Sun RPC of glibc's own, as programs have it that were linked before glibc 2.32. */
#include "check.h"

#ifdef __GLIBC__
#include <sys/wait.h>

#if defined(__x86_64__)
#define OLD "GLIBC_2.2.5"
#elif defined(__i386__)
#define OLD "GLIBC_2.0"
#else
#define OLD "GLIBC_2.17"
#endif
#define IN_GLIBC(name) __asm__(".symver old_" #name "," #name "@" OLD)

extern void *old_clnttcp_create(struct sockaddr_in *, unsigned long, unsigned long, int *, unsigned, unsigned);
extern void *old_clnt_create(const char *, unsigned long, unsigned long, const char *);
extern unsigned short old_pmap_getport(struct sockaddr_in *, unsigned long, unsigned long, unsigned);
extern int old_getrpcport(const char *, unsigned long, unsigned long, unsigned);
extern struct { int socket; unsigned short port; } *old_svctcp_create(int, unsigned, unsigned);
IN_GLIBC(clnttcp_create);
IN_GLIBC(clnt_create);
IN_GLIBC(pmap_getport);
IN_GLIBC(getrpcport);
IN_GLIBC(svctcp_create);

enum { PROGRAM = 100005, VERSION = 1, ANY_SOCKET = -1 };

static void a_client_connects_where_no_rule_is(void)
{
	struct sockaddr_in to = ip4("PLAIN");
	int fd = ANY_SOCKET;
	CHECK(old_clnttcp_create(&to, PROGRAM, VERSION, &fd, 0, 0));
	ECHOES(fd);
}

static void a_client_is_refused_where_a_rule_is(void)
{
	struct sockaddr_in to = ip4("ECHO");
	int fd = ANY_SOCKET;
	errno = 0;
	CHECK(!old_clnttcp_create(&to, PROGRAM, VERSION, &fd, 0, 0));
	EQUAL(errno, EACCES);
}

static void a_socket_that_is_connected_is_used(void)
{
	struct sockaddr_in to = ip4("ECHO");
	int fd = connected("ECHO");
	CHECK(old_clnttcp_create(&to, PROGRAM, VERSION, &fd, 0, 0));
	ECHOES(fd);
}

/* A portmapper, on a loopback address that no other test has, says that the program is at ECHO. */
static void portmapper(int fd)
{
	enum { WORDS = 8 };
	uint32_t call[64];
	for (;;) {
		int one = (int)OK(accept(fd, NULL, NULL));
		uint32_t answer[WORDS] = {htonl(1u << 31 | 4 * (WORDS - 1)), 0, htonl(1)};
		if (recv(one, call, sizeof call, 0) < 8)
			_exit(1);
		answer[1] = call[1];
		answer[WORDS - 1] = htonl((uint32_t)port("ECHO"));
		EQUAL(send(one, answer, sizeof answer, 0), sizeof answer);
		OK(close(one));
	}
}

/* It connects inside libc, where the kernel sees it. */
static void a_client_connects_by_the_rules(void)
{
	struct sockaddr_in to = ip4("ECHO");
	char words[8];
	int fd = ANY_SOCKET;
	CHECK(old_clnttcp_create(&to, PROGRAM, VERSION, &fd, 0, 0));
	EQUAL(write(fd, "hello\n", 6), 6);
	EQUAL(recv(fd, words, 6, MSG_WAITALL), 6);
	EQUAL(memcmp(words, "hello\n", 6), 0);
}

static void a_client_by_name_is_refused_where_a_rule_is(void)
{
	if (geteuid() != 0) {
		printf("this test needs root\n");
		return;
	}
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(111)};
	at.sin_addr.s_addr = htonl(0x7f000000u | ((0x100u + (uint32_t)getpid()) & 0xffffffu));
	int fd = tcp();
	OK(bind(fd, (struct sockaddr *)&at, sizeof at));
	OK(listen(fd, 4));
	pid_t pid = (pid_t)OK(fork());
	if (pid == 0)
		portmapper(fd);
	EQUAL(old_pmap_getport(&at, PROGRAM, VERSION, IPPROTO_TCP), port("ECHO"));
	EQUAL(old_getrpcport(inet_ntoa(at.sin_addr), PROGRAM, VERSION, IPPROTO_TCP), port("ECHO"));
	errno = 0;
	CHECK(!old_clnt_create(inet_ntoa(at.sin_addr), PROGRAM, VERSION, "tcp"));
	EQUAL(errno, EACCES);
	OK(kill(pid, SIGKILL));
	OK(waitpid(pid, NULL, 0));
}

static int bound_to(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = tcp();
	OK(bind(fd, (struct sockaddr *)&a, sizeof a));
	return fd;
}

static void a_server_listens_where_no_rule_is(void)
{
	int fd = bound_to(0);
	CHECK(old_svctcp_create(fd, 0, 0));
	EQUAL(option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
	CHECK(old_svctcp_create(ANY_SOCKET, 0, 0)->port);
}

static void a_server_serves_by_the_rules(void)
{
	int fd = bound_to(setting("PORT_SERVE"));
	CHECK(old_svctcp_create(fd, 0, 0));
	EQUAL(option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
}

static void a_server_is_refused_where_a_rule_is(void)
{
	int fd = bound_to(setting("PORT_SERVE"));
	errno = 0;
	CHECK(!old_svctcp_create(fd, 0, 0));
	EQUAL(errno, EACCES);
	EQUAL(option(fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
}

#endif

const struct test tests[] = {
#ifdef __GLIBC__
	{"a_client_connects_where_no_rule_is", BOTH, a_client_connects_where_no_rule_is},
	{"a_client_is_refused_where_a_rule_is", UNNOTICED, a_client_is_refused_where_a_rule_is},
	{"a_socket_that_is_connected_is_used", BOTH, a_socket_that_is_connected_is_used},
	{"a_client_connects_by_the_rules", NOTICED, a_client_connects_by_the_rules},
	{"a_client_by_name_is_refused_where_a_rule_is", UNNOTICED, a_client_by_name_is_refused_where_a_rule_is},
	{"a_server_listens_where_no_rule_is", BOTH, a_server_listens_where_no_rule_is},
	{"a_server_serves_by_the_rules", NOTICED, a_server_serves_by_the_rules},
	{"a_server_is_refused_where_a_rule_is", UNNOTICED, a_server_is_refused_where_a_rule_is},
#endif
	{0},
};
