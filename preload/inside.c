/*
 * Some functions of libc's connect or listen inside libc, where no hook sees it. Their hooks ask
 * first whether the worker has anything to do there, and go on only with what passes as it is.
 */
#include "shim.h"

#include <string.h>

/* The worker's answer about fd: 0 where it passes, with the address to connect to in *to if that is
 * not NULL, or -errno. */
static long ask_inside(struct tw_request *request, int fd, const char *call, union address *to)
{
	struct tw_reply reply;
	int got;
	memcpy(request->name, call, strlen(call) + 1);
	long r = control_ask(request, fd, &reply, &got);
	if (r < 0)
		return r;
	if (got >= 0)
		SYS(SYS_close, got);
	if (reply.answer == TW_ANSWER_PASS && to && reply.count == 1)
		address_write(&reply.addrs[0], to);
	if (reply.answer == TW_ANSWER_PASS && (!to || reply.count == 1))
		return 0;
	return reply.answer == TW_ANSWER_ERROR && reply.error > 0 ? -reply.error : -EACCES;
}

long connect_inside(union address *to, socklen_t len, const char *call)
{
	struct tw_request request;
	request_init(&request, TW_CONNECT);
	request.count = 1;
	if (!address_read(&to->any, len, &request.addrs[0]))
		return -EACCES;
	long fd = SYS(SYS_socket, to->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	long r = ask_inside(&request, (int)fd, call, to);
	SYS(SYS_close, fd);
	return r;
}

long listen_inside(int fd, const char *call)
{
	struct tw_request request;
	request_init(&request, TW_LISTEN);
	return ask_inside(&request, fd, call, NULL);
}
