/*
 * The exec and posix_spawn families: the new program is preloaded too, whatever
 * environment it is given, or it is not started. One that the loader would not
 * preload into is refused by the worker, which says why (proxy/exec.go).
 *
 * exec may be called after vfork and from signal handlers: nothing here allocates;
 * the new environment stands on the stack.
 */
#include "shim.h"

#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <unistd.h>
#include <wordexp.h>

extern char **environ WEAK;

/* The kernel follows as many "#!" lines (fs/exec.c, exec_binprm). */
#define MAX_INTERPRETERS 5

static void copy_path(char *to, const char *path)
{
	size_t n = strlen(path);
	size_t skip = n >= TW_NAME_SIZE ? n - (TW_NAME_SIZE - 1) : 0;
	memcpy(to, path + skip, n - skip + 1);
}

/*
 * Copies the first of the strings at *argv, after it has moved that by skip, to to, TW_NAME_SIZE
 * bytes: cut to fit, or "" where there is none. 0 or -EFAULT.
 */
static long next_argument(char *to, char *const **argv, unsigned skip)
{
	char *argument = NULL;
	for (;; skip--, (*argv)++) {
		if (*argv && copy_in(&argument, *argv, sizeof argument) < 0)
			return -EFAULT;
		if (!argument || skip == 0)
			break;
	}
	to[0] = to[TW_NAME_SIZE - 1] = '\0';
	long r = argument ? string_in(to, argument, TW_NAME_SIZE - 1) : 0;
	return r < 0 ? r : 0;
}

/* On 32-bit machines the calls of the first names know 16-bit ids and small disks. */
#ifdef SYS_getuid32
#define IDS_DIFFER                                                                                \
	(SYS(SYS_getuid32) != SYS(SYS_geteuid32) || SYS(SYS_getgid32) != SYS(SYS_getegid32))
#else
#define IDS_DIFFER (SYS(SYS_getuid) != SYS(SYS_geteuid) || SYS(SYS_getgid) != SYS(SYS_getegid))
#endif
#ifdef SYS_statfs64
#define STATFS(path, st) SYS(SYS_statfs64, path, sizeof *(st), st)
#else
#define STATFS(path, st) SYS(SYS_statfs, path, st)
#endif
#define MOUNTED_NOEXEC 8 /* ST_NOEXEC, statfs(2) */

/*
 * What the worker must know about who starts the program. The loader ignores
 * LD_PRELOAD where the kernel sees real and effective ids differ at exec
 * (security/commoncap.c); resets is set if they will not by then.
 */
static uint16_t executor_flags(bool resets)
{
	uint16_t flags = 0;
	if (SYS(SYS_prctl, PR_GET_NO_NEW_PRIVS) == 1)
		flags |= TW_NO_NEW_PRIVS;
	if (IDS_DIFFER)
		flags |= resets ? TW_IDS_RESET : TW_IDS_DIFFER;
	return flags;
}

/* Who starts a program, and where. */
struct executor {
	bool resets; /* its effective ids will be the real ones */
	int cwd;     /* the folder that it will be in: AT_FDCWD, a descriptor or UNKNOWN_FOLDER */
};

#define UNKNOWN_FOLDER (-1)

static const struct executor this_process = {false, AT_FDCWD};

/*
 * Asks whether the file at path, relative to dir, can be preloaded into when it is
 * started with these arguments: 0, with the library in library (TW_NAME_SIZE bytes),
 * or -errno.
 */
