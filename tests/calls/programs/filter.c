/*
 * Starts a program under a filter (seccomp(2)) that answers EBADMSG to each call that has to carry
 * the cookie of TLSWRAP_CONTROL and does not:
 *
 *     filter [--but-messages] PROGRAM ARGUMENT...
 *
 * Without a program it makes those calls itself, by libc's functions and by syscall(2), and says which
 * were answered so.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/net.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__i386__)
#define ARCHITECTURE AUDIT_ARCH_I386
#endif

/* The session's token stands third in TLSWRAP_CONTROL. */
static uint64_t cookie(void)
{
	const char *at = getenv("TLSWRAP_CONTROL");
	uint8_t bytes[8];
	uint64_t value;
	for (int i = 0; at && i < 2; i++) {
		at = strchr(at, ':');
		at = at ? at + 1 : NULL;
	}
	for (size_t i = 0; i < sizeof bytes; i++) {
		unsigned byte;
		if (!at || sscanf(at + 2 * i, "%2x", &byte) != 1) {
			fprintf(stderr, "filter: there is no token in TLSWRAP_CONTROL\n");
			exit(2);
		}
		bytes[i] = (uint8_t)byte;
	}
	memcpy(&value, bytes, sizeof value);
	return value;
}

static struct sock_filter program[128];
static unsigned short length;

static void add(unsigned short code, uint32_t k, unsigned char yes, unsigned char no)
{
	program[length++] = (struct sock_filter)BPF_JUMP(code, k, yes, no);
}

static void load(size_t offset) { add(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0); }
static void equal(uint32_t k, unsigned char yes, unsigned char no)
{
	add(BPF_JMP | BPF_JEQ | BPF_K, k, yes, no);
}
static void answer(uint32_t what) { add(BPF_RET | BPF_K, what, 0, 0); }
static const uint32_t refused = SECCOMP_RET_ERRNO | EBADMSG;

#define ARGUMENT(n) (offsetof(struct seccomp_data, args) + (n) * sizeof(uint64_t))

/* The lower half of a number stands first. */
static void carries_cookie(long number)
{
	const uint64_t want = cookie();
	equal((uint32_t)number, 0, 6);
	load(ARGUMENT(5));
	equal((uint32_t)want, 0, 3);
	load(ARGUMENT(5) + 4);
	equal(sizeof(long) == 8 ? (uint32_t)(want >> 32) : 0, 0, 1);
	answer(SECCOMP_RET_ALLOW);
	answer(refused);
}

/* sendto's sixth argument is its own: it may have no address, and not connect. */
static void sends_to_nobody(void)
{
	equal(SYS_sendto, 0, 8);
	load(ARGUMENT(3));
	add(BPF_JMP | BPF_JSET | BPF_K, MSG_FASTOPEN, 5, 0);
	load(ARGUMENT(4));
	equal(0, 0, 3);
	load(ARGUMENT(4) + 4);
	equal(0, 0, 1);
	answer(SECCOMP_RET_ALLOW);
	answer(refused);
}

/* seccomp(2) without the library, which would leave the program's calls to the kernel from then on. */
static long filter_by_number(const struct sock_fprog *all)
{
	long r;
#if defined(__x86_64__)
	__asm__ volatile("syscall"
	                 : "=a"(r)
	                 : "a"((long)SYS_seccomp), "D"((long)SECCOMP_SET_MODE_FILTER), "S"(0L), "d"(all)
	                 : "rcx", "r11", "memory");
#elif defined(__i386__)
	__asm__ volatile("int $0x80"
	                 : "=a"(r)
	                 : "a"((long)SYS_seccomp), "b"((long)SECCOMP_SET_MODE_FILTER), "c"(0L), "d"(all)
	                 : "memory");
#endif
	return r;
}

#ifdef SYS_socketcall
/* socketcall(2) cannot carry it: what glibc makes by that is to be none of these calls. socket() is, and so is
 * sendto(), of which it cannot be seen here whether there is an address. */
