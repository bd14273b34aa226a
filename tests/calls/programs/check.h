/*
 * What the test programs share. A program is a table of tests; the driver runs one at
 * a time, alone and under tlswrap, and answers questions about the server's side over
 * descriptor 3. A test that fails says where and exits with 1.
 */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SHARED __attribute__((unused)) static

#define FAIL(...)                                                                                 \
	do {                                                                                      \
		fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                   \
		fprintf(stderr, __VA_ARGS__);                                                     \
		fprintf(stderr, "\n");                                                            \
		_exit(1);                                                                         \
	} while (0)

#define CHECK(condition)                                                                          \
	do {                                                                                      \
		if (!(condition))                                                                 \
			FAIL("not so: %s (errno %d, %s)", #condition, errno, strerror(errno));    \
	} while (0)

/* The call must return 0 or more, which is the macro's value. */
#define OK(call)                                                                                  \
	__extension__({                                                                           \
		long got_ = (long)(call);                                                         \
		if (got_ < 0)                                                                     \
			FAIL("%s: errno %d, %s", #call, errno, strerror(errno));                  \
		got_;                                                                             \
	})

/* The call must return -1 with this errno. */
#define FAILS(call, error)                                                                        \
	do {                                                                                      \
		errno = 0;                                                                        \
		long got_ = (long)(call);                                                         \
		int errno_ = errno, want_ = (error);                                              \
		if (got_ != -1 || errno_ != want_)                                                \
			FAIL("%s: got %ld, errno %d (%s), want errno %d (%s)", #call, got_,       \
			     errno_, strerror(errno_), want_, strerror(want_));                   \
	} while (0)

#define EQUAL(got, want)                                                                          \
	do {                                                                                      \
		long long got_ = (long long)(got), want_ = (long long)(want);                     \
		if (got_ != want_)                                                                \
			FAIL("%s is %lld (%#llx), want %lld (%#llx)", #got, got_, got_, want_,    \
			     want_);                                                              \
	} while (0)

/*
 * Where a test makes sense: BOTH, or WRAPPED alone. ONCE: with one compiler only, for
 * what takes long and does not depend on it. HELPER: started by another test.
 * NOTIFIED is WRAPPED for programs without the shim, UNNOTICED for those that have nothing but
 * the shim, as the machine allows no filter, and NOTICED for those that are below the filter.
 */
#define BOTH "both"
#define WRAPPED "wrapped"
#define BOTH_ONCE "both once"
#define WRAPPED_ONCE "wrapped once"
#define HELPER "helper"
#define NOTIFIED "notified"
#define NOTICED "noticed"
#define UNNOTICED "unnoticed"

struct test {
	const char *name, *where;
	void (*run)(void);
};
extern const struct test tests[]; /* ends with a NULL name */

SHARED char **arguments;

#ifndef NO_MAIN
int main(int argc, char **argv)
{
	arguments = argv;
	for (const struct test *t = tests; t->name; t++) {
		if (argc == 2 && strcmp(argv[1], "--list") == 0) {
			printf("%s %s\n", t->name, t->where);
		} else if (argc >= 2 && strcmp(argv[1], t->name) == 0) {
			t->run();
			return 0;
		}
	}
	return argc == 2 && strcmp(argv[1], "--list") == 0 ? 0 : 2;
}
#endif

/* ---- The driver ---- */

#define DRIVER 3
#define INHERITED 9 /* a pipe that the driver waits for the end of, when asked "inherited" */

/* Tells the driver something that it does not answer. Safe in a signal handler. */
SHARED void tell(const char *words)
{
	size_t n = strlen(words);
	if (write(DRIVER, words, n) != (ssize_t)n || write(DRIVER, "\n", 1) != 1)
		_exit(3);
}

/* Asks the driver, and returns its answer in static storage. */
SHARED const char *ask(const char *format, ...)
{
	static char line[256];
	size_t n = 0;
	va_list list;
	va_start(list, format);
	vsnprintf(line, sizeof line, format, list);
	va_end(list);
	tell(line);
	while (n < sizeof line - 1 && read(DRIVER, line + n, 1) == 1 && line[n] != '\n')
		n++;
	line[n] = '\0';
	return line;
}

SHARED int setting(const char *name)
{
	const char *value = getenv(name);
	if (!value)
		FAIL("the driver did not set %s", name);
	return atoi(value);
}

SHARED bool is_wrapped(void) { return setting("WRAPPED"); }

/* Whether the program is wrapped and has the shim. */
SHARED bool is_preloaded(void) { return setting("PRELOADED"); }

/* What a connection to the server BAD fails with. */
SHARED int bad_errno(void) { return setting("BAD_ERRNO"); }

/* ---- Sockets ---- */

/* The servers are ECHO, BAD, PENDING, CUT, HALF, SINK, DUPLEX, DEAF, PLAIN: servers_test.go. */
SHARED int port(const char *server)
{
	char name[32];
	snprintf(name, sizeof name, "PORT_%s", server);
	return setting(name);
}

SHARED struct sockaddr_in ip4(const char *server)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	a.sin_port = htons((uint16_t)port(server));
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return a;
}

SHARED struct sockaddr_in6 ip6(const char *server)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6};
	a.sin6_port = htons((uint16_t)port(server));
	a.sin6_addr = in6addr_loopback;
	return a;
}

