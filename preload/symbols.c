/*
 * The symbol tables of the objects that are loaded (elf(5)): what follows the shim in
 * them, and what leads libc's own names to the shim. A reference that is bound by the
 * program's search order finds the shim, which is preloaded. One that is bound in libc
 * itself (RTLD_DEEPBIND, dlsym with a handle) would pass it, so libc's table is changed.
 */
#include "symbols.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#if UINTPTR_MAX == UINT64_MAX
#define SYMBOL_TYPE(info) ELF64_ST_TYPE(info)
#else
#define SYMBOL_TYPE(info) ELF32_ST_TYPE(info)
#endif

#define VERSION_HIDDEN 0x8000

extern __typeof__(dl_iterate_phdr) dl_iterate_phdr WEAK;
extern const char *gnu_get_libc_version(void) WEAK;
extern __typeof__(getauxval) getauxval WEAK;

struct object {
	uintptr_t base;
	const struct dl_phdr_info *info;
	ElfW(Sym) *symbols;
	const char *strings;
	const ElfW(Half) *versions;
	const uint32_t *gnu_hash;
	const uint32_t *sysv_hash;
};

/* What was changed in libc's table, and what stood there. */
#define MOST_CHANGED 256
static struct {
	const ElfW(Sym) *symbol;
	uintptr_t original;
} changed[MOST_CHANGED];
static int _Atomic changed_count;

EARLY static uint32_t hash_gnu(const char *name)
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

EARLY static bool object_read(const struct dl_phdr_info *info, struct object *out)
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

EARLY static bool contains(const struct dl_phdr_info *info, const void *address)
{
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		if (segment->p_type == PT_LOAD &&
		    (uintptr_t)address - info->dlpi_addr - segment->p_vaddr < segment->p_memsz)
			return true;
	}
	return false;
}

EARLY static bool defines(const struct object *object, size_t i, const char *name)
{
	const ElfW(Sym) *symbol = &object->symbols[i];
	unsigned type = SYMBOL_TYPE(symbol->st_info);
	return symbol->st_shndx != SHN_UNDEF && symbol->st_value && type != STT_TLS &&
	       type != STT_GNU_IFUNC && same_text(object->strings + symbol->st_name, name);
}

/*
 * The definitions of name in an object: the one after symbol number after, or the first
 * for 0; returns its number, or 0. Where newest, old versions of it do not count.
 */
