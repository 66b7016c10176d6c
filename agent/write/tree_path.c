/* SPDX-License-Identifier: MIT */
/* The rules for names and link targets that can be decided from their text alone. Pure; any
 * thread. */
#include "text.h"
#include "tree_private.h"
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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
