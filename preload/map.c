/*
 * The session's map, memory that the worker shares: most connections that rules do not
 * cover go to ports that no rule mentions, and are made without asking.
 */
#include "shim.h"

#include <string.h>
#include <sys/mman.h>

/* Mapped once and for all, and read only. */
static const struct tw_map *map;

static const struct tw_map *get_map(void)
{
	return __atomic_load_n(&map, __ATOMIC_ACQUIRE);
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

void map_keep(int fd)
{
#ifdef SYS_mmap2 /* 32-bit machines: the same, with its offset in pages */
	const long number = SYS_mmap2;
#else
	const long number = SYS_mmap;
#endif
	const struct tw_map *none = NULL;
	long at = -EEXIST;
	if (!get_map())
		at = SYS(number, NULL, sizeof *map, PROT_READ, MAP_SHARED, fd, 0);
	SYS(SYS_close, fd);
	if (at < 0 && at > -4096)
		return;
	if (!__atomic_compare_exchange_n(&map, &none, (const struct tw_map *)at, false,
	                                 __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		SYS(SYS_munmap, at, sizeof *map); /* another thread was faster */
}
