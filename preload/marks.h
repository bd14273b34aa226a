/*
 * Marks on descriptors, hints that hooks leave: one that is stale costs a look. They are set from
 * any thread and in signal handlers, without a lock.
 */
#ifndef TLSWRAP_MARKS_H
#define TLSWRAP_MARKS_H

#include <stdbool.h>
#include <stddef.h>

/* The most that a process can have where fs.nr_open is not raised; from here on all count as
 * marked. */
#define MARKED_FDS (1 << 20)
#define MARK_BITS (8 * sizeof(unsigned long))
struct fd_marks {
	size_t words; /* that have had marks */
	unsigned long word[MARKED_FDS / MARK_BITS];
};

static inline void mark(struct fd_marks *marks, int fd)
{
	if (fd < 0 || fd >= MARKED_FDS)
		return;
	size_t at = (size_t)fd / MARK_BITS, words = __atomic_load_n(&marks->words, __ATOMIC_RELAXED);
	__atomic_or_fetch(&marks->word[at], 1ul << (size_t)fd % MARK_BITS, __ATOMIC_RELAXED);
	while (words <= at && !__atomic_compare_exchange_n(&marks->words, &words, at + 1, false,
	                                                   __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
}

static inline void unmark(struct fd_marks *marks, int fd)
{
	if (fd >= 0 && fd < MARKED_FDS)
		__atomic_and_fetch(&marks->word[(size_t)fd / MARK_BITS], ~(1ul << (size_t)fd % MARK_BITS),
		                   __ATOMIC_RELAXED);
}

static inline bool marked(const struct fd_marks *marks, int fd)
{
	return fd >= MARKED_FDS || (marks->word[(size_t)fd / MARK_BITS] >> (size_t)fd % MARK_BITS & 1);
}

/* The next that is marked with a number above after, or -1. */
static inline int next_marked(const struct fd_marks *marks, int after)
{
	size_t words = __atomic_load_n(&marks->words, __ATOMIC_ACQUIRE);
	size_t at = (size_t)(after + 1) / MARK_BITS, bit = (size_t)(after + 1) % MARK_BITS;
	for (; at < words; at++, bit = 0) {
		unsigned long rest = marks->word[at] >> bit;
		if (rest)
			return (int)(at * MARK_BITS + bit) + __builtin_ctzl(rest);
	}
	return -1;
}

#endif
