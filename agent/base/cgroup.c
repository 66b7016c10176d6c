/* SPDX-License-Identifier: MIT */
/* Finds this process's control group and reads what it says about memory, both versions. Inside a
 * container /proc/self/cgroup often names a path of the host, which is not mounted: then the root of
 * the mount is the container's own group. */
#include "cgroup.h"
#include "defer.h"
#include "text.h"
#include <stdio.h>
#include <string.h>

/* Where the files of one version are, and what they are called. */
struct hierarchy {
	const char *mount; /* below root */
	const char *limit, *peak, *events;
};

static const struct hierarchy v1 = {
	.mount = "/sys/fs/cgroup/memory",
	.limit = "memory.limit_in_bytes",
	.peak = "memory.max_usage_in_bytes",
	.events = "memory.oom_control",
};

static const struct hierarchy v2 = {
	.mount = "/sys/fs/cgroup",
	.limit = "memory.max",
	.peak = "memory.peak",
	.events = "memory.events",
};

struct group {
	const struct hierarchy *files;
	char *mount; /* heap */
	char *path;  /* heap: below mount, "" for its root; may not exist there */
};

static void group_done(struct group *g)
{
	free(g->mount);
	free(g->path);
}

/* One line of /proc/self/cgroup: "HIERARCHY:CONTROLLERS:/PATH"; v2 has no controllers. NULL when it
 * is not about memory. */
static const struct hierarchy *split_line(char *line, const char **ret_path)
{
	char *controllers = strchr(line, ':');
	char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;

	if (path == NULL)
		return NULL;
	*controllers++ = '\0';
	*path++ = '\0';
	path[strcspn(path, "\n")] = '\0';
	*ret_path = strcmp(path, "/") == 0 ? "" : path;
	if (*controllers == '\0')
		return &v2;
	return strstr(controllers, "memory") != NULL ? &v1 : NULL;
}

/* Where both versions are mounted, memory belongs to one of them: v1 when it has a line for it. */
static bool find_group(const char *root, struct group *ret)
{
	_free_ char *self = format_text("%s/proc/self/cgroup", root);
	_fclose_ FILE *f = fopen(self, "re");
	char line[4096];

	*ret = (struct group){0};
	while (f != NULL && ret->files != &v1 && fgets(line, sizeof(line), f) != NULL) {
		const char *path;
		const struct hierarchy *files = split_line(line, &path);

		if (files == NULL)
			continue;
		free(ret->path);
		ret->path = copy_text(path);
		ret->files = files;
	}
	if (ret->files == NULL)
		return false;
	ret->mount = format_text("%s%s", root, ret->files->mount);
	return true;
}

/* The number that a file begins with; otherwise (also for "max", or no file) absent. */
static uint64_t read_number(const char *path, uint64_t absent)
{
	_fclose_ FILE *f = fopen(path, "re");
	unsigned long long n;

	return f == NULL || fscanf(f, "%llu", &n) != 1 ? absent : n;
}

/* v1 has no word for "no limit", only the largest number of pages there is. */
static uint64_t read_limit(const char *path)
{
	uint64_t limit = read_number(path, UINT64_MAX);

	return limit >= 1ull << 62 ? UINT64_MAX : limit;
}

/* The smallest limit of the group and its ancestors. */
static uint64_t smallest_limit(const struct group *g)
{
	_free_ char *dir = copy_text(g->path);
	uint64_t least = UINT64_MAX;

	for (;;) {
		_free_ char *path = format_text("%s%s/%s", g->mount, dir, g->files->limit);
		uint64_t limit = read_limit(path);
		char *slash = strrchr(dir, '/');

		if (limit < least)
			least = limit;
		if (slash == NULL)
			return least;
		*slash = '\0';
	}
}

/* A file of the group itself, on the heap. */
static char *own_file(const struct group *g, const char *name)
{
	_free_ char *dir = format_text("%s%s", g->mount, g->path);

	return format_text("%s/%s", access(dir, F_OK) == 0 ? dir : g->mount, name);
}

/* Both versions have a line "oom_kill N" among others. */
static bool read_oom_kills(const char *path, uint64_t *ret)
{
	_fclose_ FILE *f = fopen(path, "re");
	char line[256];

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		unsigned long long n;

		if (sscanf(line, "oom_kill %llu", &n) == 1) {
			*ret = n;
			return true;
		}
	}
	return false;
}

uint64_t cgroup_memory_limit(const char *root)
{
	struct group g;
	uint64_t limit = find_group(root, &g) ? smallest_limit(&g) : UINT64_MAX;

	group_done(&g);
	return limit;
}

struct cgroup_memory cgroup_memory_read(const char *root)
{
	struct cgroup_memory m = {.limit_bytes = UINT64_MAX};
	struct group g;

	if (find_group(root, &g)) {
		_free_ char *peak = own_file(&g, g.files->peak);
		_free_ char *events = own_file(&g, g.files->events);

		m.limit_bytes = smallest_limit(&g);
		m.peak_bytes = read_number(peak, 0);
		m.counts_kills = read_oom_kills(events, &m.oom_kills);
	}
	group_done(&g);
	return m;
}
