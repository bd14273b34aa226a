/*
 * The program opens the files and folders that a configuration names, with its own rights, and
 * the worker gets what is in them.
 */
#include "tls_int.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

struct thing *load_file(struct error *error, enum tw_tls_kind kind, const char *file)
{
	static const char *const words[] = {
		[TW_TLS_CA] = "CA",   [TW_TLS_CRL] = "CRL",    [TW_TLS_CERT] = "certificate",
		[TW_TLS_KEY] = "key", [TW_TLS_STAPLE] = "ocsp",
	};
	const char *what = words[kind];
	struct stat st;
	struct thing *loaded = NULL;
	long fd = SYS(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		error_set(error, TLS_ERROR_UNKNOWN, (int)-fd, "failed to open %s file '%s'", what, file);
		return NULL;
	}
	if (stat_fd((int)fd, &st) == 0 && S_ISDIR(st.st_mode))
		error_set(error, TLS_ERROR_UNKNOWN, EISDIR, "failed to read %s file '%s'", what, file);
	else
		loaded = load_fd(error, kind, (int)fd);
	SYS(SYS_close, fd);
	return loaded;
}

/* What OpenSSL calls the files that it reads in a folder: HHHHHHHH.N (X509_LOOKUP_hash_dir(3)). */
static bool is_hashed(const char *name)
{
	enum { DIGITS = 8 };
	size_t n = 0;
	while ((name[n] >= '0' && name[n] <= '9') || (name[n] >= 'a' && name[n] <= 'f'))
		n++;
	if (n != DIGITS || name[n] != '.' || !name[n + 1])
		return false;
	for (n++; name[n]; n++) {
		if (name[n] < '0' || name[n] > '9')
			return false;
	}
	return true;
}

/* Writes all of data to a memory file: 0 or -errno. */
static long append(int to, const char *data, size_t size)
{
	while (size) {
		long n = SYS(SYS_write, to, data, size);
		if (n == -EINTR)
			continue;
		if (n <= 0)
			return n ? n : -EIO;
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

/* Copies a file and a line's end to a memory file, as long as *room lasts: 0 or -errno. One that
 * cannot be read has no certificates. */
static long append_file(int to, int dir, const char *name, size_t *room)
{
	char data[4096];
	long failure = 0;
	long fd = SYS(SYS_openat, dir, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	while (fd >= 0 && failure == 0) {
		long n = SYS(SYS_read, fd, data, sizeof data);
		if (n == -EINTR)
			continue;
		if (n <= 0)
			break;
		failure = (size_t)n <= *room ? append(to, data, (size_t)n) : -EFBIG;
		*room -= failure ? 0 : (size_t)n;
	}
	if (fd >= 0)
		SYS(SYS_close, fd);
	return failure ? failure : append(to, "\n", 1);
}

/* An entry of getdents64(2). */
struct entry {
	uint64_t inode;
	int64_t offset;
	uint16_t size;
	uint8_t type;
	char name[];
};

/* Copies the certificates of a folder to a memory file: 0 or -errno. */
static long append_folder(int to, int dir, size_t *room)
{
	_Alignas(struct entry) char entries[4096];
	for (;;) {
		long n = SYS(SYS_getdents64, dir, entries, sizeof entries);
		if (n <= 0)
			return n;
		for (long at = 0; at < n;) {
			const struct entry *entry = (const struct entry *)(const void *)(entries + at);
			long r = is_hashed(entry->name) ? append_file(to, dir, entry->name, room) : 0;
			if (r < 0)
				return r;
			at += entry->size;
		}
	}
}

/*
 * The program reads the folders, with its own rights: the worker may have others, and opens
 * nothing by name for anybody.
 */
struct thing *load_folders(struct error *error, const char *paths)
{
	enum { MOST = 64 << 20 }; /* bytes, as for a file */
	char path[PATH_MAX];
	size_t room = MOST;
	long memory = memory_file("\n", 1);
	long failure = memory < 0 ? memory : SYS(SYS_lseek, memory, 0, SEEK_END);
	while (*paths && failure >= 0) {
		size_t n = 0;
		while (paths[n] && paths[n] != ':')
			n++;
		if (n < sizeof path) {
			memcpy(path, paths, n);
			path[n] = '\0';
			long dir = SYS(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			/* One that is not there has no certificates: libtls finds that out when it
			 * verifies. */
			if (dir >= 0) {
				failure = append_folder((int)memory, (int)dir, &room);
				SYS(SYS_close, dir);
			}
		}
		paths += n + (paths[n] == ':');
	}
	struct thing *loaded = NULL;
	if (failure < 0)
		error_set(error, TLS_ERROR_UNKNOWN, (int)-failure, "failed to read CA path");
	else
		loaded = load_fd(error, TW_TLS_CA_PATH, (int)memory);
	if (memory >= 0)
		SYS(SYS_close, memory);
	return loaded;
}

static const char *variable(const char *name)
{
	size_t n = strlen(name);
	for (char **env = &environ ? environ : NULL; env && *env; env++) {
		size_t i = 0;
		while (i < n && (*env)[i] == name[i])
			i++;
		if (i == n && (*env)[n] == '=' && (*env)[n + 1])
			return *env + n + 1;
	}
	return NULL;
}

/*
 * The roots where none were set are the system's, or those that the environment names, as
 * OpenSSL has it. The program opens the file: it may be one that the worker cannot.
 */
void load_environment(struct thing *things[TW_TLS_THINGS])
{
	struct error ignored = {0};
	const char *file = variable("SSL_CERT_FILE"), *dir = variable("SSL_CERT_DIR");
	if (file) {
		long fd = SYS(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			things[TW_TLS_CA_ENV] = load_fd(&ignored, TW_TLS_CA_ENV, (int)fd);
			SYS(SYS_close, fd);
		} else {
			things[TW_TLS_CA_ENV] = load_memory(&ignored, TW_TLS_CA_ENV, "", 1);
		}
	}
	if (dir)
		things[TW_TLS_CA_PATH] = load_folders(&ignored, dir);
	error_clear(&ignored);
}
