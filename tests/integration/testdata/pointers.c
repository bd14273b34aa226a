/*
 * pointers: what the calls that look at memory of the program's, or write to it, say about memory
 * that cannot be read or written, or ends with its page. Prints the same alone and under tlswrap.
 *
 *     pointers              calls on plain sockets, and exec
 *     pointers connect HOST PORT   calls on a connection
 *     pointers listen PORT  calls on what it listens on, and accept
 *     pointers change       exec, with an environment that a thread changes meanwhile
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char *volatile nothing; /* NULL, which the compiler does not know */
static char *none = (char *)-1, *end, *fixed;

static void say(const char *what, long r)
{
	printf("%s: %s\n", what, r < 0 ? strerrorname_np(errno) : "done");
}

static void count(const char *what, long r)
{
	printf("%s: %ld %s\n", what, r, r < 0 ? strerrorname_np(errno) : "");
}

/* Makes fixed a page with that protection, which it returns; the page before it can be written. */
static char *fixed_page(int protection)
{
	mprotect(fixed, 4096, protection);
	return fixed;
}

/* A call that writes up to size bytes, and their number to a place that says how many there is room for. */
typedef int fill(int fd, void *to, socklen_t *len);

static void filled(const char *what, fill *f, int fd)
{
	static const char *const places[] = {"NULL", "nowhere", "the kernel's", "read only", "beyond", "to the end"};
	socklen_t size = 16, len;
	char room[256];
	memcpy(fixed_page(PROT_READ | PROT_WRITE), &size, sizeof size);
	fixed_page(PROT_READ);
	for (int i = 0; i < 6; i++) {
		char *at[] = {NULL, none, (char *)0xffff800000000000, fixed, end - 2, end - size};
		len = size;
		printf("%s, %s: %s", what, places[i], f(fd, at[i], &len) < 0 ? strerrorname_np(errno) : "done");
		len = 0;
		printf(", no room: %s", f(fd, at[i], &len) < 0 ? strerrorname_np(errno) : "done");
		char *of_len[] = {NULL, none, (char *)0xffff800000000000, fixed, end - 2, end - 4};
		memcpy(end - 4, &size, sizeof size);
		printf(", length: %s\n", f(fd, room, (socklen_t *)of_len[i]) < 0 ? strerrorname_np(errno) : "done");
	}
	len = -1;
	say("a negative length", f(fd, room, &len));
	for (len = 0; len < 20; len += 3) {
		socklen_t given = len;
		memset(room, 'x', sizeof room);
		int r = f(fd, room, &given);
		printf("%s, %u: %d, %u, %c\n", what, len, r, given, room[len] == 'x' ? 'x' : '-');
	}
}

static int peer(int fd, void *to, socklen_t *len) { return getpeername(fd, to, len); }
static int own(int fd, void *to, socklen_t *len) { return getsockname(fd, to, len); }
static int error(int fd, void *to, socklen_t *len) { return getsockopt(fd, SOL_SOCKET, SO_ERROR, to, len); }
static int type(int fd, void *to, socklen_t *len) { return getsockopt(fd, SOL_SOCKET, SO_TYPE, to, len); }
static int nodelay(int fd, void *to, socklen_t *len) { return getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, to, len); }
static int next_client(int fd, void *to, socklen_t *len)
{
	int r = accept(fd, to, len);
	if (r >= 0)
		close(r);
	return r;
}

/* The calls that tell something about a socket. */
static void names(const char *what, int fd)
{
	int one = 1;
	printf("%s:\n", what);
	filled("getpeername", peer, fd);
	filled("getsockname", own, fd);
	filled("SO_ERROR", error, fd);
	filled("SO_TYPE", type, fd);
	filled("TCP_NODELAY", nodelay, fd);
	say("setsockopt, nowhere", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, none, sizeof one));
	say("setsockopt, beyond", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, end - 4, 16));
	say("setsockopt, read only", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, fixed, sizeof one));
	int set = epoll_create1(0);
	say("epoll_ctl, nowhere", epoll_ctl(set, EPOLL_CTL_ADD, fd, (struct epoll_event *)none));
	say("epoll_ctl, beyond", epoll_ctl(set, EPOLL_CTL_ADD, fd, (struct epoll_event *)(end - 4)));
	close(set);
}

