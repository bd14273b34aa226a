/*
 * TLSWRAP_CONTROL in the environment says where the worker is, who it is, and what it knows its
 * programs by. It is remembered, for the program may wipe it later.
 */
#include "shim.h"

#include <string.h>

extern char **environ WEAK;

/* Longest TLSWRAP_CONTROL that is taken: a socket's path has 107 bytes. */
#define SETTING_SIZE 256

static _Atomic int ready;
static char setting[SETTING_SIZE]; /* with the variable's name */
static struct worker worker;
static char library[TW_NAME_SIZE];

uintptr_t sys_cookie;
bool sys_cookie_final;

static bool aside;

void step_aside(void)
{
	sys_cookie = 0;
	aside = true;
}

bool stands_aside(void)
{
	return aside;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* Reads "1:UID:TOKEN:ADDRESS", or "1q:" and so on, into worker. */
static bool parse_setting(const char *s)
{
	if (*s++ != '1')
		return false;
	worker.quiet = *s == 'q';
	s += worker.quiet;
	if (*s++ != ':')
		return false;
	unsigned uid = 0;
	for (; *s >= '0' && *s <= '9'; s++)
		uid = uid * 10 + (unsigned)(*s - '0');
	if (*s++ != ':')
		return false;
	worker.uid = uid;
	for (int i = 0; i < TW_TOKEN_SIZE; i++, s += 2) {
		int high = hex_digit(s[0]);
		int low = high < 0 ? -1 : hex_digit(s[1]);
		if (low < 0)
			return false;
		worker.token[i] = (uint8_t)(high << 4 | low);
	}
	if (*s++ != ':')
		return false;
	size_t n = strlen(s);
	if (n < 2 || n >= sizeof worker.address.sun_path)
		return false;
	worker.address.sun_family = AF_UNIX;
	memcpy(worker.address.sun_path, s, n);
	worker.address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	if (s[0] == '@')
		worker.address.sun_path[0] = '\0';
	return true;
}

/* Threads that come here at once, before the constructor ran, write the same bytes. */
static void look_for_setting(char **env)
{
	static const char name[] = TW_ENV "=";
	if (ready || !env)
		return;
	for (; *env; env++) {
		size_t n = strlen(*env);
		if (n < sizeof name || n >= SETTING_SIZE || memcmp(*env, name, sizeof name - 1) != 0)
			continue;
		if (!parse_setting(*env + sizeof name - 1))
			return;
		memcpy(setting, *env, n + 1);
		uint64_t number;
		memcpy(&number, worker.token, sizeof number);
		sys_cookie = worker.cookie = (uintptr_t)number;
		ready = 1;
		return;
	}
}

/* Keeps the path of the library, which stands first. */
static void look_for_library(char **env)
{
	static const char name[] = "LD_PRELOAD=", file[] = "/libtlswrap.so";
	for (; env && *env; env++) {
		const char *path = *env;
		size_t n = 0, at = 0;
		while (at < sizeof name - 1 && path[at] == name[at])
			at++;
		if (at < sizeof name - 1)
			continue;
		for (path += at; path[n] && path[n] != ':' && path[n] != ' ';)
			n++;
		if (n < sizeof file || n >= sizeof library ||
		    memcmp(path + n - (sizeof file - 1), file, sizeof file - 1) != 0)
			return;
		memcpy(library, path, n);
		library[n] = '\0';
		return;
	}
}

const char *own_library(void)
{
	return library;
}

void control_remember(char **env)
{
	look_for_library(env);
	look_for_setting(env);
	sys_cookie_final = true;
}

const char *control_setting(void)
{
	if (!ready && &environ)
		look_for_setting(environ);
	return ready ? setting : NULL;
}

uintptr_t sys_cookie_early(void)
{
	control_setting();
	return sys_cookie;
}

const struct worker *control_worker(void)
{
	return control_setting() ? &worker : NULL;
}
