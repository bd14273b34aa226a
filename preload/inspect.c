/*
 * Before a program is started the worker is asked whether the loader would preload the library
 * into it (proxy/inspect). Scripts are followed to what runs them, and dynamic loaders to what
 * they load.
 */
#include "exec.h"
#include "trace.h"

#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/statfs.h>

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

/*
 * Opens what the worker is to look at: *file is a descriptor, or -1 for what can be executed but
 * not read, which is shown as a path alone, and refused. 0 or -errno.
 */
static long open_program(const struct program *program, int *file)
{
	int dir = program->dir;
	const char *path = program->path;
	char own[PROC_PATH_SIZE];
	*file = -1;
	if ((program->flags & AT_EMPTY_PATH) && path[0] == '\0') {
		long how = SYS(SYS_fcntl, dir, F_GETFL);
		if (how < 0)
			return how;
		if (!(how & O_PATH)) {
			long fd = SYS(SYS_fcntl, dir, F_DUPFD_CLOEXEC, 3);
			*file = fd < 0 ? -1 : (int)fd;
			return fd < 0 ? fd : 0;
		}
		proc_path(own, "/proc/self/fd/", dir); /* nothing can be read from this one */
		path = own;
	}
	long fd = SYS(SYS_openat, dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 && (fd != -EACCES || SYS(SYS_faccessat, dir, path, X_OK) < 0))
		return fd;
	if (fd >= 0)
		*file = (int)fd;
	return 0;
}

/*
 * Asks about a file, and once more where the worker refuses and the kernel holds this process: a worker that came after the
 * session's own knows that from the first call that the kernel hands over.
 */
static long ask_worker(const struct tw_request *request, int file, struct tw_reply *reply)
{
	long r = control_ask(request, file, reply, NULL);
	if (r == 0 && reply->answer == TW_ANSWER_ERROR && reply->error == EACCES && held_by_kernel())
		r = control_ask(request, file, reply, NULL);
	return r;
}

/* Asks about a file. The worker finds the program among a dynamic loader's arguments: those that
 * it has seen are taken off *argv. */
static long ask_about(int file, struct tw_request *request, char *const **argv,
                      struct tw_reply *reply)
{
	long r = ask_worker(request, file, reply);
	while (r == 0 && reply->answer == TW_ANSWER_ARGUMENT) {
		request->flags |= TW_ARGUMENT;
		r = next_argument(request->name, argv, reply->number);
		if (r == 0)
			r = ask_worker(request, file, reply);
	}
	return r;
}

/* What keeps the loader from mapping a library, where it would only warn, or 0. */
static uint16_t library_missing(const char *library)
{
	struct statfs64 st;
	/* After chroot, or as another user, the library may be out of reach. */
	if (SYS(SYS_faccessat, AT_FDCWD, library, R_OK) < 0 || STATFS(library, &st) < 0)
		return TW_LIBRARY_AWAY;
	return st.f_flags & MOUNTED_NOEXEC ? TW_LIBRARY_NOEXEC : 0;
}

/* Whether the library that the worker has named can be loaded by what request was about: 0, with its name in
 * library, or "" where it cannot and the kernel holds the program; or -errno. The worker has the voice to say
 * why not. */
static long check_library(struct tw_request *request, struct tw_reply *reply, char *library)
{
	memcpy(library, reply->name, TW_NAME_SIZE);
	uint16_t missing = library_missing(library);
	if (!missing)
		return 0;
	request->flags |= missing;
	long r = ask_worker(request, -1, reply);
	if (r == -ENETDOWN)
		voice_unreached();
	if (r < 0)
		return r;
	library[0] = '\0';
	return reply->answer == TW_ANSWER_EXEC ? 0 : -EACCES;
}

/* What becomes of a program that the worker cannot be asked about: 0, with the library, where that can do no
 * harm; or -errno. */
static long unasked(char *library)
{
	const char *own = own_library();
	if (own[0] && !library_missing(own) && never_connects()) {
		memcpy(library, own, TW_NAME_SIZE);
		return 0;
	}
	voice_unreached();
	return -ENETDOWN;
}

static long follow(const struct executor *by, const struct program *program, char *library)
{
	char interpreter[TW_NAME_SIZE];
	struct tw_request request;
	struct tw_reply reply;
	struct program at = *program;
	uint16_t role = 0;
	for (int i = 0; i <= MAX_INTERPRETERS; i++) {
		int file = -1;
		bool followed = by->cwd != UNKNOWN_FOLDER || at.dir != by->cwd || at.path[0] == '/';
		long r = followed ? open_program(&at, &file) : 0;
		if (r < 0)
			return r;
		request_init(&request, TW_EXEC);
		request.flags = followed ? executor_flags(by->resets) | role : TW_UNFOLLOWED;
		copy_path(request.name, at.path);
		r = ask_about(file, &request, &at.argv, &reply);
		if (file >= 0)
			SYS(SYS_close, file);
		if (r < 0)
			return r == -ENETDOWN ? unasked(library) : r;
		if (reply.answer == TW_ANSWER_EXEC)
			return check_library(&request, &reply, library);
		if (reply.answer != TW_ANSWER_SCRIPT && reply.answer != TW_ANSWER_PROGRAM)
			return reply.error > 0 ? -reply.error : -EACCES;
		/* The last argument that was asked for is the program. */
		bool mapped = reply.answer == TW_ANSWER_PROGRAM;
		role = mapped ? TW_MAPPED : TW_INTERPRETER;
		at.path = memcpy(interpreter, mapped ? request.name : reply.name, TW_NAME_SIZE);
		if (at.path[TW_NAME_SIZE - 2])
			return -ENAMETOOLONG;
		at.dir = by->cwd;
		at.flags = 0;
	}
	return -ELOOP;
}

long inspect_as(const struct executor *by, const struct program *program, char *library)
{
	long r = 0;
	if (stands_aside()) /* nobody is asked: the kernel holds the program, with the library or without */
		memcpy(library, own_library(), TW_NAME_SIZE);
	else
		r = follow(by, program, library);
	if (!memory_is_own())
		ptracer_allow();
	TRACE("exec", TEXT("path", program->path), RESULT(r));
	return r;
}

long inspect(int dir, const char *path, int flags, char *const *argv, char *library)
{
	static const struct executor this_process = {false, AT_FDCWD};
	const struct program program = {dir, path, flags, argv};
	return inspect_as(&this_process, &program, library);
}
