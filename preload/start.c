/*
 * The shim's constructor, which runs before the program does: it finds out where the worker is
 * and what libc has, leads libc's names to the shim, and says hello.
 */
#include "symbols.h"
#include "trace.h"

extern char **environ WEAK;
extern const char *gnu_get_libc_version(void) WEAK;

/* glibc gives constructors argc, argv and envp, and may not have set environ yet;
 * musl gives them nothing, and has. */
__attribute__((constructor)) static void start(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	char **env = gnu_get_libc_version ? envp : &environ ? environ : NULL;
	control_remember(env);
	voice_remember();
	next_functions_find();
	symbols_lead_here();
	trace_remember(env);
	forks_watch();
	ptracer_find();
	control_hello();
}
