/*
 * tls_load_file reads a file, and with a password the key in it; tls_unload_file wipes and frees
 * what was read.
 */
#include "tls_int.h"

#include <fcntl.h>

/*
 * With a password the worker decrypts the key: the file's own bytes stay out of the program,
 * and what comes is what the program asked for, the key in the clear.
 */
static long decrypt(int fd, const char *password, uint8_t **data, size_t *size)
{
	struct tw_tls_request request;
	struct tw_tls_reply reply;
	struct error ignored = {0};
	int got = -1;
	tls_request_init(&request, TW_TLS_DECRYPT);
	size_t n = strlen(password);
	if (n > sizeof request.body)
		return -EINVAL;
	memcpy(request.body, password, n);
	request.size = (uint32_t)n;
	int r = worker_ask(&ignored, &request, &fd, 1, &reply, &got);
	error_clear(&ignored);
	memset(request.body, 0, n);
	__asm__ volatile("" : : "r"(request.body) : "memory"); /* is not optimized away */
	if (r < 0 || got < 0)
		return -EINVAL;
	long failure = read_all(got, data, size);
	SYS(SYS_close, got);
	return failure;
}

uint8_t *tls_load_file(const char *file, size_t *len, char *password)
{
	uint8_t *data = NULL;
	*len = 0;
	long fd = SYS(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		set_errno((int)-fd);
		return NULL;
	}
	long r = password ? decrypt((int)fd, password, &data, len) : read_all((int)fd, &data, len);
	SYS(SYS_close, fd);
	if (r < 0) {
		set_errno((int)-r);
		return NULL;
	}
	return data;
}

void tls_unload_file(uint8_t *buf, size_t len)
{
	if (!buf)
		return;
	memset(buf, 0, len);
	__asm__ volatile("" : : "r"(buf) : "memory"); /* is not optimized away */
	free(buf);
}
