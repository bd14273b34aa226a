/* Requests to the worker, and what it keeps for us. */
#include "tls_int.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* ---- errors ---- */

void error_clear(struct error *error)
{
	free(error->text);
	error->text = NULL;
	error->code = TLS_ERROR_UNKNOWN;
}

/* Writes format into memory of malloc's. */
__attribute__((format(printf, 1, 0))) static char *print(const char *format, va_list list)
{
	va_list again;
	va_copy(again, list);
	int n = vsnprintf(NULL, 0, format, again);
	va_end(again);
	char *text = n < 0 ? NULL : malloc((size_t)n + 1);
	if (text)
		vsnprintf(text, (size_t)n + 1, format, list);
	return text;
}

__attribute__((format(printf, 1, 2))) static char *print_list(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	char *text = print(format, list);
	va_end(list);
	return text;
}

void error_vset(struct error *error, int code, int errno_value, const char *format, va_list list)
{
	/* First the new one: an argument may be the old. */
	char *text = print(format, list);
	if (text && errno_value) {
		char *longer = print_list("%s: %s", text, strerror(errno_value));
		free(text);
		text = longer;
	}
	error_clear(error);
	error->text = text;
	error->code = code;
}

int error_set(struct error *error, int code, int errno_value, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	error_vset(error, code, errno_value, format, list);
	va_end(list);
	return -1;
}

/* ---- requests ---- */

static int lost(struct error *error)
{
	return error_set(error, TLS_ERROR_UNKNOWN, 0,
	                 "tlswrap's worker does not answer: the program must be run by tlswrap");
}

int worker_ask(struct error *error, struct tw_tls_request *request, const int *fds, int count,
               struct tw_tls_reply *reply, int *got)
{
	uint64_t mask;
	signals_block(&mask);
	long r = control_open();
	if (r >= 0) {
		int control = (int)r;
		r = tls_request_send(control, request, fds, count);
		if (r == 0)
			r = tls_reply_receive(control, reply, got);
		SYS(SYS_close, control);
	}
	signals_restore(&mask);
	if (r < 0)
		return lost(error);
	if (reply->answer == TW_ANSWER_ERROR)
		return error_set(error, TLS_ERROR_UNKNOWN, 0, "%s", reply->text);
	return 0;
}

void tls_request_init(struct tw_tls_request *request, enum tw_tls_op op)
{
	struct tw_request head;
	memset(request, 0, offsetof(struct tw_tls_request, body));
	request_init(&head, TW_HELLO);
	request->magic = TW_MAGIC;
	request->op = (uint16_t)op;
	memcpy(request->token, head.token, sizeof request->token);
}

long tls_request_send(int control, const struct tw_tls_request *request, const int *fds, int count)
{
	size_t n = offsetof(struct tw_tls_request, body) + request->size;
	return message_send(control, request, n, fds, count) == (long)n ? 0 : -ENETDOWN;
}

long tls_reply_receive(int control, struct tw_tls_reply *reply, int *got)
{
	int fd = -1;
	long n = message_receive(control, reply, sizeof *reply, &fd, NULL);
	long failure = 0;
	if (n <= (long)offsetof(struct tw_tls_reply, text) || reply->magic != TW_MAGIC ||
	    ((char *)reply)[n - 1] != '\0')
		failure = -ENETDOWN;
	else if ((reply->answer == TW_ANSWER_CHANNEL || reply->answer == TW_ANSWER_FD) && fd < 0)
		failure = -EMFILE;
	if (fd >= 0 && (failure || !got)) {
		SYS(SYS_close, fd);
		fd = -1;
	}
	if (got)
		*got = fd;
	return failure;
}

/* ---- memory and files ---- */

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

/* ---- what the worker keeps ---- */

static struct thing *thing_new(uint64_t number)
{
	struct thing *thing = calloc(1, sizeof *thing);
	if (!thing)
		return NULL; /* it ends with the session */
	thing->number = number;
	thing->references = 1;
	thing->pid = (int)SYS(SYS_getpid);
	thing->forks = forks_so_far();
	return thing;
}

struct thing *thing_hold(struct thing *thing)
{
	if (thing)
		__atomic_add_fetch(&thing->references, 1, __ATOMIC_RELAXED);
	return thing;
}

void thing_release(struct thing *thing)
{
	if (!thing || __atomic_sub_fetch(&thing->references, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	if (thing->pid == (int)SYS(SYS_getpid) && thing->forks == forks_so_far()) {
		struct tw_tls_request request;
		uint64_t mask;
		tls_request_init(&request, TW_TLS_DROP);
		request.number = thing->number;
		signals_block(&mask);
		long control = control_open();
		if (control >= 0) {
			tls_request_send((int)control, &request, NULL, 0);
			SYS(SYS_close, control);
		}
		signals_restore(&mask);
	}
	free(thing->error);
	free(thing);
}

struct thing *load_fd(struct error *error, enum tw_tls_kind kind, int fd)
{
	struct tw_tls_request request;
	struct tw_tls_reply reply;
	tls_request_init(&request, TW_TLS_LOAD);
	request.kind = (uint16_t)kind;
	if (worker_ask(error, &request, &fd, 1, &reply, NULL) < 0)
		return NULL;
	struct thing *thing = thing_new(reply.number);
	if (!thing)
		error_set(error, TLS_ERROR_OUT_OF_MEMORY, 0, "out of memory");
	return thing;
}

struct thing *load_memory(struct error *error, enum tw_tls_kind kind, const void *data, size_t size)
{
	long fd = memory_file(data, size);
	if (fd < 0) {
		error_set(error, TLS_ERROR_UNKNOWN, (int)-fd, "memory file");
		return NULL;
	}
	struct thing *thing = load_fd(error, kind, (int)fd);
	SYS(SYS_close, fd);
	return thing;
}

struct thing *thing_built(struct error *error, const struct tw_tls_settings *settings, size_t size)
{
	struct tw_tls_request request;
	struct tw_tls_reply reply;
	long fd = memory_file(settings, size);
	if (fd < 0) {
		error_set(error, TLS_ERROR_UNKNOWN, (int)-fd, "memory file");
		return NULL;
	}
	const int sent = (int)fd;
	tls_request_init(&request, TW_TLS_BUILD);
	int r = worker_ask(error, &request, &sent, 1, &reply, NULL);
	SYS(SYS_close, fd);
	if (r < 0)
		return NULL;
	struct thing *thing = thing_new(reply.number);
	if (!thing)
		error_set(error, TLS_ERROR_OUT_OF_MEMORY, 0, "out of memory");
	return thing;
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
