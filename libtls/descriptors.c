/*
 * What is longer than a message goes to the worker in a memory file. Here those are written, files
 * are read as a whole, and the kernel is asked what a file is like.
 */
#include "tls_int.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

long memory_file(const void *data, size_t size)
{
	long fd = SYS(SYS_memfd_create, "libtls", MFD_CLOEXEC);
	for (size_t done = 0; fd >= 0 && done < size;) {
		long n = SYS(SYS_pwrite64, fd, (const char *)data + done, size - done, done);
		if (n == -EINTR)
			continue;
		if (n <= 0) {
			SYS(SYS_close, fd);
			return n ? n : -EIO;
		}
		done += (size_t)n;
	}
	return fd;
}

long read_all(int fd, uint8_t **data, size_t *size)
{
	long end = SYS(SYS_lseek, fd, 0, SEEK_END);
	if (end < 0)
		return end;
	uint8_t *bytes = malloc((size_t)end + 1);
	if (!bytes)
		return -ENOMEM;
	SYS(SYS_lseek, fd, 0, SEEK_SET);
	for (long done = 0; done < end;) {
		long n = SYS(SYS_read, fd, bytes + done, end - done);
		if (n == -EINTR)
			continue;
		if (n <= 0) {
			free(bytes);
			return n ? n : -EIO;
		}
		done += n;
	}
	*data = bytes;
	*size = (size_t)end;
	return 0;
}

long stat_fd(int fd, struct stat *st)
{
	/* The kernel's struct stat is libc's on 64-bit machines alone; statx is one everywhere. */
	struct statx x;
	long r = SYS(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x);
	if (r < 0)
		return r;
	memset(st, 0, sizeof *st);
	st->st_mode = x.stx_mode;
	st->st_uid = x.stx_uid;
	st->st_size = (off_t)x.stx_size;
	return 0;
}
