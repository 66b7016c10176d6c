/* SPDX-License-Identifier: MIT */
/* Symbolic links, and the rules for names and link targets that can be decided from their text
 * alone. The rules are pure functions for any thread; links are created on the writer's thread. */
#include "disk.h"
#include "text.h"
#include "tree_private.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool tree_path_next(const char **rest, struct component *ret)
{
	const char *s = *rest + strspn(*rest, "/");

	ret->s = s;
	ret->len = strcspn(s, "/");
	*rest = s + ret->len;
	return ret->len > 0;
}

static bool component_is(const struct component *c, const char *s)
{
	return strncmp(c->s, s, c->len) == 0 && s[c->len] == '\0';
}

static int check_name(const char *name, size_t max, struct error *err)
{
	if (*name == '\0')
		return tree_entry_refused(err, name, "it has no name");
	if (*name == '/')
		return tree_entry_refused(err, name, "the name is absolute");
	if (strlen(name) > max)
		return tree_entry_refused(err, name,
			"the name has %zu bytes, and limits.max_path is %zu", strlen(name), max);
	return 0;
}

int tree_path_normalise(const char *name, size_t max, char *ret_path, struct error *err)
{
	const char *rest = name;
	struct component c;
	char *end = ret_path;
	int code = check_name(name, max, err);

	if (code < 0)
		return code;
	while (tree_path_next(&rest, &c)) {
		if (component_is(&c, "."))
			continue;
		if (component_is(&c, ".."))
			return tree_entry_refused(err, name, "the name contains '..'");
		if (c.len > NAME_MAX)
			return tree_entry_refused(err, name,
				"a component of the name has %zu bytes, and file systems take %d",
				c.len, NAME_MAX);
		if (text_is_reserved_name(c.s))
			return tree_entry_refused(err, name,
				"the agent keeps its own files under names like '%.*s'", (int)c.len,
				c.s);
		if (end != ret_path)
			*end++ = '/';
		end = mempcpy(end, c.s, c.len);
	}
	*end = '\0';
	return 0;
}

size_t tree_path_depth(const char *path)
{
	struct component c;
	size_t depth = 0;

	while (tree_path_next(&path, &c))
		depth++;
	return depth;
}

size_t tree_path_parent_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == NULL ? 0 : (size_t)(slash - path);
}

const char *tree_path_base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == NULL ? path : slash + 1;
}

/* Parents are real directories, so a leading ".." goes exactly one level up. */
bool tree_link_leaves(const char *path, const char *target, bool (*is_dir)(void *ctx, char *path),
	void *ctx, char at[static TREE_LINK_TEXT])
{
	size_t len = tree_path_parent_len(path);
	bool named = false; /* at ends with a name of target that is_dir() has not seen */
	struct component c;

	if (*target == '/' || *target == '\0' || len + strlen(target) + 2 > TREE_LINK_TEXT)
		return true;
	*(char *)mempcpy(at, path, len) = '\0';
	while (tree_path_next(&target, &c)) {
		if (component_is(&c, "."))
			continue;
		if (!component_is(&c, "..")) {
			char *end = at + strlen(at);

			if (end != at)
				*end++ = '/';
			*(char *)mempcpy(end, c.s, c.len) = '\0';
			named = true;
			continue;
		}
		if (*at == '\0' || (named && !is_dir(ctx, at)))
			return true;
		named = false;
		at[tree_path_parent_len(at)] = '\0';
	}
	return false;
}

/* Only the finished tree can show what the names of a target are.
 * NOLINTNEXTLINE(readability-non-const-parameter): other callbacks shorten the path meanwhile */
static bool verify_later(void *ctx, char *path)
{
	(void)path;
	*(bool *)ctx = true;
	return true;
}

int tree_path_check_target(
	const char *link, const char *target, size_t max, bool *ret_verify, struct error *err)
{
	char at[TREE_LINK_TEXT];
	bool verify = false;

	if (*target == '\0')
		return tree_entry_refused(err, link, "it is a symbolic link to nothing");
	if (*target == '/')
		return tree_entry_refused(err, link, "its target '%.300s' is absolute", target);
	if (strlen(target) > max)
		return tree_entry_refused(err, link,
			"its target has %zu bytes, and limits.max_path is %zu", strlen(target),
			max);
	if (tree_link_leaves(link, target, verify_later, &verify, at))
		return tree_entry_refused(
			err, link, "its target '%.300s' is outside the destination", target);
	*ret_verify = verify;
	return 0;
}

int tree_entry_refused(struct error *err, const char *name, const char *why, ...)
{
	char reason[640];
	va_list args;

	va_start(args, why);
	vsnprintf(reason, sizeof(reason), why, args);
	va_end(args);
	return error_set(err, -ERR_REFUSED, "'%.300s' was refused: %s", name, reason);
}

