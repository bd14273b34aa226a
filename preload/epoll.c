/*
 * epoll keeps a registration with the open file, not with the descriptor
 * (epoll(7), question 6): one that was made before connect stays with the
 * socket, and would report the upstream's events instead of the channel's.
 *
 * So epoll_ctl marks the descriptors that it sees, and a connect that swaps a
 * marked one asks the kernel, by /proc/self/fdinfo (proc(5)), what it was
 * registered for. The marks are hints: one that is stale costs a look. Where
 * there is one epoll set alone, what is taken out of it loses its mark: many programs
 * do that before they close a socket, and give the next one its number.
 */
#include "marks.h"
#include "trace.h"

#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>

static struct fd_marks registered, epolls;

void epoll_duplicated(int from, int to)
{
	if (marked(&epolls, from))
		mark(&epolls, to);
}

/* Whether epfd is the only epoll set that there is. */
static bool only_epoll(int epfd)
{
	return next_marked(&epolls, -1) == epfd && next_marked(&epolls, epfd) < 0;
}

EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	if (op == EPOLL_CTL_ADD) {
		mark(&registered, fd);
		mark(&epolls, epfd);
	}
	__typeof__(&epoll_ctl) real = NEXT(epoll_ctl);
	int r = real ? real(epfd, op, fd, event) : finish(SYS(SYS_epoll_ctl, epfd, op, fd, event));
	if (op == EPOLL_CTL_DEL && r == 0 && only_epoll(epfd))
		unmark(&registered, fd);
	TRACE("epoll_ctl", NUMBER("epfd", epfd), NUMBER("op", op), NUMBER("fd", fd),
	      RESULT(outcome(r)));
	return r;
}

/* Reads a number at *s and moves past it, and past blanks before it. */
static uint64_t number(const char **s, unsigned base)
{
	uint64_t v = 0;
	while (**s == ' ')
		(*s)++;
	for (;; (*s)++) {
		char c = **s;
		unsigned d = c >= '0' && c <= '9' ? (unsigned)(c - '0')
		             : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
		                                    : 16;
		if (d >= base)
			return v;
		v = v * base + d;
	}
}

/* Reads "tfd: 5 events: 1d data: 7f01 …" (fs/eventpoll.c, ep_show_fdinfo). */
static bool parse_entry(const char *line, int fd, struct epoll_event *event)
{
	static const char tfd[] = "tfd:", events[] = "events:", data[] = "data:";
	if (memcmp(line, tfd, sizeof tfd - 1) != 0)
		return false;
	line += sizeof tfd - 1;
	if (number(&line, 10) != (uint64_t)fd)
		return false;
	while (*line == ' ')
		line++;
	if (memcmp(line, events, sizeof events - 1) != 0)
		return false;
	line += sizeof events - 1;
	event->events = (uint32_t)number(&line, 16);
	while (*line == ' ')
		line++;
	if (memcmp(line, data, sizeof data - 1) != 0)
		return false;
	line += sizeof data - 1;
	event->data.u64 = number(&line, 16);
	return true;
}

/* 1 and *event where epfd watches fd, 0 where it does not, or -errno. */
static long lookup(int epfd, int fd, struct epoll_event *event)
{
	char path[PROC_PATH_SIZE];
	char text[1024 + 1];
	size_t have = 0;
	proc_path(path, "/proc/self/fdinfo/", epfd);
	long info = SYS(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (info < 0)
		return info;
	long found = 0;
	while (!found) {
		long n = SYS(SYS_read, info, text + have, sizeof text - 1 - have);
		if (n <= 0) {
			found = n;
			break;
		}
		have += (size_t)n;
		text[have] = '\0';
		size_t start = 0;
		for (size_t i = 0; i < have && !found; i++) {
			if (text[i] != '\n')
				continue;
			text[i] = '\0';
			found = parse_entry(text + start, fd, event);
			start = i + 1;
		}
		if (start == 0 && have == sizeof text - 1)
			start = have; /* no line of ours is that long */
		for (size_t i = start; i < have; i++)
			text[i - start] = text[i];
		have -= start;
	}
	SYS(SYS_close, info);
	return found;
}

/* Has room for one more, or -errno. */
static long make_room(struct epoll_places *places)
{
	if (places->count < places->room)
		return 0;
	size_t room = 4 * places->room;
	struct epoll_place *at = pages(room * sizeof *places->at);
	if (!at)
		return -ENOMEM;
	memcpy(at, places->at, places->count * sizeof *at);
	if (places->at != places->few)
		pages_free(places->at, places->room * sizeof *at);
	places->at = at;
	places->room = room;
	return 0;
}

static long leave_one(int epfd, int fd, struct epoll_places *places)
{
	struct epoll_event event = {0};
	long r = lookup(epfd, fd, &event);
	if (r == 0 || r == -ENOENT)
		return 0;
	if (r > 0)
		r = make_room(places);
	/* Where /proc is missing (chroot), nobody can tell what to restore: let the
	 * connect fail, rather than leave the program waiting for events. */
	if (SYS(SYS_epoll_ctl, epfd, EPOLL_CTL_DEL, fd, NULL) < 0)
		return 0;
	if (r < 0)
		return r;
	places->at[places->count++] =
		(struct epoll_place){epfd, event.events, event.data.u64};
	return 0;
}

long epoll_leave(int fd, struct epoll_places *places)
{
	places->count = 0;
	places->at = places->few;
	places->room = sizeof places->few / sizeof *places->few;
	if (!marked(&registered, fd))
		return 0;
	for (int epfd = next_marked(&epolls, -1); epfd >= 0; epfd = next_marked(&epolls, epfd)) {
		long r = leave_one(epfd, fd, places);
		if (r < 0) {
			epoll_enter(fd, places);
			return r;
		}
	}
	return 0;
}

void epoll_enter(int fd, struct epoll_places *places)
{
	for (size_t i = 0; i < places->count; i++) {
		struct epoll_event event = {.events = places->at[i].events};
		event.data.u64 = places->at[i].data;
		SYS(SYS_epoll_ctl, places->at[i].epfd, EPOLL_CTL_ADD, fd, &event);
	}
	if (places->at != places->few)
		pages_free(places->at, places->room * sizeof *places->at);
}
