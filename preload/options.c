/*
 * Socket options. Those that belong to the network are the upstream's: it is
 * borrowed from the worker for the one call. Timeouts and the like are the
 * descriptor's own.
 */
#include "trace.h"

#include <netinet/tcp.h>

/* The kernel's numbers for both sizes of time_t (asm-generic/socket.h). */
enum { RCVTIMEO_OLD = 20, SNDTIMEO_OLD = 21, RCVTIMEO_NEW = 66, SNDTIMEO_NEW = 67 };

static bool stays_on_channel(int level, int option)
{
	if (level != SOL_SOCKET)
		return false;
	switch (option) {
	case SO_TYPE:
	case SO_ERROR:
	case SO_RCVLOWAT:
	case SO_PEEK_OFF:
	case RCVTIMEO_OLD:
	case SNDTIMEO_OLD:
	case RCVTIMEO_NEW:
	case SNDTIMEO_NEW:
		return true;
	default:
		/* Buffer sizes too go to the upstream: poll never reports an AF_UNIX
		 * stream as writable whose buffer holds less than four messages. */
		return false;
	}
}

/*
 * What would be about the upstream's own bytes, which are records: TCP_INQ counts them, and the others read
 * or change them. A program does without, as it does on a kernel that has none of this.
 */
static bool is_of_records(int level, int option)
{
	enum { OF_ZEROCOPY_RECEIVE = 35, OF_INQ = 36, OF_ULP = 31 };
	return level == IPPROTO_TCP &&
	       (option == OF_ZEROCOPY_RECEIVE || option == OF_INQ || option == OF_ULP);
}

/*
 * TCP_CORK gathers what a program writes, which the worker reads when it likes: it would only hold back
 * records that are complete. So it is taken, and does nothing.
 */
static long cork(const void *value, socklen_t len)
{
	int on;
	if (len < sizeof on)
		return -EINVAL;
	return copy_in(&on, value, sizeof on);
}

/*
 * Whether to set TCP_NODELAY would change nothing, as most programs do first of all: an upstream has it from the
 * beginning (proxy/upstream). A channel whose program has cleared it once is marked.
 */
static bool sends_at_once(int fd, const void *value, socklen_t len)
{
	int on;
	if (len < sizeof on || copy_in(&on, value, sizeof on) < 0)
		return false; /* the kernel says what is wrong with that */
	if (!on)
		channel_mark(fd, TW_DELAYS);
	return on && !(channel_marks(fd) & TW_DELAYS);
}

