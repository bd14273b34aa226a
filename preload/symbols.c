/*
 * The symbol tables of the libraries in this process.
 *
 * A program finds libc's functions in more ways than by its global scope, where a preloaded
 * library comes first: a library that was opened with RTLD_DEEPBIND searches its own needs
 * before that, and dlsym with a handle of libc searches libc alone. So what libc's own table
 * says of the functions that are hooked is changed to lead here: whoever binds to them later, in
 * whatever way, gets the hooks. dlopen and dlsym are not asked, and no flag is taken away.
 *
 * Only dlsym(RTLD_NEXT) is another matter: an interposer that comes after us asks for libc's
 * function by it, and would be led back here, without an end. It gets libc's own.
 */
#include "shim.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/mman.h>

extern __typeof__(dl_iterate_phdr) dl_iterate_phdr WEAK;

/* dlsym is called before there is a shadow for AddressSanitizer to look at: by its own start. */
#define EARLY __attribute__((no_sanitize_address))

struct object {
	ElfW(Addr) base;
	ElfW(Sym) *symbols;
	const char *strings;
	const ElfW(Half) *versions; /* NULL: there are none */
	const uint32_t *gnu_hash;   /* NULL: there is hash instead */
	const uint32_t *hash;
};

/* What libc itself has under the names that lead here. */
enum { MOST_REDIRECTED = 128 };
static struct {
	const char *name;
	void *original;
} redirected[MOST_REDIRECTED];
static size_t redirections;
static ElfW(Addr) redirected_base; /* libc's */

EARLY static bool same(const char *a, const char *b)
{
	for (; *a && *a == *b; a++, b++)
		;
	return *a == *b;
}

/* Reads an object's dynamic section: false where it has no symbols that can be searched. */
EARLY static bool read_object(const struct dl_phdr_info *info, struct object *o)
{
	const ElfW(Dyn) *d = NULL;
	o->base = info->dlpi_addr;
	o->symbols = NULL;
	o->strings = NULL;
	o->versions = NULL;
	o->gnu_hash = o->hash = NULL;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
			d = (const ElfW(Dyn) *)(o->base + info->dlpi_phdr[i].p_vaddr);
	}
	for (; d && d->d_tag != DT_NULL; d++) {
		/* glibc has added the base already, musl and the vdso have not. */
		ElfW(Addr) at = d->d_un.d_ptr < o->base ? d->d_un.d_ptr + o->base : d->d_un.d_ptr;
		switch (d->d_tag) {
		case DT_SYMTAB:
			o->symbols = (ElfW(Sym) *)at;
			break;
		case DT_STRTAB:
			o->strings = (const char *)at;
			break;
		case DT_VERSYM:
			o->versions = (const ElfW(Half) *)at;
			break;
		case DT_GNU_HASH:
			o->gnu_hash = (const uint32_t *)at;
			break;
		case DT_HASH:
			o->hash = (const uint32_t *)at;
			break;
		default:
			break;
		}
	}
	return o->symbols && o->strings && (o->gnu_hash || o->hash);
}

/* Whether an object has addr among what it has loaded. */
EARLY static bool contains(const struct dl_phdr_info *info, const void *addr)
{
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		if (p->p_type == PT_LOAD && (ElfW(Addr))addr - (info->dlpi_addr + p->p_vaddr) < p->p_memsz)
			return true;
	}
	return false;
}

/* A function or a variable that is defined, and not chosen when it is looked up (STT_GNU_IFUNC). */
EARLY static bool is_definition(const struct object *o, size_t i, const char *name)
{
	const ElfW(Sym) *s = &o->symbols[i];
	unsigned type = s->st_info & 15u;
	return s->st_shndx != SHN_UNDEF && s->st_value != 0 && type <= STT_FUNC &&
	       same(o->strings + s->st_name, name);
}

EARLY static size_t search_hash(const struct object *o, const char *name, size_t after)
{
	uint32_t h = 0;
	for (const char *c = name; *c; c++) {
		h = (h << 4) + (unsigned char)*c;
		h = (h ^ (h >> 24 & 0xf0)) & 0x0fffffff;
	}
	const uint32_t *bucket = o->hash + 2, *chain = bucket + o->hash[0];
	for (size_t i = after ? chain[after] : bucket[h % o->hash[0]]; i; i = chain[i]) {
		if (is_definition(o, i, name))
			return i;
	}
	return 0;
}

