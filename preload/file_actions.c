/*
 * posix_spawn's file actions may lead the new program to another folder. What they are libc keeps
 * to itself: this knows how glibc and musl do.
 */
#include "exec.h"

#include <fcntl.h>

extern const char *gnu_get_libc_version(void) WEAK;

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

int folder_after(const posix_spawn_file_actions_t *actions)
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