/* SO_ERROR. Whoever asks is told once: a length that the kernel would refuse is refused before. */
static long get_error(int fd, const struct channel *channel, void *value, socklen_t *len)
{
	int error;
	socklen_t room, size = sizeof error;
	if (copy_in(&room, len, sizeof room) < 0)
		return -EFAULT;
	if ((int)room < 0)
		return -EINVAL;
	long r = SYS(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (r < 0)
		return r;
	if (error)
		error = setup_error(channel, error);
	size = room < size ? room : size;
	if (copy_out(value, &error, size) < 0)
		return -EFAULT;
	return copy_out(len, &size, sizeof size);
}

static int get_option(int fd, int level, int option, void *value, socklen_t *len)
{
	struct channel channel;
	if (socket_kind(fd, &channel) != SOCKET_CHANNEL) {
		__typeof__(&getsockopt) real = INTERPOSER(getsockopt);
		return real ? real(fd, level, option, value, len)
		            : finish(SYS(SYS_getsockopt, fd, level, option, value, len));
	}
	if (level == SOL_SOCKET && option == SO_ERROR)
		return finish(get_error(fd, &channel, value, len));
	if (is_of_records(level, option))
		return finish(-EOPNOTSUPP);
	if (stays_on_channel(level, option))
		return finish(SYS(SYS_getsockopt, fd, level, option, value, len));
	long upstream = channel_borrow(&channel, TW_UPSTREAM);
	if (upstream < 0)
		return finish(upstream);
	long r = SYS(SYS_getsockopt, upstream, level, option, value, len);
	SYS(SYS_close, upstream);
	return finish(r);
}

/*
 * Whether this asks for what the kernel would put into the error queue of a connection: it would come
 * on the upstream, where nobody waits for it. (linux/net_tstamp.h: when data were sent.)
 */
static bool asks_for_errors(int level, int option, const void *value, socklen_t len)
{
	enum { TIMESTAMPING_OLD = 37, TIMESTAMPING_NEW = 65, OF_SENDING = 3 | 3 << 8 };
	unsigned flags = 0;
	if (level != SOL_SOCKET)
		return false;
	if (option == SO_ZEROCOPY)
		return true;
	return (option == TIMESTAMPING_OLD || option == TIMESTAMPING_NEW) && len >= sizeof flags &&
	       copy_in(&flags, value, sizeof flags) == 0 && flags & OF_SENDING;
}

/* Whether fd, of an address family, is a TCP socket that may still become a channel. */
static bool may_become_channel(int fd, long family)
{
	union address peer;
	socklen_t len = sizeof peer;
	return (family == AF_INET || family == AF_INET6) && possibly(is_tcp(fd)) &&
	       SYS(SYS_getpeername, fd, &peer, &len) < 0;
}

static int set_option(int fd, int level, int option, const void *value, socklen_t len)
{
	struct channel channel;
	long kind = socket_kind(fd, &channel);
	if (asks_for_errors(level, option, value, len) &&
	    (kind == SOCKET_CHANNEL || may_become_channel(fd, kind)))
		return finish(-EOPNOTSUPP);
	if (kind != SOCKET_CHANNEL) {
		__typeof__(&setsockopt) real = INTERPOSER(setsockopt);
		return real ? real(fd, level, option, value, len)
		            : finish(SYS(SYS_setsockopt, fd, level, option, value, len));
	}
	if (is_of_records(level, option))
		return finish(-EOPNOTSUPP);
	if (level == IPPROTO_TCP && option == TCP_CORK)
		return finish(cork(value, len));
	if (level == IPPROTO_TCP && option == TCP_NODELAY && !channel.listens && sends_at_once(fd, value, len))
		return 0;
	if (stays_on_channel(level, option))
		return finish(SYS(SYS_setsockopt, fd, level, option, value, len));
	long upstream = channel_borrow(&channel, TW_UPSTREAM);
	if (upstream < 0)
		return finish(upstream);
	long r = SYS(SYS_setsockopt, upstream, level, option, value, len);
	SYS(SYS_close, upstream);
	return finish(r);
}

EXPORT int getsockopt(int fd, int level, int option, void *restrict value,
                      socklen_t *restrict len)
{
	int r = get_option(fd, level, option, value, len);
	TRACE("getsockopt", NUMBER("fd", fd), NUMBER("level", level), NUMBER("option", option),
	      RESULT(outcome(r)));
	return r;
}

EXPORT int setsockopt(int fd, int level, int option, const void *value, socklen_t len)
{
	int r = set_option(fd, level, option, value, len);
	TRACE("setsockopt", NUMBER("fd", fd), NUMBER("level", level), NUMBER("option", option),
	      RESULT(outcome(r)));
	return r;
}

/* What 32-bit programs with a 64-bit time_t import. */
EXPORT int __getsockopt64(int fd, int level, int option, void *restrict value,
                          socklen_t *restrict len);
EXPORT int __setsockopt64(int fd, int level, int option, const void *value, socklen_t len);

int __getsockopt64(int fd, int level, int option, void *restrict value, socklen_t *restrict len)
{
	return getsockopt(fd, level, option, value, len);
}

int __setsockopt64(int fd, int level, int option, const void *value, socklen_t len)
{
	return setsockopt(fd, level, option, value, len);
}
