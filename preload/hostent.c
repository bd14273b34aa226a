/*
 * The gethostby family, which is older than getaddrinfo, looks up names and addresses, and reads
 * the entries of /etc/hosts one by one. All of them give a struct hostent, whose addresses are
 * replaced where they stand.
 */
#include "names.h"
#include "trace.h"

#include <netdb.h>
#include <string.h>

extern int *__h_errno_location(void);

static long replace_addresses(struct hostent *host, const char *name)
{
	struct batch batch;
	bool v4 = host->h_addrtype == AF_INET && host->h_length == 4;
	bool v6 = host->h_addrtype == AF_INET6 && host->h_length == 16;
	if (!v4 && !v6)
		return 0;
	long failed = batch_init(&batch, name, 0);
	if (failed < 0)
		return failed;
	for (char **at = host->h_addr_list; *at;) {
		char **first = at;
		uint32_t n = 0;
		for (; *at && n < TW_MAX_ADDRS; at++, n++) {
			struct tw_addr *a = &batch.request.addrs[n];
			memset(a, 0, sizeof *a);
			a->family = (uint16_t)host->h_addrtype;
			memcpy(a->ip, *at, (size_t)host->h_length);
		}
		batch.request.count = n;
		long r = batch_ask(&batch);
		if (r < 0)
			return r;
		for (n = 0; first != at; first++, n++)
			memcpy(*first, batch.reply.addrs[n].ip, (size_t)host->h_length);
	}
	return 0;
}

/* Replaces a hostent's addresses where they stand. */
static long replace_host(struct hostent *host, const char *name)
{
	long r = replace_addresses(host, name);
	TRACE("hostent", TEXT("name", name), RESULT(r));
	return r;
}

static void set_h_errno(int value)
{
	__typeof__(&__h_errno_location) where = NEXT(__h_errno_location);
	if (where)
		*where() = value;
}

/*
 * Replaces the addresses of an entry that was not asked for by a name: those of the first of
 * its names that a rule covers.
 */
static long replace_entry(struct hostent *host)
{
	struct tw_addr first = {.family = (uint16_t)host->h_addrtype};
	long r = replace_host(host, host->h_name);
	for (char **alias = host->h_aliases; r == 0 && alias && *alias; alias++) {
		if (!host->h_addr_list[0] || host->h_length > (int)sizeof first.ip)
			break;
		memcpy(first.ip, host->h_addr_list[0], (size_t)host->h_length);
		if (address_synthetic(&first))
			break;
		r = replace_host(host, *alias);
	}
	return r;
}

/* The functions that return a static hostent. */
static struct hostent *host_ruled(struct hostent *host, const char *name)
{
	if (!host || !name)
		return host;
	long r = replace_host(host, name);
	if (r == 0)
		return host;
	set_h_errno(NETDB_INTERNAL);
	set_errno((int)-r);
	return NULL;
}

/* The reentrant ones, which return an error number. */
static int host_r_ruled(int r, const char *name, struct hostent **result, int *h_error)
{
	if (r != 0 || !*result || !name)
		return r;
	long e = replace_host(*result, name);
	if (e == 0)
		return 0;
	*result = NULL;
	*h_error = NETDB_INTERNAL;
	return (int)-e;
}

EXPORT struct hostent *gethostent(void)
{
	__typeof__(&gethostent) real = NEXT(gethostent);
	struct hostent *host = real ? real() : NULL;
	long r = host ? replace_entry(host) : 0;
	if (r == 0)
		return host;
	set_h_errno(NETDB_INTERNAL);
	set_errno((int)-r);
	return NULL;
}

EXPORT int gethostent_r(struct hostent *restrict host, char *restrict buffer, size_t size,
                        struct hostent **restrict result, int *restrict h_error)
{
	__typeof__(&gethostent_r) real = NEXT(gethostent_r);
	if (!real)
		return ENOSYS;
	int r = real(host, buffer, size, result, h_error);
	long e = r == 0 && *result ? replace_entry(*result) : 0;
	if (e == 0)
		return r;
	*result = NULL;
	*h_error = NETDB_INTERNAL;
	return (int)-e;
}

EXPORT struct hostent *gethostbyname(const char *name)
{
	__typeof__(&gethostbyname) real = NEXT(gethostbyname);
	return real ? host_ruled(real(name), name) : NULL;
}

EXPORT struct hostent *gethostbyname2(const char *name, int family)
{
	__typeof__(&gethostbyname2) real = NEXT(gethostbyname2);
	return real ? host_ruled(real(name, family), name) : NULL;
}

EXPORT int gethostbyname_r(const char *restrict name, struct hostent *restrict host,
                           char *restrict buffer, size_t size, struct hostent **restrict result,
                           int *restrict h_error)
{
	__typeof__(&gethostbyname_r) real = NEXT(gethostbyname_r);
	if (!real)
		return ENOSYS;
	return host_r_ruled(real(name, host, buffer, size, result, h_error), name, result,
	                    h_error);
}

EXPORT int gethostbyname2_r(const char *restrict name, int family, struct hostent *restrict host,
                            char *restrict buffer, size_t size,
                            struct hostent **restrict result, int *restrict h_error)
{
	__typeof__(&gethostbyname2_r) real = NEXT(gethostbyname2_r);
	if (!real)
		return ENOSYS;
	return host_r_ruled(real(name, family, host, buffer, size, result, h_error), name, result,
	                    h_error);
}

/* The name behind a synthetic address, in TW_NAME_SIZE bytes. */
static bool synthetic_name(const void *ip, socklen_t len, int family, char *name)
{
	struct tw_addr addr = {.family = (uint16_t)family};
	if (!(family == AF_INET && len == 4) && !(family == AF_INET6 && len == 16))
		return false;
	memcpy(addr.ip, ip, len);
	bool known = address_synthetic(&addr) && address_resolve(&addr, name) == 0;
	TRACE("gethostbyaddr", ADDRESSES("of", &addr, 1), TEXT("name", known ? name : NULL));
	return known;
}

/* A reverse look-up of a synthetic address is a look-up of its name. */
EXPORT struct hostent *gethostbyaddr(const void *ip, socklen_t len, int family)
{
	char name[TW_NAME_SIZE];
	if (synthetic_name(ip, len, family, name))
		return gethostbyname2(name, family);
	__typeof__(&gethostbyaddr) real = NEXT(gethostbyaddr);
	return real ? real(ip, len, family) : NULL;
}

EXPORT int gethostbyaddr_r(const void *restrict ip, socklen_t len, int family,
                           struct hostent *restrict host, char *restrict buffer, size_t size,
                           struct hostent **restrict result, int *restrict h_error)
{
	char name[TW_NAME_SIZE];
	if (synthetic_name(ip, len, family, name))
		return gethostbyname2_r(name, family, host, buffer, size, result, h_error);
	__typeof__(&gethostbyaddr_r) real = NEXT(gethostbyaddr_r);
	return real ? real(ip, len, family, host, buffer, size, result, h_error) : ENOSYS;
}
