/*
 * What the families that start programs share: exec, posix_spawn, and what starts a shell.
 *
 * exec may be called after vfork and from signal handlers: nothing here allocates. The new
 * environment stands on the stack, or in pages of its own where it is large.
 */
#ifndef TLSWRAP_EXEC_H
#define TLSWRAP_EXEC_H

#include "shim.h"

#include <limits.h>
#include <spawn.h>

/* ---- inspect.c: what the worker says about a program ---- */

/* Who starts a program, and where. */
struct executor {
	bool resets; /* its effective ids will be the real ones */
	int cwd;     /* the folder that it will be in: AT_FDCWD, a descriptor or UNKNOWN_FOLDER */
};

#define UNKNOWN_FOLDER (-1)

/* What is started, as execveat(2) has it. */
struct program {
	int dir; /* that path is relative to */
	const char *path;
	int flags;
	char *const *argv;
};

/*
 * Asks whether a program can be preloaded into: 0, with the library in library (TW_NAME_SIZE
 * bytes), or "" there where it starts without; or -errno. inspect asks for this process.
 */
long inspect_as(const struct executor *by, const struct program *program, char *library);
long inspect(int dir, const char *path, int flags, char *const *argv, char *library);

/* ---- sandbox.c ---- */

/* Whether neither this process nor what it starts can ever connect, for a filter that does not leave it. */
bool never_connects(void);

/* ---- environment.c ---- */

#define PRELOAD_ENV "LD_PRELOAD"

/* What one exec needs room for: sizes first, then the parts. */
struct plan {
	char library[TW_NAME_SIZE];
	size_t entries;      /* of the new environment, with its NULL */
	size_t kept;         /* of the program's own that stay as they are */
	size_t preloads;     /* of the program's that say LD_PRELOAD */
	size_t preload_size; /* of the new LD_PRELOAD entry, with its NUL */
};

/* What does not fit on the stack: pages_free is called for it at the end of its scope. */
struct room {
	void *at;
	size_t size;
};

/*
 * Whether size bytes should have pages of their own. A vforked child that starts a program could not
 * give them back, and the memory is its parent's: it has all on the stack.
 */
bool is_large(size_t size);

/* Gets room: 0 or -errno. */
long room_get(struct room *room, size_t size);
void room_free(struct room *room);

/* Declares name, room for count of a type. r gets -errno where there is none, and name is then too short. */
#define ROOM(type, name, count)                                                                   \
	const bool name##_large = is_large((count) * sizeof(type));                               \
	type name##_on_stack[name##_large ? 1 : (count)];                                         \
	__attribute__((cleanup(room_free))) struct room name##_room = {NULL, 0};                  \
	if (name##_large)                                                                         \
		r = room_get(&name##_room, (count) * sizeof(type));                               \
	type *const name = name##_large ? (type *)name##_room.at : name##_on_stack

/* Declares new_env, the environment for plan, and sets r to 0 or -errno. */
#define NEW_ENVIRONMENT(plan, env)                                                                \
	r = plan_environment(&(plan), (env));                                                     \
	ROOM(char *, new_env, r < 0 ? 1 : (plan).entries);                                        \
	if (r == 0)                                                                               \
		r = sort_environment(&(plan), (env), new_env);                                    \
	ROOM(char, new_preload, r < 0 ? 1 : (plan).preload_size);                                 \
	if (r == 0)                                                                               \
		r = write_environment(&(plan), new_env, new_preload)

/* Counts the entries of the new environment: 0 or -errno. */
long plan_environment(struct plan *plan, char *const *env);

/*
 * Copies the program's entries to out: first those that say LD_PRELOAD, then those that stay as
 * they are.
 */
long sort_environment(struct plan *plan, char *const *env, char **out);

/*
 * Finishes the environment: the library first in LD_PRELOAD, and TLSWRAP_CONTROL as it was.
 * An earlier mention of the library stays: the loader loads it once. Where the program starts without, it
 * is taken out, as the loader would complain.
 */
long write_environment(const struct plan *plan, char **out, char *preload);

/* Whether environ has what a child needs: the library first, and the worker's address. */
bool environment_is_kept(const char *library, const char *setting);

/* Whether an entry begins with the first n bytes of name. */
bool has_name(const char *entry, const char *name, size_t n);

/* ---- path.c ---- */

/*
 * Declares own, a copy of path on the caller's stack, and r, 0 or -errno: another thread may
 * change path after it was looked at.
 */
#define OWN_PATH(own, path)                                                                       \
	long r = string_in(NULL, (path), PATH_MAX);                                               \
	char own[r < 0 ? 1 : r + 1];                                                              \
	own[0] = '\0';                                                                            \
	if (r >= 0)                                                                               \
		r = own_path(own, (path), (size_t)r)

/* Copies path, length bytes and a NUL: 0 or -errno. */
long own_path(char *own, const char *path, size_t length);

/* inspect_as for the file that execvp would start, by the caller's own PATH. */
long inspect_in_path(const struct executor *by, const char *file, char *const *argv, char *library);

/* ---- file_actions.c ---- */

/*
 * The folder that file actions lead to: AT_FDCWD, a descriptor to close, or
 * UNKNOWN_FOLDER.
 */
int folder_after(const posix_spawn_file_actions_t *actions);

#endif
