/* Paths of programs that are to be started are copied here, and searched for in PATH. */
#include "exec.h"

#include <string.h>
#include <unistd.h>

extern char **environ WEAK;

long own_path(char *own, const char *path, size_t length)
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

/* A search in PATH. */
struct search {
	int dir;
	const char *file;
	const char *path; /* what has not been looked at yet, or NULL */
	long failure;     /* what it ends with */
};

/* The next file that execvp would start, in found: 0, or what the search ends with. */
static long search_next(struct search *search, char *found, size_t size)
{
	size_t length = strlen(search->file);
	while (search->path) {
		const char *path = search->path;
		size_t n = 0;
		while (path[n] && path[n] != ':')
			n++;
		search->path = path[n] ? path + n + 1 : NULL;
		if (n + 3 + length >= size)
			continue;
		memcpy(found, path, n);
		if (n)
			found[n] = '/';
		memcpy(found + n + (n != 0), search->file, length + 1);
		long access = SYS(SYS_faccessat, search->dir, found, X_OK);
		/* A folder cannot be executed: what PATH names next is tried. */
		if (access == 0 && is_folder(search->dir, found, n + (n != 0) + length))
			access = -EACCES;
		if (access == 0)
			return 0;
		if (access == -EACCES)
			search->failure = access;
	}
	return search->failure;
}

/* The caller's PATH, or what execvp takes where there is none. */
static const char *own_path_setting(void)
{
	for (char **env = environ; env && *env; env++) {
		if (has_name(*env, "PATH=", 5))
			return *env + 5;
	}
	return "/bin:/usr/bin";
}

static bool has_slash(const char *file)
{
	while (*file && *file != '/')
		file++;
	return *file;
}

long inspect_in_path(const struct executor *by, const char *file, char *const *argv, char *library)
{
	struct program program = {by->cwd, file, 0, argv};
	if (by->cwd == UNKNOWN_FOLDER || has_slash(file))
		return inspect_as(by, &program, library);
	const char *path = own_path_setting();
	size_t length = strlen(file), size = strlen(path) + length + 4;
	if (length == 0 || length >= PATH_MAX)
		return -ENOENT;
	char found[size < PATH_MAX ? size : PATH_MAX];
	struct search search = {by->cwd, file, path, -ENOENT};
	program.path = found;
	for (;;) {
		long r = search_next(&search, found, sizeof found);
		if (r < 0)
			return r;
		/* A script whose interpreter is missing is not there, and the next is tried. */
		r = inspect_as(by, &program, library);
		if (r != -ENOENT)
			return r;
	}
}
