/* Paths of programs that are to be started are copied here, and searched for in PATH. */
#include "exec.h"

#include <string.h>
#include <unistd.h>

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

long search_path(int dir, const char *file, char *const *env, char *found, size_t size)
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