EARLY static size_t find(const struct object *object, const char *name, uint32_t hash, size_t after,
                   bool newest)
{
#define COUNTS(i)                                                                                 \
	(!(newest && object->versions && object->versions[i] & VERSION_HIDDEN) &&                 \
	 defines(object, (i), name))
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

/* The value that an entry had when it was loaded, as an address. */
EARLY static void *value_of(const struct object *object, const ElfW(Sym) *symbol, bool *was_changed)
{
	for (int i = 0; i < changed_count; i++) {
		if (changed[i].symbol == symbol) {
			*was_changed = true;
			return (void *)(object->base + changed[i].original);
		}
	}
	*was_changed = false;
	return (void *)(object->base + symbol->st_value);
}

struct search {
	const void *start;
	const char *const *names;
	void **found;
	int count;
	bool past, was_changed;
};

EARLY static int search_object(struct dl_phdr_info *info, size_t size, void *data)
{
	(void)size;
	struct search *search = data;
	struct object object;
	if (!search->past) {
		search->past = contains(info, search->start);
		return 0;
	}
	if (!object_read(info, &object))
		return 0;
	int missing = 0;
	for (int i = 0; i < search->count; i++) {
		if (search->found[i])
			continue;
		const char *name = search->names[i];
		size_t at = find(&object, name, hash_gnu(name), 0, true);
		if (at)
			search->found[i] =
				value_of(&object, &object.symbols[at], &search->was_changed);
		else
			missing++;
	}
	return !missing;
}

EARLY void symbols_after(const void *start, const char *const *names, void **found, int count)
{
	struct search search = {.start = start, .names = names, .found = found, .count = count};
	if (dl_iterate_phdr)
		dl_iterate_phdr(search_object, &search);
}

/* ---- libc's table ---- */

EARLY static int find_shim(struct dl_phdr_info *info, size_t size, void *data)
{
	struct dl_phdr_info *shim = data;
	(void)size;
	if (!contains(info, changed))
		return 0;
	*shim = *info;
	return 1;
}

/* The protection of the segment that has an address, as for mprotect. */
static int protection(const struct object *object, const void *address)
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

static size_t symbol_count(const struct object *object)
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

static int change_object(struct dl_phdr_info *info, size_t size, void *data)
{
	(void)size;
	const struct object *shim = data;
	struct object libc;
	static const char mark[] = "__errno_location";
	if (info->dlpi_addr == shim->base || !object_read(info, &libc) ||
	    !find(&libc, mark, hash_gnu(mark), 0, true))
		return 0;
	int first = changed_count, count = first;
	uintptr_t values[MOST_CHANGED], low = UINTPTR_MAX, high = 0;
	size_t symbols = symbol_count(shim);
	for (size_t i = 1; i < symbols; i++) {
		const char *name = shim->strings + shim->symbols[i].st_name;
		if (!defines(shim, i, name))
			continue;
		uint32_t hash = hash_gnu(name);
		for (size_t at = 0; count < MOST_CHANGED &&
		                    (at = find(&libc, name, hash, at, false)) != 0;) {
			ElfW(Sym) *symbol = &libc.symbols[at];
			changed[count].symbol = symbol;
			changed[count].original = symbol->st_value;
			values[count++] = shim->base + shim->symbols[i].st_value - libc.base;
			low = (uintptr_t)symbol < low ? (uintptr_t)symbol : low;
			high = (uintptr_t)(symbol + 1) > high ? (uintptr_t)(symbol + 1) : high;
		}
	}
	if (count == first)
		return 0;
	uintptr_t page = getauxval ? getauxval(AT_PAGESZ) : 0;
	page = page ? page : 4096;
	low &= -page;
	high = (high + page - 1) & -page;
	int before = protection(&libc, changed[first].symbol);
	if (SYS(SYS_mprotect, low, high - low, before | PROT_WRITE) < 0)
		return 0;
	changed_count = count;
	for (int i = first; i < count; i++)
		((ElfW(Sym) *)(uintptr_t)changed[i].symbol)->st_value = values[i];
	SYS(SYS_mprotect, low, high - low, before);
	return 0;
}

void symbols_lead_here(void)
{
	struct dl_phdr_info info;
	struct object shim;
	if (dl_iterate_phdr && dl_iterate_phdr(find_shim, &info) && object_read(&info, &shim))
		dl_iterate_phdr(change_object, &shim);
}

/* ---- dlopen, dlsym and dlvsym ---- */

enum loader_call { CALL_DLOPEN, CALL_DLSYM, CALL_DLVSYM };

__attribute__((used)) void *tlswrap_loader(void **arguments, const void *caller,
                                           enum loader_call which);

EARLY static void *itself(void *result)
{
	return result;
}

/* glibc takes a library for one that it has where both are one file, and then also by
 * this name. RTLD_NOLOAD keeps others' files out. The names are found by our RUNPATH. */
EARLY static void take_names(__typeof__(&dlopen) next)
{
	static const char *const names[] = {"libtls.so.26", "libtls.so.28", "libressl.so"};
	static bool _Atomic done;
	if (done)
		return;
	done = true;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		(void)next(names[i], RTLD_LAZY | RTLD_NOLOAD);
}

EARLY static void *open_call(void **arguments)
{
	__typeof__(&dlopen) next = NEXT(dlopen);
	const char *file = arguments[0];
	if (!next)
		return NULL;
	if (file && is_libtls(file)) {
		struct dl_phdr_info shim;
		if (dl_iterate_phdr && dl_iterate_phdr(find_shim, &shim) && shim.dlpi_name)
			arguments[0] = (void *)(uintptr_t)shim.dlpi_name;
	} else if (gnu_get_libc_version && (int)(intptr_t)arguments[1] & RTLD_DEEPBIND) {
		take_names(next);
	}
	return (void *)next;
}

/* What libc's table would have given to a caller that comes after the shim, or NULL. */
EARLY static void *original_after(const void *caller, const char *name)
{
	void *found = NULL;
	struct search search = {
		.start = caller, .names = &name, .found = &found, .count = 1};
	if (dl_iterate_phdr)
		dl_iterate_phdr(search_object, &search);
	return search.was_changed ? found : NULL;
}

/*
 * Where the call of which goes on that caller has made with arguments, which may be
 * changed for it. It goes on by a jump, for the loader looks at who calls: for RTLD_NEXT,
 * RUNPATH, $ORIGIN, and namespaces.
 */
EARLY void *tlswrap_loader(void **arguments, const void *caller, enum loader_call which)
{
	int saved = get_errno();
	void *target = NULL;
	if (which == CALL_DLOPEN) {
		target = open_call(arguments);
	} else {
		void *found = NULL;
		if (arguments[0] == RTLD_NEXT && arguments[1])
			found = original_after(caller, arguments[1]);
		if (found)
			arguments[0] = found;
		else
			target = which == CALL_DLSYM ? (void *)NEXT(dlsym) : (void *)NEXT(dlvsym);
		if (found)
			target = (void *)itself;
	}
	if (!target) {
		arguments[0] = NULL;
		target = (void *)itself;
	}
	set_errno(saved);
	return target;
}

#if defined(__x86_64__)
__asm__(".text\n"
        ".macro loader_call name, number\n"
        "	.globl \\name\n"
        "	.type \\name, @function\n"
        "\\name:\n"
        "	endbr64\n"
        "	push %rdx\n"
        "	push %rsi\n"
        "	push %rdi\n"
        "	mov %rsp, %rdi\n"
        "	mov 24(%rsp), %rsi\n"
        "	mov $\\number, %edx\n"
        "	call tlswrap_loader\n"
        "	pop %rdi\n"
        "	pop %rsi\n"
        "	pop %rdx\n"
        "	jmp *%rax\n"
        "	.size \\name, . - \\name\n"
        ".endm\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".macro loader_call name, number\n"
        "	.globl \\name\n"
        "	.type \\name, %function\n"
        "\\name:\n"
        "	hint 34\n" /* bti c */
        "	stp x29, x30, [sp, #-48]!\n"
        "	mov x29, sp\n"
        "	stp x0, x1, [sp, #16]\n"
        "	str x2, [sp, #32]\n"
        "	add x0, sp, #16\n"
        "	mov x1, x30\n"
        "	mov x2, \\number\n"
        "	bl tlswrap_loader\n"
        "	mov x16, x0\n"
        "	ldp x0, x1, [sp, #16]\n"
        "	ldr x2, [sp, #32]\n"
        "	ldp x29, x30, [sp], #48\n"
        "	br x16\n"
        "	.size \\name, . - \\name\n"
        ".endm\n");
#elif defined(__i386__)
__asm__(".text\n"
        ".macro loader_call name, number\n"
        "	.globl \\name\n"
        "	.type \\name, @function\n"
        "\\name:\n"
        "	lea 4(%esp), %eax\n"
        "	mov (%esp), %ecx\n"
        "	push $\\number\n"
        "	push %ecx\n"
        "	push %eax\n"
        "	call tlswrap_loader\n"
        "	add $12, %esp\n"
        "	jmp *%eax\n"
        "	.size \\name, . - \\name\n"
        ".endm\n");
#else
#error "tlswrap: no jump for this machine"
#endif
__asm__("loader_call dlopen 0\n"
        "loader_call dlsym 1\n"
        "loader_call dlvsym 2\n");
