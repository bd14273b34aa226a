/*
 * Sun RPC of glibc's own, which programs have that were linked before glibc 2.32, connects and
 * listens inside libc. Where it would connect to, or listen, is asked about first.
 *
 * The names have the version that they have in glibc (preload/versions.map): libtirpc has
 * functions of the same names for structures of its own, and calls connect and listen as everybody
 * does. What takes a synthetic address sends datagrams there inside libc, too, and gets the real
 * one.
 */
#include "symbols.h"

#include <netdb.h>
#include <string.h>

#if defined(__x86_64__)
#define SINCE_2_0 "GLIBC_2.2.5"
#define SINCE_2_1 "GLIBC_2.2.5"
#elif defined(__i386__)
#define SINCE_2_0 "GLIBC_2.0"
#define SINCE_2_1 "GLIBC_2.1"
#else
#define SINCE_2_0 "GLIBC_2.17"
#define SINCE_2_1 "GLIBC_2.17"
#endif

/* Declares the hook of a function, and exports it by its name and version in glibc. */
#define SUNRPC(result, name, version, ...)                                                        \
	EXPORT result sunrpc_##name(__VA_ARGS__);                                                 \
	__asm__(".symver sunrpc_" #name "," #name "@" version ", remove");                        \
	result sunrpc_##name(__VA_ARGS__)

/* glibc's own function behind it. */
#define ORIGINAL(name) ((__typeof__(&sunrpc_##name))symbols_in_libc(#name))

extern __typeof__(getprotobyname_r) getprotobyname_r WEAK;

enum {
	RPC_SYSTEMERROR = 12, /* enum clnt_stat */
	RPC_UNKNOWNHOST = 13,
	PORTMAPPER = 111,
	TIME_SERVER = 37,
};

/* What clnt_pcreateerror prints: struct rpc_createerr. */
struct create_error {
	int status;
	struct {
		int status;
		union {
			int error;
			long size[2];
		} of;
	} call;
};

/* Fails as a function that creates a client does. */
static void *no_client(int status, int error)
{
	typedef struct create_error *find(void);
	find *where = (find *)symbols_in_libc("__rpc_thread_createerr");
	if (where) {
		struct create_error *of_thread = where();
		of_thread->status = status;
		of_thread->call.of.error = error;
	}
	set_errno(error);
	return NULL;
}

/* Puts the address that a datagram goes to in *real: 0 or -errno. */
static long real_address(const struct sockaddr_in *to, union address *real)
{
	struct tw_addr addr;
	*real = (union address){.in = *to};
	if (!address_read(&real->any, sizeof real->in, &addr) || !address_synthetic(&addr))
		return 0;
	long r = address_resolve(&addr, NULL);
	if (r == 0)
		address_write(&addr, real);
	return r;
}

/* May the function call ask the portmapper of *to? 0, with its real address in *at, or -errno. */
static long ask_portmapper(const struct sockaddr_in *to, const char *call, union address *at)
{
	*at = (union address){.in = *to};
	at->in.sin_port = (in_port_t)__builtin_bswap16(PORTMAPPER);
	return connect_inside(at, sizeof at->in, call);
}

/* It asks the portmapper about TCP by TCP. */
SUNRPC(unsigned short, pmap_getport, SINCE_2_0, struct sockaddr_in *to, unsigned long program,
       unsigned long version, unsigned protocol)
{
	__typeof__(&sunrpc_pmap_getport) real = ORIGINAL(pmap_getport);
	union address at;
	long r = !real                     ? -ENOSYS
	         : protocol != IPPROTO_TCP ? real_address(to, &at)
	                                   : ask_portmapper(to, "pmap_getport", &at);
	to->sin_port = 0; /* as it leaves it */
	if (r < 0) {
		no_client(RPC_SYSTEMERROR, (int)-r);
		return 0;
	}
	return real(&at.in, program, version, protocol);
}

/* Of datagrams; port 0 is asked for. The timeval is one of libc's own. */
struct pause {
	long seconds, microseconds;
};

SUNRPC(void *, clntudp_bufcreate, SINCE_2_0, struct sockaddr_in *to, unsigned long program,
       unsigned long version, struct pause wait, int *sock, unsigned sending, unsigned receiving)
{
	__typeof__(&sunrpc_clntudp_bufcreate) real = ORIGINAL(clntudp_bufcreate);
	union address at;
	long r = real ? real_address(to, &at) : -ENOSYS;
	return r < 0 ? no_client(RPC_SYSTEMERROR, (int)-r)
	             : real(&at.in, program, version, wait, sock, sending, receiving);
}

SUNRPC(void *, clntudp_create, SINCE_2_0, struct sockaddr_in *to, unsigned long program,
       unsigned long version, struct pause wait, int *sock)
{
	__typeof__(&sunrpc_clntudp_create) real = ORIGINAL(clntudp_create);
	union address at;
	long r = real ? real_address(to, &at) : -ENOSYS;
	return r < 0 ? no_client(RPC_SYSTEMERROR, (int)-r)
	             : real(&at.in, program, version, wait, sock);
}

/* It connects where it is given no socket. The port is asked for here, so that it is the one that
 * the worker is asked about. */
SUNRPC(void *, clnttcp_create, SINCE_2_0, struct sockaddr_in *to, unsigned long program,
       unsigned long version, int *sock, unsigned sending, unsigned receiving)
{
	__typeof__(&sunrpc_clnttcp_create) real = ORIGINAL(clnttcp_create);
	if (!real)
		return no_client(RPC_SYSTEMERROR, ENOSYS);
	if (to->sin_port == 0) {
		unsigned short port = sunrpc_pmap_getport(to, program, version, IPPROTO_TCP);
		if (port == 0)
			return NULL;
		to->sin_port = (in_port_t)__builtin_bswap16(port);
	}
	union address at = {.in = *to};
	long r = *sock < 0 ? connect_inside(&at, sizeof at.in, "clnttcp_create") : 0;
	return r < 0 ? no_client(RPC_SYSTEMERROR, (int)-r)
	             : real(&at.in, program, version, sock, sending, receiving);
}

/* Whether proto is a name of TCP's. */
static bool names_tcp(const char *proto)
{
	struct protoent entry, *found = NULL;
	char text[1024];
	return getprotobyname_r && getprotobyname_r(proto, &entry, text, sizeof text, &found) == 0 &&
	       found && found->p_proto == IPPROTO_TCP;
}

/* Looks a host up, as the program would. */
static bool look_up(const char *host, struct sockaddr_in *to)
{
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *list = NULL;
	__typeof__(&freeaddrinfo) release = NEXT(freeaddrinfo);
	if (getaddrinfo(host, NULL, &hints, &list) != 0)
		return false;
	memcpy(to, list->ai_addr, sizeof *to);
	if (release)
		release(list);
	return true;
}

/* It looks the host up inside libc, and is done here. */
SUNRPC(int, getrpcport, SINCE_2_0, const char *host, unsigned long program,
       unsigned long version, unsigned protocol)
{
	struct sockaddr_in to;
	return look_up(host, &to) ? sunrpc_pmap_getport(&to, program, version, protocol) : 0;
}

/* It looks the host up inside libc. For TCP, what it does is done here. */
SUNRPC(void *, clnt_create, SINCE_2_0, const char *host, unsigned long program,
       unsigned long version, const char *proto)
{
	__typeof__(&sunrpc_clnt_create) real = ORIGINAL(clnt_create);
	if (!real)
		return no_client(RPC_SYSTEMERROR, ENOSYS);
	if (!names_tcp(proto))
		return real(host, program, version, proto);
	struct sockaddr_in to;
	if (!look_up(host, &to))
		return no_client(RPC_UNKNOWNHOST, get_errno());
	int sock = -1;
	return sunrpc_clnttcp_create(&to, program, version, &sock, 0, 0);
}

SUNRPC(void *, pmap_getmaps, SINCE_2_0, struct sockaddr_in *to)
{
	__typeof__(&sunrpc_pmap_getmaps) real = ORIGINAL(pmap_getmaps);
	union address at;
	long r = real ? ask_portmapper(to, "pmap_getmaps", &at) : -ENOSYS;
	to->sin_port = 0; /* as it leaves it */
	return r < 0 ? no_client(RPC_SYSTEMERROR, (int)-r) : real(&at.in);
}

/* It uses TCP where it is to wait for ever. Its timevals are of 32 bits. */
SUNRPC(int, rtime, SINCE_2_1, struct sockaddr_in *to, void *result, void *timeout)
{
	__typeof__(&sunrpc_rtime) real = ORIGINAL(rtime);
	union address at = {.in = *to};
	at.in.sin_port = (in_port_t)__builtin_bswap16(TIME_SERVER);
	long r = !real      ? -ENOSYS
	         : timeout ? real_address(to, &at)
	                   : connect_inside(&at, sizeof at.in, "rtime");
	return r < 0 ? finish(r) : real(&at.in, result, timeout);
}

extern __typeof__(bindresvport) bindresvport WEAK;

/* It binds a socket and listens. The first is done here, so that the worker can be asked. */
SUNRPC(void *, svctcp_create, SINCE_2_0, int sock, unsigned sending, unsigned receiving)
{
	__typeof__(&sunrpc_svctcp_create) real = ORIGINAL(svctcp_create);
	union address own = {.in = {.sin_family = AF_INET}};
	long made = sock < 0 ? SYS(SYS_socket, AF_INET, SOCK_STREAM, IPPROTO_TCP) : -1;
	int fd = sock < 0 ? (int)made : sock;
	long r = !real ? -ENOSYS : fd < 0 ? fd : 0;
	if (r == 0 && (!bindresvport || bindresvport(fd, &own.in) < 0)) {
		own.in.sin_port = 0;
		SYS(SYS_bind, fd, &own, sizeof own.in); /* unless it is bound */
	}
	if (r == 0)
		r = listen_inside(fd, "svctcp_create");
	void *server = r == 0 ? real(fd, sending, receiving) : NULL;
	if (!server && made >= 0)
		SYS(SYS_close, made);
	if (r < 0)
		finish(r);
	return server;
}
