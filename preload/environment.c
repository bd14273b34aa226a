/*
 * A program that is started gets an environment with the library first in LD_PRELOAD and with
 * TLSWRAP_CONTROL as it was, whatever the caller gives it.
 */
#include "exec.h"

#include <string.h>

extern char **environ WEAK;

static const char preload_name[] = "LD_PRELOAD=";
static const char control_name[] = TW_ENV "=";

/* Linux does not start a program whose arguments and environment take more (fs/exec.c). */
enum { MOST_ENTRIES = (6 << 20) / sizeof(char *), LONGEST_ENTRY = 32 * 4096 };

bool has_name(const char *entry, const char *name, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (entry[i] != name[i])
			return false;
	}
	return true;
}

bool is_large(size_t size)
{
	enum { LARGE = 4096 };
	return size > LARGE && memory_is_own();
}

long room_get(struct room *room, size_t size)
{
	void *at = pages(size);
	if (!at)
		return -ENOMEM;
	*room = (struct room){at, size};
	return 0;
}

void room_free(struct room *room)
{
	if (room->at)
		pages_free(room->at, room->size);
}

long plan_environment(struct plan *plan, char *const *env)
{
	long count = env ? pointers_in(NULL, env, MOST_ENTRIES) : 0;
	if (count < 0 || count == MOST_ENTRIES)
		return count < 0 ? count : -E2BIG;
	plan->entries = (size_t)count + 3;
	return 0;
}

long sort_environment(struct plan *plan, char *const *env, char **out)
{
	char head[32];
	long count = env ? pointers_in(out, env, plan->entries - 3) : 0;
	if (count < 0)
		return count;
	plan->kept = plan->preloads = 0;
	plan->preload_size = sizeof preload_name + strlen(plan->library) + 1;
	for (long i = 0; i < count; i++) {
		char *entry = out[i], **kept = out + plan->preloads;
		long r = string_in(head, entry, sizeof head);
		if (r < 0)
			return r;
		if (has_name(head, control_name, sizeof control_name - 1))
			continue;
		if (!has_name(head, preload_name, sizeof preload_name - 1)) {
			kept[plan->kept++] = entry;
			continue;
		}
		r = string_in(NULL, entry, LONGEST_ENTRY);
		if (r < 0 || r == LONGEST_ENTRY)
			return r < 0 ? r : -E2BIG;
		plan->preload_size += (size_t)r + 1;
		memmove(kept + 1, kept, plan->kept * sizeof *kept);
		*kept = entry;
		plan->preloads++;
	}
	return 0;
}

/* Appends to end what the LD_PRELOAD entry theirs, n bytes, has beside the library, and returns the new end. */
static char *append_theirs(char *end, const char *preload, const char *theirs, size_t n, const char *library)
{
	size_t own = strlen(library);
	if (own && has_name(theirs, library, own) && (theirs[own] == ':' || !theirs[own])) {
		theirs += own;
		n -= own;
	} else if (n && end > preload + sizeof preload_name - 1) {
		*end++ = ':';
	}
	if (n && *theirs == ':' && end == preload + sizeof preload_name - 1) {
		theirs++;
		n--;
	}
	memmove(end, theirs, n);
	return end + n;
}

long write_environment(const struct plan *plan, char **out, char *preload)
{
	size_t own = strlen(plan->library), name = sizeof preload_name - 1;
	const char *library = own ? plan->library : own_library();
	char *end = preload;
	memcpy(end, preload_name, name);
	end += name;
	memcpy(end, plan->library, own);
	end += own;
	for (size_t i = 0; i < plan->preloads; i++) {
		size_t room = plan->preload_size - (size_t)(end - preload);
		long length = string_in(end, out[i], room);
		if (length < (long)name || (size_t)length >= room)
			return -EFAULT; /* another thread has changed it */
		end = append_theirs(end, preload, end + name, (size_t)length - name, library);
	}
	*end = '\0';
	memmove(out, out + plan->preloads, plan->kept * sizeof *out);
	out += plan->kept;
	if (end > preload + name)
		*out++ = preload;
	*out++ = (char *)(uintptr_t)control_setting();
	*out = NULL;
	return 0;
}

bool environment_is_kept(const char *library, const char *setting)
{
	bool has_control = false, has_preload = false;
	size_t n = strlen(library);
	for (char **env = environ; env && *env; env++) {
		if (has_name(*env, control_name, sizeof control_name - 1)) {
			if (!has_name(*env, setting, strlen(setting) + 1))
				return false;
			has_control = true;
		} else if (has_name(*env, preload_name, sizeof preload_name - 1)) {
			const char *theirs = *env + sizeof preload_name - 1;
			if (!has_name(theirs, library, n) || (theirs[n] != ':' && theirs[n]))
				return false;
			has_preload = true;
		}
	}
	return has_control && has_preload;
}
