/* SPDX-License-Identifier: MIT */
/* Where symbolic links of a source lead, by the rules that trees are written by (tree.h): an absolute target
 * leaves, one that climbs over the root does, and one that goes up again from a name of its own does unless
 * that name is a real directory. */
#include "walk.h"
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Whether every component of path is a directory, and none a link. */
static bool is_real_dir(int root_fd, char *path)
{
	for (char *end = path; *end != '\0';) {
		struct stat st;
		char kept;
		int r;

		end = strchrnul(end + 1, '/');
		kept = *end;
		*end = '\0';
		r = fstatat(root_fd, path, &st, AT_SYMLINK_NOFOLLOW);
		*end = kept;
		if (r < 0 || !S_ISDIR(st.st_mode))
			return false;
	}
	return true;
}

static void go_up(char *path)
{
	char *slash = strrchr(path, '/');

	*(slash != NULL ? slash : path) = '\0';
}

int link_leaves(int root_fd, const char *path, const char *target)
{
	char at[2 * PATH_MAX + 2];
	bool named = false; /* the end of at comes from target and was not looked at yet */

	if (*target == '/' || *target == '\0')
		return 1;
	strcpy(at, path);
	go_up(at);
	while (*target != '\0') {
		size_t len = strcspn(target, "/");

		if (len == 2 && memcmp(target, "..", 2) == 0) {
			if (*at == '\0' || (named && !is_real_dir(root_fd, at)))
				return 1;
			go_up(at);
			named = false;
		} else if (len > 0 && !(len == 1 && *target == '.')) {
			size_t used = strlen(at);

			snprintf(at + used, sizeof(at) - used, "%s%.*s", used > 0 ? "/" : "",
				(int)len, target);
			named = true;
		}
		target += len + (target[len] == '/');
	}
	return 0;
}