static long inspect_as(const struct executor *by, int dir, const char *path, int flags,
                       char *const *argv, char *library)
{
	struct statfs64 st;
	char interpreter[TW_NAME_SIZE];
	struct tw_request request;
	struct tw_reply reply;
	uint16_t role = 0;
	for (int i = 0; i <= MAX_INTERPRETERS; i++) {
		long fd = -EACCES;
		bool followed = by->cwd != UNKNOWN_FOLDER || dir != by->cwd || path[0] == '/';
		if (followed) {
			if ((flags & AT_EMPTY_PATH) && path[0] == '\0')
				fd = SYS(SYS_fcntl, dir, F_DUPFD_CLOEXEC, 3);
			else
				fd = SYS(SYS_openat, dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
			/* What can be executed but not read is shown as a path alone, and refused. */
			if (fd < 0 && (fd != -EACCES || SYS(SYS_faccessat, dir, path, X_OK) < 0))
				return fd;
		}
		request_init(&request, TW_EXEC);
		request.flags = followed ? executor_flags(by->resets) | role : TW_UNFOLLOWED;
		copy_path(request.name, path);
		int file = fd < 0 ? -1 : (int)fd;
		long r = control_ask(&request, file, &reply, NULL);
		/* The worker finds the program among a dynamic loader's arguments. */
		while (r == 0 && reply.answer == TW_ANSWER_ARGUMENT) {
			request.flags |= TW_ARGUMENT;
			r = next_argument(request.name, &argv, reply.number);
			if (r == 0)
				r = control_ask(&request, file, &reply, NULL);
		}
		if (file >= 0)
			SYS(SYS_close, file);
		if (r < 0)
			return r;
		if (reply.answer == TW_ANSWER_SCRIPT || reply.answer == TW_ANSWER_PROGRAM) {
			/* The last argument that was asked for is the program. */
			bool mapped = reply.answer == TW_ANSWER_PROGRAM;
			role = mapped ? TW_MAPPED : TW_INTERPRETER;
			path = memcpy(interpreter, mapped ? request.name : reply.name, TW_NAME_SIZE);
			if (path[TW_NAME_SIZE - 2])
				return -ENAMETOOLONG;
			dir = by->cwd;
			flags = 0;
			continue;
		}
		if (reply.answer != TW_ANSWER_EXEC)
			return reply.error > 0 ? -reply.error : -EACCES;
		/* After chroot, or as another user, the library may be out of reach, and
		 * the loader would only warn. */
		if (SYS(SYS_faccessat, AT_FDCWD, reply.name, R_OK) < 0)
			return -ENETDOWN;
		memcpy(library, reply.name, TW_NAME_SIZE);
		if (STATFS(library, &st) < 0)
			return -ENETDOWN;
		if (st.f_flags & MOUNTED_NOEXEC) {
			/* The loader could not map it. The worker has the voice to say so. */
			request.flags |= TW_LIBRARY_NOEXEC;
			control_ask(&request, -1, &reply, NULL);
			return -EACCES;
		}
		return 0;
	}
	return -ELOOP;
}

static long inspect(int dir, const char *path, int flags, char *const *argv, char *library)
{
	return inspect_as(&this_process, dir, path, flags, argv, library);
}

/* Whether a program started with these attributes has its real ids as effective ones. */
static bool resets_ids(const posix_spawnattr_t *attributes)
{
	short flags = 0; /* stand first in glibc, and as the low half of an int in musl */
	if (attributes)
		memcpy(&flags, attributes, sizeof flags);
	return flags & POSIX_SPAWN_RESETIDS;
}

static const char preload_name[] = "LD_PRELOAD=";
static const char control_name[] = TW_ENV "=";

/* Linux does not start a program whose arguments and environment take more (fs/exec.c). */
enum { MOST_ENTRIES = (6 << 20) / sizeof(char *), LONGEST_ENTRY = 32 * 4096 };

static bool has_name(const char *entry, const char *name, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (entry[i] != name[i])
			return false;
	}
	return true;
}

/* What goes on the stack for one exec: sizes first, then the parts. */
struct plan {
	char library[TW_NAME_SIZE];
	size_t entries;      /* of the new environment, with its NULL */
	size_t kept;         /* of the program's own that stay as they are */
	size_t preloads;     /* of the program's that say LD_PRELOAD */
	size_t preload_size; /* of the new LD_PRELOAD entry, with its NUL */
};

static long plan_environment(struct plan *plan, char *const *env)
{
	long count = env ? pointers_in(NULL, env, MOST_ENTRIES) : 0;
	if (count < 0 || count == MOST_ENTRIES)
		return count < 0 ? count : -E2BIG;
	plan->entries = (size_t)count + 3;
	return 0;
}

/*
 * Copies the program's entries to out: first those that say LD_PRELOAD, then those that stay as
 * they are.
 */
static long sort_environment(struct plan *plan, char *const *env, char **out)
{
	char head[32];
	long count = env ? pointers_in(out, env, plan->entries - 3) : 0;
	if (count < 0)
		return count;
	plan->kept = plan->preloads = 0;
	plan->preload_size = sizeof preload_name + strlen(plan->library) + 1;
	for (long i = 0; i < count; i++) {
		char *entry = out[i], **kept = out + plan->preloads;
		long r = string_in(head, entry, sizeof head);
		if (r < 0)
			return r;
		if (has_name(head, control_name, sizeof control_name - 1))
			continue;
		if (!has_name(head, preload_name, sizeof preload_name - 1)) {
			kept[plan->kept++] = entry;
			continue;
		}
		r = string_in(NULL, entry, LONGEST_ENTRY);
		if (r < 0 || r == LONGEST_ENTRY)
			return r < 0 ? r : -E2BIG;
		plan->preload_size += (size_t)r + 1;
		memmove(kept + 1, kept, plan->kept * sizeof *kept);
		*kept = entry;
		plan->preloads++;
	}
	return 0;
}

