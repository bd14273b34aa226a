/*
 * The one sentence that the library says itself. Of what goes wrong the worker has the voice to tell a
 * person; where it has ended nobody else could say why programs are not started, or have no network.
 */
#include "shim.h"

#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

/* Whether nobody listens any more where the worker was: it may also be busy, or another's. */
static bool worker_has_ended(void)
{
	const struct worker *worker = control_worker();
	if (!worker)
		return false;
	long fd = above_streams(SYS(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	if (fd < 0)
		return false;
	long r = SYS(SYS_connect, fd, &worker->address, worker->address_len);
	SYS(SYS_close, fd);
	return r == -ECONNREFUSED || r == -ENOENT;
}

/* Whether a person may read standard error, and now: not somebody at the other end of a network, and not
 * where the sentence would wait, or end the program because nobody reads it. */
static bool heard(void)
{
	struct channel channel;
	long kind = socket_kind(2, &channel);
	return (kind == AF_UNIX || kind == -ENOTSOCK) && socket_poll(2, POLLOUT) == POLLOUT;
}

/* A shell looks for a program in one folder after the other: within this time that is one start. */
#define ONE_START_MS 100

static bool said_just_now(void)
{
	static unsigned long by, at;
	struct timespec now;
	unsigned long pid = (unsigned long)SYS(SYS_getpid);
	SYS(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
	unsigned long ms = (unsigned long)now.tv_sec * 1000 + (unsigned long)now.tv_nsec / 1000000;
	bool said = __atomic_exchange_n(&by, pid, __ATOMIC_RELAXED) == pid &&
	            ms - __atomic_load_n(&at, __ATOMIC_RELAXED) < ONE_START_MS;
	__atomic_store_n(&at, ms, __ATOMIC_RELAXED);
	return said;
}

#define NAME_END 200 /* of a longer path so much is told */

struct sentence {
	size_t length;
	char text[512];
};

/* Adds words as a terminal may see them, cut to fit with room for one byte more. */
static void add(struct sentence *s, const char *words)
{
	for (; *words && s->length < sizeof s->text - 1; words++)
		s->text[s->length++] = *words < ' ' || *words > '~' ? '?' : *words;
}

void worker_tell_ended(const char *program, const char *what)
{
	struct sentence s = {0};
	char own[17] = "";
	if (!heard() || !worker_has_ended() || said_just_now())
		return;
	if (!program && SYS(SYS_prctl, PR_GET_NAME, own) == 0)
		program = own;
	size_t length = program ? strlen(program) : 0;
	add(&s, "tlswrap: ");
	add(&s, length < NAME_END ? length ? program : "a program" : program + length - NAME_END);
	add(&s, ": ");
	add(&s, what);
	add(&s, ": the worker has ended, or is in another network namespace; "
	        "what this run's programs ask of the network fails (ENETDOWN, ENOSYS)");
	s.text[s.length++] = '\n';
	SYS(SYS_write, 2, s.text, s.length);
}
