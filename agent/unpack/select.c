/* SPDX-License-Identifier: MIT */
/* Which entries of an archive are wanted, and under which name. Pure; any thread. It does not judge
 * whether a name is safe: that is the tree's. */
#include "defer.h"
#include "glob.h"
#include "names.h"
#include "text.h"
#include "unpack.h"
#include <string.h>

/* Whether pattern matches the entry or a directory that it lies in. */
static bool covers(const char *pattern, const char *name)
{
	bool anywhere = strchr(pattern, '/') == NULL;
	const char *part = name;

	while (*part != '\0') {
		size_t len = strcspn(part, "/");
		const char *from = anywhere ? part : name;

		if (glob_matches(pattern, from, (size_t)(part + len - from)))
			return true;
		part += len + (part[len] == '/');
	}
	return false;
}

/* Patterns are written as names are: "./train/" means "train", but bound to the top. */
static bool any_covers(const char *const *patterns, const char *name)
{
	for (; *patterns != NULL; patterns++) {
		size_t len = strlen(*patterns);
		_free_ char *pattern = copy_text(*patterns);
		const char *p = pattern;

		while (len > 1 && pattern[len - 1] == '/')
			pattern[--len] = '\0';
		if (strncmp(p, "./", 2) == 0)
			p++;
		/* A leading '/' binds to the top; names have none. */
		if (p[0] == '/' && strchr(p + 1, '/') != NULL)
			p++;
		if (p[0] == '/' ? glob_matches(p + 1, name, strcspn(name, "/")) : covers(p, name))
			return true;
	}
	return false;
}

static bool is_wanted(const struct selection *sel, const char *name)
{
	_free_ char *plain = NULL;

	if (sel->include == NULL && sel->exclude == NULL)
		return true;
	plain = name_plain(name);
	if (sel->exclude != NULL && any_covers(sel->exclude, plain))
		return false;
	return sel->include == NULL || any_covers(sel->include, plain);
}

const char *selection_apply(const struct selection *sel, const char *name)
{
	const char *rest = name;
	size_t len;

	if (sel == NULL)
		return name;
	if (!is_wanted(sel, name))
		return NULL;
	if (sel->strip_components == 0)
		return name;
	for (unsigned i = 0; i < sel->strip_components; i++)
		if (name_next_component(&rest, &len) == NULL)
			return NULL;
	return name_next_component(&rest, &len);
}