/*
 * Finishes the environment: the library first in LD_PRELOAD, and TLSWRAP_CONTROL as it was.
 * An earlier mention of the library stays: the loader loads it once.
 */
static long write_environment(const struct plan *plan, char **out, char *preload)
{
	size_t own = strlen(plan->library), name = sizeof preload_name - 1;
	char *end = preload;
	memcpy(end, preload_name, name);
	end += name;
	memcpy(end, plan->library, own);
	end += own;
	for (size_t i = 0; i < plan->preloads; i++) {
		size_t room = plan->preload_size - (size_t)(end - preload);
		long length = string_in(end, out[i], room);
		if (length < (long)name || (size_t)length >= room)
			return -EFAULT; /* another thread has changed it */
		const char *theirs = end + name;
		size_t n = (size_t)length - name;
		if (has_name(theirs, plan->library, own) && (theirs[own] == ':' || !theirs[own])) {
			theirs += own;
			n -= own;
		} else if (n) {
			*end++ = ':';
		}
		memmove(end, theirs, n);
		end += n;
	}
	*end = '\0';
	memmove(out, out + plan->preloads, plan->kept * sizeof *out);
	out += plan->kept;
	*out++ = preload;
	*out++ = (char *)(uintptr_t)control_setting();
	*out = NULL;
	return 0;
}

/* Declares new_env, the environment for plan, on the caller's stack, and sets r to 0 or -errno. */
#define NEW_ENVIRONMENT(plan, env)                                                                \
	r = plan_environment(&(plan), (env));                                                     \
	char *new_env[r < 0 ? 3 : (plan).entries];                                                \
	if (r == 0)                                                                               \
		r = sort_environment(&(plan), (env), new_env);                                    \
	char new_preload[r < 0 ? 1 : (plan).preload_size];                                        \
	if (r == 0)                                                                               \
		r = write_environment(&(plan), new_env, new_preload)

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

static long own_path(char *own, const char *path, size_t length)
{
	if (length == PATH_MAX)
		return -ENAMETOOLONG;
	long r = string_in(own, path, length);
	own[length] = '\0';
	return r < 0 ? r : 0;
}

/* Whether path in dir, of length bytes and with room for two more, is a folder; it stays as it was. */
static bool is_folder(int dir, char *path, size_t length)
{
	memcpy(path + length, "/.", 3);
	long r = SYS(SYS_faccessat, dir, path, F_OK);
	path[length] = '\0';
	return r == 0;
}

/* The file that execvp would start from dir, in found: 0, -ENOENT or -EACCES. */
static long search_path(int dir, const char *file, char *const *env, char *found, size_t size)
{
	size_t length = strlen(file);
	long r = -ENOENT;
	if (length == 0 || length >= size)
		return r;
	for (const char *s = file; *s; s++) {
		if (*s == '/') {
			memcpy(found, file, length + 1);
			return 0;
		}
	}
	const char *path = "/bin:/usr/bin";
	for (; env && *env; env++) {
		if (has_name(*env, "PATH=", 5)) {
			path = *env + 5;
			break;
		}
	}
	for (;;) {
		size_t n = 0;
		while (path[n] && path[n] != ':')
			n++;
		if (n + 3 + length < size) {
			memcpy(found, path, n);
			if (n)
				found[n] = '/';
			memcpy(found + n + (n != 0), file, length + 1);
			long access = SYS(SYS_faccessat, dir, found, X_OK);
			/* A folder cannot be executed: what PATH names next is tried. */
			if (access == 0 && is_folder(dir, found, n + (n != 0) + length))
				access = -EACCES;
			if (access == 0)
				return 0;
			if (access == -EACCES)
				r = access;
		}
		if (!path[n])
			return r;
		path += n + 1;
	}
}

EXPORT int execve(const char *path, char *const argv[], char *const env[])
{
	struct plan plan;
	OWN_PATH(own, path);
	if (r == 0)
		r = inspect(AT_FDCWD, own, 0, argv, plan.library);
	if (r < 0)
		return finish(r);
	NEW_ENVIRONMENT(plan, env);
	return finish(r < 0 ? r : SYS(SYS_execve, own, argv, new_env));
}

EXPORT int execveat(int dir, const char *path, char *const argv[], char *const env[], int flags)
{
	struct plan plan;
	OWN_PATH(own, path);
	if (r == 0)
		r = inspect(dir, own, flags, argv, plan.library);
	if (r < 0)
		return finish(r);
	NEW_ENVIRONMENT(plan, env);
	return finish(r < 0 ? r : SYS(SYS_execveat, dir, own, argv, new_env, flags));
}