/*
 * The number of the next symbol of this name, of whatever version, after the one with the
 * number after, or of the first for 0; 0 where there is none. All of one name stand in a row.
 */
EARLY static size_t search(const struct object *o, const char *name, size_t after)
{
	if (!o->gnu_hash)
		return search_hash(o, name, after);
	uint32_t h = 5381;
	for (const char *c = name; *c; c++)
		h = h * 33 + (unsigned char)*c;
	const uint32_t *table = o->gnu_hash;
	uint32_t buckets = table[0], first = table[1], words = table[2], shift = table[3];
	const ElfW(Addr) *bloom = (const ElfW(Addr) *)(table + 4);
	const uint32_t *bucket = (const uint32_t *)(bloom + words), *chain = bucket + buckets;
	const uint32_t bits = 8 * sizeof *bloom;
	ElfW(Addr) word = bloom[h / bits % words];
	if (!buckets || !(word >> h % bits & word >> (h >> shift) % bits & 1))
		return 0;
	size_t i = after ? after + 1 : bucket[h % buckets];
	if (i < first || (after && chain[after - first] & 1))
		return 0;
	for (;; i++) {
		uint32_t own = chain[i - first];
		if ((own | 1) == (h | 1) && is_definition(o, i, name))
			return i;
		if (own & 1)
			return 0;
	}
}

/* The definition that a look-up without a version finds, or NULL. */
EARLY static void *default_definition(const struct object *o, const char *name)
{
	const ElfW(Half) hidden = 0x8000;
	for (size_t i = search(o, name, 0); i; i = search(o, name, i)) {
		if (!o->versions || !(o->versions[i] & hidden))
			return (void *)(o->base + o->symbols[i].st_value);
	}
	return NULL;
}

EARLY static void *original(const char *name)
{
	for (size_t i = 0; i < redirections; i++) {
		if (same(redirected[i].name, name))
			return redirected[i].original;
	}
	return NULL;
}

struct look_up {
	const void *from;
	const char *name;
	bool passed; /* the object with from was seen */
	void *found;
};

EARLY static int look_in(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct look_up *l = arg;
	struct object o;
	(void)size;
	if (!l->passed) {
		l->passed = contains(info, l->from);
		return 0;
	}
	if (!read_object(info, &o))
		return 0;
	if (redirections && o.base == redirected_base)
		l->found = original(l->name);
	if (!l->found)
		l->found = default_definition(&o, l->name);
	return l->found != NULL;
}

EARLY void *symbol_after(const void *from, const char *name)
{
	struct look_up l;
	l.from = from;
	l.name = name;
	l.passed = false;
	l.found = NULL;
	if (dl_iterate_phdr)
		dl_iterate_phdr(look_in, &l);
	return l.found;
}

struct pair_of_objects {
	struct object own, libc;
	const ElfW(Phdr) *libc_headers;
	int libc_header_count;
	const char *own_path;
};

EARLY static int find_objects(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct pair_of_objects *p = arg;
	struct object o;
	(void)size;
	if (!read_object(info, &o))
		return 0;
	if (contains(info, &redirections)) {
		p->own = o;
		p->own_path = info->dlpi_name;
	} else if (!p->libc.symbols && search(&o, "__errno_location", 0)) {
		p->libc = o;
		p->libc_headers = info->dlpi_phdr;
		p->libc_header_count = info->dlpi_phnum;
	}
	return 0;
}

/* Makes the table of o's symbols writable, and as it was. */
EARLY static long protect(const struct pair_of_objects *p, bool writable)
{
	for (int i = 0; i < p->libc_header_count; i++) {
		const ElfW(Phdr) *h = &p->libc_headers[i];
		ElfW(Addr) start = p->libc.base + h->p_vaddr;
		if (h->p_type != PT_LOAD || (ElfW(Addr))p->libc.symbols - start >= h->p_filesz)
			continue;
		const ElfW(Addr) page = 4096; /* where pages are larger, segments begin with one */
		long flags = (h->p_flags & PF_R ? PROT_READ : 0) | (h->p_flags & PF_X ? PROT_EXEC : 0) |
		             (h->p_flags & PF_W || writable ? PROT_WRITE : 0);
		ElfW(Addr) skipped = start % page;
		return SYS(SYS_mprotect, start - skipped, h->p_filesz + skipped, flags);
	}
	return -ENOENT;
}

