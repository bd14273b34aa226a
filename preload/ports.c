/*
 * The worker's port map: most connections that rules do not cover go to ports that no
 * rule mentions, and are made without asking.
 */
#include "shim.h"

#include <sys/mman.h>

/* Mapped once and for all: a page that is shared with the worker, and read only. */
static const uint8_t *port_map;

static bool is_clear(size_t half, uint16_t port)
{
	const uint8_t *map = __atomic_load_n(&port_map, __ATOMIC_ACQUIRE);
	return map && !(__atomic_load_n(&map[half + port / 8], __ATOMIC_RELAXED) >> port % 8 & 1);
}

bool port_passes(uint16_t port)
{
	return is_clear(0, port);
}

bool listen_passes(uint16_t port)
{
	return is_clear(TW_PORT_MAP_LISTEN, port);
}

void port_map_keep(int fd)
{
#ifdef SYS_mmap2 /* 32-bit machines: the same, with its offset in pages */
	const long number = SYS_mmap2;
#else
	const long number = SYS_mmap;
#endif
	const uint8_t *none = NULL;
	long at = -EEXIST;
	if (!__atomic_load_n(&port_map, __ATOMIC_RELAXED))
		at = SYS(number, NULL, TW_PORT_MAP_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	SYS(SYS_close, fd);
	if (at < 0 && at > -4096)
		return;
	if (!__atomic_compare_exchange_n(&port_map, &none, (const uint8_t *)at, false,
	                                 __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		SYS(SYS_munmap, at, TW_PORT_MAP_SIZE); /* another thread was faster */
}
