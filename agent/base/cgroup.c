/* SPDX-License-Identifier: MIT */
/* Finds this process's control group and reads its limits and usage of memory, processors and
 * processes, v1 and v2; decides about kills for lack of memory (oom.h). Inside a container
 * /proc/self/cgroup often names a path of the host that is not mounted: then the root of the mount
 * is the container's own group. Any thread. */
#include "cgroup.h"
#include "defer.h"
#include "oom.h"
#include "text.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define MOUNTS "/sys/fs/cgroup"

/* The file names of one version. */
struct hierarchy {
	const char *limit, *usage, *peak, *events;
	/* Lines of memory.stat that count reclaimable file pages; those of a tmpfs are not among
	 * them. */
	const char *cache[2];
};

static const struct hierarchy v1 = {
	.limit = "memory.limit_in_bytes",
	.usage = "memory.usage_in_bytes",
	.cache = {"total_inactive_file ", "total_active_file "},
	.peak = "memory.max_usage_in_bytes",
	.events = "memory.oom_control",
};

static const struct hierarchy v2 = {
	.limit = "memory.max",
	.usage = "memory.current",
	.cache = {"inactive_file ", "active_file "},
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

/* Splits a line of /proc/self/cgroup: "HIERARCHY:CONTROLLERS:/PATH"; v2 has no controllers. */
static bool split_line(char *line, const char **ret_controllers, const char **ret_path)
{
	char *controllers = strchr(line, ':');
	char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;

	if (path == NULL)
		return false;
	*controllers++ = '\0';
	*path++ = '\0';
	path[strcspn(path, "\n")] = '\0';
	*ret_controllers = controllers;
	*ret_path = strcmp(path, "/") == 0 ? "" : path;
	return true;
}

/* "cpu" is a word of "cpu,cpuacct", but not of "cpuset". */
static bool has_word(const char *words, const char *word)
{
	size_t len = strlen(word);

	while (*words != '\0') {
		size_t n = strcspn(words, ",");

		if (n == len && strncmp(words, word, n) == 0)
			return true;
		words += n + (words[n] == ',');
	}
	return false;
}

/* Controllers of v1 that are mounted together have a directory named after all of them, and usually
 * a link for each. If v1 is mounted, v2 is in a directory of its own. */
static char *find_mount(const char *root, const char *controllers, const char *controller)
{
	char *path = text_format(
		"%s" MOUNTS "/%s", root, *controllers == '\0' ? "unified" : controllers);

	if (access(path, F_OK) == 0)
		return path;
	free(path);
	return *controllers == '\0' ? text_format("%s" MOUNTS, root)
				    : text_format("%s" MOUNTS "/%s", root, controller);
}

/* If both versions are mounted, a controller belongs to one of them: to v1 if that has a line for
 * it. */
static bool find_group(const char *root, const char *controller, struct group *ret)
{
	_free_ char *self = text_format("%s/proc/self/cgroup", root);
	_fclose_ FILE *f = fopen(self, "re");
	char line[4096];

	*ret = (struct group){0};
	while (f != NULL && ret->files != &v1 && fgets(line, sizeof(line), f) != NULL) {
		const char *controllers, *path;

		if (!split_line(line, &controllers, &path) ||
			(*controllers != '\0' && !has_word(controllers, controller)))
			continue;
		group_done(ret);
		ret->path = text_copy(path);
		ret->mount = find_mount(root, controllers, controller);
		ret->files = *controllers == '\0' ? &v2 : &v1;
	}
	return ret->files != NULL;
}

/* Returns the number at the beginning of the file; else (also for "max", or no file) absent. */
static uint64_t read_number(const char *path, uint64_t absent)
{
	_fclose_ FILE *f = fopen(path, "re");
	unsigned long long n;

	return f == NULL || fscanf(f, "%llu", &n) != 1 ? absent : n;
}

/* v1 has no word for "no limit", only the largest possible number of pages. */
static uint64_t read_limit(const char *path)
{
	uint64_t limit = read_number(path, UINT64_MAX);

	return limit >= 1ull << 62 ? UINT64_MAX : limit;
}

static uint64_t limit_of(const struct group *g, const char *dir)
{
	_free_ char *path = text_format("%s%s/%s", g->mount, dir, g->files->limit);

	return read_limit(path);
}

static uint64_t cached_bytes(const struct group *g, const char *dir)
{
	_free_ char *path = text_format("%s%s/memory.stat", g->mount, dir);
	_fclose_ FILE *f = fopen(path, "re");
	uint64_t sum = 0;
	char line[256];

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		for (size_t i = 0; i < ARRAY_LEN(g->files->cache); i++) {
			size_t len = strlen(g->files->cache[i]);

			if (strncmp(line, g->files->cache[i], len) == 0)
				sum += strtoull(line + len, NULL, 10);
		}
	}
	return sum;
}

