/*
 * The session's map, memory that the worker shares: most connections that rules do not
 * cover go to ports that no rule mentions, and are made without asking.
 */
#include "shim.h"

#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>

/*
 * The map and, behind it, the worker's life: read only, and always at the same place, where
 * other threads may read while a new worker's take the place of a dead one's. A page is 64 KiB at most.
 */
#define LIFE_AT ((sizeof(struct tw_map) + 0xffff) & ~(size_t)0xffff)
static const struct tw_map *map;

/* Whether a thread is at work on that. */
static bool keeping;

/* The map of a worker that lives, or NULL. */
static const struct tw_map *get_map(void)
{
	const struct tw_map *m = __atomic_load_n(&map, __ATOMIC_ACQUIRE);
	if (!m)
		return NULL;
	const struct tw_life *life = (const void *)((const char *)m + LIFE_AT);
	uint32_t owner = __atomic_load_n(&life->owner, __ATOMIC_ACQUIRE);
	return owner & FUTEX_TID_MASK && !(owner & FUTEX_OWNER_DIED) ? m : NULL;
}

static bool is_clear(const uint8_t *bits, uint16_t port)
{
	return !(__atomic_load_n(&bits[port / 8], __ATOMIC_RELAXED) >> port % 8 & 1);
}

bool port_passes(uint16_t port)
{
	const struct tw_map *m = get_map();
	return m && is_clear(m->connects, port);
}

bool map_bell(struct tw_bell *bell)
{
	const struct tw_map *m = get_map();
	if (!m || !m->bell.length)
		return false;
	*bell = m->bell;
	return true;
}

bool listen_passes(uint16_t port)
{
	const struct tw_map *m = get_map();
	return m && is_clear(m->listens, port);
}

static bool resolve4(const struct tw_map *m, uint8_t *ip)
{
	size_t i = (size_t)(ip[1] & 1) << 16 | (size_t)ip[2] << 8 | ip[3];
	uint32_t real = __atomic_load_n(&m->real4[i], __ATOMIC_RELAXED);
	if (real)
		memcpy(ip, &real, sizeof real);
	return real;
}

static bool resolve6(const struct tw_map *m, struct tw_addr *addr)
{
	static const uint8_t none[8];
	size_t i = (size_t)addr->ip[14] << 8 | addr->ip[15];
	const struct tw_real6 *real = &m->real6[i];
	if (memcmp(addr->ip + 6, none, sizeof none) != 0 ||
	    !__atomic_load_n(&real->known, __ATOMIC_ACQUIRE))
		return false;
	memcpy(addr->ip, real->ip, sizeof real->ip);
	addr->scope = real->scope;
	return true;
}

bool map_resolve(struct tw_addr *addr)
{
	const struct tw_map *m = get_map();
	if (!m)
		return false;
	if (addr->family == AF_INET)
		return resolve4(m, addr->ip);
	return address_mapped(addr) ? resolve4(m, addr->ip + 12) : resolve6(m, addr);
}

static long map_at(long at, size_t size, long flags, int fd)
{
#ifdef SYS_mmap2 /* 32-bit machines: the same, with its offset in pages */
	const long number = SYS_mmap2;
#else
	const long number = SYS_mmap;
#endif
	return SYS(number, at, size, fd < 0 ? PROT_NONE : PROT_READ, flags, fd, 0);
}

static bool failed(long at)
{
	return at < 0 && at > -4096;
}

/* The life comes last: until then there is none, or one that is over. */
static void put_in_place(int fd, int life)
{
	long at = (long)map;
	if (!at)
		at = map_at(0, LIFE_AT + sizeof(struct tw_life), MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (failed(at))
		return;
	if (!failed(map_at(at, sizeof *map, MAP_SHARED | MAP_FIXED, fd)) &&
	    !failed(map_at(at + (long)LIFE_AT, sizeof(struct tw_life), MAP_SHARED | MAP_FIXED, life)))
		__atomic_store_n(&map, (const struct tw_map *)at, __ATOMIC_RELEASE);
	else if (!map)
		SYS(SYS_munmap, at, LIFE_AT + sizeof(struct tw_life));
}

void map_keep(int fd, int life)
{
	/* What one thread begins no other may mix with a worker's that has died since. The one that
	 * finds another at work asks again some time. */
	if (fd >= 0 && life >= 0 && !get_map() &&
	    !__atomic_exchange_n(&keeping, true, __ATOMIC_ACQUIRE)) {
		if (!get_map())
			put_in_place(fd, life);
		__atomic_store_n(&keeping, false, __ATOMIC_RELEASE);
	}
	if (fd >= 0)
		SYS(SYS_close, fd);
	if (life >= 0)
		SYS(SYS_close, life);
}

void map_forked(void)
{
	__atomic_store_n(&keeping, false, __ATOMIC_RELAXED);
}
