/* later HOST PORT WORDS: connects once it has read a line, and sends words in plaintext. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	char line[100];
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (argc != 4 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1)
		return 2;
	to.sin_port = htons((unsigned short)atoi(argv[2]));
	puts("begun");
	fflush(stdout);
	if (!fgets(line, sizeof line, stdin))
		return 2;
	if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
		perror("connect");
		return 1;
	}
	puts("connected");
	return write(fd, argv[3], strlen(argv[3])) < 0;
}
