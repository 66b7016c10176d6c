/* SPDX-License-Identifier: MIT */
/* The rules for names and link targets that can be decided from their text alone. No system calls,
 * no state. */
#include "path.h"
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool path_next(const char **rest, struct component *ret)
{
	const char *s = *rest + strspn(*rest, "/");

	ret->s = s;
	ret->len = strcspn(s, "/");
	*rest = s + ret->len;
	return ret->len > 0;
}

bool component_is(const struct component *c, const char *s)
{
	return strncmp(c->s, s, c->len) == 0 && s[c->len] == '\0';
}

static int check_name(const char *name, size_t max, struct error *err)
{
	if (*name == '\0')
		return entry_refused(err, name, "it has no name");
	if (*name == '/')
		return entry_refused(err, name, "the name is absolute");
	if (strlen(name) > max)
		return entry_refused(err, name,
			"the name has %zu bytes, and limits.max_path is %zu", strlen(name), max);
	return 0;
}

int path_normalise(const char *name, size_t max, char *ret_path, struct error *err)
{
	const char *rest = name;
	struct component c;
	char *end = ret_path;
	int r = check_name(name, max, err);

	if (r < 0)
		return r;
	while (path_next(&rest, &c)) {
		if (component_is(&c, "."))
			continue;
		if (component_is(&c, ".."))
			return entry_refused(err, name, "the name contains '..'");
		if (c.len > NAME_MAX)
			return entry_refused(err, name,
				"a component of the name has %zu bytes, and "
				"file systems take %d",
				c.len, NAME_MAX);
		if (end != ret_path)
			*end++ = '/';
		end = mempcpy(end, c.s, c.len);
	}
	*end = '\0';
	return 0;
}

size_t path_depth(const char *path)
{
	struct component c;
	size_t depth = 0;

	while (path_next(&path, &c))
		depth++;
	return depth;
}

size_t path_parent_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == NULL ? 0 : (size_t)(slash - path);
}

const char *path_base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == NULL ? path : slash + 1;
}

/* Parents are real directories, so a leading ".." goes exactly one level up, and the depth of the
 * link's own parent says how many there may be. */
int path_check_target(
	const char *link, const char *target, size_t max, bool *ret_verify, struct error *err)
{
	size_t depth = path_depth(link) - 1;
	bool named = false, verify = false;
	const char *rest = target;
	struct component c;

	if (*target == '\0')
		return entry_refused(err, link, "it is a symbolic link to nothing");
	if (*target == '/')
		return entry_refused(err, link, "its target '%.300s' is absolute", target);
	if (strlen(target) > max)
		return entry_refused(err, link,
			"its target has %zu bytes, and limits.max_path is %zu", strlen(target),
			max);
	while (path_next(&rest, &c)) {
		if (component_is(&c, "."))
			continue;
		if (!component_is(&c, "..")) {
			named = true;
			depth++;
			continue;
		}
		if (depth-- == 0)
			return entry_refused(err, link,
				"its target '%.300s' is outside the destination", target);
		verify |= named;
	}
	*ret_verify = verify;
	return 0;
}

int entry_refused(struct error *err, const char *name, const char *why, ...)
{
	char reason[640];
	va_list args;

	va_start(args, why);
	vsnprintf(reason, sizeof(reason), why, args);
	va_end(args);
	return error_set(err, -ERR_REFUSED, "'%.300s' was refused: %s", name, reason);
}
