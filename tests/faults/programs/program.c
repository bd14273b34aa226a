/*
 * The program under test: one scenario a run, with a word that nobody may see on the wire.
 * Exit status 0: it worked. 3: a call failed, as calls do, and standard output says which.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tls.h"

#define MARKER "plaintext-marker\n"

extern char **environ;
static char **arguments;

static _Noreturn void fails(const char *call, int error)
{
	printf("%s: %s\n", call, strerror(error));
	exit(3);
}

static long ok(const char *call, long result)
{
	if (result < 0)
		fails(call, errno);
	return result;
}
#define OK(call) ok(#call, (call))

/* The address of HOST and PORT, our last two arguments. */
static struct sockaddr_in target(void)
{
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
	struct sockaddr_in a;
	int r = getaddrinfo(arguments[2], arguments[3], &hints, &found);
	if (r != 0)
		fails(gai_strerror(r), errno);
	memcpy(&a, found->ai_addr, sizeof a);
	freeaddrinfo(found);
	return a;
}

static void echoes(int fd)
{
	char line[sizeof MARKER] = "";
	size_t have = 0;
	while (have < sizeof MARKER - 1) {
		ssize_t n = OK(recv(fd, line + have, sizeof MARKER - 1 - have, 0));
		if (n == 0)
			fails("recv", 0);
		have += (size_t)n;
	}
	if (strcmp(line, MARKER) != 0)
		abort();
}

static void talk(int fd)
{
	OK(send(fd, MARKER, sizeof MARKER - 1, MSG_NOSIGNAL));
	echoes(fd);
}

static void connects(void)
{
	struct sockaddr_in a = target();
	int fd = (int)OK(socket(AF_INET, SOCK_STREAM, 0));
	OK(connect(fd, (struct sockaddr *)&a, sizeof a));
	talk(fd);
}

static void waits_with_epoll(void)
{
	struct sockaddr_in a = target(), peer;
	int fd = (int)OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	int copy = (int)OK(dup(fd)), ep = (int)OK(epoll_create1(0)), error;
	struct epoll_event event = {.events = EPOLLOUT};
	socklen_t len = sizeof peer;
	OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event));
	if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0 && errno != EINPROGRESS)
		fails("connect", errno);
	if (epoll_wait(ep, &event, 1, 15000) != 1)
		fails("epoll_wait", ETIMEDOUT);
	socklen_t size = sizeof error;
	OK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size));
	if (error)
		fails("SO_ERROR", error);
	OK(getpeername(fd, (struct sockaddr *)&peer, &len));
	len = sizeof peer;
	OK(getsockname(fd, (struct sockaddr *)&peer, &len));
	event.events = EPOLLIN;
	OK(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &event));
	OK(send(fd, MARKER, sizeof MARKER - 1, MSG_NOSIGNAL));
	if (epoll_wait(ep, &event, 1, 15000) != 1)
		fails("epoll_wait", ETIMEDOUT);
	echoes(fd);
	(void)send(copy, MARKER, sizeof MARKER - 1, MSG_NOSIGNAL); /* it may have been left behind */
}

static void sends_at_once(void)
{
	struct sockaddr_in a = target();
	int fd = (int)OK(socket(AF_INET, SOCK_STREAM, 0));
	OK(sendto(fd, MARKER, sizeof MARKER - 1, MSG_FASTOPEN | MSG_NOSIGNAL, (struct sockaddr *)&a,
	          sizeof a));
	echoes(fd);
	struct iovec word = {MARKER, sizeof MARKER - 1};
	struct mmsghdr message = {.msg_hdr = {.msg_name = &a, .msg_namelen = sizeof a,
	                                      .msg_iov = &word, .msg_iovlen = 1}};
	fd = (int)OK(socket(AF_INET, SOCK_STREAM, 0));
	OK(sendmsg(fd, &message.msg_hdr, MSG_FASTOPEN | MSG_NOSIGNAL));
	echoes(fd);
	fd = (int)OK(socket(AF_INET, SOCK_STREAM, 0));
	OK(sendmmsg(fd, &message, 1, MSG_FASTOPEN | MSG_NOSIGNAL));
	echoes(fd);
}

/* The child says the word on its copy of the socket, once its parent has connected it. */
static void forks(void)
{
	struct sockaddr_in a = target();
	int go[2], status;
	char byte = 0;
	OK(pipe(go));
	int fd = (int)OK(socket(AF_INET, SOCK_STREAM, 0));
	struct sockaddr_in any = {.sin_family = AF_INET};
	OK(bind(fd, (struct sockaddr *)&any, sizeof any));
	pid_t child = (pid_t)OK(fork());
	if (child == 0) {
		close(go[1]);
		if (read(go[0], &byte, 1) != 1)
			_exit(3);
		(void)send(fd, MARKER, sizeof MARKER - 1, MSG_NOSIGNAL);
		fd = (int)OK(socket(AF_INET, SOCK_STREAM, 0));
		OK(connect(fd, (struct sockaddr *)&a, sizeof a));
		talk(fd);
		exit(0);
	}
	int r = connect(fd, (struct sockaddr *)&a, sizeof a), error = errno;
	OK(write(go[1], &byte, 1));
	OK(waitpid(child, &status, 0));
	if (r < 0)
		fails("connect", error);
	talk(fd);
	exit(WIFEXITED(status) ? WEXITSTATUS(status) : 4);
}

