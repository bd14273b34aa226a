/* deep LIBRARY: opens itself, built as a library, with RTLD_DEEPBIND: whose libtls does that use? */
#include <dlfcn.h>
#include <stdio.h>
#include <tls.h>

#ifdef LIBRARY
void call(void)
{
	Dl_info info;
	struct tls_config *config = tls_config_new();
	int r = tls_config_set_ca_path(config, "/");
	tls_config_free(config);
	dladdr((void *)tls_config_new, &info);
	printf("%d %s\n", r, info.dli_fname);
}
#else
int main(int argc, char **argv)
{
	(void)argc;
	void *library = dlopen(argv[1], RTLD_NOW | RTLD_DEEPBIND);
	void (*call)(void) = library ? (void (*)(void))dlsym(library, "call") : NULL;
	if (!call) {
		printf("%s\n", dlerror());
		return 1;
	}
	call();
	return 0;
}
#endif
