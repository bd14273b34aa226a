/*
 * getaddrinfo shows the program the addresses that the worker wants it to see; getnameinfo knows
 * what name a synthetic one stands for.
 */
#include "names.h"
#include "trace.h"

#include <netdb.h>
#include <string.h>

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

static int look_up(const char *node, const char *service, const struct addrinfo *hints,
                   struct addrinfo **result)
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

EXPORT int getaddrinfo(const char *restrict node, const char *restrict service,
                       const struct addrinfo *restrict hints, struct addrinfo **restrict result)
{
	int r = look_up(node, service, hints, result);
	TRACE("getaddrinfo", TEXT("name", node), NUMBER("result", r));
	return r;
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
	    !address_synthetic(&a) || address_resolve(&a, name) < 0) {
		TRACE("getnameinfo", SOCKADDR("of", addr, len), WORD("by", "libc"));
		return real(addr, len, host, host_size, service, service_size, flags);
	}
	TRACE("getnameinfo", SOCKADDR("of", addr, len), TEXT("name", name));
	size_t n = strlen(name) + 1;
	if (n > host_size)
		return EAI_OVERFLOW;
	memcpy(host, name, n);
	if (!service || service_size == 0)
		return 0;
	return real(addr, len, NULL, 0, service, service_size, flags);
}
