/* object.c: the tables of an object that is loaded. */
#ifndef TLSWRAP_OBJECT_H
#define TLSWRAP_OBJECT_H

#include "symbols.h"

#include <link.h>

struct object {
	uintptr_t base;
	const struct dl_phdr_info *info;
	ElfW(Sym) *symbols;
	const char *strings;
	const ElfW(Half) *versions;
	const uint32_t *gnu_hash;
	const uint32_t *sysv_hash;
};

/* Finds the tables of an object, and whether they are all there that are needed. */
bool object_read(const struct dl_phdr_info *info, struct object *out);

/* Whether an address lies in the object. */
bool object_contains(const struct dl_phdr_info *info, const void *address);

/* The protection of the segment that has an address, as for mprotect. */
int object_protection(const struct object *object, const void *address);

/* How many symbols it has, with those that it only refers to. */
size_t object_symbols(const struct object *object);

/* Whether symbol number i is a definition of name, as data or a function. */
bool object_defines(const struct object *object, size_t i, const char *name);

/* What object_find wants to know of a name. */
uint32_t symbol_hash(const char *name);

/*
 * The definitions of name in an object: the one after symbol number after, or the first
 * for 0; returns its number, or 0. Where newest, old versions of it do not count.
 */
size_t object_find(const struct object *object, const char *name, uint32_t hash, size_t after,
                   bool newest);

#endif
