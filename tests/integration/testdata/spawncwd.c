/* Starts the second argument, with those after it, with posix_spawn from the folder of the first: by
 * chdir, then by fchdir. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;

int main(int argc, char **argv)
{
	for (int by_number = 0; argc >= 3 && by_number < 2; by_number++) {
		posix_spawn_file_actions_t actions;
		pid_t pid;
		int status = 0;
		posix_spawn_file_actions_init(&actions);
		if (by_number)
			posix_spawn_file_actions_addfchdir_np(&actions, open(argv[1], O_RDONLY | O_DIRECTORY));
		else
			posix_spawn_file_actions_addchdir_np(&actions, argv[1]);
		int r = posix_spawn(&pid, argv[2], &actions, NULL, argv + 2, environ);
		if (r == 0)
			waitpid(pid, &status, 0);
		printf("%s %d\n", r ? strerror(r) : "started", status);
	}
	return 0;
}
