/*
 * The posix_spawn family: as with exec, the new program is preloaded too, or it is not started.
 * It may start in another folder and as another user than this process.
 */
#include "exec.h"

#include <string.h>

/* Whether a program started with these attributes has its real ids as effective ones. */
static bool resets_ids(const posix_spawnattr_t *attributes)
{
	short flags = 0; /* stand first in glibc, and as the low half of an int in musl */
	if (attributes)
		memcpy(&flags, attributes, sizeof flags);
	return flags & POSIX_SPAWN_RESETIDS;
}

/* Inspects what posix_spawn (with search: posix_spawnp) will start; as inspect. */
static long inspect_spawned(const struct executor *by, const char *file, bool search,
                            char *const *argv, char *library)
{
	if (search)
		return inspect_in_path(by, file, argv, library);
	const struct program program = {by->cwd, file, 0, argv};
	return inspect_as(by, &program, library);
}

/* posix_spawn, or with search posix_spawnp, by libc's function. */
static int spawn(__typeof__(&posix_spawn) real, bool search, pid_t *pid, const char *file,
                 const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
                 char *const argv[], char *const env[])
{
	struct plan plan;
	if (!real)
		return ENOSYS;
	OWN_PATH(own, file);
	if (r == 0) {
		const struct executor by = {resets_ids(attributes), folder_after(actions)};
		r = inspect_spawned(&by, own, search, argv, plan.library);
		if (by.cwd >= 0)
			SYS(SYS_close, by.cwd);
	}
	if (r < 0)
		return (int)-r;
	NEW_ENVIRONMENT(plan, env);
	return r < 0 ? (int)-r : real(pid, own, actions, attributes, argv, new_env);
}

/* Those of the first two give a process id, the others, of glibc 2.39, a pidfd. */
#define SPAWN_FUNCTION(name, search)                                                              \
	EXPORT int name(int *restrict id, const char *restrict file,                              \
	                const posix_spawn_file_actions_t *restrict actions,                       \
	                const posix_spawnattr_t *restrict attributes,                             \
	                char *const argv[restrict], char *const env[restrict])                    \
	{                                                                                         \
		return spawn(NEXT(name), search, id, file, actions, attributes, argv, env);       \
	}

int pidfd_spawn(int *restrict, const char *restrict, const posix_spawn_file_actions_t *restrict,
                const posix_spawnattr_t *restrict, char *const[restrict], char *const[restrict]);
int pidfd_spawnp(int *restrict, const char *restrict, const posix_spawn_file_actions_t *restrict,
                 const posix_spawnattr_t *restrict, char *const[restrict], char *const[restrict]);

SPAWN_FUNCTION(posix_spawn, false)
SPAWN_FUNCTION(posix_spawnp, true)
SPAWN_FUNCTION(pidfd_spawn, false)
SPAWN_FUNCTION(pidfd_spawnp, true)
