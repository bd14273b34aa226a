/* race WHAT COVERED-PORT PLAIN-PORT SECRET SECONDS: connects up to 100,000 times while another thread changes what
 * the call is about, and sends SECRET wherever that leads. Prints how many connects succeeded.
 * address: the address is now 127.0.0.2 and COVERED-PORT, now 127.0.0.3 and PLAIN-PORT.
 * family: the address, which is 127.0.0.2 and COVERED-PORT, is now of IPv4, now of AF_UNSPEC.
 * close: the descriptor is closed, and the number may be another socket's.
 * dup: the descriptor is now this socket, now another that was connected to PLAIN-PORT.
 * unix: the descriptor is now this socket, now one of AF_UNIX. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in covered = {.sin_family = AF_INET}, plain = {.sin_family = AF_INET};
static _Alignas(64) struct sockaddr_in address;
static const char *what, *secret;
static volatile int fd = -1, ended;

static int connected(const struct sockaddr_in *to)
{
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	connect(s, (const struct sockaddr *)to, sizeof *to);
	return s;
}

static void *changes(void *unused)
{
	volatile struct sockaddr_in *a = &address;
	int spare = !strcmp(what, "dup") ? connected(&plain) : -1, local = socket(AF_UNIX, SOCK_STREAM, 0);
	for (unsigned n = 0; !ended; n++) {
		int now = fd;
		if (!strcmp(what, "address")) {
			const struct sockaddr_in *from = n & 1 ? &covered : &plain;
			a->sin_addr.s_addr = from->sin_addr.s_addr;
			a->sin_port = from->sin_port;
		} else if (!strcmp(what, "family")) {
			a->sin_family = n & 1 ? AF_INET : AF_UNSPEC;
		} else if (now >= 0 && !strcmp(what, "close")) {
			close(now);
			socket(AF_INET, SOCK_STREAM, 0); /* perhaps the same number */
		} else if (now >= 0 && !strcmp(what, "unix")) {
			int copy = dup(now);
			dup2(local, now);
			dup2(copy, now);
			close(copy);
		} else if (now >= 0) {
			int copy = dup(now);
			dup2(spare, now);
			send(copy, secret, strlen(secret), MSG_NOSIGNAL | MSG_DONTWAIT);
			close(copy);
		}
		if (n % 64 == 0 && strcmp(what, "unix") && strcmp(what, "address") && strcmp(what, "family"))
			usleep(50);
	}
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t other;
	struct timespec now, began;
	long attempts = 0, succeeded = 0;
	if (argc != 6)
		return 2;
	what = argv[1];
	covered.sin_port = htons((uint16_t)atoi(argv[2]));
	plain.sin_port = htons((uint16_t)atoi(argv[3]));
	covered.sin_addr.s_addr = htonl(0x7f000002);
	plain.sin_addr.s_addr = htonl(0x7f000003);
	secret = argv[4];
	address = covered;
	clock_gettime(CLOCK_MONOTONIC, &began);
	if (pthread_create(&other, NULL, changes, NULL))
		return 2;
	do {
		int s = socket(AF_INET, SOCK_STREAM, 0);
		if (s < 0) {
			for (int i = 3; i < 1024; i++)
				close(i);
			continue;
		}
		fd = s;
		struct linger reset = {1, 0};
		if (connect(s, (struct sockaddr *)&address, sizeof address) == 0)
			succeeded++;
		send(s, secret, strlen(secret), MSG_NOSIGNAL);
		fd = -1;
		if (!strcmp(what, "address") || !strcmp(what, "family"))
			setsockopt(s, SOL_SOCKET, SO_LINGER, &reset, sizeof reset); /* no port waits in TIME_WAIT */
		close(s);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (++attempts < 100000 && now.tv_sec - began.tv_sec < atoi(argv[5]));
	ended = 1;
	pthread_join(other, NULL);
	printf("%ld attempts, %ld succeeded\n", attempts, succeeded);
	return attempts == 0;
}
