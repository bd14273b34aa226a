/* crowd COUNT HOST PORT: opens COUNT connections one after the other, asks each for its
 * page, keeps them all open, asks each once more, and prints how many answered twice. */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static const char question[] = "GET /crowd HTTP/1.1\r\nHost: crowd\r\n\r\n";

/* One request and its answer, which ends with "\n\n". */
static int ask(int fd)
{
	char answer[4096];
	size_t have = 0;
	if (write(fd, question, sizeof question - 1) != sizeof question - 1)
		return 0;
	while (have < sizeof answer - 1) {
		ssize_t n = read(fd, answer + have, sizeof answer - 1 - have);
		if (n <= 0)
			return 0;
		have += (size_t)n;
		answer[have] = '\0';
		if (have > 2 && !strcmp(answer + have - 2, "\n\n"))
			return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	int count = argc == 4 ? atoi(argv[1]) : 0, answered = 0;
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *to;
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (count < 1 || getaddrinfo(argv[2], argv[3], &hints, &to) != 0)
		return 2;
	int *fds = calloc((size_t)count, sizeof *fds);
	for (int i = 0; i < count; i++) {
		fds[i] = socket(to->ai_family, SOCK_STREAM, 0);
		if (fds[i] < 0 || connect(fds[i], to->ai_addr, to->ai_addrlen) < 0) {
			fprintf(stderr, "connection %d: %m\n", i);
			return 1;
		}
		if (!ask(fds[i])) {
			fprintf(stderr, "connection %d has no answer: %m\n", i);
			return 1;
		}
	}
	for (int i = 0; i < count; i++)
		answered += ask(fds[i]);
	printf("%d\n", answered);
	return 0;
}