/* Symbolic links. None may lead out of the tree, however they are combined. The text of a target
 * shows whether it stays inside, provided that each ".." follows a real directory. If a target has
 * ".." after a name of its own, that is known only when the tree is finished, and is verified
 * then. */

static int create_error(const struct writer *w, int parent_fd, int errnum, struct error *err)
{
	char disk[DISK_TEXT];

	/* SMB, object stores and exFAT have no symbolic links. A copy of the target's content
	 * instead would be a different tree. */
	if (errnum != EPERM && errnum != EOPNOTSUPP && errnum != ENOSYS && errnum != EINVAL)
		return tree_disk_error(err, errnum, parent_fd, "create symbolic link", w->path);
	return error_set(err, -errnum,
		"cannot create symbolic link '%.300s': the destination's file system%s does not take any (%s); leave it out (exclude), or stage elsewhere",
		w->path, disk_describe(parent_fd, disk), strerrordesc_np(errnum));
}

static int create_link_locked(
	struct writer *w, const struct dir_entry *at, const char *target, struct error *err)
{
	int code;

	while (symlinkat(target, at->parent_fd, at->base) < 0) {
		if (errno != EEXIST)
			return create_error(w, at->parent_fd, errno, err);
		code = writer_clear_place(w, at, err);
		if (code < 0)
			return code;
	}
	names_add_locked(w->tree->names, w->path, strlen(w->path));
	return 0;
}

int writer_symlink_make(struct writer *w, const struct dir_entry *at, const char *target,
	const struct meta *m, struct error *err)
{
	int code;

	names_lock(w->tree->names);
	code = create_link_locked(w, at, target, err);
	names_unlock(w->tree->names);
	if (code < 0)
		return code;
	code = metadata_apply_symlink(w, at, m, err);
	if (code == -ENOENT)
		return 0; /* another writer's entry of this name has replaced it meanwhile */
	if (code < 0)
		unlinkat(at->parent_fd, at->base, 0);
	return code;
}

int writer_symlink_remember(struct writer *w, struct error *err)
{
	char end[] = "";
	struct iovec parts[] = {{w->path, strlen(w->path)}, {end, sizeof(end)}};

	return spool_add(&w->tree->spool, SYMLINKS_LIST, parts, err);
}

static int make_symlink(struct writer *w, const char *name, const char *target,
	const struct meta *m, struct error *err)
{
	struct dir_entry at;
	bool verify = false;
	int code = writer_begin(w, name, err);

	if (code == 0)
		code = tree_path_check_target(w->path, target, w->tree->max_path, &verify, err);
	if (code < 0)
		return code;
	if (w->tree->sink != NULL)
		return w->tree->sink->symlink(w->tree->sink_ctx, w->path, target, verify, m, err);
	code = writer_place(w, &at, err);
	if (code == 0)
		code = writer_symlink_make(w, &at, target, m, err);
	return code == 0 && verify ? writer_symlink_remember(w, err) : code;
}

int writer_symlink(struct writer *w, const char *name, const char *target, const struct meta *m,
	struct error *err)
{
	uint64_t start = now_ns();
	int code = make_symlink(w, name, target, m, err);

	writer_count_time(w, start);
	return code;
}

static bool is_real_dir(void *ctx, char *path)
{
	size_t bad_len;
	int fd = parents_open_beneath(ctx, path, false, &bad_len);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

/* Verifies one spooled link. It may have been replaced since it was spooled: only its present
 * target is verified. */
static int verify_link(void *ctx, const void *record, size_t len, struct error *err)
{
	struct tree *t = ctx;
	const char *link = record;
	size_t parent_len = tree_path_parent_len(link), bad_len;
	char at[TREE_LINK_TEXT], target[PATH_MAX];
	int parent = t->root_fd;
	ssize_t n;

	(void)len;
	*(char *)mempcpy(at, link, parent_len) = '\0';
	if (parent_len > 0)
		parent = parents_open_beneath(t, at, false, &bad_len);
	if (parent < 0)
		return tree_disk_error(
			err, -parent, t->root_fd, "open the parent directory of", link);
	n = readlinkat(parent, tree_path_base(link), target, sizeof(target) - 1);
	if (parent != t->root_fd)
		close(parent);
	if (n < 0)
		return 0; /* no longer a symbolic link */
	target[n] = '\0';
	if (!tree_link_leaves(link, target, is_real_dir, t, at))
		return 0;
	return tree_entry_refused(err, link,
		"its target '%.300s' goes up from '%.300s', which is not a directory", target, at);
}

int tree_verify_symlinks(struct tree *t, struct error *err)
{
	return spool_each(&t->spool, SYMLINKS_LIST, t->opts.cancel, verify_link, t, err);
}
