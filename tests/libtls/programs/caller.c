/* Calls the decoy; with an argument, the decoy of a plugin, as something that knows only that. */
#include <dlfcn.h>
#include <stdio.h>

struct large {
	long numbers[12];
};
int tls_init(long a, long b, long c, long d, long e, long f, long g, double x, double y, float z);
struct large tls_read(struct large in, const char *more);
void tls_write(const char *format, ...);
double tls_free(double x);
long double tls_close(long double x);

#ifdef PLUGIN
void call(void);
void call(void)
#else
int main(int argc, char **argv)
#endif
{
	struct large l = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}};
	for (int i = 0; i < 2; i++) {
		printf("%d\n", tls_init(1, 2, 3, 4, 5, 6, 7, 8.5, 9.5, 10.5f));
		l = tls_read(l, "more");
		printf("%ld %ld\n", l.numbers[0], l.numbers[11]);
		tls_write("%s %g %d %g %Lg\n", "words", 1.5, 7, 2.5, 3.5L);
		printf("%g %Lg\n", tls_free(5), tls_close(10));
	}
#ifndef PLUGIN
	return argc > 99 && argv != NULL;
#endif
}