EXPORT int fexecve(int fd, char *const argv[], char *const env[])
{
	return execveat(fd, "", argv, env, AT_EMPTY_PATH);
}

EXPORT int execv(const char *path, char *const argv[])
{
	return execve(path, argv, environ);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const env[])
{
	char found[4096];
	struct plan plan;
	__typeof__(&execvpe) real = NEXT(execvpe);
	/* execvp searches the caller's own PATH, not the new environment's. */
	long r = real ? search_path(AT_FDCWD, file, environ, found, sizeof found) : -ENOSYS;
	if (r == 0)
		r = inspect(AT_FDCWD, found, 0, argv, plan.library);
	if (r < 0)
		return finish(r);
	NEW_ENVIRONMENT(plan, env);
	return r < 0 ? finish(r) : real(file, argv, new_env);
}

EXPORT int execvp(const char *file, char *const argv[])
{
	return execvpe(file, argv, environ);
}

/* Declares argv, the arguments from first up to their NULL, and leaves list after it. */
#define ARGUMENTS(argv, list, first)                                                              \
	size_t count = 2;                                                                         \
	va_list list;                                                                             \
	va_start(list, first);                                                                    \
	while (va_arg(list, char *))                                                              \
		count++;                                                                          \
	va_end(list);                                                                             \
	char *argv[count];                                                                        \
	argv[0] = (char *)(uintptr_t)(first);                                                     \
	va_start(list, first);                                                                    \
	for (size_t i = 1; i < count; i++)                                                        \
		argv[i] = va_arg(list, char *)

EXPORT int execl(const char *path, const char *arg, ...)
{
	ARGUMENTS(argv, list, arg);
	va_end(list);
	return execve(path, argv, environ);
}

EXPORT int execlp(const char *file, const char *arg, ...)
{
	ARGUMENTS(argv, list, arg);
	va_end(list);
	return execvpe(file, argv, environ);
}

EXPORT int execle(const char *path, const char *arg, ...)
{
	ARGUMENTS(argv, list, arg);
	char *const *env = va_arg(list, char *const *);
	va_end(list);
	return execve(path, argv, env);
}

/* glibc's file actions (sysdeps/.../spawn_int.h), the same since 2.29. */
enum { GLIBC_CLOSE, GLIBC_DUP2, GLIBC_OPEN, GLIBC_CHDIR, GLIBC_FCHDIR, GLIBC_CLOSEFROM, GLIBC_TCSETPGRP };

struct glibc_action {
	int tag;
	union {
		int fd;
		const char *path;
		struct {
			int fd;
			char *path;
			int flags;
			mode_t mode;
		} open;
	} action;
};

struct glibc_actions {
	int allocated, used;
	const struct glibc_action *actions;
};

/* musl's (src/process/fdop.h): a list, the newest first. */
enum { MUSL_CHDIR = 4, MUSL_FCHDIR };

struct musl_action {
	const struct musl_action *next, *previous;
	int command;
};

struct musl_actions {
	int unused[2];
	const struct musl_action *newest;
};

extern const char *gnu_get_libc_version(void) WEAK;

/*
 * The folder that file actions lead to: AT_FDCWD, a descriptor to close, or
 * UNKNOWN_FOLDER.
 */
static int folder_after(const posix_spawn_file_actions_t *actions)
{
	int dir = AT_FDCWD;
	bool touched = false; /* an earlier action changed descriptors */
	if (!actions)
		return dir;
	if (!gnu_get_libc_version) {
		const struct musl_action *a = ((const struct musl_actions *)(const void *)actions)->newest;
		for (; a; a = a->next) {
			if (a->command == MUSL_CHDIR || a->command == MUSL_FCHDIR)
				return UNKNOWN_FOLDER;
		}
		return dir;
	}
	const struct glibc_actions *all = (const void *)actions;
	for (int i = 0; i < all->used; i++) {
		const struct glibc_action *a = &all->actions[i];
		long fd;
		switch (a->tag) {
		case GLIBC_CLOSE:
		case GLIBC_DUP2:
		case GLIBC_OPEN:
		case GLIBC_CLOSEFROM:
			touched = true;
			continue;
		case GLIBC_TCSETPGRP:
			continue;
		case GLIBC_CHDIR:
			fd = SYS(SYS_openat, dir, a->action.path, O_PATH | O_DIRECTORY | O_CLOEXEC);
			break;
		case GLIBC_FCHDIR:
			fd = touched ? -EBADF : SYS(SYS_fcntl, a->action.fd, F_DUPFD_CLOEXEC, 3);
			break;
		default:
			fd = -EINVAL;
		}
		if (dir >= 0)
			SYS(SYS_close, dir);
		if (fd < 0)
			return UNKNOWN_FOLDER;
		dir = (int)fd;
	}
	return dir;
}

