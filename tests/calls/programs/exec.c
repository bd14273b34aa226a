/* Starting other programs: each is wrapped too, or is not started. */
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static char *none[] = {NULL};
static char port_text[16], is_preloaded_text[2];

/*
 * Started by the others, as "child PORT PRELOADED", with whatever environment: connects,
 * and succeeds only where the server understands it. The driver's descriptor is closed
 * on the way by nobody.
 */
static void child(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	if (arguments[3][0] == '1') {
		CHECK(getenv("LD_PRELOAD") && strstr(getenv("LD_PRELOAD"), "libtlswrap.so"));
		CHECK(getenv("TLSWRAP_CONTROL"));
	}
	a.sin_port = htons((uint16_t)atoi(arguments[2]));
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = tcp();
	OK(connect(fd, (struct sockaddr *)&a, sizeof a));
	ECHOES(fd);
}

static char **child_argv(void)
{
	static char *argv[5];
	snprintf(port_text, sizeof port_text, "%d", port("ECHO"));
	is_preloaded_text[0] = is_preloaded() ? '1' : '0';
	argv[0] = arguments[0];
	argv[1] = "child";
	argv[2] = port_text;
	argv[3] = is_preloaded_text;
	return argv;
}

static const char *child_command(void)
{
	static char line[512];
	char **v = child_argv();
	snprintf(line, sizeof line, "exec '%s' %s %s %s", v[0], v[1], v[2], v[3]);
	return line;
}

static void use_execve(void) { OK(execve(arguments[0], child_argv(), environ)); }
static void use_execve_empty(void) { OK(execve(arguments[0], child_argv(), none)); }
static void use_execve_null(void) { OK(execve(arguments[0], child_argv(), NULL)); }
static void use_execv(void) { OK(execv(arguments[0], child_argv())); }

static void use_execv_cleared(void)
{
	char **argv = child_argv();
	clearenv();
	OK(execv(arguments[0], argv));
}

static void use_execvp_cleared(void)
{
	char **argv = child_argv();
	clearenv();
	OK(execvp(arguments[0], argv));
}

/* By name, in PATH. */
static void use_execvp_path(void)
{
	char **argv = child_argv(), path[4096];
	snprintf(path, sizeof path, "/nowhere:%s", getenv("HELPERS"));
	setenv("PATH", path, 1);
	OK(execvp("exec", argv));
}

static void use_execvpe_empty(void)
{
	char **argv = child_argv();
	setenv("PATH", getenv("HELPERS"), 1);
	OK(execvpe("exec", argv, none));
}

static void use_execl(void)
{
	char **v = child_argv();
	clearenv();
	OK(execl(v[0], v[0], v[1], v[2], v[3], (char *)NULL));
}

static void use_execlp(void)
{
	char **v = child_argv();
	setenv("PATH", getenv("HELPERS"), 1);
	OK(execlp("exec", v[0], v[1], v[2], v[3], (char *)NULL));
}

static void use_execle(void)
{
	char **v = child_argv();
	OK(execle(v[0], v[0], v[1], v[2], v[3], (char *)NULL, none));
}

static void use_fexecve(void)
{
	int fd = (int)OK(open(arguments[0], O_RDONLY | O_CLOEXEC));
	OK(fexecve(fd, child_argv(), none));
}

/* Nothing can be read from such a descriptor. */
static void use_fexecve_of_a_path(void)
{
	int fd = (int)OK(open(arguments[0], O_PATH | O_CLOEXEC));
	OK(fexecve(fd, child_argv(), none));
}

