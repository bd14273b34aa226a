/*
 * The trace's lines. The file is opened for each of them and closed again, so that a program which
 * closes all of its descriptors, or forks, meets nothing of ours. What cannot be written is left out.
 */
#include "trace.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <time.h>

bool trace_on;
static char file[PATH_MAX];

void trace_remember(char **env)
{
	static const char name[] = "TLSWRAP_TRACE=", absolute[] = "TLSWRAP_TRACE=/";
	for (; env && *env; env++) {
		size_t n = strlen(*env);
		if (n <= sizeof absolute - 1 || memcmp(*env, absolute, sizeof absolute - 1) != 0)
			continue;
		n -= sizeof name - 1;
		if (n >= sizeof file)
			return;
		memcpy(file, *env + sizeof name - 1, n + 1);
		trace_on = true;
		return;
	}
}

/* A line that is being written. What does not fit is left out, but for its end. */
struct line {
	size_t length;
	char text[1024];
};

static void put(struct line *line, char c)
{
	if (line->length < sizeof line->text - 1)
		line->text[line->length++] = c;
}

static void put_word(struct line *line, const char *word)
{
	while (*word)
		put(line, *word++);
}

/* Writes at least width digits. */
static void put_digits(struct line *line, unsigned long value, unsigned base, int width)
{
	char digits[24];
	int n = 0;
	do
		digits[n++] = "0123456789abcdef"[value % base];
	while ((value /= base) || n < width);
	while (n)
		put(line, digits[--n]);
}

static void put_number(struct line *line, long value)
{
	if (value < 0)
		put(line, '-');
	put_digits(line, value < 0 ? -(unsigned long)value : (unsigned long)value, 10, 1);
}

/* Writes a string that may be anybody's, of one line whatever is in it. */
static void put_text(struct line *line, const char *text)
{
	char own[TW_NAME_SIZE];
	long n = string_in(own, text, sizeof own);
	put(line, '"');
	for (long i = 0; i < n; i++)
		put(line, own[i] < ' ' || own[i] > '~' || own[i] == '"' || own[i] == '\\' ? '?' : own[i]);
	put(line, '"');
}

static void put_address(struct line *line, const struct tw_addr *addr)
{
	bool v4 = addr->family == AF_INET;
	if (!v4)
		put(line, '[');
	for (int i = 0; i < (v4 ? 4 : 16); i += v4 ? 1 : 2) {
		if (i)
			put(line, v4 ? '.' : ':');
		if (v4)
			put_digits(line, addr->ip[i], 10, 1);
		else
			put_digits(line, (unsigned long)addr->ip[i] << 8 | addr->ip[i + 1], 16, 1);
	}
	put_word(line, v4 ? ":" : "]:");
	put_digits(line, addr->port, 10, 1);
}

/* Writes a socket address of the program's: of others than the Internet's the family. */
static void put_sockaddr(struct line *line, const struct sockaddr *at, socklen_t length)
{
	union address own;
	struct tw_addr addr;
	memset(&own, 0, sizeof own);
	if (copy_in(&own, at, length < sizeof own ? length : sizeof own) < 0) {
		put_word(line, "unreadable");
	} else if (address_read(&own.any, length, &addr)) {
		put_address(line, &addr);
	} else {
		put_word(line, "family ");
		put_number(line, own.any.sa_family);
	}
}

/* The errors that have to do with what is hooked; of others the number is told. */
#define ERRORS(X)                                                                                 \
	X(EPERM) X(ENOENT) X(ESRCH) X(EINTR) X(EIO) X(E2BIG) X(ENOEXEC) X(EBADF) X(EAGAIN)        \
	X(ENOMEM) X(EACCES) X(EFAULT) X(EBUSY) X(EEXIST) X(ENOTDIR) X(EISDIR) X(EINVAL)           \
	X(ENFILE) X(EMFILE) X(ETXTBSY) X(EPIPE) X(ENAMETOOLONG) X(ENOSYS) X(ELOOP) X(EPROTO)      \
	X(ENOTSOCK) X(EDESTADDRREQ) X(EMSGSIZE) X(EPROTOTYPE) X(ENOPROTOOPT) X(EPROTONOSUPPORT)   \
	X(EOPNOTSUPP) X(EAFNOSUPPORT) X(EADDRINUSE) X(EADDRNOTAVAIL) X(ENETDOWN) X(ENETUNREACH)   \
	X(ECONNABORTED) X(ECONNRESET) X(ENOBUFS) X(EISCONN) X(ENOTCONN) X(ETIMEDOUT)              \
	X(ECONNREFUSED) X(EHOSTDOWN) X(EHOSTUNREACH) X(EALREADY) X(EINPROGRESS) X(EKEYEXPIRED)    \
	X(EKEYREJECTED)