/* Inspects what posix_spawn (with search: posix_spawnp) will start; as inspect. */
static long inspect_spawned(const char *file, bool search,
                            const posix_spawn_file_actions_t *actions,
                            const posix_spawnattr_t *attributes, char *const *argv,
                            char *library)
{
	char found[4096];
	struct executor by = {resets_ids(attributes), folder_after(actions)};
	long r = 0;
	if (search && by.cwd != UNKNOWN_FOLDER) {
		r = search_path(by.cwd, file, environ, found, sizeof found);
		file = found;
	}
	if (r == 0)
		r = inspect_as(&by, by.cwd, file, 0, argv, library);
	if (by.cwd >= 0)
		SYS(SYS_close, by.cwd);
	return r;
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
	if (r == 0)
		r = inspect_spawned(own, search, actions, attributes, argv, plan.library);
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

/* Whether environ has what a child needs: the library first, and the worker's address. */
static bool environment_is_kept(const char *library, const char *setting)
{
	bool has_control = false, has_preload = false;
	size_t n = strlen(library);
	for (char **env = environ; env && *env; env++) {
		if (has_name(*env, control_name, sizeof control_name - 1)) {
			if (!has_name(*env, setting, strlen(setting) + 1))
				return false;
			has_control = true;
		} else if (has_name(*env, preload_name, sizeof preload_name - 1)) {
			const char *theirs = *env + sizeof preload_name - 1;
			if (!has_name(theirs, library, n) || (theirs[n] != ':' && theirs[n]))
				return false;
			has_preload = true;
		}
	}
	return has_control && has_preload;
}

/*
 * system, popen and wordexp start /bin/sh inside libc, with the program's environment
 * as it is now: where the program has changed that, it gets back what the child needs.
 * -errno says that nothing may be started.
 */
static long keep_environment(void)
{
	struct plan plan;
	const char *setting = control_setting();
	__typeof__(&setenv) real = NEXT(setenv);
	long r = inspect(AT_FDCWD, "/bin/sh", 0, NULL, plan.library);
	if (r < 0)
		return r;
	if (!setting || !real)
		return -ENETDOWN;
	if (environment_is_kept(plan.library, setting))
		return 0;
	NEW_ENVIRONMENT(plan, environ);
	if (r < 0)
		return r;
	real(TW_ENV, setting + sizeof control_name - 1, 1);
	real("LD_PRELOAD", new_preload + sizeof preload_name - 1, 1);
	return environment_is_kept(plan.library, setting) ? 0 : -EACCES;
}

EXPORT int system(const char *command)
{
	__typeof__(&system) real = NEXT(system);
	long r = real ? keep_environment() : -ENOSYS;
	if (r < 0 && !command)
		return 0; /* no shell */
	return r < 0 ? finish(r) : real(command);
}

EXPORT FILE *popen(const char *command, const char *mode)
{
	__typeof__(&popen) real = NEXT(popen);
	long r = real ? keep_environment() : -ENOSYS;
	if (r < 0) {
		finish(r);
		return NULL;
	}
	return real(command, mode);
}

/* glibc's older names: of popen, and of what popen starts its shell with. */
FILE *_IO_popen(const char *command, const char *mode);
FILE *_IO_proc_open(FILE *file, const char *command, const char *mode);

EXPORT FILE *_IO_popen(const char *command, const char *mode)
{
	return popen(command, mode);
}

EXPORT FILE *_IO_proc_open(FILE *file, const char *command, const char *mode)
{
	__typeof__(&_IO_proc_open) real = NEXT(_IO_proc_open);
	long r = real ? keep_environment() : -ENOSYS;
	if (r < 0) {
		finish(r);
		return NULL;
	}
	return real(file, command, mode);
}

EXPORT int wordexp(const char *restrict words, wordexp_t *restrict result, int flags)
{
	__typeof__(&wordexp) real = NEXT(wordexp);
	long r = 0;
	if (!real)
		return WRDE_NOSPACE;
	if (!(flags & WRDE_NOCMD))
		r = keep_environment();
	/* Without a shell, what needs none still works: a command is WRDE_CMDSUB. */
	return real(words, result, r < 0 ? flags | WRDE_NOCMD : flags);
}
