/*
 * The symbols of the objects that are loaded say what follows the shim, and here libc's own names
 * are led to it. A reference that is bound by the program's search order finds the shim, which is
 * preloaded. One that is bound in libc itself (RTLD_DEEPBIND, dlsym with a handle) would pass it,
 * so libc's table is changed.
 */
#include "symbols.h"
#include "object.h"

#include <sys/auxv.h>
#include <sys/mman.h>

extern __typeof__(dl_iterate_phdr) dl_iterate_phdr WEAK;
extern __typeof__(getauxval) getauxval WEAK;

/* What was changed in libc's table, and what stood there. */
#define MOST_CHANGED 256
static struct {
	const ElfW(Sym) *symbol;
	uintptr_t original;
} changed[MOST_CHANGED];
static int _Atomic changed_count;

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
		search->past = object_contains(info, search->start);
		return 0;
	}
	if (!object_read(info, &object))
		return 0;
	int missing = 0;
	for (int i = 0; i < search->count; i++) {
		if (search->found[i])
			continue;
		const char *name = search->names[i];
		size_t at = object_find(&object, name, symbol_hash(name), 0, true);
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

EARLY void *symbols_original_after(const void *caller, const char *name)
{
	void *found = NULL;
	struct search search = {
		.start = caller, .names = &name, .found = &found, .count = 1};
	if (dl_iterate_phdr)
		dl_iterate_phdr(search_object, &search);
	return search.was_changed ? found : NULL;
}

EARLY static int find_shim(struct dl_phdr_info *info, size_t size, void *data)
{
	struct dl_phdr_info *shim = data;
	(void)size;
	if (!object_contains(info, changed))
		return 0;
	*shim = *info;
	return 1;
}

EARLY const char *symbols_own_file(void)
{
	struct dl_phdr_info shim;
	return dl_iterate_phdr && dl_iterate_phdr(find_shim, &shim) ? shim.dlpi_name : NULL;
}

/* Whether an object is libc, with its tables in *libc. */
EARLY static bool is_libc(const struct dl_phdr_info *info, struct object *libc)
{
	static const char mark[] = "__errno_location";
	return object_read(info, libc) && object_find(libc, mark, symbol_hash(mark), 0, true);
}

struct search_libc {
	const char *name;
	void *found;
};

static int search_libc(struct dl_phdr_info *info, size_t size, void *data)
{
	struct search_libc *search = data;
	struct object libc;
	bool was_changed;
	(void)size;
	if (!is_libc(info, &libc))
		return 0;
	size_t at = object_find(&libc, search->name, symbol_hash(search->name), 0, false);
	if (at)
		search->found = value_of(&libc, &libc.symbols[at], &was_changed);
	return 1;
}

void *symbols_in_libc(const char *name)
{
	struct search_libc search = {.name = name};
	if (dl_iterate_phdr)
		dl_iterate_phdr(search_libc, &search);
	return search.found;
}

EARLY static int find_libc(struct dl_phdr_info *info, size_t size, void *data)
{
	struct dl_phdr_info *libc_info = data;
	struct object libc;
	(void)size;
	if (!is_libc(info, &libc))
		return 0;
	*libc_info = *info;
	return 1;
}

EARLY bool symbols_libc_has(const void *address)
{
	static struct dl_phdr_info libc_info;
	static bool _Atomic known;
	if (!known && dl_iterate_phdr && dl_iterate_phdr(find_libc, &libc_info))
		known = true;
	return known && object_contains(&libc_info, address);
}

static int change_object(struct dl_phdr_info *info, size_t size, void *data)
{
	(void)size;
	const struct object *shim = data;
	struct object libc;
	if (info->dlpi_addr == shim->base || !is_libc(info, &libc))
		return 0;
	int first = changed_count, count = first;
	uintptr_t values[MOST_CHANGED], low = UINTPTR_MAX, high = 0;
	size_t symbols = object_symbols(shim);
	for (size_t i = 1; i < symbols; i++) {
		const char *name = shim->strings + shim->symbols[i].st_name;
		if (!object_defines(shim, i, name))
			continue;
		uint32_t hash = symbol_hash(name);
		for (size_t at = 0; count < MOST_CHANGED &&
		                    (at = object_find(&libc, name, hash, at, false)) != 0;) {
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
	int before = object_protection(&libc, changed[first].symbol);
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
