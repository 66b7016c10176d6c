/* SPDX-License-Identifier: MIT */
/* Which operators' hooks there are, in the order in which they run. Touches nothing. */
#include "defer.h"
#include "hooks.h"
#include "judge.h"
#include "log.h"
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>

#define DEFAULT_DIRECTORY "/etc/stagerun/hooks"

static const char *const point_names[] = {
#define X(id, name, reverse) name,
	HOOK_POINTS(X)
#undef X
};

static const bool runs_in_reverse[] = {
#define X(id, name, reverse) reverse,
	HOOK_POINTS(X)
#undef X
};

/* What editors and package managers leave beside a hook. */
static const char *const no_hooks[] = {".*", "*~", "#*#", "*.bak", "*.orig", "*.rej", "*.swp",
	"*.dpkg-*", "*.ucf-*", "*.rpmnew", "*.rpmorig", "*.rpmsave"};

const char *hook_point_name(enum hook_point point)
{
	return point_names[point];
}

enum hook_point hook_point_named(const char *name)
{
	int p = 0;

	while (p < HOOK_POINT_COUNT && strcmp(point_names[p], name) != 0)
		p++;
	return (enum hook_point)p;
}

bool hook_point_needs_command(enum hook_point point)
{
	return point == HOOK_EXPERIMENT_START || point == HOOK_EXPERIMENT_END;
}

static bool is_left_out(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(no_hooks); i++) {
		if (fnmatch(no_hooks[i], name, 0) == 0)
			return true;
	}
	return false;
}

/* The directories of one point. */

static struct hook *find_name(const struct hook_list *list, const char *name)
{
	for (size_t i = 0; i < list->n; i++) {
		if (strcmp(list->v[i].name, name) == 0)
			return &list->v[i];
	}
	return NULL;
}

/* The path is the hook's from now on. */
static void put(struct hook_list *list, const char *name, char *path)
{
	struct hook *there = find_name(list, name);

	if (there != NULL) {
		free(there->path);
		there->path = path;
		return;
	}
	list->v = realloc(list->v, (list->n + 1) * sizeof(*list->v));
	if (list->v == NULL)
		abort();
	list->v[list->n++] = (struct hook){.name = copy_text(name), .path = path};
}

/* A directory in the place of a hook is somebody's library, not a hook. */
static bool is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int read_names(const char *dir, struct hook_list *list, struct error *err)
{
	_closedir_ DIR *d = opendir(dir);
	const struct dirent *e;

	if (d == NULL)
		return error_set(err, -errno, "read the hooks directory '%s': %m", dir);
	while (errno = 0, (e = readdir(d)) != NULL) {
		_free_ char *path = format_text("%s/%s", dir, e->d_name);

		if (!is_left_out(e->d_name) && !is_directory(path))
			put(list, e->d_name, take_ptr(&path));
	}
	return errno != 0 ? error_set(err, -errno, "read the hooks directory '%s': %m", dir) : 0;
}

static int read_point(
	const char *hooks_dir, enum hook_point point, struct hook_list *list, struct error *err)
{
	_free_ char *dir = format_text("%s/%s", hooks_dir, point_names[point]);
	int code;

	if (access(dir, F_OK) < 0 && errno == ENOENT)
		return 0;
	code = judge_directory(dir, err);
	return code < 0 ? code : read_names(dir, list, err);
}

/* Whoever writes on_experiment_strat is not told by silence. */
static void warn_of_strangers(const char *hooks_dir)
{
	_closedir_ DIR *d = opendir(hooks_dir);
	const struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL) {
		const char *nearest = nearest_word(e->d_name, point_names, HOOK_POINT_COUNT);

		if (hook_point_named(e->d_name) != HOOK_POINT_COUNT ||
			(nearest == NULL && strncmp(e->d_name, "on_", 3) != 0))
			continue;
		log_warn("hooks in '%s/%s' are never run: there is no such point%s%s%s", hooks_dir,
			e->d_name, nearest != NULL ? "; did you mean " : "",
			nearest != NULL ? nearest : "", nearest != NULL ? "?" : "");
	}
}

static int read_directory(const char *hooks_dir, struct hooks *h, struct error *err)
{
	int code = judge_directory(hooks_dir, err);

	if (code == 0)
		warn_of_strangers(hooks_dir);
	for (int p = 0; p < HOOK_POINT_COUNT && code == 0; p++)
		code = read_point(hooks_dir, (enum hook_point)p, &h->at[p], err);
	return code;
}

/* What was found in all of them. */

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct hook *)a)->name, ((const struct hook *)b)->name);
}

static int compare_in_reverse(const void *a, const void *b)
{
	return compare(b, a);
}

static void hook_done(struct hook *hook)
{
	free(hook->name);
	free(hook->path);
}

/* Only now: what was overridden or disabled need not be in order. */
static int keep_good(struct hook_list *list, struct error *err)
{
	size_t kept = 0, n = list->n;
	int code = 0;

	for (size_t i = 0; i < n; i++) {
		bool disabled = is_link_to_null(list->v[i].path);

		if (!disabled && code == 0)
			code = judge_hook(list->v[i].path, err);
		if (disabled)
			hook_done(&list->v[i]);
		else
			list->v[kept++] = list->v[i];
	}
	list->n = kept;
	return code;
}

static int arrange(struct hooks *h, struct error *err)
{
	int code = 0;

	for (int p = 0; p < HOOK_POINT_COUNT && code == 0; p++) {
		code = keep_good(&h->at[p], err);
		if (h->at[p].n > 0)
			qsort(h->at[p].v, h->at[p].n, sizeof(*h->at[p].v),
				runs_in_reverse[p] ? compare_in_reverse : compare);
	}
	return code;
}

static int read_directories(const struct settings *s, struct hooks *h, struct error *err)
{
	int code = 0;

	if (s->hook_dirs.n == 0 && access(DEFAULT_DIRECTORY, F_OK) == 0)
		return read_directory(DEFAULT_DIRECTORY, h, err);
	for (size_t i = 0; i < s->hook_dirs.n && code == 0; i++)
		code = read_directory(s->hook_dirs.v[i], h, err);
	return code;
}

int hooks_find(const struct settings *s, struct hooks **ret, struct error *err)
{
	struct hooks *h = zalloc(sizeof(*h));
	int code = read_directories(s, h, err);

	if (code == 0)
		code = arrange(h, err);
	if (code < 0) {
		hooks_free(h);
		return code;
	}
	*ret = h;
	return 0;
}

void hooks_free(struct hooks *h)
{
	if (h == NULL)
		return;
	for (int p = 0; p < HOOK_POINT_COUNT; p++) {
		for (size_t i = 0; i < h->at[p].n; i++)
			hook_done(&h->at[p].v[i]);
		free(h->at[p].v);
	}
	free(h);
}

bool hooks_any(const struct hooks *h, enum hook_point point)
{
	return h != NULL && point < HOOK_POINT_COUNT && h->at[point].n > 0;
}