static _Noreturn void leave_as(int status)
{
	exit(WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 3);
}

static void executes(void)
{
	char *argv[] = {arguments[0], "connects", arguments[2], arguments[3], NULL};
	/* What a careful program does to its environment. */
	OK(clearenv());
	execv(argv[0], argv);
	fails("execv", errno);
}

static void spawns(void)
{
	char *argv[] = {arguments[0], "connects", arguments[2], arguments[3], NULL};
	pid_t child;
	int status, r = posix_spawn(&child, argv[0], NULL, NULL, argv, environ);
	if (r != 0)
		fails("posix_spawn", r);
	OK(waitpid(child, &status, 0));
	leave_as(status);
}

static void asks_a_shell(void)
{
	char command[4096], line[256];
	unsetenv("LD_PRELOAD");
	snprintf(command, sizeof command, "exec %s connects %s %s", arguments[0], arguments[2],
	         arguments[3]);
	int status = (int)OK(system(command));
	if (status != 0)
		leave_as(status);
	FILE *f = popen(command, "r");
	if (!f)
		fails("popen", errno);
	while (fgets(line, sizeof line, f))
		fputs(line, stdout);
	leave_as(pclose(f));
}

static void listens(void)
{
	int fd = (int)OK(socket(AF_INET, SOCK_STREAM, 0)), on = 1;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[3]))};
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	OK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	OK(bind(fd, (struct sockaddr *)&a, sizeof a));
	OK(listen(fd, 5));
	for (;;) {
		char word[8] = "";
		struct sockaddr_in peer;
		socklen_t len = sizeof peer;
		int client = (int)OK(accept(fd, (struct sockaddr *)&peer, &len));
		(void)send(client, MARKER, sizeof MARKER - 1, MSG_NOSIGNAL);
		if (recv(client, word, sizeof word - 1, 0) > 0 && strcmp(word, "end\n") == 0)
			exit(0);
		close(client);
	}
}

static void speaks_libtls(void)
{
#define TAKE(name) __typeof__(&name) p_##name = (__typeof__(&name))dlsym(RTLD_DEFAULT, #name)
	TAKE(tls_init);
	TAKE(tls_config_new);
	TAKE(tls_config_set_ca_file);
	TAKE(tls_client);
	TAKE(tls_configure);
	TAKE(tls_connect);
	TAKE(tls_write);
	TAKE(tls_read);
	TAKE(tls_close);
	TAKE(tls_error);
	char line[sizeof MARKER] = "";
	struct tls_config *config = NULL;
	struct tls *tls = NULL;
	if (!p_tls_init || p_tls_init() < 0 || !(config = p_tls_config_new()) || !(tls = p_tls_client()))
		fails("tls_client", errno);
	ssize_t n, have = 0;
	if (p_tls_config_set_ca_file(config, arguments[4]) < 0 || p_tls_configure(tls, config) < 0 ||
	    p_tls_connect(tls, arguments[2], arguments[3]) < 0 ||
	    p_tls_write(tls, MARKER, sizeof MARKER - 1) < 0)
		goto failed;
	while (have < (ssize_t)sizeof MARKER - 1) {
		n = p_tls_read(tls, line + have, sizeof MARKER - 1 - (size_t)have);
		if (n <= 0)
			goto failed;
		have += n;
	}
	if (strcmp(line, MARKER) != 0)
		abort();
	p_tls_close(tls);
	return;
failed:
	printf("libtls: %s\n", p_tls_error(tls));
	exit(3);
}

static const struct {
	const char *name;
	void (*run)(void);
} scenarios[] = {
	{"connects", connects},       {"waits_with_epoll", waits_with_epoll},
	{"sends_at_once", sends_at_once}, {"forks", forks},
	{"executes", executes},       {"spawns", spawns},
	{"asks_a_shell", asks_a_shell}, {"listens", listens},
	{"speaks_libtls", speaks_libtls},
};

int main(int argc, char **argv)
{
	arguments = argv;
	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(20);
	for (size_t i = 0; argc >= 4 && i < sizeof scenarios / sizeof *scenarios; i++) {
		if (strcmp(argv[1], scenarios[i].name) == 0) {
			scenarios[i].run();
			return 0;
		}
	}
	return 2;
}
