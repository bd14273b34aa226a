/*
 * The library without its worker: TLSWRAP_CONTROL is not set, or leads nowhere. Nothing
 * that a rule might cover may go out.
 */
#include "check.h"

#include <dlfcn.h>
#include <netdb.h>
#include <spawn.h>
#include <wordexp.h>

static void tcp_is_enetdown(void)
{
	int fd = tcp();
	FAILS(dial(fd, "ECHO"), ENETDOWN);
	FAILS(dial(fd, "PLAIN"), ENETDOWN);
	set_blocking(fd, false);
	FAILS(dial(fd, "ECHO"), ENETDOWN);
	struct sockaddr_in a = ip4("ECHO");
	FAILS(sendto(fd, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&a, sizeof a), ENETDOWN);
	int fd6 = (int)OK(socket(AF_INET6, SOCK_STREAM, 0));
	struct sockaddr_in6 a6 = ip6("ECHO");
	FAILS(connect(fd6, (struct sockaddr *)&a6, sizeof a6), ENETDOWN);
	if (strcmp(ask("accepted ECHO"), "0") != 0 || strcmp(ask("accepted PLAIN"), "0") != 0)
		FAIL("a connection went out");
}

static void nothing_stays_open(void)
{
	int before = open_descriptors(), fd = tcp();
	for (int i = 0; i < 100; i++)
		FAILS(dial(fd, "ECHO"), ENETDOWN);
	close(fd);
	EQUAL(open_descriptors(), before);
}

static void datagrams_go_out(void)
{
	int fd = (int)OK(socket(AF_INET, SOCK_DGRAM, 0)), server = (int)OK(socket(AF_INET, SOCK_DGRAM, 0));
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof a;
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	OK(bind(server, (struct sockaddr *)&a, sizeof a));
	OK(getsockname(server, (struct sockaddr *)&a, &len));
	OK(connect(fd, (struct sockaddr *)&a, sizeof a));
	char byte;
	EQUAL(send(fd, "x", 1, 0), 1);
	EQUAL(recv(server, &byte, 1, 0), 1);
}

static void names_are_not_looked_up(void)
{
	struct addrinfo *list;
	EQUAL(getaddrinfo("localhost", NULL, NULL, &list), EAI_SYSTEM);
	EQUAL(errno, ENETDOWN);
	CHECK(!gethostbyname("localhost"));
}

static void programs_are_not_started(void)
{
	char *argv[] = {"x", NULL}, *none[] = {NULL};
	pid_t pid;
	FAILS(execv("/bin/true", argv), ENETDOWN);
	FAILS(execve("/bin/true", argv, none), ENETDOWN);
	FAILS(execvp("true", argv), ENETDOWN);
	EQUAL(posix_spawn(&pid, "/bin/true", NULL, NULL, argv, none), ENETDOWN);
}

/* With the environment empty, a shell that started all the same would be without the library. */
static void shells_are_not_started(void)
{
	char command[256];
	wordexp_t words;
	int made[2];
	OK(pipe(made));
	snprintf(command, sizeof command, "echo started >&%d", made[1]);
	clearenv();
	FAILS(system(command), ENETDOWN);
	EQUAL(system(NULL), 0);
	errno = 0;
	CHECK(!popen(command, "r"));
	EQUAL(errno, ENETDOWN);
	FILE *(*old_popen)(const char *, const char *) =
		(FILE * (*)(const char *, const char *))(uintptr_t)dlsym(RTLD_DEFAULT, "_IO_popen");
	CHECK(old_popen);
	errno = 0;
	CHECK(!old_popen(command, "r"));
	EQUAL(errno, ENETDOWN);
	snprintf(command, sizeof command, "$(echo started >&%d)", made[1]);
	EQUAL(wordexp(command, &words, 0), WRDE_CMDSUB);
	OK(close(made[1]));
	EQUAL(read(made[0], command, 1), 0);
	EQUAL(wordexp("a b", &words, 0), 0);
	EQUAL(words.we_wordc, 2);
}

const struct test tests[] = {
	{"tcp_is_enetdown", "lost", tcp_is_enetdown},
	{"nothing_stays_open", "lost", nothing_stays_open},
	{"datagrams_go_out", "lost", datagrams_go_out},
	{"names_are_not_looked_up", "lost", names_are_not_looked_up},
	{"programs_are_not_started", "lost", programs_are_not_started},
	{"shells_are_not_started", "lost", shells_are_not_started},
	{0},
};
