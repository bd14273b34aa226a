/* passes PROCESSES THREADS CONNECTS [wait]: each thread of each process connects so often, to an address of its own,
 * 127.1.PROCESS.THREAD, where nobody listens, and to one port after the other from 1001 on. With "wait" there are
 * two connects to 127.1.0.0:1000 first, "ready", and a line from standard input is read. Says "refused" where all were. */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int connects;

static void is_refused(uint32_t host, int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(host)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0)
		err(1, "socket");
	if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 || errno != ECONNREFUSED)
		err(1, "connect");
	close(fd);
}

static void *run(void *host)
{
	for (int i = 1; i <= connects; i++)
		is_refused((uint32_t)(uintptr_t)host, 1000 + i);
	return NULL;
}

static void run_threads(uint32_t host, int threads)
{
	pthread_t all[64];
	for (int i = 0; i < threads; i++)
		if (pthread_create(&all[i], NULL, run, (void *)(uintptr_t)(host + (uint32_t)i)))
			errx(1, "pthread_create");
	for (int i = 0; i < threads; i++)
		pthread_join(all[i], NULL);
}

int main(int argc, char **argv)
{
	const uint32_t net = 0x7f010000;
	if (argc < 4 || atoi(argv[2]) > 64)
		return 2;
	connects = atoi(argv[3]);
	if (argc > 4) {
		char line[8];
		is_refused(net, 1000);
		is_refused(net, 1000);
		puts("ready");
		fflush(stdout);
		if (!fgets(line, sizeof line, stdin))
			return 1;
	}
	for (int i = 0; i < atoi(argv[1]); i++) {
		pid_t pid = fork();
		if (pid < 0)
			err(1, "fork");
		if (pid == 0) {
			run_threads(net | (uint32_t)i << 8, atoi(argv[2]));
			return 0;
		}
	}
	int status, failed = 0;
	while (wait(&status) > 0)
		failed |= status;
	if (!failed)
		puts("refused");
	return failed != 0;
}