static void put_result(struct line *line, long value)
{
	put_word(line, " = ");
	if (value >= 0) {
		put_number(line, value);
		return;
	}
	put_word(line, "-1 ");
	switch (-value) {
#define X(name)                                                                                   \
	case name:                                                                                \
		put_word(line, #name);                                                            \
		return;
		ERRORS(X)
#undef X
	default:
		put_word(line, "errno ");
		put_number(line, -value);
	}
}

static void put_fact(struct line *line, const struct fact *fact)
{
	bool missing = fact->kind >= FACT_WORD && fact->kind <= FACT_SOCKADDR && !fact->at;
	if (fact->kind == FACT_RESULT) {
		put_result(line, fact->number);
		return;
	}
	if (missing || (fact->kind == FACT_ADDRESSES && fact->number == 0))
		return;
	put(line, ' ');
	put_word(line, fact->name);
	put(line, '=');
	switch (fact->kind) {
	case FACT_FLAGS:
		put_word(line, "0x");
		put_digits(line, (unsigned long)fact->number, 16, 1);
		break;
	case FACT_WORD:
		put_word(line, fact->at);
		break;
	case FACT_TEXT:
		put_text(line, fact->at);
		break;
	case FACT_SOCKADDR:
		put_sockaddr(line, fact->at, (socklen_t)fact->number);
		break;
	case FACT_ADDRESSES:
		for (long i = 0; i < fact->number; i++) {
			if (i)
				put(line, ',');
			put_address(line, (const struct tw_addr *)fact->at + i);
		}
		break;
	default:
		put_number(line, fact->number);
	}
}

/*
 * Adds a line to the file. Neither a pipe nor a terminal is waited for, and what is too much for the
 * program's RLIMIT_FSIZE does not end it.
 */
static void append(const struct line *line)
{
	const uint64_t too_large = (uint64_t)1 << (SIGXFSZ - 1);
	const long at_once[2] = {0, 0};
	uint64_t mask;
	signals_block(&mask);
	long fd = above_streams(SYS(SYS_openat, AT_FDCWD, file,
	                            O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY |
	                                    O_NONBLOCK | O_LARGEFILE,
	                            0600));
	if (fd >= 0) {
		if (SYS(SYS_lseek, fd, 0, SEEK_CUR) >= 0 &&
		    SYS(SYS_write, fd, line->text, line->length) == -EFBIG)
			SYS(SYS_rt_sigtimedwait, &too_large, NULL, at_once, sizeof too_large);
		SYS(SYS_close, fd);
	}
	signals_restore(&mask);
}

void trace_line(const char *event, const struct fact *facts, size_t count)
{
	struct line line;
	long time[2] = {0, 0}; /* struct timespec as the kernel's old call has it */
	line.length = 0;
	SYS(SYS_clock_gettime, CLOCK_REALTIME, time);
	put_number(&line, time[0]);
	put(&line, '.');
	put_digits(&line, (unsigned long)time[1] / 1000, 10, 6);
	put(&line, ' ');
	put_number(&line, SYS(SYS_getpid));
	put(&line, ' ');
	put_number(&line, SYS(SYS_gettid));
	put(&line, ' ');
	put_word(&line, event);
	for (size_t i = 0; i < count; i++)
		put_fact(&line, &facts[i]);
	line.text[line.length++] = '\n';
	append(&line);
}
