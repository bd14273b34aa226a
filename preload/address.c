/*
 * Socket addresses are read here, written, and copied out to the program. Whether one stands for
 * a name can be seen from itself.
 */
#include "shim.h"

#include <string.h>

static uint16_t swap16(uint16_t v)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return __builtin_bswap16(v);
#else
	return v;
#endif
}

bool address_read(const struct sockaddr *addr, socklen_t len, struct tw_addr *out)
{
	union address a;
	memset(out, 0, sizeof *out);
	if (!addr || len < sizeof a.any.sa_family)
		return false;
	memcpy(&a, addr, len < sizeof a ? len : sizeof a);
	out->family = a.any.sa_family;
	if (a.any.sa_family == AF_INET && len >= sizeof a.in) {
		out->port = swap16(a.in.sin_port);
		memcpy(out->ip, &a.in.sin_addr, 4);
		return true;
	}
	/* RFC 2133's sockaddr_in6 had no scope; the kernel still takes it. */
	if (a.any.sa_family == AF_INET6 && len >= offsetof(struct sockaddr_in6, sin6_scope_id)) {
		out->port = swap16(a.in6.sin6_port);
		out->scope = len >= sizeof a.in6 ? a.in6.sin6_scope_id : 0;
		memcpy(out->ip, &a.in6.sin6_addr, 16);
		return true;
	}
	return false;
}

socklen_t address_write(const struct tw_addr *addr, union address *out)
{
	memset(out, 0, sizeof *out);
	out->any.sa_family = addr->family;
	if (addr->family == AF_INET) {
		out->in.sin_port = swap16(addr->port);
		memcpy(&out->in.sin_addr, addr->ip, 4);
		return sizeof out->in;
	}
	out->in6.sin6_port = swap16(addr->port);
	out->in6.sin6_scope_id = addr->scope;
	memcpy(&out->in6.sin6_addr, addr->ip, 16);
	return sizeof out->in6;
}

static bool synthetic4(const uint8_t *ip)
{
	return ip[0] == 198 && (ip[1] & 0xfe) == 18;
}

bool address_mapped(const struct tw_addr *addr)
{
	static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	return addr->family == AF_INET6 && memcmp(addr->ip, prefix, sizeof prefix) == 0;
}

bool address_synthetic(const struct tw_addr *addr)
{
	static const uint8_t v6[6] = {0x20, 0x01, 0x00, 0x02, 0x00, 0x00};
	if (addr->family == AF_INET)
		return synthetic4(addr->ip);
	if (address_mapped(addr))
		return synthetic4(addr->ip + 12);
	return memcmp(addr->ip, v6, sizeof v6) == 0;
}

long address_copy(const union address *from, socklen_t from_len, struct sockaddr *to,
                  socklen_t *len)
{
	socklen_t room;
	if (copy_in(&room, len, sizeof room) < 0)
		return -EFAULT;
	if ((int)room < 0)
		return -EINVAL;
	if (copy_out(to, from, room < from_len ? room : from_len) < 0)
		return -EFAULT;
	return copy_out(len, &from_len, sizeof from_len);
}

long address_cookie(const void *addr, socklen_t len)
{
	enum { DNS = 53 };
	struct tw_addr to;
	return address_read(addr, len, &to) && to.port == DNS ? 0 : sys_cookie_now();
}
