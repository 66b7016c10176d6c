/* SPDX-License-Identifier: MIT */
/* Finds the operators' hooks, and checks that no other user could have written them. Loop thread,
 * before anything starts; no file is changed. */
#include "defer.h"
#include "hooks.h"
#include "hooks_private.h"
#include "log.h"
#include "text.h"
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define MAX_LINKS 40 /* as in the kernel's path lookup */

/* Checks of a hook: no user other than root and this one may be able to replace it. */

/* The modes do not matter on a read-only mount. A Kubernetes ConfigMap, for example, is mounted
 * read-only with modes that permit writing by everyone. */
static bool is_read_only(const char *path)
{
	struct statvfs fs;

	return statvfs(path, &fs) == 0 && (fs.f_flag & ST_RDONLY) != 0;
}

static int check_owner(const char *what, const char *path, const struct stat *st, struct error *err)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return error_set(err, -ERR_CONFIG,
			"%s '%s' belongs to user %u, neither root nor this user (%u); try: chown root '%s'",
			what, path, st->st_uid, geteuid(), path);
	if ((st->st_mode & (S_IWGRP | S_IWOTH)) != 0 && !is_read_only(path))
		return error_set(err, -ERR_CONFIG,
			"%s '%s' can be written to by others (mode %04o); try: chmod go-w '%s'",
			what, path, st->st_mode & 07777, path);
	return 0;
}

/* A lookup of a path, component by component, through symbolic links. A user who can write to one
 * of the directories determines which file the path leads to. In a sticky directory (/tmp), only
 * the owner of the directory or of the entry can do so. */

struct path_walk {
	const char *path; /* the whole path, for messages */
	char *done;       /* absolute path of the present directory, without links */
	char *rest;       /* the components that are still to be looked up */
	unsigned links;   /* number of links followed */
};

static int set_lookup_error(const struct path_walk *w, const char *at, struct error *err)
{
	return error_set(err, -ERR_CONFIG, "hooks in '%s': cannot look at '%s': %m", w->path, at);
}

static int check_component(const struct path_walk *w, const struct stat *entry, struct error *err)
{
	struct stat dir;

	if (stat(w->done, &dir) < 0)
		return set_lookup_error(w, w->done, err);
	if ((dir.st_mode & S_ISVTX) == 0)
		return check_owner("on the way to hooks,", w->done, &dir, err);
	if (dir.st_uid != 0 && dir.st_uid != geteuid())
		return check_owner("on the way to hooks,", w->done, &dir, err);
	if (entry->st_uid == 0 || entry->st_uid == geteuid() || is_read_only(w->done))
		return 0;
	return error_set(err, -ERR_CONFIG,
		"hooks in '%s': something on the way to them, in '%s', belongs to user %u, who can exchange it",
		w->path, w->done, entry->st_uid);
}

static void set_text(char **to, char *value)
{
	free(*to);
	*to = value;
}

static int follow_link(struct path_walk *w, const char *link, struct error *err)
{
	char target[PATH_MAX];
	ssize_t n = readlink(link, target, sizeof(target) - 1);

	errno = ++w->links > MAX_LINKS ? ELOOP : errno;
	if (n < 0 || w->links > MAX_LINKS)
		return set_lookup_error(w, link, err);
	target[n] = '\0';
	set_text(&w->rest, text_format("%s/%s", target, w->rest));
	if (target[0] == '/')
		set_text(&w->done, text_copy("/"));
	return 0;
}

static int walk_into(struct path_walk *w, const char *name, struct error *err)
{
	_free_ char *next = text_format("%s%s%s", w->done, w->done[1] != '\0' ? "/" : "", name);
	struct stat st;
	int code;

	if (lstat(next, &st) < 0)
		return set_lookup_error(w, next, err);
	code = check_component(w, &st, err);
	if (code < 0)
		return code;
	if (S_ISLNK(st.st_mode))
		return follow_link(w, next, err);
	set_text(&w->done, take_ptr(&next));
	return 0;
}

static int walk_component(struct path_walk *w, struct error *err)
{
	size_t skip = strspn(w->rest, "/"), len = strcspn(w->rest + skip, "/");
	_free_ char *name = text_format("%.*s", (int)len, w->rest + skip);
	char *slash = strrchr(w->done, '/');

	set_text(&w->rest, text_copy(w->rest + skip + len));
	if (len == 0 || strcmp(name, ".") == 0)
		return 0;
	if (strcmp(name, "..") != 0)
		return walk_into(w, name, err);
	slash[slash == w->done ? 1 : 0] = '\0';
	return 0;
}

