/*
 * What compilers call of their own accord, for assignments and initialisers of any
 * size. Hidden: the program's own are not touched.
 */
#include <stddef.h>

/* Keeps the compiler from seeing a memcpy in memcpy, and calling it. */
#define PLAIN_LOOP __asm__ volatile("")

void *memcpy(void *restrict to, const void *restrict from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	unsigned char *t = to;
	const unsigned char *f = from;
#if defined __x86_64__ || defined __i386__
	if (n >= 512) { /* what is less takes longer to begin */
		__asm__ volatile("rep movsb" : "+D"(t), "+S"(f), "+c"(n) : : "memory");
		return to;
	}
#endif
	for (; n; n--) {
		*t++ = *f++;
		PLAIN_LOOP;
	}
	return to;
}

void *memmove(void *to, const void *from, size_t n)
{
	unsigned char *t = to;
	const unsigned char *f = from;
	if (t <= f)
		return memcpy(to, from, n);
	while (n--) {
		t[n] = f[n];
		PLAIN_LOOP;
	}
	return to;
}

void *memset(void *to, int c, size_t n)
{
	unsigned char *t = to;
	for (; n; n--) {
		*t++ = (unsigned char)c;
		PLAIN_LOOP;
	}
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const unsigned char *p = a, *q = b;
	for (; n; n--, p++, q++) {
		if (*p != *q)
			return *p < *q ? -1 : 1;
		PLAIN_LOOP;
	}
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;
	while (s[n]) {
		n++;
		PLAIN_LOOP;
	}
	return n;
}
