/* Starts its arguments with pidfd_spawn, and with pidfd_spawnp, in an empty environment. */
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

int pidfd_spawn(int *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
                char *const[], char *const[]);
int pidfd_spawnp(int *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
                 char *const[], char *const[]);

int main(int argc, char **argv)
{
	char *none[] = {NULL};
	(void)argc;
	for (int search = 0; search < 2; search++) {
		int pidfd, status = 0;
		int r = (search ? pidfd_spawnp : pidfd_spawn)(&pidfd, argv[1], NULL, NULL, argv + 1, none);
		if (r == 0)
			wait(&status);
		printf("%s %d\n", r ? strerror(r) : "started", status);
		fflush(stdout);
	}
	return 0;
}
