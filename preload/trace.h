/*
 * A trace for those who work on the shim: TLSWRAP_TRACE names a file that gets a line for each
 * hooked call, and for what the worker is asked and answers. A line has what a call was about and what
 * came of it: no data, no arguments of programs, no keys, and no places in memory.
 */
#ifndef TLSWRAP_TRACE_H
#define TLSWRAP_TRACE_H

#include "shim.h"

/* Whether there is one. Nothing else is looked at where there is none. */
extern bool trace_on;

/* Looks in env for the file's name. A relative one is none: programs change their folder. */
void trace_remember(char **env);

/* One thing that a line says. */
struct fact {
	enum { FACT_NUMBER, FACT_FLAGS, FACT_WORD, FACT_TEXT, FACT_SOCKADDR, FACT_ADDRESSES, FACT_RESULT } kind;
	const char *name;
	const void *at;
	long number;
};

#define NUMBER(name, value) {FACT_NUMBER, name, NULL, (long)(value)}
#define FLAGS(name, value) {FACT_FLAGS, name, NULL, (long)(value)}
/* A word of ours; a string of ours or the program's, or NULL for none. */
#define WORD(name, word) {FACT_WORD, name, word, 0}
#define TEXT(name, string) {FACT_TEXT, name, string, 0}
/* A struct sockaddr of the program's, or NULL for none; count of struct tw_addr. */
#define SOCKADDR(name, addr, len) {FACT_SOCKADDR, name, addr, (long)(len)}
#define ADDRESSES(name, addrs, count) {FACT_ADDRESSES, name, addrs, (long)(count)}
/* What came of it, 0 or more, or -errno. It stands last. */
#define RESULT(value) {FACT_RESULT, NULL, NULL, (long)(value)}

/* The same for what libc's function returned. */
static inline long outcome(long value)
{
	return value == -1 ? -get_errno() : value;
}

#define TRACE(event, ...)                                                                         \
	do {                                                                                      \
		if (__builtin_expect(trace_on, 0)) {                                              \
			const struct fact facts[] = {__VA_ARGS__};                                \
			trace_line(event, facts, sizeof facts / sizeof *facts);                   \
		}                                                                                 \
	} while (0)

/* Writes a line, and leaves errno as it is. */
void trace_line(const char *event, const struct fact *facts, size_t count);

#endif
