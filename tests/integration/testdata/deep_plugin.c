/* A library that is opened with RTLD_DEEPBIND: dials HOST PORT, says a word, and returns what
 * comes back. It has a function of a name that its program has too. */
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

const char *whose(void);
const char *plugins(void);
long talk(const char *host, const char *port, const char *word, char *back, size_t size);

const char *whose(void)
{
	return "the plugin's";
}

const char *plugins(void)
{
	return whose();
}

long talk(const char *host, const char *port, const char *word, char *back, size_t size)
{
	struct addrinfo *list, hints = {.ai_socktype = SOCK_STREAM};
	if (getaddrinfo(host, port, &hints, &list) != 0)
		return -1;
	int fd = socket(list->ai_family, SOCK_STREAM, 0);
	if (connect(fd, list->ai_addr, list->ai_addrlen) < 0)
		return -2;
	if (write(fd, word, strlen(word)) < 0)
		return -3;
	return read(fd, back, size);
}
