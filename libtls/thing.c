/*
 * The worker keeps what was copied into it, and what it has built of that. Here such a thing is a
 * number, and its references are counted.
 */
#include "tls_int.h"

static struct thing *thing_new(struct error *error, uint64_t number)
{
	struct thing *thing = calloc(1, sizeof *thing);
	if (!thing) { /* in the worker it ends with the session */
		error_set(error, TLS_ERROR_OUT_OF_MEMORY, 0, "out of memory");
		return NULL;
	}
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

/* Loads what fd holds, and tells whether that is what the thing of this number has. */
static struct thing *load(struct error *error, enum tw_tls_kind kind, int fd, uint64_t number, bool *same)
{
	struct tw_tls_request request;
	struct tw_tls_reply reply;
	tls_request_init(&request, TW_TLS_LOAD);
	request.kind = (uint16_t)kind;
	request.number = number;
	if (worker_ask(error, &request, &fd, 1, &reply, NULL) < 0)
		return NULL;
	*same = reply.value;
	return thing_new(error, reply.number);
}

struct thing *load_fd(struct error *error, enum tw_tls_kind kind, int fd)
{
	bool same;
	return load(error, kind, fd, 0, &same);
}

/* A memory file with these bytes, or -1 with *error set. */
static int memory(struct error *error, const void *data, size_t size)
{
	long fd = memory_file(data, size);
	if (fd < 0)
		return error_set(error, TLS_ERROR_UNKNOWN, (int)-fd, "memory file");
	return (int)fd;
}

struct thing *load_memory(struct error *error, enum tw_tls_kind kind, const void *data, size_t size)
{
	int fd = memory(error, data, size);
	if (fd < 0)
		return NULL;
	struct thing *thing = load_fd(error, kind, fd);
	SYS(SYS_close, fd);
	return thing;
}

struct thing *load_ticket_key(struct error *error, const void *data, size_t size,
                              const struct thing *known, bool *same)
{
	int fd = memory(error, data, size);
	if (fd < 0)
		return NULL;
	struct thing *thing = load(error, TW_TLS_TICKET_KEY, fd, known ? known->number : 0, same);
	SYS(SYS_close, fd);
	return thing;
}

struct thing *thing_built(struct error *error, const struct tw_tls_settings *settings, size_t size)
{
	struct tw_tls_request request;
	struct tw_tls_reply reply;
	int fd = memory(error, settings, size);
	if (fd < 0)
		return NULL;
	tls_request_init(&request, TW_TLS_BUILD);
	int r = worker_ask(error, &request, &fd, 1, &reply, NULL);
	SYS(SYS_close, fd);
	if (r < 0)
		return NULL;
	return thing_new(error, reply.number);
}
