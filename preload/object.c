/*
 * An object that is loaded, a program or a library, has tables (elf(5)) that say where its symbols
 * and segments are. Here they are found and read.
 */
#include "object.h"

#include <sys/mman.h>

#if UINTPTR_MAX == UINT64_MAX
#define SYMBOL_TYPE(info) ELF64_ST_TYPE(info)
#else
#define SYMBOL_TYPE(info) ELF32_ST_TYPE(info)
#endif

#define VERSION_HIDDEN 0x8000

EARLY uint32_t symbol_hash(const char *name)
{
	uint32_t hash = 5381;
	for (; *name; name++)
		hash = hash * 33 + (unsigned char)*name;
	return hash;
}

EARLY static uint32_t hash_sysv(const char *name)
{
	uint32_t hash = 0;
	for (; *name; name++) {
		hash = (hash << 4) + (unsigned char)*name;
		hash = (hash ^ (hash >> 24 & 0xf0)) & 0x0fffffff;
	}
	return hash;
}

EARLY static bool same_text(const char *a, const char *b)
{
	for (; *a == *b; a++, b++) {
		if (!*a)
			return true;
	}
	return false;
}

/* glibc has made the addresses of the dynamic section absolute; musl and the vDSO have not. */
EARLY static uintptr_t absolute(uintptr_t base, uintptr_t address)
{
	return address < base ? base + address : address;
}

EARLY bool object_read(const struct dl_phdr_info *info, struct object *out)
{
	const ElfW(Dyn) *dynamic = NULL;
	*out = (struct object){.base = info->dlpi_addr, .info = info};
	for (int i = 0; i < info->dlpi_phnum; i++) {
		if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
			dynamic = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
	}
	for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
		uintptr_t at = absolute(out->base, dynamic->d_un.d_ptr);
		switch (dynamic->d_tag) {
		case DT_SYMTAB:
			out->symbols = (ElfW(Sym) *)at;
			break;
		case DT_STRTAB:
			out->strings = (const char *)at;
			break;
		case DT_VERSYM:
			out->versions = (const ElfW(Half) *)at;
			break;
		case DT_GNU_HASH:
			out->gnu_hash = (const uint32_t *)at;
			break;
		case DT_HASH:
			out->sysv_hash = (const uint32_t *)at;
			break;
		}
	}
	return out->symbols && out->strings && (out->gnu_hash || out->sysv_hash);
}

EARLY bool object_contains(const struct dl_phdr_info *info, const void *address)
{
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		if (segment->p_type == PT_LOAD &&
		    (uintptr_t)address - info->dlpi_addr - segment->p_vaddr < segment->p_memsz)
			return true;
	}
	return false;
}

EARLY bool object_defines(const struct object *object, size_t i, const char *name)
{
	const ElfW(Sym) *symbol = &object->symbols[i];
	unsigned type = SYMBOL_TYPE(symbol->st_info);
	return symbol->st_shndx != SHN_UNDEF && symbol->st_value && type != STT_TLS &&
	       type != STT_GNU_IFUNC && same_text(object->strings + symbol->st_name, name);
}

EARLY size_t object_find(const struct object *object, const char *name, uint32_t hash, size_t after,
                   bool newest)
{
#define COUNTS(i)                                                                                 \
	(!(newest && object->versions && object->versions[i] & VERSION_HIDDEN) &&                 \
	 object_defines(object, (i), name))
	if (!object->gnu_hash) {
		const uint32_t *table = object->sysv_hash;
		const uint32_t *chain = table + 2 + table[0];
		bool past = !after;
		for (size_t i = table[0] ? table[2 + hash_sysv(name) % table[0]] : 0; i;
		     i = chain[i]) {
			if (past && COUNTS(i))
				return i;
			past = past || i == after;
		}
		return 0;
	}
	const uint32_t *table = object->gnu_hash;
	uint32_t buckets = table[0], first = table[1], words = table[2], shift = table[3];
	const uintptr_t *bloom = (const uintptr_t *)(table + 4);
	const uint32_t bits = 8 * sizeof *bloom;
	if (!buckets || !words)
		return 0;
	uintptr_t word = bloom[hash / bits & (words - 1)];
	if (!(word >> hash % bits & word >> (hash >> shift) % bits & 1))
		return 0;
	const uint32_t *bucket = (const uint32_t *)(bloom + words);
	const uint32_t *chain = bucket + buckets;
	size_t i = bucket[hash % buckets];
	if (i < first)
		return 0;
	for (;; i++) {
		uint32_t entry = chain[i - first];
		if (i > after && (entry | 1) == (hash | 1) && COUNTS(i))
			return i;
		if (entry & 1)
			return 0;
	}
#undef COUNTS
}

int object_protection(const struct object *object, const void *address)
{
	for (int i = 0; i < object->info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &object->info->dlpi_phdr[i];
		if (segment->p_type == PT_LOAD &&
		    (uintptr_t)address - object->base - segment->p_vaddr < segment->p_memsz)
			return (segment->p_flags & PF_R ? PROT_READ : 0) |
			       (segment->p_flags & PF_W ? PROT_WRITE : 0) |
			       (segment->p_flags & PF_X ? PROT_EXEC : 0);
	}
	return PROT_READ;
}

size_t object_symbols(const struct object *object)
{
	if (object->sysv_hash)
		return object->sysv_hash[1];
	const uint32_t *table = object->gnu_hash;
	const uint32_t *bucket =
		(const uint32_t *)((const uintptr_t *)(table + 4) + table[2]);
	const uint32_t *chain = bucket + table[0];
	size_t last = 0;
	for (uint32_t i = 0; i < table[0]; i++)
		last = bucket[i] > last ? bucket[i] : last;
	if (last < table[1])
		return 0;
	while (!(chain[last - table[1]] & 1))
		last++;
	return last + 1;
}
