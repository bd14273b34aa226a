/*
 * The worker is shown a socket, and says whether a channel is to stand in its place. The socket
 * behind a channel can be borrowed from it.
 */
#include "shim.h"

/*
 * A new socket of fd's kind, for the worker to connect: other processes may have copies of
 * fd. The worker gives it fd's options and address (proxy/upstream/likeness.go).
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
	return r < 0 ? r : SYS(SYS_socket, domain, SOCK_STREAM | SOCK_CLOEXEC, protocol);
}

/* How long a non-blocking connect waits for the worker's answer. */
#define HURRIED_SECONDS 2

long channel_ask(int fd, const struct tw_request *request, struct tw_reply *reply,
                 uint16_t taken)
{
	int stand_in = -1, life = -1;
	long fresh = -1;
	long control = control_open();
	if (control == -ENETDOWN)
		voice_unreached();
	if (control < 0)
		return control;
	if (request->op == TW_CONNECT && !(taken & TW_CONSUME)) {
		/* A connect that is not to wait does not wait long for a stopped worker. */
		const long limit[2] = {HURRIED_SECONDS, 0};
		SYS(SYS_setsockopt, control, SOL_SOCKET, SO_RCVTIMEO, limit, sizeof limit);
	}
	long r = control_send((int)control, request, fd);
	if (r == 0)
		r = control_receive((int)control, reply, &stand_in, &life);
	if (r == 0) {
		switch (reply->answer) {
		case TW_ANSWER_PASS:
			map_keep(stand_in, life);
			stand_in = -1;
			r = TW_ANSWER_PASS;
			break;
		case TW_ANSWER_CHANNEL:
			if (request->op == TW_CONNECT) {
				r = fresh = socket_alike(fd);
				if (r < 0)
					break;
			}
			r = socket_replace(fd, stand_in);
			stand_in = -1;
			if (r == 0) {
				struct tw_request done;
				request_init(&done, TW_TAKEN);
				done.flags = taken;
				r = control_send((int)control, &done, (int)fresh);
			}
			if (r == 0 && request->op == TW_LISTEN) {
				/* Until the worker has let go of what the program listens on: it ends this
				 * connection then. A listener that is closed at once is over at once. */
				char none;
				SYS(SYS_recvfrom, control, &none, 1, 0, NULL, NULL);
			}
			if (r == 0)
				r = TW_ANSWER_CHANNEL;
			break;
		case TW_ANSWER_ERROR:
			r = reply->error > 0 ? -reply->error : -ENETDOWN;
			break;
		default:
			r = -ENETDOWN;
		}
	}
	if (stand_in >= 0)
		SYS(SYS_close, stand_in);
	if (fresh >= 0)
		SYS(SYS_close, fresh);
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