static int check_path(const char *path, struct error *err)
{
	struct path_walk w = {.path = path, .done = text_copy("/"), .rest = text_copy(path)};
	char cwd[PATH_MAX];
	int code = 0;

	if (path[0] != '/' && getcwd(cwd, sizeof(cwd)) != NULL)
		set_text(&w.rest, text_format("%s/%s", cwd, path));
	while (code == 0 && w.rest[strspn(w.rest, "/")] != '\0')
		code = walk_component(&w, err);
	free(w.done);
	free(w.rest);
	return code;
}

static int check_directory(const char *path, struct error *err)
{
	struct stat st;
	int code;

	if (stat(path, &st) < 0)
		return error_set(err, -ERR_CONFIG,
			"hooks directory '%s': %m (it is named by dir of [hooks] in agent.ini)",
			path);
	if (!S_ISDIR(st.st_mode))
		return error_set(err, -ERR_CONFIG,
			"hooks directory '%s' is not a directory; hooks are files in POINT/ of a hooks directory",
			path);
	code = check_owner("hooks directory", path, &st, err);
	return code < 0 ? code : check_path(path, err);
}

/* Checks the directory of the file to which a hook is linked. */
static int check_target(const char *path, struct error *err)
{
	_free_ char *real = realpath(path, NULL);
	char *slash = real != NULL ? strrchr(real, '/') : NULL;
	struct stat st;

	if (slash == NULL)
		return error_set(err, -ERR_CONFIG, "hook '%s': %m", path);
	slash[slash == real ? 1 : 0] = '\0';
	if (stat(real, &st) < 0)
		return error_set(err, -ERR_CONFIG, "hook '%s': '%s': %m", path, real);
	return check_owner("the directory that a hook is linked to,", real, &st, err);
}

static int check_executable(const char *path, const struct stat *st, struct error *err)
{
	struct statvfs fs;

	if (access(path, X_OK) == 0)
		return 0;
	if ((st->st_mode & 0111) != 0 && statvfs(path, &fs) == 0 && (fs.f_flag & ST_NOEXEC) != 0)
		return error_set(err, -ERR_CONFIG,
			"hook '%s' cannot be executed: its file system is mounted noexec; copy the hooks elsewhere",
			path);
	return error_set(err, -ERR_CONFIG,
		"hook '%s' is not executable; try: chmod 755 '%s' (of a Kubernetes ConfigMap: defaultMode: 0755), or remove it",
		path, path);
}

/* Checks that a hook may run as this user: only root and this user can have created it, or can
 * replace a directory or a link that leads to it. -ERR_CONFIG, with advice. */
static int check_hook(const char *path, struct error *err)
{
	struct stat st, link;
	int code;

	if (lstat(path, &link) < 0 || stat(path, &st) < 0)
		return error_set(err, -ERR_CONFIG,
			"hook '%s': %m; remove it, or link it to /dev/null to disable it", path);
	if (!S_ISREG(st.st_mode))
		return error_set(err, -ERR_CONFIG,
			"hook '%s' is not a file; remove it, or link it to /dev/null to disable it",
			path);
	code = check_owner("hook", path, &st, err);
	if (code == 0 && S_ISLNK(link.st_mode))
		code = check_target(path, err);
	if (code == 0 && S_ISLNK(link.st_mode))
		code = check_path(path, err);
	return code < 0 ? code : check_executable(path, &st, err);
}

/* Compares the text of the link, so that it also works if there is no /dev/null. */
static bool is_link_to_null(const char *path)
{
	char target[16];
	ssize_t len = readlink(path, target, sizeof(target));

	return len == 9 && memcmp(target, "/dev/null", 9) == 0;
}

/* Hook points. */

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

/* Files of editors and package managers, which are not hooks. */
static const char *const ignored_names[] = {".*", "*~", "#*#", "*.bak", "*.orig", "*.rej", "*.swp",
	"*.dpkg-*", "*.ucf-*", "*.rpmnew", "*.rpmorig", "*.rpmsave"};

const char *hook_point_name(enum hook_point point)
{
	return point_names[point];
}

enum hook_point hook_point_by_name(const char *name)
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

