/*
 * bound HOW LIBRARY HOST PORT MARKER: sends the marker and compares what comes back, with
 * functions that were not bound by the program's search order. Built as a library
 * (-DLIBRARY) it is what HOW deepbind opens; with -DWRAP, another's wrapper of connect.
 */
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef WRAP
int connect(int fd, const struct sockaddr *address, socklen_t size)
{
	int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
	return next(fd, address, size);
}
#else

typedef int connect_function(int, const struct sockaddr *, socklen_t);
typedef int look_up(const char *, const char *, const struct addrinfo *, struct addrinfo **);

const char *own(void);
int talk(connect_function *, look_up *, char **);

#ifdef LIBRARY
const char *own(void) { return "library"; }
#else
const char *own(void) { return "program"; }
#endif

int talk(connect_function *call, look_up *get, char **v)
{
	struct addrinfo *found, hints = {.ai_socktype = SOCK_STREAM};
	char back[256] = "";
	size_t size = strlen(v[2]), have = 0;
	if (get(v[0], v[1], &hints, &found) != 0)
		return 2;
	int fd = socket(found->ai_family, SOCK_STREAM, 0);
	if (call(fd, found->ai_addr, found->ai_addrlen) != 0 ||
	    write(fd, v[2], size) != (ssize_t)size || shutdown(fd, SHUT_WR) != 0)
		return 3;
	for (ssize_t n; (n = read(fd, back + have, sizeof back - 1 - have)) > 0;)
		have += (size_t)n;
	if (!strstr(back, v[2]))
		return 4;
	puts("intact");
	return 0;
}

#ifdef LIBRARY
int call(char **v)
{
	if (strcmp(own(), "library") != 0)
		return 5;
	return talk(connect, getaddrinfo, v);
}
#else
int main(int argc, char **argv)
{
	const char *how = argv[1];
	if (argc != 6)
		return 1;
#ifdef RTLD_DEEPBIND
	if (strcmp(how, "deepbind") == 0) {
		void *library = dlopen(argv[2], RTLD_NOW | RTLD_DEEPBIND);
		int (*call)(char **) = library ? (int (*)(char **))dlsym(library, "call") : NULL;
		return call ? call(argv + 3) : 6;
	}
	void *libc = dlopen("libc.so.6", RTLD_NOW);
	if (strcmp(how, "dlvsym") == 0)
		return talk((connect_function *)dlvsym(libc, "connect", argv[2]),
		            (look_up *)dlvsym(libc, "getaddrinfo", argv[2]), argv + 3);
#else
	void *libc = dlopen("libc.so", RTLD_NOW);
#endif
	if (strcmp(how, "dlsym") == 0)
		return talk((connect_function *)dlsym(libc, "connect"),
		            (look_up *)dlsym(libc, "getaddrinfo"), argv + 3);
	return talk(connect, getaddrinfo, argv + 3);
}
#endif
#endif
