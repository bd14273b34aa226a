/* opener NAME: what a binding does that opens libtls by its name. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	(void)argc;
	void *library = dlopen(argv[1], RTLD_NOW);
	if (!library) {
		printf("%s\n", dlerror());
		return 1;
	}
	const char *prefix = argv[2];
	char name[64];
#define FIND(type, rest) (snprintf(name, sizeof name, "%s_" rest, prefix), (type)dlsym(library, name))
	void *(*config_new)(void) = FIND(void *(*)(void), "config_new");
	int (*set_ca)(void *, const char *) = FIND(int (*)(void *, const char *), "config_set_ca_path");
	void (*config_free)(void *) = FIND(void (*)(void *), "config_free");
	Dl_info info;
	void *config = config_new();
	int r = set_ca(config, "/");
	config_free(config);
	dladdr((void *)config_new, &info);
	printf("%d %s\n", r, info.dli_fname);
	return 0;
}
