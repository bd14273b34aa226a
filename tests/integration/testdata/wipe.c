/* wipe HOW HOST PORT MARKER: closes every descriptor above 2 with close_range(2),
 * closefrom(3) or close(2), connects, and talks. */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char line[200], back[200] = "";
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
	if (argc != 5)
		return 2;
	if (!strcmp(argv[1], "close_range"))
		close_range(3, ~0U, 0);
	else if (!strcmp(argv[1], "closefrom"))
		closefrom(3);
	else
		for (int fd = 3; fd < 1024; fd++)
			close(fd);
	if (getaddrinfo(argv[2], argv[3], &hints, &found))
		return 3;
	int fd = socket(found->ai_family, SOCK_STREAM, 0);
	if (connect(fd, found->ai_addr, found->ai_addrlen) < 0) {
		perror("connect");
		return 4;
	}
	/* Nothing but the connection may have appeared. */
	for (int other = 3; other < 1024; other++) {
		if (other != fd && dup(other) >= 0) {
			fprintf(stderr, "descriptor %d is open\n", other);
			return 5;
		}
	}
	size_t n = (size_t)snprintf(line, sizeof line, "%s\n", argv[4]);
	if (write(fd, line, n) != (ssize_t)n || recv(fd, back, n, MSG_WAITALL) != (ssize_t)n)
		return 6;
	puts(strcmp(line, back) ? "wrong" : "intact");
	return 0;
}