EARLY static void redirect_one(struct pair_of_objects *p, const char *name, void *ours)
{
	void *before = default_definition(&p->libc, name);
	if (!before || redirections == MOST_REDIRECTED)
		return;
	redirected[redirections].name = name;
	redirected[redirections].original = before;
	redirections++;
	for (size_t i = search(&p->libc, name, 0); i; i = search(&p->libc, name, i))
		p->libc.symbols[i].st_value = (ElfW(Addr))ours - p->libc.base;
}

static const char *own_path;

EARLY bool symbols_redirect(void)
{
	struct pair_of_objects p;
	p.own.symbols = p.libc.symbols = NULL;
	p.own_path = NULL;
	if (!dl_iterate_phdr)
		return false;
	dl_iterate_phdr(find_objects, &p);
	own_path = p.own_path;
	if (!p.own.symbols || !p.own.gnu_hash || !p.libc.symbols || protect(&p, true) < 0)
		return false;
	redirected_base = p.libc.base;
	/* Behind its header, a GNU hash table has all that is defined. */
	const uint32_t *table = p.own.gnu_hash;
	const ElfW(Addr) *bloom = (const ElfW(Addr) *)(table + 4);
	const uint32_t *bucket = (const uint32_t *)(bloom + table[2]), *chain = bucket + table[0];
	for (uint32_t b = 0; b < table[0]; b++) {
		for (size_t i = bucket[b]; i >= table[1]; i++) {
			const ElfW(Sym) *s = &p.own.symbols[i];
			redirect_one(&p, p.own.strings + s->st_name, (void *)(p.own.base + s->st_value));
			if (chain[i - table[1]] & 1)
				break;
		}
	}
	return protect(&p, false) == 0;
}

/* ---- dlsym, dlvsym, dlopen ---- */

__attribute__((used)) void *tlswrap_dlsym, *tlswrap_dlvsym, *tlswrap_dlopen;
__attribute__((used)) void *tlswrap_found(void *handle, const char *name, const void *caller);
__attribute__((used)) const char *tlswrap_file(const char *file);

EARLY static void *nothing(void) { return NULL; }

EARLY static void find_loader(void)
{
	if (__atomic_load_n(&tlswrap_dlopen, __ATOMIC_ACQUIRE))
		return;
	void *found = symbol_after(&redirections, "dlsym");
	tlswrap_dlsym = found ? found : (void *)nothing;
	found = symbol_after(&redirections, "dlvsym");
	tlswrap_dlvsym = found ? found : (void *)nothing;
	found = symbol_after(&redirections, "dlopen");
	__atomic_store_n(&tlswrap_dlopen, found ? found : (void *)nothing, __ATOMIC_RELEASE);
}

/* What dlsym finds for caller that it would not find by itself, or NULL. */
EARLY void *tlswrap_found(void *handle, const char *name, const void *caller)
{
	find_loader();
	if (handle != RTLD_NEXT || !name || !original(name))
		return NULL;
	return symbol_after(caller, name);
}

/* The file that dlopen opens: libtls is what the shim has (libtls/route.c). */
EARLY const char *tlswrap_file(const char *file)
{
	find_loader();
	return file && own_path && is_libtls(file) ? own_path : file;
}

/*
 * What is exported are jumps: the loader goes by the caller's return address, for RTLD_NEXT, for
 * RUNPATH and $ORIGIN, and for the namespace.
 */
