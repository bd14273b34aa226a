/* names.c: what the worker is asked about names. */
#ifndef TLSWRAP_NAMES_H
#define TLSWRAP_NAMES_H

#include "shim.h"

/* The addresses of one answer, for as long as the worker is asked about them. */
struct batch {
	struct tw_request request;
	struct tw_reply reply;
};

/* -EADDRNOTAVAIL for what is too long for a host name: no rule could be told about it. */
long batch_init(struct batch *batch, const char *name, uint16_t flags);

/* Asks about request.addrs[0..count): 0, with as many in reply, or -errno. */
long batch_ask(struct batch *batch);

#endif