SHARED int tcp(void) { return (int)OK(socket(AF_INET, SOCK_STREAM, 0)); }

SHARED int tcp_nonblocking(void)
{
	return (int)OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
}

SHARED int dial(int fd, const char *server)
{
	struct sockaddr_in a = ip4(server);
	return connect(fd, (struct sockaddr *)&a, sizeof a);
}

SHARED int connected(const char *server)
{
	int fd = tcp();
	OK(dial(fd, server));
	return fd;
}

SHARED void set_blocking(int fd, bool on)
{
	int flags = (int)OK(fcntl(fd, F_GETFL));
	OK(fcntl(fd, F_SETFL, on ? flags & ~O_NONBLOCK : flags | O_NONBLOCK));
}

/* Longer than anything takes. */
#define FOREVER 20000

/* Waits for any of events; returns what there is. */
SHARED int wait_for(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	int n;
	do
		n = poll(&p, 1, FOREVER);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		FAIL("poll: got %d events on %d in %d ms", n, fd, FOREVER);
	return p.revents;
}

SHARED int poll_now(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	OK(poll(&p, 1, 0));
	return p.revents;
}

SHARED int option(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof value;
	OK(getsockopt(fd, level, name, &value, &len));
	return value;
}

SHARED void set_option(int fd, int level, int name, int value)
{
	OK(setsockopt(fd, level, name, &value, sizeof value));
}

/* A line goes out and comes back. Works for a non-blocking descriptor too. */
SHARED void echo_on(int fd, const char *file, int line)
{
	static const char words[] = "words that must not be seen\n";
	char back[sizeof words];
	size_t have = 0;
	ssize_t n = send(fd, words, sizeof words - 1, MSG_NOSIGNAL);
	if (n != (ssize_t)sizeof words - 1) {
		fprintf(stderr, "%s:%d: send: %zd, errno %d (%s)\n", file, line, n, errno,
		        strerror(errno));
		_exit(1);
	}
	while (have < sizeof words - 1) {
		wait_for(fd, POLLIN);
		n = recv(fd, back + have, sizeof words - 1 - have, 0);
		if (n <= 0) {
			fprintf(stderr, "%s:%d: recv: %zd, errno %d (%s)\n", file, line, n, errno,
			        strerror(errno));
			_exit(1);
		}
		have += (size_t)n;
	}
	if (memcmp(words, back, sizeof words - 1) != 0) {
		fprintf(stderr, "%s:%d: something else came back\n", file, line);
		_exit(1);
	}
}
#define ECHOES(fd) echo_on((fd), __FILE__, __LINE__)

/* How many entries a folder of /proc/self has: fd, task. */
SHARED int count_entries(const char *path)
{
	int n = 0;
	DIR *dir = opendir(path);
	if (!dir)
		FAIL("opendir %s: %s", path, strerror(errno));
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}
#if defined(SYS_pause)
#define IN_PAUSE SYS_pause
#else
#define IN_PAUSE -2
#endif
/* Whether it is one of socketcall(2)'s that may wait (linux/net.h): connect, accept, sendto, accept4. */
SHARED bool waits_in_socketcall(long number, long call)
{
#if defined(SYS_socketcall)
	return number == SYS_socketcall && (call == 3 || call == 5 || call == 11 || call == 18);
#else
	return (void)number, (void)call, false;
#endif
}

/* Whether a thread sleeps (proc_pid_stat(5)). One that does not may be on its way into a call. */
SHARED bool sleeps(pid_t thread)
{
	char path[64], line[512];
	snprintf(path, sizeof path, "/proc/%d/stat", (int)thread);
	FILE *file = fopen(path, "r");
	if (!file)
		FAIL("%s: %s", path, strerror(errno));
	const char *state = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
	fclose(file);
	return state && state[2] == 'S';
}

/* Waits until a thread, of any process, sleeps in one of two system calls (proc_pid_syscall(5)) on a descriptor, by
 * socketcall(2) where libc makes them so, or in pause(2): there one that is traced waits for its answer. */
SHARED void wait_until_in(pid_t thread, int fd, long one, long other)
{
	char path[64];
	long number, argument = 0;
	snprintf(path, sizeof path, "/proc/%d/syscall", (int)thread);
	do {
		FILE *file = fopen(path, "r");
		if (!file)
			FAIL("%s: %s", path, strerror(errno));
		if (fscanf(file, "%ld %li", &number, &argument) < 1) /* it is running */
			number = -1;
		fclose(file);
	} while (!sleeps(thread) || (((number != one && number != other) || argument != fd) &&
	                             number != IN_PAUSE && !waits_in_socketcall(number, argument)));
}

SHARED int open_descriptors(void) { return count_entries("/proc/self/fd"); }

#endif