/* What a child says that was to become another program. */
#define IN_CHILD(what, call)                                                                      \
	do {                                                                                      \
		fflush(stdout);                                                                   \
		int status;                                                                       \
		pid_t pid = fork();                                                               \
		if (pid == 0) {                                                                   \
			call;                                                                     \
			say(what, -1);                                                            \
			fflush(stdout);                                                           \
			_exit(0);                                                                 \
		}                                                                                 \
		waitpid(pid, &status, 0);                                                         \
		printf("%s: %d\n", what, status);                                                 \
	} while (0)

static void spawned(const char *what, const char *path, char *const *environment)
{
	char *argv[] = {"sh", "-c", "echo $WORD $OTHER", NULL};
	pid_t pid;
	int status = 0;
	fflush(stdout);
	int r = posix_spawn(&pid, path, NULL, NULL, argv, environment);
	if (r == 0)
		waitpid(pid, &status, 0);
	printf("posix_spawn, %s: %d %d\n", what, r, status);
}

/* exec, and what it is given. */
static void starters(void)
{
	char *argv[] = {"sh", "-c", "echo $WORD $OTHER; exit 3", NULL}, *bad_argv[] = {"sh", none, NULL};
	char *word = "WORD=word", *other[] = {"OTHER=other", word, NULL};
	char *bad_environment[] = {word, none, NULL};
	char *at_end = strcpy(end - 10, word), *sh = strcpy(end - 30, "/bin/sh"), **list = (char **)(end - 64);
	list[0] = at_end, list[1] = "OTHER=yes", list[2] = NULL;
	static char longest[5000];
	memset(longest, 'a', sizeof longest - 1);

	IN_CHILD("execve", execve(sh, argv, list));
	IN_CHILD("execve, other", execve(sh, argv, other));
	IN_CHILD("execve, no path", execve(nothing, argv, other));
	IN_CHILD("execve, nowhere", execve(none, argv, other));
	IN_CHILD("execve, empty", execve("", argv, other));
	IN_CHILD("execve, long", execve(longest, argv, other));
	IN_CHILD("execve, arguments nowhere", execve(sh, (char **)none, other));
	IN_CHILD("execve, an argument nowhere", execve(sh, bad_argv, other));
	IN_CHILD("execve, environment nowhere", execve(sh, argv, (char **)none));
	IN_CHILD("execve, a word nowhere", execve(sh, argv, bad_environment));
	IN_CHILD("execve, no environment", execve(sh, argv, NULL));
	IN_CHILD("execve, none to run", execve("/nonexistent", argv, (char **)none));
	IN_CHILD("execv, no path", execv(nothing, argv));
	IN_CHILD("execl, no path", execl(nothing, "sh", NULL));
	IN_CHILD("execveat, nowhere", execveat(AT_FDCWD, none, argv, other, AT_EMPTY_PATH));
	IN_CHILD("execveat, environment nowhere", execveat(open(sh, O_RDONLY), "", argv, (char **)none, AT_EMPTY_PATH));
	IN_CHILD("fexecve, a word nowhere", fexecve(open("/bin/sh", O_RDONLY), argv, bad_environment));
	/* Things that end beyond: nothing says where they end before the page does. */
	memset(end - 10, 'x', 10);
	IN_CHILD("execve, a path without an end", execve(end - 10, argv, other));
	list[0] = end - 10;
	IN_CHILD("execve, a word without an end", execve("/bin/sh", argv, list));
	for (char **p = list; (char *)p < end; p++)
		*p = word;
	IN_CHILD("execve, an environment without an end", execve("/bin/sh", argv, list));
	IN_CHILD("execve, an environment that begins across", execve("/bin/sh", argv, (char **)(end - 4)));

	spawned("environment", "/bin/sh", other);
	spawned("nowhere", none, other);
	spawned("environment nowhere", "/bin/sh", (char **)none);
	spawned("a word nowhere", "/bin/sh", bad_environment);
}

