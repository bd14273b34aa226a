/*
 * What a program reads or sends first on a connection whose setup has failed fails with connect's errno,
 * where nobody has asked for that before (SO_ERROR, a second connect). A channel gives ECONNRESET or
 * EPIPE then, and the worker knows the true one. Nothing is looked at while a call succeeds.
 */
#include "shim.h"

/* What the worker says that setting this channel up has ended in, or otherwise. */
int setup_error(const struct channel *channel, int otherwise)
{
	struct tw_request request;
	struct tw_reply reply;
	request_init(&request, TW_VERDICT);
	request.channel = channel->id;
	if (control_ask(&request, -1, &reply, NULL) == 0 && reply.answer == TW_ANSWER_ERROR &&
	    reply.error > 0)
		return reply.error;
	return otherwise;
}

/*
 * Sending says EPIPE on every channel that has ended. The error that the kernel still has for who asks
 * comes first with TCP, and is told then.
 */
static int sending_error(int fd, const struct channel *channel)
{
	int pending = 0;
	socklen_t len = sizeof pending;
	if (SYS(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, &pending, &len) < 0 || pending == 0)
		return EPIPE;
	return setup_error(channel, pending);
}

ssize_t received(int fd, ssize_t n)
{
	struct channel channel;
	if (n < 0 && get_errno() == ECONNRESET) {
		bool ours = socket_kind(fd, &channel) == SOCKET_CHANNEL && !channel.listens;
		set_errno(ours ? setup_error(&channel, ECONNRESET) : ECONNRESET);
	}
	return n;
}

ssize_t sent(int fd, ssize_t n)
{
	struct channel channel;
	if (n < 0 && get_errno() == EPIPE) {
		bool ours = socket_kind(fd, &channel) == SOCKET_CHANNEL && !channel.listens;
		set_errno(ours ? sending_error(fd, &channel) : EPIPE);
	}
	return n;
}