static uint64_t left_in(const struct group *g, const char *dir)
{
	_free_ char *path = text_format("%s%s/%s", g->mount, dir, g->files->usage);
	uint64_t limit = limit_of(g, dir), used = read_number(path, 0);
	uint64_t cached = limit != UINT64_MAX ? cached_bytes(g, dir) : 0;

	used -= cached < used ? cached : used;
	return limit == UINT64_MAX ? limit : limit > used ? limit - used : 0;
}

/* Returns the smallest value of the group's and its ancestors'; *ret_dir: the directory with that
 * value, heap. */
static uint64_t smallest_at(const struct group *g,
	uint64_t (*of)(const struct group *g, const char *dir), char **ret_dir)
{
	_free_ char *dir = text_copy(g->path);
	uint64_t least = UINT64_MAX;

	*ret_dir = text_copy(g->path);
	for (;;) {
		uint64_t n = of(g, dir);
		char *slash = strrchr(dir, '/');

		if (n < least) {
			least = n;
			snprintf(*ret_dir, strlen(g->path) + 1, "%s", dir);
		}
		if (slash == NULL)
			return least;
		*slash = '\0';
	}
}

static uint64_t smallest(
	const struct group *g, uint64_t (*of)(const struct group *g, const char *dir))
{
	_free_ char *dir = NULL;

	return smallest_at(g, of, &dir);
}

/* Returns the path of a file of the group itself. Heap. */
static char *own_file(const struct group *g, const char *name)
{
	_free_ char *dir = text_format("%s%s", g->mount, g->path);

	return text_format("%s/%s", access(dir, F_OK) == 0 ? dir : g->mount, name);
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
	uint64_t limit = find_group(root, "memory", &g) ? smallest(&g, limit_of) : UINT64_MAX;

	group_done(&g);
	return limit;
}

uint64_t cgroup_memory_left(const char *root)
{
	struct group g;
	uint64_t left = find_group(root, "memory", &g) ? smallest(&g, left_in) : UINT64_MAX;

	group_done(&g);
	return left;
}

struct cgroup_memory cgroup_memory_read(const char *root)
{
	struct cgroup_memory m = {.tree_limit_bytes = UINT64_MAX};
	struct group g;

	if (find_group(root, "memory", &g)) {
		_free_ char *peak = own_file(&g, g.files->peak);
		_free_ char *events = own_file(&g, g.files->events);

		m.tree_limit_bytes = smallest(&g, limit_of);
		m.peak_bytes = read_number(peak, 0);
		m.counts_kills = read_oom_kills(events, &m.oom_kills);
	}
	group_done(&g);
	return m;
}

/* v2: "QUOTA PERIOD" or "max PERIOD". */
static bool read_quota(const struct group *g, const char *dir, long long *quota, long long *period)
{
	_free_ char *path = text_format("%s%s/cpu.max", g->mount, dir);
	_fclose_ FILE *f = fopen(path, "re");

	return f != NULL && fscanf(f, "%lld %lld", quota, period) == 2;
}

