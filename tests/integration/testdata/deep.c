/* deep PLUGIN HOST PORT WORD: talks by a plugin that was opened with RTLD_DEEPBIND, and then by
 * functions that dlsym and dlvsym find in libc. */
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

const char *whose(void);
const char *whose(void)
{
	return "the program's";
}

static void by_handle(void *connect_found, char *const argv[])
{
	int (*dial)(int, const struct sockaddr *, socklen_t) = connect_found;
	struct addrinfo *list, hints = {.ai_socktype = SOCK_STREAM};
	char back[100] = "";
	if (!dial || getaddrinfo(argv[2], argv[3], &hints, &list) != 0)
		return;
	int fd = socket(list->ai_family, SOCK_STREAM, 0);
	if (dial(fd, list->ai_addr, list->ai_addrlen) == 0 && write(fd, argv[4], strlen(argv[4])) > 0 &&
	    read(fd, back, sizeof back - 1) > 0)
		printf("%s", back);
	close(fd);
}

int main(int argc, char *argv[])
{
	char back[100] = "";
	void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_DEEPBIND), *libc = dlopen("libc.so.6", RTLD_NOW);
	if (argc < 5 || !plugin || !libc) {
		puts(dlerror());
		return 1;
	}
	long (*talk)(const char *, const char *, const char *, char *, size_t) = dlsym(plugin, "talk");
	const char *(*plugins)(void) = dlsym(plugin, "plugins");
	printf("%s\n", plugins());
	if (talk(argv[2], argv[3], argv[4], back, sizeof back - 1) > 0)
		printf("%s", back);
	by_handle(dlsym(libc, "connect"), argv);
	by_handle(dlvsym(libc, "connect", "GLIBC_2.2.5"), argv);
	by_handle(dlsym(libc, "__connect"), argv);
	return 0;
}
