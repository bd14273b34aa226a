/*
 * ioctl: what a program asks of the network's interfaces (netdevice(7)) it asks by any Internet
 * socket. A channel's upstream is borrowed for that, as it is for options, and for how much of what was
 * written the other side has not acknowledged (SIOCOUTQ, tcp(7)): to that comes what waits in the channel.
 */
#include "shim.h"

#include <linux/sockios.h>
#include <stdarg.h>
#include <sys/ioctl.h>

/* From SIOCGIFNAME up to where devices have numbers of their own (linux/sockios.h). */
enum { FIRST_OF_INTERFACES = 0x8910, LAST_OF_INTERFACES = 0x89ef };

static bool about_interfaces(unsigned request)
{
	return request >= FIRST_OF_INTERFACES && request <= LAST_OF_INTERFACES;
}

/* An ioctl of a channel's. */
static long ask_upstream(const struct channel *channel, unsigned request, void *argument)
{
	struct tw_request borrow;
	struct tw_reply reply;
	int upstream = -1, size = 0;
	request_init(&borrow, TW_UPSTREAM);
	borrow.channel = channel->id;
	long r = control_ask(&borrow, -1, &reply, &upstream);
	if (r == 0 && upstream < 0)
		r = -ENOTCONN;
	if (r < 0)
		return r;
	r = SYS(SYS_ioctl, upstream, request, request == SIOCOUTQ ? &size : argument);
	SYS(SYS_close, upstream);
	if (r < 0 || request != SIOCOUTQ)
		return r;
	size += reply.number;
	return copy_out(argument, &size, sizeof size);
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	va_list list;
	va_start(list, request);
	void *argument = va_arg(list, void *);
	va_end(list);
	struct channel channel;
	if ((!about_interfaces((unsigned)request) && request != SIOCOUTQ) ||
	    socket_kind(fd, &channel) != SOCKET_CHANNEL) {
		__typeof__(&ioctl) real = NEXT(ioctl);
		return real ? real(fd, request, argument)
		            : finish(SYS(SYS_ioctl, fd, request, argument));
	}
	return finish(ask_upstream(&channel, (unsigned)request, argument));
}

/* What 32-bit programs with a 64-bit time_t import. */
EXPORT int __ioctl_time64(int fd, unsigned long request, ...)
	__attribute__((nothrow, leaf)) ALIAS(ioctl);