static void by_socketcall(void)
{
	static const uint32_t calls[] = {
		SYS_BIND, SYS_CONNECT, SYS_LISTEN, SYS_ACCEPT, SYS_ACCEPT4, SYS_GETSOCKNAME, SYS_GETPEERNAME,
		SYS_SENDMSG, SYS_SENDMMSG, SYS_SETSOCKOPT, SYS_GETSOCKOPT,
	};
	const size_t count = sizeof calls / sizeof *calls;
	equal(SYS_socketcall, 0, (unsigned char)(count + 3));
	load(ARGUMENT(0));
	for (size_t i = 0; i < count; i++)
		equal(calls[i], (unsigned char)(count - i), 0);
	answer(SECCOMP_RET_ALLOW);
	answer(refused);
}
#endif

static void install(int but_messages)
{
	static const long numbers[] = {
		SYS_connect, SYS_bind, SYS_listen, SYS_accept4, SYS_getsockname, SYS_getpeername,
		SYS_getsockopt, SYS_setsockopt,
#ifdef SYS_accept
		SYS_accept,
#endif
	};
	load(offsetof(struct seccomp_data, arch));
	equal(ARCHITECTURE, 1, 0);
	answer(SECCOMP_RET_ALLOW);
	load(offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		carries_cookie(numbers[i]);
	if (!but_messages) {
		carries_cookie(SYS_sendmsg);
		carries_cookie(SYS_sendmmsg);
	}
	sends_to_nobody();
#ifdef SYS_socketcall
	by_socketcall();
#endif
	answer(SECCOMP_RET_ALLOW);
	struct sock_fprog all = {length, program};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || filter_by_number(&all) < 0) {
		perror("filter");
		exit(2);
	}
}

/* ---- each call once ---- */

static void note(const char *name, long result)
{
	if (result < 0 && errno == EBADMSG)
		printf("%s\n", name);
}

#define NOTE(name, ...)                                                                           \
	do {                                                                                      \
		note(#name, name(__VA_ARGS__));                                                   \
		note("SYS_" #name, syscall(SYS_##name, __VA_ARGS__));                             \
	} while (0)

static void make_each_call(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a, size = sizeof(int);
	int fd = socket(AF_INET, SOCK_DGRAM, 0), value = 0;
	char byte = 0;
	struct iovec part = {&byte, 1};
	struct mmsghdr message = {.msg_hdr = {.msg_name = &a, .msg_namelen = sizeof a, .msg_iov = &part, .msg_iovlen = 1}};
	a.sin_port = htons(9);
	NOTE(sendto, fd, &byte, 1, 0, (struct sockaddr *)&a, sizeof a);
	NOTE(sendmsg, fd, &message.msg_hdr, 0);
	NOTE(sendmmsg, fd, &message, 1, 0);
	NOTE(connect, fd, (struct sockaddr *)&a, sizeof a);
	NOTE(getpeername, fd, (struct sockaddr *)&a, &len);
	NOTE(getsockname, fd, (struct sockaddr *)&a, &len);
	NOTE(bind, fd, (struct sockaddr *)&a, sizeof a);
	NOTE(listen, fd, 1);
	NOTE(accept4, fd, NULL, NULL, 0);
	note("accept", accept(fd, NULL, NULL));
	NOTE(setsockopt, fd, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value);
	NOTE(getsockopt, fd, SOL_SOCKET, SO_KEEPALIVE, &value, &size);
}

int main(int argc, char **argv)
{
	int but_messages = argc > 1 && strcmp(argv[1], "--but-messages") == 0;
	install(but_messages);
	if (argc == 1) {
		make_each_call();
		return 0;
	}
	execv(argv[1 + but_messages], argv + 1 + but_messages);
	perror(argv[1 + but_messages]);
	return 2;
}
