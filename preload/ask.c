/*
 * The worker is shown a socket, and says whether a channel is to stand in its place. The socket
 * behind a channel can be borrowed from it.
 */
#include "shim.h"

/*
 * A new socket of fd's kind, for the worker to connect, which does not block there: other processes may
 * have copies of fd. The worker gives it fd's options and address (proxy/upstream/likeness.go).
 */
static long socket_alike(int fd)
{
	int domain, protocol;
	socklen_t len = sizeof domain;
	long r = SYS(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	if (r == 0) {
		len = sizeof protocol;
		r = SYS(SYS_getsockopt, fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len);
	}
	return r < 0 ? r : SYS(SYS_socket, domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
}

/* How long a non-blocking connect waits for the worker's answer. */
#define HURRIED_SECONDS 2

/*
 * Sends a connect's request for fd. The socket that the worker is to connect comes along, or why there is none: the
 * worker can still let the connect pass.
 */
static long send_connect(int control, struct tw_request *request, int fd)
{
	if (!(request->flags & TW_CONSUME)) {
		/* A connect that is not to wait does not wait long for a stopped worker. */
		const long limit[2] = {HURRIED_SECONDS, 0};
		SYS(SYS_setsockopt, control, SOL_SOCKET, SO_RCVTIMEO, limit, sizeof limit);
	}
	int fresh = (int)socket_alike(fd);
	const int shown[] = {fd, fresh};
	request->channel = fresh < 0 ? (uint64_t)-fresh : 0;
	long r = control_send(control, request, shown, fresh >= 0 ? 2 : 1);
	if (fresh >= 0)
		SYS(SYS_close, fresh);
	return r;
}

/*
 * Tells the worker that what the program is to listen on is in place, and waits until the worker has let go of what
 * the program listens on: it ends this connection then. A listener that is closed at once is over at once.
 */
static long send_taken(int control)
{
	struct tw_request done;
	char none;
	request_init(&done, TW_TAKEN);
	long r = control_send(control, &done, NULL, 0);
	if (r == 0)
		SYS(SYS_recvfrom, control, &none, 1, 0, NULL, NULL);
	return r;
}

/* What channel_ask does over one connection to the worker. */
static long ask_over(int control, int fd, struct tw_request *request, struct tw_reply *reply)
{
	int stand_in = -1, life = -1;
	bool listens = request->op == TW_LISTEN;
	long r = listens ? control_send(control, request, &fd, 1) : send_connect(control, request, fd);
	if (r == 0)
		r = control_receive(control, reply, &stand_in, &life);
	if (r < 0)
		return r;
	switch (reply->answer) {
	case TW_ANSWER_PASS:
		map_keep(stand_in, life);
		return TW_ANSWER_PASS;
	case TW_ANSWER_CHANNEL:
		r = socket_replace(fd, stand_in);
		if (r == 0 && listens)
			r = send_taken(control);
		return r < 0 ? r : TW_ANSWER_CHANNEL;
	}
	if (stand_in >= 0)
		SYS(SYS_close, stand_in);
	return reply->answer == TW_ANSWER_ERROR && reply->error > 0 ? -reply->error : -ENETDOWN;
}

long channel_ask(int fd, struct tw_request *request, struct tw_reply *reply)
{
	long control = control_open();
	if (control == -ENETDOWN)
		voice_unreached();
	if (control < 0)
		return control;
	long r = ask_over((int)control, fd, request, reply);
	SYS(SYS_close, control);
	return r;
}

long channel_borrow(const struct channel *channel, enum tw_op op)
{
	struct tw_request request;
	struct tw_reply reply;
	int fd = -1;
	request_init(&request, op);
	request.channel = channel->id;
	long r = control_ask(&request, -1, &reply, &fd);
	if (r < 0)
		return r;
	return fd >= 0 ? fd : -ENOTCONN;
}
