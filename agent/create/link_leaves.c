/* SPDX-License-Identifier: MIT */
/* Where symbolic links of a source lead, by the rules that trees are written by (tree.h): an absolute target
 * leaves, one that climbs over the root does, and one that goes up again from a name of its own does unless
 * that name is a real directory. */
#include "walk.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

static void go_up(char *path)
{
	char *slash = strrchr(path, '/');

	*(slash != NULL ? slash : path) = '\0';
}

static void go_down(char *path, size_t room, const char *name, size_t len)
{
	size_t used = strlen(path);

	snprintf(path + used, room - used, "%s%.*s", used > 0 ? "/" : "", (int)len, name);
}

static bool is_name(const char *s, size_t len)
{
	return len > 0 && !(len == 1 && *s == '.');
}

bool link_leaves(
	const char *path, const char *target, bool (*is_dir)(void *ctx, char *path), void *ctx)
{
	char at[2 * PATH_MAX + 2];
	bool named = false; /* the end of at comes from target and was not looked at yet */

	if (*target == '/' || *target == '\0')
		return true;
	snprintf(at, sizeof(at), "%s", path);
	go_up(at);
	while (*target != '\0') {
		size_t len = strcspn(target, "/");

		if (len == 2 && memcmp(target, "..", 2) == 0) {
			if (*at == '\0' || (named && !is_dir(ctx, at)))
				return true;
			go_up(at);
			named = false;
		} else if (is_name(target, len)) {
			go_down(at, sizeof(at), target, len);
			named = true;
		}
		target += len + (target[len] == '/');
	}
	return false;
}
