/*
 * Memory that the worker shares. What goes through a channel is copied into the kernel and out
 * again, into the cache of another processor; what lies here is copied once.
 */
#include "tls_int.h"

#include <sys/mman.h>

struct ring {
	struct tw_tls_ring *shared;
	uint32_t put; /* slots that were used */
	int pid;      /* of the process that uses them; another has its own count */
	unsigned forks;
};

enum {
	MUCH = 256 << 10,
	LEAST = 4 << 10, /* that is worth a slot */
};

/* Never asks again. */
static void ring_open(struct tls *ctx)
{
#ifdef SYS_mmap2
	const long number = SYS_mmap2;
#else
	const long number = SYS_mmap;
#endif
	struct tw_tls_request request;
	struct tw_tls_reply reply;
	struct error ignored = {0};
	int fd;
	struct ring *ring = malloc(sizeof *ring);
	if (!ring)
		return;
	tls_request_init(&request, TW_TLS_RING);
	request.number = ctx->number;
	if (worker_ask(&ignored, &request, NULL, 0, &reply, &fd) < 0) {
		error_clear(&ignored);
		free(ring);
		return;
	}
	long at = SYS(number, NULL, sizeof *ring->shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	SYS(SYS_close, fd);
	if (at < 0 && at > -4096) {
		free(ring);
		return;
	}
	ring->shared = (struct tw_tls_ring *)at;
	ring->put = 0;
	ring->pid = (int)SYS(SYS_getpid);
	ring->forks = forks_so_far();
	ctx->ring = ring;
}

void ring_count(struct tls *ctx, size_t sent)
{
	if (ctx->sent >= MUCH)
		return;
	ctx->sent += sent;
	if (ctx->sent >= MUCH)
		ring_open(ctx);
}

long ring_send(struct tls *ctx, const void *buf, uint32_t len)
{
	struct ring *ring = ctx->ring;
	if (!ring || len < LEAST || ring->forks != forks_so_far() || ring->pid != (int)SYS(SYS_getpid) ||
	    ring->put - __atomic_load_n(&ring->shared->taken, __ATOMIC_ACQUIRE) >= TW_TLS_RING_SLOTS)
		return 0;
	uint32_t slot = ring->put % TW_TLS_RING_SLOTS;
	memcpy(ring->shared->slots[slot], buf, len);
	const uint32_t header = TW_TLS_IN_RING | slot << TW_TLS_SLOT_SHIFT | len;
	long n = SYS(SYS_sendto, ctx->wfd, &header, sizeof header, MSG_NOSIGNAL, NULL, 0);
	if (n < 0)
		return n;
	ring->put++;
	return (long)len;
}

void ring_free(struct tls *ctx)
{
	if (!ctx->ring)
		return;
	SYS(SYS_munmap, ctx->ring->shared, sizeof *ctx->ring->shared);
	free(ctx->ring);
}