/* v1: a quota of -1 means none. */
static bool read_quota_v1(
	const struct group *g, const char *dir, long long *quota, long long *period)
{
	_free_ char *quota_path = text_format("%s%s/cpu.cfs_quota_us", g->mount, dir);
	_free_ char *period_path = text_format("%s%s/cpu.cfs_period_us", g->mount, dir);
	_fclose_ FILE *q = fopen(quota_path, "re"), *p = fopen(period_path, "re");

	return q != NULL && p != NULL && fscanf(q, "%lld", quota) == 1 &&
	       fscanf(p, "%lld", period) == 1;
}

/* Rounded up: half a processor serves one thread, and one and a half keep two threads busy. */
static uint64_t processors_of(const struct group *g, const char *dir)
{
	long long quota, period;
	bool known = g->files == &v1 ? read_quota_v1(g, dir, &quota, &period)
				     : read_quota(g, dir, &quota, &period);

	return known && quota > 0 && period > 0 ? ((uint64_t)quota - 1) / (uint64_t)period + 1
						: UINT64_MAX;
}

uint64_t cgroup_processors(const char *root)
{
	struct group g;
	uint64_t n = find_group(root, "cpu", &g) ? smallest(&g, processors_of) : UINT64_MAX;

	group_done(&g);
	return n;
}

/* The files have the same names in both versions. */
static uint64_t pids_limit_of(const struct group *g, const char *dir)
{
	_free_ char *path = text_format("%s%s/pids.max", g->mount, dir);

	return read_number(path, UINT64_MAX);
}

static uint64_t pids_left_in(const struct group *g, const char *dir)
{
	_free_ char *path = text_format("%s%s/pids.current", g->mount, dir);
	uint64_t limit = pids_limit_of(g, dir),
		 used = limit != UINT64_MAX ? read_number(path, 0) : 0;

	return limit == UINT64_MAX ? limit : limit > used ? limit - used : 0;
}

struct cgroup_pids cgroup_pids_read(const char *root)
{
	struct cgroup_pids p = {.limit = UINT64_MAX, .left = UINT64_MAX};
	struct group g;

	if (find_group(root, "pids", &g)) {
		_free_ char *fullest = NULL;

		p.left = smallest_at(&g, pids_left_in, &fullest);
		p.limit = pids_limit_of(&g, fullest);
	}
	group_done(&g);
	return p;
}

/* Kills for lack of memory, from two readings of the group's files. Pure. */

static bool died_of_sigkill(int wait_status)
{
	if (WIFSIGNALED(wait_status))
		return WTERMSIG(wait_status) == SIGKILL;
	return WEXITSTATUS(wait_status) == 128 + SIGKILL;
}

enum oom_verdict oom_classify(
	const struct cgroup_memory *before, const struct cgroup_memory *after, int wait_status)
{
	if (!before->counts_kills || !after->counts_kills || after->oom_kills <= before->oom_kills)
		return OOM_NONE;
	return died_of_sigkill(wait_status) ? OOM_COMMAND : OOM_WORKER;
}

/* A group that never came near its limit was not killed because of it: the machine, or a group
 * above this one, had no memory left, and a higher limit would not help. */
static bool was_far_from_limit(const struct cgroup_memory *m)
{
	return m->peak_bytes > 0 && m->peak_bytes < m->tree_limit_bytes - m->tree_limit_bytes / 8;
}

char *oom_sentence(enum oom_verdict verdict, const struct cgroup_memory *after)
{
	struct text t = {0};
	char size[32];

	if (verdict == OOM_NONE)
		return NULL;
	text_add(&t, verdict == OOM_COMMAND
			     ? "killed by the kernel for memory"
			     : "a process of the run was killed by the kernel for memory");
	if (after->tree_limit_bytes == UINT64_MAX)
		text_add(&t, ": no limit of its own");
	else
		text_addf(&t, ": limit %s", units_print_memory(after->tree_limit_bytes, size));
	if (after->peak_bytes > 0)
		text_addf(&t, ", peak %s", units_print_memory(after->peak_bytes, size));
	if (was_far_from_limit(after))
		text_add(&t, " (the machine itself, or a group above this one, ran out)");
	return text_take(&t);
}
