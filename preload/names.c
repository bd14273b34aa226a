/*
 * Host names. The real resolver answers, with NSS, /etc/hosts and its own errors; then the
 * worker is asked here which addresses the program is to see.
 */
#include "names.h"

#include <fcntl.h>
#include <string.h>

long batch_init(struct batch *batch, const char *name, uint16_t flags)
{
	size_t n = strlen(name);
	request_init(&batch->request, TW_NAMES);
	batch->request.flags = flags;
	if (n >= TW_NAME_SIZE)
		return -EADDRNOTAVAIL;
	memcpy(batch->request.name, name, n + 1);
	return 0;
}

/*
 * Opens /etc/hosts as the program's libc sees it: the worker wants to know which names are
 * the same host's, and may be in another root folder. -1 where the program cannot read it,
 * or -EMFILE, -ENFILE. Call with signals blocked.
 */
static long hosts_open(void)
{
	long fd = above_streams(SYS(SYS_openat, AT_FDCWD, "/etc/hosts",
	                            O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
	return fd >= 0 || fd == -EMFILE || fd == -ENFILE ? fd : -1;
}

long batch_ask(struct batch *batch)
{
	if (batch->request.count == 0)
		return 0;
	uint64_t mask;
	signals_block(&mask);
	long fd = hosts_open();
	long r = fd < -1 ? fd : control_ask(&batch->request, (int)fd, &batch->reply, NULL);
	if (fd >= 0)
		SYS(SYS_close, fd);
	signals_restore(&mask);
	if (r < 0)
		return r;
	if (batch->reply.answer == TW_ANSWER_ERROR && batch->reply.error > 0)
		return -batch->reply.error;
	if (batch->reply.answer != TW_ANSWER_ADDRS || batch->reply.count != batch->request.count)
		return -ENETDOWN;
	return 0;
}
