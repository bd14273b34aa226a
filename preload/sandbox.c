/*
 * A process under somebody's seccomp filter that lets nobody make a socket cannot ask the worker about a program
 * that it starts, and neither can the program connect: the filter stays over exec.
 */
#include "exec.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#ifndef SECCOMP_MODE_FILTER
#define SECCOMP_MODE_FILTER 2
#endif

/* Whether a socket of this kind cannot be made, and not for the moment alone. */
static bool refused(int family, int type, int protocol)
{
	long fd = SYS(SYS_socket, family, type, protocol);
	if (fd >= 0)
		SYS(SYS_close, fd);
	return fd < 0 && fd != -EMFILE && fd != -ENFILE && fd != -ENOMEM && fd != -ENOBUFS && fd != -EINTR;
}

/* An entry of a folder, as getdents64(2) has it. */
struct entry {
	uint64_t inode, offset;
	unsigned short size;
	unsigned char type;
	char name[];
};

/* Whether a descriptor is a socket: it may connect, or bring others that may. */
static struct told is_socket(const char *name)
{
	struct statx x;
	int fd = 0;
	if (name[0] == '.')
		return told_if(false);
	for (; *name; name++)
		fd = fd * 10 + (*name - '0');
	if (SYS(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_TYPE, &x) < 0)
		return (struct told){CANNOT_BE_TOLD};
	return told_if(S_ISSOCK(x.stx_mode));
}

/* Whether this process has a socket. */
static struct told has_socket(void)
{
	_Alignas(struct entry) char entries[1024];
	struct told any = told_if(false);
	long n, dir = SYS(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return (struct told){CANNOT_BE_TOLD};
	while ((n = SYS(SYS_getdents64, dir, entries, sizeof entries)) > 0 && !possibly(any)) {
		for (long at = 0; at < n && !possibly(any);) {
			const struct entry *entry = (const struct entry *)(const void *)(entries + at);
			any = is_socket(entry->name);
			at += entry->size;
		}
	}
	SYS(SYS_close, dir);
	if (n < 0)
		return (struct told){CANNOT_BE_TOLD};
	return any;
}

bool never_connects(void)
{
	static const int families[] = {AF_INET, AF_INET6}, protocols[] = {0, IPPROTO_TCP, IPPROTO_MPTCP};
	if (SYS(SYS_prctl, PR_GET_SECCOMP) != SECCOMP_MODE_FILTER)
		return false;
	for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
		for (size_t j = 0; j < sizeof protocols / sizeof *protocols; j++) {
			if (!refused(families[i], SOCK_STREAM, protocols[j]) ||
			    !refused(families[i], SOCK_STREAM | SOCK_CLOEXEC, protocols[j]))
				return false;
		}
	}
	return !possibly(has_socket());
}
