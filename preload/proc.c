/* Where /proc has a descriptor of this process (proc(5)). */
#include "shim.h"

#include <string.h>

void proc_path(char *path, const char *folder, int fd)
{
	char digits[12];
	int n = 0;
	size_t length = strlen(folder);
	do
		digits[n++] = (char)('0' + fd % 10);
	while (fd /= 10);
	memcpy(path, folder, length);
	path += length;
	while (n)
		*path++ = digits[--n];
	*path = '\0';
}