static bool is_ignored(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(ignored_names); i++) {
		if (fnmatch(ignored_names[i], name, 0) == 0)
			return true;
	}
	return false;
}

/* The hooks in one hooks directory. */

static struct hook *find_name(const struct hook_list *list, const char *name)
{
	for (size_t i = 0; i < list->n; i++) {
		if (strcmp(list->v[i].name, name) == 0)
			return &list->v[i];
	}
	return NULL;
}

/* Adds a hook, or replaces the path of the hook with this name. Owns path. */
static void add_or_replace(struct hook_list *list, const char *name, char *path)
{
	struct hook *existing = find_name(list, name);

	if (existing != NULL) {
		free(existing->path);
		existing->path = path;
		return;
	}
	list->v = realloc(list->v, (list->n + 1) * sizeof(*list->v));
	if (list->v == NULL)
		abort();
	list->v[list->n++] = (struct hook){.name = text_copy(name), .path = path};
}

/* A directory among the hooks is not a hook, but may contain files that hooks use. */
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
		_free_ char *path = text_format("%s/%s", dir, e->d_name);

		if (!is_ignored(e->d_name) && !is_directory(path))
			add_or_replace(list, e->d_name, take_ptr(&path));
	}
	return errno != 0 ? error_set(err, -errno, "read the hooks directory '%s': %m", dir) : 0;
}

static int read_point(
	const char *hooks_dir, enum hook_point point, struct hook_list *list, struct error *err)
{
	_free_ char *dir = text_format("%s/%s", hooks_dir, point_names[point]);
	int code;

	if (access(dir, F_OK) < 0 && errno == ENOENT)
		return 0;
	code = check_directory(dir, err);
	return code < 0 ? code : read_names(dir, list, err);
}

/* Logs a warning for a directory whose name looks like a misspelt point, such as
 * on_experiment_strat. */
static void warn_of_unknown_points(const char *hooks_dir)
{
	_closedir_ DIR *d = opendir(hooks_dir);
	const struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL) {
		const char *nearest = nearest_word(e->d_name, point_names, HOOK_POINT_COUNT);

		if (hook_point_by_name(e->d_name) != HOOK_POINT_COUNT ||
			(nearest == NULL && strncmp(e->d_name, "on_", 3) != 0))
			continue;
		log_warn("hooks in '%s/%s' are never run: there is no such point%s%s%s", hooks_dir,
			e->d_name, nearest != NULL ? "; did you mean " : "",
			nearest != NULL ? nearest : "", nearest != NULL ? "?" : "");
	}
}

static int read_directory(const char *hooks_dir, struct hooks *h, struct error *err)
{
	int code = check_directory(hooks_dir, err);

	if (code == 0)
		warn_of_unknown_points(hooks_dir);
	for (int p = 0; p < HOOK_POINT_COUNT && code == 0; p++)
		code = read_point(hooks_dir, (enum hook_point)p, &h->at[p], err);
	return code;
}

/* The hooks of all directories. */

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct hook *)a)->name, ((const struct hook *)b)->name);
}

static int compare_names_reversed(const void *a, const void *b)
{
	return compare_names(b, a);
}

static void hook_done(struct hook *hook)
{
	free(hook->name);
	free(hook->path);
}

/* Removes the disabled hooks and checks the others. This is done after all directories were read,
 * because a hook that is overridden or disabled need not be valid. */
static int check_enabled(struct hook_list *list, struct error *err)
{
	size_t kept = 0, n = list->n;
	int code = 0;

	for (size_t i = 0; i < n; i++) {
		bool disabled = is_link_to_null(list->v[i].path);

		if (!disabled && code == 0)
			code = check_hook(list->v[i].path, err);
		if (disabled)
			hook_done(&list->v[i]);
		else
			list->v[kept++] = list->v[i];
	}
	list->n = kept;
	return code;
}

static int check_and_sort(struct hooks *h, struct error *err)
{
	int code = 0;

	for (int p = 0; p < HOOK_POINT_COUNT && code == 0; p++) {
		code = check_enabled(&h->at[p], err);
		if (h->at[p].n > 0)
			qsort(h->at[p].v, h->at[p].n, sizeof(*h->at[p].v),
				runs_in_reverse[p] ? compare_names_reversed : compare_names);
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
		code = check_and_sort(h, err);
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
