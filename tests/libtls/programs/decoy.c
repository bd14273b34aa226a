/* A library of another kind, with functions that happen to be called as some of libtls's. */
#include <stdarg.h>
#include <stdio.h>

struct large {
	long numbers[12];
};

int tls_init(long a, long b, long c, long d, long e, long f, long g, double x, double y, float z);
int tls_init(long a, long b, long c, long d, long e, long f, long g, double x, double y, float z)
{
	printf("decoy tls_init %ld %ld %ld %ld %ld %ld %ld %g %g %g\n", a, b, c, d, e, f, g, x, y, (double)z);
	return 42;
}

struct large tls_read(struct large in, const char *more);
struct large tls_read(struct large in, const char *more)
{
	for (int i = 0; i < 12; i++)
		in.numbers[i] *= 2;
	printf("decoy tls_read %s\n", more);
	return in;
}

void tls_write(const char *format, ...);
void tls_write(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	vprintf(format, list);
	va_end(list);
}

double tls_free(double x);
double tls_free(double x)
{
	return x / 2;
}

long double tls_close(long double x);
long double tls_close(long double x)
{
	return x / 4;
}
