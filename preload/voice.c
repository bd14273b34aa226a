/*
 * The worker has the voice for people. Where it cannot be reached the shim says so itself, in one sentence of a
 * process's life, on the standard error that the process was started with.
 */
#include "shim.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

#define STANDARD_ERROR 2

/* What the process was started with there. */
static struct statx at_start;

/* The kernel's struct stat is libc's on 64-bit machines alone; statx is one everywhere. */
static bool look(struct statx *x)
{
	return SYS(SYS_statx, STANDARD_ERROR, "", AT_EMPTY_PATH, STATX_BASIC_STATS, x) == 0;
}

void voice_remember(void)
{
	if (!look(&at_start))
		memset(&at_start, 0, sizeof at_start);
}

/*
 * Whether it is still what it was, and nobody's connection, as inetd's programs have their client there; and takes
 * a sentence now: the program is not to wait for its reader, nor to be ended by a pipe that has none.
 */
static bool may_speak(void)
{
	struct statx now;
	struct channel channel;
	if (!at_start.stx_mode || !look(&now) || now.stx_ino != at_start.stx_ino ||
	    now.stx_dev_major != at_start.stx_dev_major || now.stx_dev_minor != at_start.stx_dev_minor)
		return false;
	return (!S_ISSOCK(now.stx_mode) || socket_kind(STANDARD_ERROR, &channel) == AF_UNIX) &&
	       socket_poll(STANDARD_ERROR, POLLOUT) == POLLOUT;
}

void voice_unreached(void)
{
	static const char sentence[] =
		"tlswrap: the worker cannot be reached, and what would need it is refused: it has ended, or "
		"does not answer, or this process is in other namespaces, in another root folder or under a filter\n";
	static _Atomic bool said;
	const struct worker *worker = control_worker();
	if (!worker || worker->quiet || said || !may_speak())
		return;
	said = true;
	SYS(SYS_write, STANDARD_ERROR, sentence, sizeof sentence - 1);
}
