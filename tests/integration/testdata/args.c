/* args ...: prints every argument in brackets; without any, the descriptors above 2. */
#include <fcntl.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		printf("[%s]", argv[i]);
	putchar('\n');
	for (int fd = 3; argc == 1 && fd < 1024; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			printf("descriptor %d is open\n", fd);
	}
	return 0;
}
