/*
 * Host names. The real resolver answers, with NSS, /etc/hosts and its own errors;
 * then the worker says which addresses the program is to see.
 */
#include "shim.h"

#include <fcntl.h>
#include <netdb.h>
#include <string.h>

extern int *__h_errno_location(void);

/* The addresses of one answer, for as long as the worker is asked about them. */
struct batch {
	struct tw_request request;
	struct tw_reply reply;
};

/* -EADDRNOTAVAIL for what is too long for a host name: no rule could be told about it. */
static long batch_init(struct batch *batch, const char *name, uint16_t flags)
{
	size_t n = strlen(name);
	request_init(&batch->request, TW_NAMES);
	batch->request.flags = flags;
	if (n >= TW_NAME_SIZE)
		return -EADDRNOTAVAIL;
	memcpy(batch->request.name, name, n + 1);
	return 0;
}

/*
 * Opens /etc/hosts as the program's libc sees it: the worker wants to know which names are
 * the same host's, and may be in another root folder. -1 where the program cannot read it,
 * or -EMFILE, -ENFILE. Call with signals blocked.
 */
static long hosts_open(void)
{
	long fd = SYS(SYS_openat, AT_FDCWD, "/etc/hosts",
	              O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd >= 0 && fd <= 2) { /* as in control_open */
		long above = SYS(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
		SYS(SYS_close, fd);
		fd = above;
	}
	return fd >= 0 || fd == -EMFILE || fd == -ENFILE ? fd : -1;
}

/* Asks about request.addrs[0..count): 0, with as many in reply, or -errno. */
static long batch_ask(struct batch *batch)
{
	if (batch->request.count == 0)
		return 0;
	uint64_t mask;
	signals_block(&mask);
	long fd = hosts_open();
	long r = fd < -1 ? fd : control_ask(&batch->request, (int)fd, &batch->reply, NULL);
	if (fd >= 0)
		SYS(SYS_close, fd);
	signals_restore(&mask);
	if (r < 0)
		return r;
	if (batch->reply.answer == TW_ANSWER_ERROR && batch->reply.error > 0)
		return -batch->reply.error;
	if (batch->reply.answer != TW_ANSWER_ADDRS || batch->reply.count != batch->request.count)
		return -ENETDOWN;
	return 0;
}

static bool is_internet(const struct addrinfo *ai)
{
	return ai->ai_addr && (ai->ai_family == AF_INET || ai->ai_family == AF_INET6);
}

/* Replaces the addresses of a list, TW_MAX_ADDRS at a time. */
static long replace_list(struct addrinfo *list, const char *name, uint16_t flags)
{
	struct batch batch;
	struct addrinfo *first = list;
	long failed = batch_init(&batch, name, flags);
	if (failed < 0)
		return failed;
	while (first) {
		struct addrinfo *ai = first;
		uint32_t n = 0;
		for (; ai && n < TW_MAX_ADDRS; ai = ai->ai_next) {
			if (is_internet(ai) &&
			    address_read(ai->ai_addr, ai->ai_addrlen, &batch.request.addrs[n]))
				n++;
		}
		batch.request.count = n;
		long r = batch_ask(&batch);
		if (r < 0)
			return r;
		n = 0;
		for (; first != ai; first = first->ai_next) {
			struct tw_addr own;
			union address shown;
			if (!is_internet(first) ||
			    !address_read(first->ai_addr, first->ai_addrlen, &own))
				continue;
			batch.reply.addrs[n].port = own.port;
			socklen_t len = address_write(&batch.reply.addrs[n++], &shown);
			if (len == first->ai_addrlen)
				memcpy(first->ai_addr, &shown, len);
		}
	}
	return 0;
}

EXPORT int getaddrinfo(const char *restrict node, const char *restrict service,
                       const struct addrinfo *restrict hints, struct addrinfo **restrict result)
{
	__typeof__(&getaddrinfo) real = NEXT(getaddrinfo);
	if (!real)
		return EAI_FAIL;
	int r = real(node, service, hints, result);
	if (r != 0 || !node || (hints && (hints->ai_flags & AI_NUMERICHOST)))
		return r;
	bool datagram =
		hints && (hints->ai_socktype == SOCK_DGRAM || hints->ai_socktype == SOCK_RAW);
	long e = replace_list(*result, node, datagram ? TW_DATAGRAM : 0);
	if (e == 0)
		return 0;
	__typeof__(&freeaddrinfo) release = NEXT(freeaddrinfo);
	if (release)
		release(*result);
	*result = NULL;
	set_errno((int)-e);
	return EAI_SYSTEM;
}

/* Replaces a hostent's addresses where they stand. */
static long replace_host(struct hostent *host, const char *name)
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
	return address_synthetic(&addr) && address_resolve(&addr, name) == 0;
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

EXPORT int getnameinfo(const struct sockaddr *restrict addr, socklen_t len, char *restrict host,
                       socklen_t host_size, char *restrict service, socklen_t service_size,
                       int flags)
{
	__typeof__(&getnameinfo) real = NEXT(getnameinfo);
	struct tw_addr a;
	char name[TW_NAME_SIZE];
	if (!real)
		return EAI_FAIL;
	if (!host || host_size == 0 || (flags & NI_NUMERICHOST) || !address_read(addr, len, &a) ||
	    !address_synthetic(&a) || address_resolve(&a, name) < 0)
		return real(addr, len, host, host_size, service, service_size, flags);
	size_t n = strlen(name) + 1;
	if (n > host_size)
		return EAI_OVERFLOW;
	memcpy(host, name, n);
	if (!service || service_size == 0)
		return 0;
	return real(addr, len, NULL, 0, service, service_size, flags);
}
