/*
 * The exec family: the new program is preloaded too, whatever environment it is given, or it is
 * not started. One that the loader would not preload into is refused by the worker, which says
 * why.
 */
#include "exec.h"

#include <fcntl.h>
#include <stdarg.h>
#include <unistd.h>

extern char **environ WEAK;

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
	static const struct executor this_process = {false, AT_FDCWD};
	struct plan plan;
	__typeof__(&execvpe) real = NEXT(execvpe);
	/* execvp searches the caller's own PATH, not the new environment's. */
	long r = real ? inspect_in_path(&this_process, file, argv, plan.library) : -ENOSYS;
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