#if defined(__x86_64__)
#define FIND(name)                                                                                \
	__asm__(".globl " #name "\n"                                                              \
	        ".type " #name ", @function\n" #name ":\n"                                        \
	        "	endbr64\n"                                                                 \
	        "	push %rdi\n"                                                               \
	        "	push %rsi\n"                                                               \
	        "	push %rdx\n"                                                               \
	        "	mov 24(%rsp), %rdx\n"                                                      \
	        "	call tlswrap_found\n"                                                      \
	        "	pop %rdx\n"                                                                \
	        "	pop %rsi\n"                                                                \
	        "	pop %rdi\n"                                                                \
	        "	test %rax, %rax\n"                                                         \
	        "	jne 1f\n"                                                                  \
	        "	jmp *tlswrap_" #name "(%rip)\n"                                            \
	        "1:	ret\n"                                                                     \
	        ".size " #name ", . - " #name "\n")
__asm__(".text\n"
        ".globl dlopen\n"
        ".type dlopen, @function\n"
        "dlopen:\n"
        "	endbr64\n"
        "	push %rsi\n"
        "	call tlswrap_file\n"
        "	pop %rsi\n"
        "	mov %rax, %rdi\n"
        "	jmp *tlswrap_dlopen(%rip)\n"
        ".size dlopen, . - dlopen\n");
#elif defined(__aarch64__)
#define FIND(name)                                                                                \
	__asm__(".globl " #name "\n"                                                              \
	        ".type " #name ", %function\n" #name ":\n"                                        \
	        "	hint 34\n"                                                                 \
	        "	stp x29, x30, [sp, #-48]!\n"                                               \
	        "	mov x29, sp\n"                                                             \
	        "	stp x0, x1, [sp, #16]\n"                                                   \
	        "	str x2, [sp, #32]\n"                                                       \
	        "	mov x2, x30\n"                                                             \
	        "	bl tlswrap_found\n"                                                        \
	        "	mov x16, x0\n"                                                             \
	        "	ldp x0, x1, [sp, #16]\n"                                                   \
	        "	ldr x2, [sp, #32]\n"                                                       \
	        "	ldp x29, x30, [sp], #48\n"                                                 \
	        "	cbnz x16, 1f\n"                                                            \
	        "	adrp x16, tlswrap_" #name "\n"                                             \
	        "	ldr x16, [x16, :lo12:tlswrap_" #name "]\n"                                 \
	        "	br x16\n"                                                                  \
	        "1:	mov x0, x16\n"                                                             \
	        "	ret\n"                                                                     \
	        ".size " #name ", . - " #name "\n")
__asm__(".text\n"
        ".globl dlopen\n"
        ".type dlopen, %function\n"
        "dlopen:\n"
        "	hint 34\n"
        "	stp x29, x30, [sp, #-32]!\n"
        "	mov x29, sp\n"
        "	str x1, [sp, #16]\n"
        "	bl tlswrap_file\n"
        "	ldr x1, [sp, #16]\n"
        "	ldp x29, x30, [sp], #32\n"
        "	adrp x16, tlswrap_dlopen\n"
        "	ldr x16, [x16, :lo12:tlswrap_dlopen]\n"
        "	br x16\n"
        ".size dlopen, . - dlopen\n");
#elif defined(__i386__)
#define FIND(name)                                                                                \
	__asm__(".globl " #name "\n"                                                              \
	        ".type " #name ", @function\n" #name ":\n"                                        \
	        "	mov (%esp), %edx\n"                                                        \
	        "	mov 4(%esp), %eax\n"                                                       \
	        "	mov 8(%esp), %ecx\n"                                                       \
	        "	push %edx\n"                                                               \
	        "	push %ecx\n"                                                               \
	        "	push %eax\n"                                                               \
	        "	call tlswrap_found\n"                                                      \
	        "	add $12, %esp\n"                                                           \
	        "	test %eax, %eax\n"                                                         \
	        "	jne 1f\n"                                                                  \
	        "	call 2f\n"                                                                 \
	        "2:	pop %ecx\n"                                                                \
	        "	mov tlswrap_" #name "-2b(%ecx), %eax\n"                                    \
	        "	jmp *%eax\n"                                                               \
	        "1:	ret\n"                                                                     \
	        ".size " #name ", . - " #name "\n")
__asm__(".text\n"
        ".globl dlopen\n"
        ".type dlopen, @function\n"
        "dlopen:\n"
        "	mov 4(%esp), %eax\n"
        "	sub $8, %esp\n"
        "	push %eax\n"
        "	call tlswrap_file\n"
        "	add $12, %esp\n"
        "	mov %eax, 4(%esp)\n"
        "	call 2f\n"
        "2:	pop %ecx\n"
        "	mov tlswrap_dlopen-2b(%ecx), %eax\n"
        "	jmp *%eax\n"
        ".size dlopen, . - dlopen\n");
#else
#error "tlswrap: no jump for this machine"
#endif
FIND(dlsym);
FIND(dlvsym);
