/* dials HOW HOST PORT SECRET [COMMAND]: many connections, each of which says SECRET and hears it again.
 * recovers: until one is refused; closes all, and says whether there can be one again.
 * dies: runs COMMAND after the first, and says how it goes on until one is refused.
 * breaks: 60 times, one after the other, each of which the server breaks then.
 * waits: waits for a line after the first, and says how it goes on. */
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct addrinfo *to;
static const char *secret;

static const char *name(int error)
{
	return error ? strerrorname_np(error) : "OK";
}

/* Returns a connected socket, or -1: then errno says why. */
static int dial(void)
{
	int fd = socket(to->ai_family, SOCK_STREAM, 0);
	if (fd >= 0 && connect(fd, to->ai_addr, to->ai_addrlen) == 0)
		return fd;
	int error = errno;
	if (fd >= 0)
		close(fd);
	errno = error;
	return -1;
}

/* Returns 0 or why not. */
static int talk(int fd)
{
	char back[256];
	size_t want = strlen(secret) + 1, have = 0;
	char line[256];
	snprintf(line, sizeof line, "%s\n", secret);
	if (send(fd, line, want, MSG_NOSIGNAL) < 0)
		return errno;
	while (have < want) {
		ssize_t n = recv(fd, back + have, sizeof back - have, 0);
		if (n <= 0)
			return n < 0 ? errno : ENODATA;
		have += (size_t)n;
	}
	return 0;
}

static int reads(int fd)
{
	char byte;
	return recv(fd, &byte, 1, 0) < 0 ? errno : 0;
}

static void recovers(void)
{
	int held[64], count = 0, again = 0;
	while (count < 40) {
		int fd = dial();
		if (fd < 0)
			break;
		int error = talk(fd);
		if (error)
			break;
		held[count++] = fd;
	}
	printf("%s held, %s\n", count > 5 ? "some" : "few", count < 40 ? "then none" : "all");
	while (count > 0)
		close(held[--count]);
	for (int i = 0; i < 100 && !again; i++) {
		int fd = dial();
		again = fd >= 0 && talk(fd) == 0;
		if (fd >= 0)
			close(fd);
	}
	puts(again ? "again" : "never again");
}

static void dies(int first, const char *command)
{
	int error = 0;
	if (system(command) != 0)
		puts("the command failed");
	for (int i = 0; i < 5000 && !error; i++) {
		int fd = dial();
		error = fd < 0 ? errno : talk(fd);
	}
	printf("%s\n", error ? "refused" : "never refused");
	printf("%s\n", name(reads(first)));
	printf("%s\n", dial() < 0 ? name(errno) : "connected");
}

static void breaks(void)
{
	int error = 0, broken = 0;
	for (int i = 0; i < 60 && !error; i++) {
		int fd = dial();
		error = fd < 0 ? errno : talk(fd);
		if (!error && reads(fd) == ECONNRESET)
			broken++;
		if (fd >= 0)
			close(fd);
	}
	printf("%d broken, %s\n", broken, name(error));
}

static void waits(int first)
{
	printf("%s\n", "connected");
	fflush(stdout);
	getchar();
	printf("%s %s\n", dial() < 0 ? name(errno) : "connected", name(talk(first)));
}

int main(int argc, char **argv)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	if (argc < 5 || getaddrinfo(argv[2], argv[3], &hints, &to))
		return 2;
	secret = argv[4];
	if (!strcmp(argv[1], "recovers")) {
		recovers();
		return 0;
	}
	if (!strcmp(argv[1], "breaks")) {
		breaks();
		return 0;
	}
	int first = dial(), error = first < 0 ? errno : talk(first);
	if (error) {
		printf("the first: %s\n", name(error));
		return 1;
	}
	if (!strcmp(argv[1], "dies") && argc == 6)
		dies(first, argv[5]);
	else
		waits(first);
	return 0;
}