static void use_execveat(void)
{
	int dir = (int)OK(open(getenv("HELPERS"), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	OK(syscall(SYS_execveat, dir, "exec", child_argv(), none, 0));
}

static void use_execve_by_number(void) { OK(syscall(SYS_execve, arguments[0], child_argv(), none)); }

static void reap(pid_t pid)
{
	int status;
	EQUAL(waitpid(pid, &status, 0), pid);
	EQUAL(status, 0);
}

static void use_posix_spawn(void)
{
	pid_t pid;
	EQUAL(posix_spawn(&pid, arguments[0], NULL, NULL, child_argv(), none), 0);
	reap(pid);
}

static void use_posix_spawnp(void)
{
	pid_t pid;
	char **argv = child_argv();
	setenv("PATH", getenv("HELPERS"), 1);
	EQUAL(posix_spawnp(&pid, "exec", NULL, NULL, argv, none), 0);
	reap(pid);
}

static void use_vfork(void)
{
	char **argv = child_argv();
	pid_t pid = vfork();
	if (pid == 0) {
		execve(argv[0], argv, none);
		_exit(1);
	}
	reap(pid);
}

static void use_system(void) { EQUAL(system(child_command()), 0); }

static void use_system_cleared(void)
{
	const char *line = child_command();
	clearenv();
	EQUAL(system(line), 0);
}

typedef FILE *popen_function(const char *, const char *);

static void run_popen(popen_function *how, const char *line)
{
	FILE *f = how(line, "r");
	CHECK(f);
	EQUAL(fgetc(f), EOF);
	EQUAL(pclose(f), 0);
}

static void use_popen(void) { run_popen(popen, child_command()); }

static void use_popen_cleared(void)
{
	const char *line = child_command();
	clearenv();
	run_popen(popen, line);
}

/* By glibc's older name of it, which no header has any more. */
static void use_old_popen_cleared(void)
{
	const char *line = child_command();
	popen_function *old = (popen_function *)(uintptr_t)dlsym(RTLD_DEFAULT, "_IO_popen");
	CHECK(old);
	clearenv();
	run_popen(old, line);
}

/* ---- LD_PRELOAD of the program's own ---- */

static void child_has_both(void)
{
	static char maps[1 << 16];
	size_t n = 0;
	ssize_t r;
	int fd = (int)OK(open("/proc/self/maps", O_RDONLY));
	while ((r = read(fd, maps + n, sizeof maps - 1 - n)) > 0)
		n += (size_t)r;
	CHECK(strstr(maps, "/own.so"));
	CHECK(strstr(maps, "/libtlswrap.so"));
	CHECK(strstr(getenv("LD_PRELOAD"), "/own.so"));
}

static void own_preload_is_kept(void)
{
	char own[512];
	snprintf(own, sizeof own, "LD_PRELOAD=%s/own.so", getenv("HELPERS"));
	char *env[] = {own, NULL}, *argv[] = {arguments[0], "child_has_both", NULL};
	OK(execve(argv[0], argv, env));
}

static void own_preload_with_ours_is_kept(void)
{
	char own[1024];
	snprintf(own, sizeof own, "LD_PRELOAD=%s:%s/own.so", getenv("LD_PRELOAD"), getenv("HELPERS"));
	char *env[] = {own, NULL}, *argv[] = {arguments[0], "child_has_both", NULL};
	OK(execve(argv[0], argv, env));
}

/* Starting itself many times does not make the environment grow. */
static void again(void)
{
	char count[16];
	int n = arguments[2] ? atoi(arguments[2]) : 0;
	if (n == 20) {
		CHECK(strlen(getenv("LD_PRELOAD")) < 256);
		return;
	}
	snprintf(count, sizeof count, "%d", n + 1);
	char *argv[] = {arguments[0], "again", count, NULL};
	OK(execve(argv[0], argv, environ));
}

/* ---- What cannot be started ---- */

static const char *helper(const char *name)
{
	static char path[512];
	snprintf(path, sizeof path, "%s/%s", getenv("HELPERS"), name);
	return path;
}

#define REFUSES(path, error)                                                                      \
	do {                                                                                      \
		char *argv_[] = {"x", NULL};                                                      \
		pid_t pid_;                                                                       \
		FAILS(execve(path, argv_, none), error);                                          \
		FAILS(execv(path, argv_), error);                                                 \
		FAILS(execl(path, "x", (char *)NULL), error);                                     \
		int r_ = posix_spawn(&pid_, path, NULL, NULL, argv_, none);                       \
		EQUAL(r_, error);                                                                 \
	} while (0)

static void missing_file(void)
{
	char *argv[] = {"x", NULL};
	REFUSES(helper("missing"), ENOENT);
	FAILS(execvp(helper("missing"), argv), ENOENT);
	FAILS(execvp("no-such-program", argv), ENOENT);
	FAILS(execvp("", argv), ENOENT);
	FAILS(execve("", argv, none), ENOENT);
}

static void directory(void)
{
	char *argv[] = {"x", NULL};
	REFUSES(getenv("HELPERS"), EACCES);
	FAILS(execvp(getenv("HELPERS"), argv), EACCES);
}

static void not_executable(void)
{
	char *argv[] = {"x", NULL};
	REFUSES(helper("text-without-x"), EACCES);
	FAILS(execvp(helper("text-without-x"), argv), EACCES);
	setenv("PATH", getenv("HELPERS"), 1);
	FAILS(execvp("text-without-x", argv), EACCES);
}

static void text_by_execve(void) { REFUSES(helper("text"), ENOEXEC); }

/* The text is a line of shell, exit 7. musl leaves it to its caller to start one. */
#ifdef __GLIBC__
#define TEXT_STATUS 7
#else
#define TEXT_STATUS ENOEXEC
#endif

static void runs_by_shell(int by_list)
{
	char *argv[] = {"x", NULL};
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		if (by_list)
			execlp(helper("text"), "x", (char *)NULL);
		else
			execvp(helper("text"), argv);
		_exit(errno);
	}
	EQUAL(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	EQUAL(WEXITSTATUS(status), TEXT_STATUS);
}

static void text_by_execvp(void) { runs_by_shell(0); }
static void text_by_execlp(void) { runs_by_shell(1); }

static void script(void)
{
	char **v = child_argv(), *env[] = {"PATH=/usr/bin:/bin", NULL};
	OK(execle(helper("script"), "script", v[0], v[1], v[2], v[3], (char *)NULL, env));
}

static void static_program_is_refused(void)
{
	char *argv[] = {"x", NULL};
	REFUSES(helper("static"), EACCES);
	FAILS(execvp(helper("static"), argv), EACCES);
}

/* It has no shim, whoever starts it. */
static char **static_argv(void)
{
	char **argv = child_argv();
	is_preloaded_text[0] = '0';
	argv[0] = (char *)helper("static-exec");
	return argv;
}

static void static_program_by_execve(void)
{
	char **argv = static_argv();
	OK(execve(argv[0], argv, none));
}

static void static_program_by_execvp(void)
{
	char **argv = static_argv();
	OK(execvp(argv[0], argv));
}

static void static_program_by_posix_spawn(void)
{
	pid_t pid;
	char **argv = static_argv();
	EQUAL(posix_spawn(&pid, argv[0], NULL, NULL, argv, none), 0);
	reap(pid);
}

static void static_program_by_a_shell(void)
{
	static char line[1024];
	char **v = static_argv();
	snprintf(line, sizeof line, "'%s' %s %s %s", v[0], v[1], v[2], v[3]);
	EQUAL(system(line), 0);
	clearenv();
	EQUAL(system(line), 0);
}

static void bad_pointers(void)
{
	char *argv[] = {"x", NULL};
	const char *volatile nowhere = NULL;
	FAILS(execve(nowhere, argv, none), EFAULT);
}

static void *starts_two(void *unused)
{
	pid_t pid;
	int status;
	EQUAL(posix_spawn(&pid, arguments[0], NULL, NULL, child_argv(), environ), 0);
	OK(waitpid(pid, &status, 0));
	EQUAL(status, 0);
	if ((pid = (pid_t)OK(fork())) == 0)
		OK(execve(arguments[0], child_argv(), environ));
	OK(waitpid(pid, &status, 0));
	EQUAL(status, 0);
	return unused;
}

static void many_variables_on_a_small_stack(void)
{
	pthread_attr_t small;
	pthread_t thread;
	char name[16];
	for (int i = 0; i < 9000; i++) {
		snprintf(name, sizeof name, "V%d", i);
		OK(setenv(name, "1", 1));
	}
	EQUAL(pthread_attr_init(&small), 0);
	EQUAL(pthread_attr_setstacksize(&small, 64 << 10), 0);
	EQUAL(pthread_create(&thread, &small, starts_two, NULL), 0);
	EQUAL(pthread_join(thread, NULL), 0);
}

/* A script in the first folder has an interpreter that is missing, and the second has another. */
static void next_in_path(bool spawned)
{
	static const char *const text[] = {"#!/no/such/interpreter\n", "#!/bin/sh\nexit 7\n"};
	char *argv[] = {(char *)"chosen", NULL};
	int status;
	OK(mkdir("first", 0755));
	OK(mkdir("second", 0755));
	for (int i = 0; i < 2; i++) {
		int fd = (int)OK(open(i ? "second/chosen" : "first/chosen", O_WRONLY | O_CREAT | O_CLOEXEC, 0755));
		EQUAL(write(fd, text[i], strlen(text[i])), strlen(text[i]));
		OK(close(fd));
	}
	setenv("PATH", "first:second", 1);
	pid_t pid;
	if (spawned) {
		EQUAL(posix_spawnp(&pid, "chosen", NULL, NULL, argv, environ), 0);
	} else if ((pid = (pid_t)OK(fork())) == 0) {
		execvp("chosen", argv);
		_exit(errno);
	}
	OK(waitpid(pid, &status, 0));
	EQUAL(WEXITSTATUS(status), 7);
	OK(unlink("second/chosen"));
	FAILS(execvp("chosen", argv), ENOENT);
}
static void execvp_goes_on_in_path(void) { next_in_path(false); }
static void spawnp_goes_on_in_path(void) { next_in_path(true); }

/* ---- A child in a sandbox ---- */

/*
 * Ends this process for each call that what it does from now on has no use for, and the shim may have
 * (seccomp(2); musl has no <linux/filter.h>).
 */
static void allow_no_more_sockets(void)
{
	enum { LOAD = 0x20, JUMP_IF_EQUAL = 0x15, RETURN = 0x06, FILTER = 2 };
	static const unsigned calls[] = {
		SYS_socket, SYS_socketpair, SYS_connect, SYS_prctl,
#if !defined(__SANITIZE_ADDRESS__) /* which makes it itself */
		SYS_madvise,
#endif
	};
	enum { CALLS = sizeof calls / sizeof *calls };
	struct instruction {
		uint16_t code;
		uint8_t if_true, if_false;
		uint32_t k;
	} code[2 * CALLS + 2] = {{LOAD, 0, 0, 0}};
	for (unsigned i = 0; i < CALLS; i++) {
		code[2 * i + 1] = (struct instruction){JUMP_IF_EQUAL, 0, 1, calls[i]};
		code[2 * i + 2] = (struct instruction){RETURN, 0, 0, 0}; /* SECCOMP_RET_KILL */
	}
	code[2 * CALLS + 1] = (struct instruction){RETURN, 0, 0, 0x7fff0000}; /* SECCOMP_RET_ALLOW */
	struct {
		unsigned short length;
		struct instruction *code;
	} program = {2 * CALLS + 2, code};
	OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	OK(prctl(PR_SET_SECCOMP, FILTER, &program));
}

static void a_child_in_a_sandbox_has_its_sockets(void)
{
	int fd = connected("ECHO");
	pid_t child = (pid_t)OK(fork());
	if (child == 0) {
		struct sockaddr_in a;
		socklen_t len = sizeof a;
		allow_no_more_sockets();
		OK(getpeername(fd, (struct sockaddr *)&a, &len));
		EQUAL(ntohs(a.sin_port), port("ECHO"));
		OK(getsockname(fd, (struct sockaddr *)&a, &len));
		EQUAL(option(fd, SOL_SOCKET, SO_ERROR), 0);
		set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
		set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
		ECHOES(fd);
		_exit(0);
	}
	reap(child);
	ECHOES(fd);
}

const struct test tests[] = {
	{"child", HELPER, child},
	{"child_has_both", HELPER, child_has_both},
	{"execve", BOTH, use_execve},
	{"execve_with_an_empty_environment", BOTH, use_execve_empty},
	{"execve_with_no_environment", BOTH, use_execve_null},
	{"execv", BOTH, use_execv},
	{"execv_after_clearenv", BOTH, use_execv_cleared},
	{"execvp_after_clearenv", BOTH, use_execvp_cleared},
	{"execvp_searches_path", BOTH, use_execvp_path},
	{"execvpe_with_an_empty_environment", BOTH, use_execvpe_empty},
	{"execl_after_clearenv", BOTH, use_execl},
	{"execlp", BOTH, use_execlp},
	{"execle_with_an_empty_environment", BOTH, use_execle},
	{"fexecve_with_an_empty_environment", BOTH, use_fexecve},
	{"fexecve_of_a_path", BOTH, use_fexecve_of_a_path},
	{"execveat_with_an_empty_environment", BOTH, use_execveat},
	{"execve_by_number", BOTH, use_execve_by_number},
	{"posix_spawn_with_an_empty_environment", BOTH, use_posix_spawn},
	{"posix_spawnp_with_an_empty_environment", BOTH, use_posix_spawnp},
	{"vfork_and_execve", BOTH, use_vfork},
	{"system", BOTH, use_system},
	{"system_after_clearenv", BOTH, use_system_cleared},
	{"popen", BOTH, use_popen},
	{"popen_after_clearenv", BOTH, use_popen_cleared},
	{"old_popen_after_clearenv", WRAPPED, use_old_popen_cleared},
	{"own_preload_is_kept", WRAPPED, own_preload_is_kept},
	{"own_preload_with_ours_is_kept", WRAPPED, own_preload_with_ours_is_kept},
	{"again", WRAPPED, again},
	{"missing_file", BOTH, missing_file},
	{"directory", BOTH, directory},
	{"not_executable", BOTH, not_executable},
	{"text_by_execve", BOTH, text_by_execve},
	{"many_variables_on_a_small_stack", BOTH, many_variables_on_a_small_stack},
	{"execvp_goes_on_in_path", BOTH, execvp_goes_on_in_path},
	{"spawnp_goes_on_in_path", BOTH, spawnp_goes_on_in_path},
	{"text_by_execvp", BOTH, text_by_execvp},
	{"text_by_execlp", BOTH, text_by_execlp},
	{"script", BOTH, script},
	{"static_program_is_refused", UNNOTICED, static_program_is_refused},
	{"a_child_in_a_sandbox_has_its_sockets", NOTICED, a_child_in_a_sandbox_has_its_sockets},
	{"static_program_by_execve", NOTICED, static_program_by_execve},
	{"static_program_by_execvp", NOTICED, static_program_by_execvp},
	{"static_program_by_posix_spawn", NOTICED, static_program_by_posix_spawn},
	{"static_program_by_a_shell", NOTICED, static_program_by_a_shell},
	{"bad_pointers", BOTH, bad_pointers},
	{0},
};
