/*
 * ioctl: what a program asks of the network's interfaces (netdevice(7)) it asks by any Internet
 * socket. A channel's upstream is borrowed for that, as it is for options.
 */
#include "shim.h"

#include <stdarg.h>
#include <sys/ioctl.h>

/* From SIOCGIFNAME up to where devices have numbers of their own (linux/sockios.h). */
enum { FIRST_OF_INTERFACES = 0x8910, LAST_OF_INTERFACES = 0x89ef };

static bool about_interfaces(unsigned request)
{
	return request >= FIRST_OF_INTERFACES && request <= LAST_OF_INTERFACES;
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	va_list list;
	va_start(list, request);
	void *argument = va_arg(list, void *);
	va_end(list);
	struct channel channel;
	if (!about_interfaces((unsigned)request) || socket_kind(fd, &channel) != SOCKET_CHANNEL) {
		__typeof__(&ioctl) real = NEXT(ioctl);
		return real ? real(fd, request, argument)
		            : finish(SYS(SYS_ioctl, fd, request, argument));
	}
	long upstream = channel_borrow(&channel, TW_UPSTREAM);
	if (upstream < 0)
		return finish(upstream);
	long r = SYS(SYS_ioctl, upstream, (unsigned)request, argument);
	SYS(SYS_close, upstream);
	return finish(r);
}

/* What 32-bit programs with a 64-bit time_t import. */
EXPORT int __ioctl_time64(int fd, unsigned long request, ...)
	__attribute__((nothrow, leaf)) ALIAS(ioctl);
