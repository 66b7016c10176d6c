/* SPDX-License-Identifier: MIT */
/* The objects of a directory's store in the order of their keys: a walk that holds the names of the
 * directories it is in. Files that go away meanwhile were not there. */
#include "defer.h"
#include "store_file.h"
#include "text.h"
#include "tree.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct level {
	struct strings names; /* sorted; a directory's ends in '/', as it does in keys */
	size_t next;
	size_t key_len; /* of the directory's own key */
};

struct walk {
	struct store_hand *h;
	struct text key; /* where it is */
	struct level *levels;
	size_t n, cap;
};

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_directory(DIR *dir, const struct dirent *e)
{
	struct stat st;

	if (e->d_type != DT_UNKNOWN && e->d_type != DT_LNK)
		return e->d_type == DT_DIR;
	return fstatat(dirfd(dir), e->d_name, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

static void read_names(DIR *dir, bool is_root, struct strings *names)
{
	const struct dirent *e;

	while ((e = readdir(dir)) != NULL) {
		_free_ char *name = NULL;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
			(is_root && strcmp(e->d_name, STORE_FILE_TEMPORARY) == 0))
			continue;
		name = format_text("%s%s", e->d_name, is_directory(dir, e) ? "/" : "");
		strings_add(names, name);
	}
	if (names->n > 0)
		qsort(names->v, names->n, sizeof(*names->v), compare);
}

/* Goes into the directory w->key names ("" or with '/' at its end). */
static int enter(struct walk *w, struct error *err)
{
	_free_ char *path = store_file_path(w->h, w->key.len > 0 ? w->key.s : "");
	_closedir_ DIR *dir = opendir(path);
	struct level *l;

	if (dir == NULL && errno != ENOENT && errno != ENOTDIR)
		return disk_error(err, errno, -1, "read", path);
	if (dir == NULL)
		return 0;
	if (w->n == w->cap) {
		w->cap = w->cap > 0 ? 2 * w->cap : 8;
		w->levels = realloc(w->levels, w->cap * sizeof(*w->levels));
		if (w->levels == NULL)
			abort();
	}
	l = &w->levels[w->n++];
	*l = (struct level){.key_len = w->key.len};
	read_names(dir, w->key.len == 0, &l->names);
	return 0;
}

static void leave(struct walk *w)
{
	strings_done(&w->levels[--w->n].names);
}

/* w->key becomes what is next in the innermost directory; false at its end. */
static bool next_name(struct walk *w)
{
	struct level *l = &w->levels[w->n - 1];

	if (l->next == l->names.n)
		return false;
	w->key.len = l->key_len;
	text_add(&w->key, l->names.v[l->next++]);
	return true;
}

static int visit(struct walk *w,
	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err),
	void *ctx, struct error *err)
{
	_free_ char *path = NULL;
	struct stat st;

	if (w->key.s[w->key.len - 1] == '/')
		return enter(w, err);
	path = store_file_path(w->h, w->key.s);
	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	return each(ctx, w->key.s, (uint64_t)st.st_size, st.st_mtime, err);
}

int store_file_list(struct store_hand *h, const char *prefix,
	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err),
	void *ctx, struct error *err)
{
	struct walk w = {.h = h};
	int code;

	text_add(&w.key, prefix);
	code = enter(&w, err);
	while (code == 0 && w.n > 0) {
		if (cancel_requested(h->cancel))
			code = error_set(err, -ECANCELED, "%s: cancelled", h->store->name);
		else if (next_name(&w))
			code = visit(&w, each, ctx, err);
		else
			leave(&w);
	}
	while (w.n > 0)
		leave(&w);
	free(w.levels);
	text_done(&w.key);
	return code;
}
