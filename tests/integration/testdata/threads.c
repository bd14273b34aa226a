/* threads HOST PORT MARKER COUNT: a thread a connection, all connecting at once. */
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *host, *port, *marker;
static pthread_barrier_t start;

static int dial(void)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
	if (getaddrinfo(host, port, &hints, &found))
		return -1;
	int fd = socket(found->ai_family, SOCK_STREAM, 0);
	int r = connect(fd, found->ai_addr, found->ai_addrlen);
	freeaddrinfo(found);
	return r < 0 ? -1 : fd;
}

static void *talk(void *number)
{
	char line[200], back[200];
	size_t n = (size_t)snprintf(line, sizeof line, "%ld %s\n", (long)number, marker), have = 0;
	pthread_barrier_wait(&start);
	int fd = dial();
	if (fd < 0 || write(fd, line, n) != (ssize_t)n) {
		fprintf(stderr, "%ld: %s\n", (long)number, strerrorname_np(errno));
		return "failed";
	}
	while (have < n) {
		ssize_t r = read(fd, back + have, n - have);
		if (r <= 0)
			return "cut";
		have += (size_t)r;
	}
	close(fd);
	return memcmp(line, back, n) ? "wrong" : NULL;
}

int main(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	host = argv[1], port = argv[2], marker = argv[3];
	int count = atoi(argv[4]), bad = 0;
	pthread_t *threads = calloc((size_t)count, sizeof *threads);
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 256 << 10);
	pthread_barrier_init(&start, NULL, (unsigned)count);
	for (long i = 0; i < count; i++) {
		if (pthread_create(&threads[i], &small, talk, (void *)i))
			return 3;
	}
	for (int i = 0; i < count; i++) {
		void *failure;
		pthread_join(threads[i], &failure);
		bad += failure != NULL;
	}
	printf(bad ? "%d failed\n" : "intact\n", bad);
	return bad != 0;
}
