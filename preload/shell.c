/*
 * system, popen and wordexp start /bin/sh inside libc, where no hook sees it. So the worker is
 * asked about the shell before, and the program's own environment gets what the shell needs.
 */
#include "exec.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <wordexp.h>

extern char **environ WEAK;

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
	if (!plan.library[0] || environment_is_kept(plan.library, setting))
		return 0;
	NEW_ENVIRONMENT(plan, environ);
	if (r < 0)
		return r;
	real(TW_ENV, setting + sizeof TW_ENV, 1);
	real(PRELOAD_ENV, new_preload + sizeof PRELOAD_ENV, 1);
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
