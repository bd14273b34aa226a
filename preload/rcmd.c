/*
 * rcmd and rexec connect inside libc. What they would connect to is asked about first.
 */
#include "trace.h"

#include <netdb.h>
#include <string.h>

/* Asks about one of a host's addresses: 0 or -errno. */
static long passes(const struct addrinfo *ai, uint16_t port, const char *call)
{
	union address to;
	if (!ai->ai_addr || ai->ai_addrlen > sizeof to)
		return -EACCES;
	memcpy(&to, ai->ai_addr, ai->ai_addrlen);
	to.in.sin_port = port; /* at the same place in a sockaddr_in6 */
	return connect_inside(&to, ai->ai_addrlen, call);
}

/* Whether all addresses of a host may be connected to as it is; port is in network order. */
static bool may_call(const char *host, int port, int family, const char *call)
{
	struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM}, *list = NULL;
	__typeof__(&freeaddrinfo) release = NEXT(freeaddrinfo);
	int r = getaddrinfo(host, NULL, &hints, &list);
	if (r != 0) {
		if (r != EAI_SYSTEM)
			set_errno(EHOSTUNREACH);
		return false;
	}
	long failure = 0;
	for (struct addrinfo *ai = list; ai && failure == 0; ai = ai->ai_next)
		failure = passes(ai, (uint16_t)port, call);
	if (release)
		release(list);
	TRACE(call, TEXT("host", host), RESULT(failure));
	return finish(failure) == 0;
}

EXPORT int rcmd(char **restrict host, unsigned short port, const char *restrict local,
                const char *restrict remote, const char *restrict command, int *restrict errors)
{
	__typeof__(&rcmd) real = NEXT(rcmd);
	if (!real)
		return finish(-ENOSYS);
	return may_call(*host, port, AF_INET, "rcmd")
	               ? real(host, port, local, remote, command, errors)
	               : -1;
}

EXPORT int rcmd_af(char **restrict host, unsigned short port, const char *restrict local,
                   const char *restrict remote, const char *restrict command, int *restrict errors,
                   sa_family_t family)
{
	__typeof__(&rcmd_af) real = NEXT(rcmd_af);
	if (!real)
		return finish(-ENOSYS);
	return may_call(*host, port, family, "rcmd")
	               ? real(host, port, local, remote, command, errors, family)
	               : -1;
}

EXPORT int rexec(char **restrict host, int port, const char *restrict name,
                 const char *restrict password, const char *restrict command, int *restrict errors)
{
	__typeof__(&rexec) real = NEXT(rexec);
	if (!real)
		return finish(-ENOSYS);
	return may_call(*host, port, AF_INET, "rexec")
	               ? real(host, port, name, password, command, errors)
	               : -1;
}

EXPORT int rexec_af(char **restrict host, int port, const char *restrict name,
                    const char *restrict password, const char *restrict command,
                    int *restrict errors, sa_family_t family)
{
	__typeof__(&rexec_af) real = NEXT(rexec_af);
	if (!real)
		return finish(-ENOSYS);
	return may_call(*host, port, family, "rexec")
	               ? real(host, port, name, password, command, errors, family)
	               : -1;
}