/* The calls that send, and connect. */
static int senders(void)
{
	int datagrams = socket(AF_INET, SOCK_DGRAM, 0), stream = socket(AF_INET, SOCK_STREAM, 0);
	int receiver = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof here;
	if (bind(receiver, (struct sockaddr *)&here, len) < 0 ||
	    getsockname(receiver, (struct sockaddr *)&here, &len) < 0)
		return 1;
	memcpy(end - sizeof here, &here, sizeof here);
	struct sockaddr *whole = (struct sockaddr *)(end - sizeof here);
	struct sockaddr *cut = (struct sockaddr *)(end - sizeof here + 4);

	say("sendto, nowhere", sendto(datagrams, "x", 1, 0, (struct sockaddr *)none, len));
	say("sendto, to the end", sendto(datagrams, "x", 1, 0, whole, len));
	say("sendto, beyond", sendto(datagrams, "x", 1, 0, cut, len));
	say("sendto, no socket", sendto(0, "x", 1, 0, (struct sockaddr *)none, len));

	struct iovec data = {"x", 1};
	struct msghdr m = {.msg_iov = &data, .msg_iovlen = 1, .msg_name = none, .msg_namelen = len};
	say("sendmsg, nowhere", sendmsg(datagrams, &m, 0));
	m.msg_name = whole;
	say("sendmsg, to the end", sendmsg(datagrams, &m, 0));
	m.msg_name = cut;
	say("sendmsg, beyond", sendmsg(datagrams, &m, 0));
	say("sendmsg, no message", sendmsg(datagrams, (struct msghdr *)none, 0));
	say("sendmsg, a message beyond", sendmsg(datagrams, (struct msghdr *)(end - 8), 0));
	say("sendmmsg, no messages", sendmmsg(datagrams, (struct mmsghdr *)none, 2, 0));
	say("sendmmsg, no socket", sendmmsg(0, (struct mmsghdr *)none, 2, 0));
	say("sendmmsg, none of none", sendmmsg(datagrams, (struct mmsghdr *)none, 0, 0));
	struct mmsghdr *some = (struct mmsghdr *)end - 3;
	for (int i = 0; i < 3; i++)
		some[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &data, .msg_iovlen = 1, .msg_name = &here, .msg_namelen = len}};
	count("sendmmsg, to the end", sendmmsg(datagrams, some, 3, 0));
	printf("lengths %u %u %u\n", some[0].msg_len, some[1].msg_len, some[2].msg_len);
	count("sendmmsg, more than there are", sendmmsg(datagrams, some, 4, 0));
	some[1].msg_hdr.msg_name = cut;
	count("sendmmsg, one to beyond", sendmmsg(datagrams, some, 3, 0));
	some[0].msg_hdr.msg_name = none;
	count("sendmmsg, the first to nowhere", sendmmsg(datagrams, some, 3, 0));
	some[0].msg_hdr.msg_name = &here;
	some[0].msg_hdr.msg_namelen = 1000;
	count("sendmmsg, a long name", sendmmsg(datagrams, some, 3, 0));
	some[0].msg_hdr.msg_namelen = -1;
	count("sendmmsg, a negative name", sendmmsg(datagrams, some, 3, 0));
	say("sendto, a long name", sendto(datagrams, "x", 1, 0, whole, 1000));
	/* The length of the second is on a page that cannot be written. */
	memcpy(fixed_page(PROT_READ | PROT_WRITE) - sizeof *some, some, sizeof *some);
	struct mmsghdr *across = (struct mmsghdr *)fixed - 1;
	across[0].msg_hdr.msg_name = across[1].msg_hdr.msg_name = &here;
	across[0].msg_hdr.msg_namelen = across[1].msg_hdr.msg_namelen = len;
	across[1].msg_hdr.msg_iov = &data;
	across[1].msg_hdr.msg_iovlen = 1;
	fixed_page(PROT_READ);
	count("sendmmsg, a length that cannot be written", sendmmsg(datagrams, across, 2, 0));
	count("sendmmsg, only such", sendmmsg(datagrams, across + 1, 1, 0));
	struct mmsghdr many[100];
	for (int i = 0; i < 100; i++) {
		many[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &data, .msg_iovlen = 1, .msg_name = &here, .msg_namelen = len}};
		many[i].msg_len = 7;
	}
	many[40].msg_hdr.msg_name = none;
	count("sendmmsg, many", sendmmsg(datagrams, many, 100, 0));
	printf("lengths %u %u\n", many[39].msg_len, many[40].msg_len);

	memcpy(end - sizeof here, &here, sizeof here);
	say("connect, nowhere", connect(stream, (struct sockaddr *)none, len));
	say("connect, beyond", connect(stream, cut, len));
	say("connect, no address", connect(stream, NULL, len));
	say("connect, fast, beyond", sendto(stream, "x", 1, MSG_FASTOPEN, cut, len));
	say("connect, to the end", connect(datagrams, whole, len));
	say("bind, in use", bind(socket(AF_INET, SOCK_DGRAM, 0), whole, len));
	say("bind, beyond", bind(socket(AF_INET, SOCK_DGRAM, 0), cut, len));
	say("bind, nowhere", bind(stream, (struct sockaddr *)none, len));
	names("datagrams", datagrams);
	return 0;
}

