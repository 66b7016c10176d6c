/* SPDX-License-Identifier: MIT */
/* The memory limit of this process's control group, both versions (cgroups(7)). Inside a container
 * /proc/self/cgroup often names a path of the host, which is not mounted: then the root of the
 * mount is the container's own group. */
#include "budget.h"
#include "defer.h"
#include "text.h"
#include <stdio.h>
#include <string.h>

/* The number in a file; UINT64_MAX for "max", no file, or nonsense. */
static uint64_t read_limit(const char *path)
{
	_fclose_ FILE *f = fopen(path, "re");
	unsigned long long n;

	if (f == NULL || fscanf(f, "%llu", &n) != 1)
		return UINT64_MAX;
	return n;
}

/* The smallest limit of a group and its ancestors: group is a path below mount, "" for its root. */
static uint64_t smallest_limit(const char *mount, const char *group, const char *file)
{
	_free_ char *dir = copy_text(group);
	uint64_t least = UINT64_MAX;

	for (;;) {
		_free_ char *path = format_text("%s%s/%s", mount, dir, file);
		uint64_t limit = read_limit(path);
		char *slash = strrchr(dir, '/');

		if (limit < least)
			least = limit;
		if (slash == NULL)
			return least;
		*slash = '\0';
	}
}

/* One line of /proc/self/cgroup: "HIERARCHY:CONTROLLERS:/PATH"; v2 has no controllers. */
static uint64_t line_limit(const char *root, char *line)
{
	char *controllers = strchr(line, ':');
	char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
	_free_ char *mount = NULL;

	if (group == NULL)
		return UINT64_MAX;
	*controllers++ = '\0';
	*group++ = '\0';
	group[strcspn(group, "\n")] = '\0';
	if (strcmp(group, "/") == 0)
		group = "";
	if (*controllers == '\0') {
		mount = format_text("%s/sys/fs/cgroup", root);
		return smallest_limit(mount, group, "memory.max");
	}
	if (strstr(controllers, "memory") == NULL)
		return UINT64_MAX;
	mount = format_text("%s/sys/fs/cgroup/memory", root);
	return smallest_limit(mount, group, "memory.limit_in_bytes");
}

uint64_t cgroup_memory_limit(const char *root)
{
	_free_ char *path = format_text("%s/proc/self/cgroup", root);
	_fclose_ FILE *f = fopen(path, "re");
	uint64_t least = UINT64_MAX;
	char line[4096];

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		uint64_t limit = line_limit(root, line);

		if (limit < least)
			least = limit;
	}
	return least;
}