/* A connection to a server. */
static int connection(char *host, char *port)
{
	struct addrinfo *all, hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
	if (getaddrinfo(host, port, &hints, &all) != 0)
		return 1;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, all->ai_addr, all->ai_addrlen) < 0)
		return 1;
	names("connection", fd);
	struct iovec data = {"x", 1};
	struct mmsghdr m = {.msg_hdr = {.msg_iov = &data, .msg_iovlen = 1, .msg_name = none, .msg_namelen = 16}};
	say("sendto, nowhere", sendto(fd, "x", 1, 0, (struct sockaddr *)none, 16));
	say("sendto, no bytes", sendto(fd, none, 1, 0, NULL, 0));
	say("sendmsg, nowhere", sendmsg(fd, &m.msg_hdr, 0));
	say("sendmsg, no message", sendmsg(fd, (struct msghdr *)none, 0));
	count("sendmmsg, nowhere", sendmmsg(fd, &m, 1, 0));
	m.msg_hdr.msg_name = NULL;
	memcpy(fixed_page(PROT_READ | PROT_WRITE), &m, sizeof m);
	fixed_page(PROT_READ);
	count("sendmmsg, a length that cannot be written", sendmmsg(fd, (struct mmsghdr *)fixed, 1, 0));
	say("connect, nowhere", connect(fd, (struct sockaddr *)none, 16));
	say("connect, again", connect(fd, all->ai_addr, all->ai_addrlen));

	/* An error is told to who has room for it. */
	int failed = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), value = 0;
	((struct sockaddr_in *)all->ai_addr)->sin_port = htons(1);
	connect(failed, all->ai_addr, all->ai_addrlen);
	struct pollfd ready = {.fd = failed, .events = POLLOUT};
	poll(&ready, 1, 20000);
	socklen_t len = sizeof value;
	say("SO_ERROR, nowhere", getsockopt(failed, SOL_SOCKET, SO_ERROR, &value, (socklen_t *)none));
	getsockopt(failed, SOL_SOCKET, SO_ERROR, &value, &len);
	printf("SO_ERROR: %s\n", strerrorname_np(value));
	return 0;
}

/* A server, which lets as many clients in as it asks for. */
static int listener(char *port)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons(atoi(port))};
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&here, sizeof here) < 0 || listen(fd, 100) < 0)
		return 1;
	printf("listening\n");
	fflush(stdout);
	names("listener", fd);
	filled("accept", next_client, fd);
	return 0;
}

static char *changing[3000];

static void *change(void *unused)
{
	char *word = changing[1];
	for (;;) {
		*(char *volatile *)&changing[1] = NULL;
		*(char *volatile *)&changing[1] = word;
	}
	return unused;
}

static int changed(void)
{
	pthread_t thread;
	char *argv[] = {"true", NULL};
	for (int i = 0; i < 2999; i++)
		changing[i] = "LD_PRELOAD_NOT=word";
	pthread_create(&thread, NULL, change, NULL);
	for (int i = 0; i < 200; i++) {
		pid_t pid;
		int status, r = posix_spawn(&pid, "/bin/true", NULL, NULL, argv, changing);
		if (r == 0)
			waitpid(pid, &status, 0);
		if (r != 0 ? r != EFAULT : status != 0)
			printf("%d: %d %d\n", i, r, status);
	}
	return 0;
}

int main(int argc, char **argv)
{
	char *pages = mmap(NULL, 5 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	end = pages + 4096;
	fixed = pages + 3 * 4096;
	mprotect(end, 4096, PROT_NONE);
	fixed_page(PROT_READ);
	if (argc == 4)
		return connection(argv[2], argv[3]);
	if (argc == 3)
		return listener(argv[2]);
	if (argc == 2)
		return changed();
	starters();
	return senders();
}
