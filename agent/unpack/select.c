/* SPDX-License-Identifier: MIT */
/* Which entries of an archive are extracted, and under which names: include, exclude and
 * strip_components. Pure; any thread. The tree decides whether a name is safe; here, the error for
 * names that no tree accepts is only completed with advice. */
#include "defer.h"
#include "text.h"
#include "unpack.h"
#include "unpack_private.h"
#include <stdlib.h>
#include <string.h>

/* Returns the start of the next component of *name and sets its length, or NULL when there is none;
 * *name then points behind it. Empty components and "." are skipped. */
static const char *name_next_component(const char **name, size_t *ret_len)
{
	for (;;) {
		const char *start = *name + strspn(*name, "/");
		size_t len = strcspn(start, "/");

		if (len == 0)
			return NULL;
		*name = start + len;
		if (len == 1 && start[0] == '.')
			continue;
		*ret_len = len;
		return start;
	}
}

/* Normalizes a name: "./a//b/" becomes "a/b". Heap string. */
static char *name_plain(const char *name)
{
	struct text plain = {0};
	const char *part;
	size_t len;

	while ((part = name_next_component(&name, &len)) != NULL) {
		if (plain.len > 0)
			text_add(&plain, "/");
		text_add_bytes(&plain, part, len);
	}
	return text_take(&plain);
}

uint64_t select_name_hash(const char *name)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
	const char *part;
	size_t len;

	while ((part = name_next_component(&name, &len)) != NULL)
		for (size_t i = 0; i <= len; i++) {
			hash ^= i < len ? (uint8_t)part[i] : '/';
			hash *= UINT64_C(0x100000001b3);
		}
	return hash;
}

/* Matching of one glob against one name, without recursion.
 *
 * Only the last '*' and the last "**" are ever retried. An earlier '*' need not be: it could only
 * move the later one to the right within the same component, and the later one can match those
 * bytes itself. The same holds for an earlier "**", across components. Therefore the time is
 * polynomial for every pattern. */

/* Where matching continues when the pattern behind a star did not match. */
struct glob_retry {
	const char *pattern; /* behind the star; NULL: no star yet */
	const char *text;    /* end of the bytes that the star matches so far */
};

struct glob {
	const char *pattern, *text, *end;
	struct glob_retry star, stars;
	bool whole_dirs; /* the last "**" was followed by '/': it matches whole components */
};

/* Whether c is in the bracket expression at p ("[...]"); *ret_end points behind the expression. A
 * '[' that is never closed stands for itself. */
static bool in_brackets(const char *p, char c, const char **ret_end)
{
	bool negated = p[1] == '!' || p[1] == '^', found = false;
	const char *s = p + 1 + negated, *first = s;

	for (; *s != '\0' && (*s != ']' || s == first); s++) {
		unsigned char low, high;

		if (*s == '\\' && s[1] != '\0')
			s++;
		low = high = (unsigned char)*s;
		if (s[1] == '-' && s[2] != ']' && s[2] != '\0') {
			high = (unsigned char)s[2];
			s += 2;
		}
		found |= low <= (unsigned char)c && (unsigned char)c <= high;
	}
	if (*s == '\0') {
		*ret_end = p + 1;
		return c == '[';
	}
	*ret_end = s + 1;
	return found != negated;
}

/* Matches one byte of text against the pattern, and moves past both if it matches. */
static bool match_byte(struct glob *g)
{
	const char *next = g->pattern + 1;
	char c = *g->text;
	bool same;

	switch (*g->pattern) {
	case '?':
		same = c != '/';
		break;
	case '[':
		same = in_brackets(g->pattern, c, &next) && c != '/';
		break;
	case '\\':
		if (*next != '\0')
			next++;
		same = c == next[-1];
		break;
	default:
		same = c == *g->pattern;
	}
	if (same) {
		g->pattern = next;
		g->text++;
	}
	return same;
}

/* Stores the position of the stars at the pattern, and moves past them. */
static void enter_star(struct glob *g, bool at_component)
{
	if (g->pattern[1] != '*') {
		g->star = (struct glob_retry){.pattern = ++g->pattern, .text = g->text};
		return;
	}
	while (*g->pattern == '*')
		g->pattern++;
	g->whole_dirs = at_component && *g->pattern == '/';
	g->pattern += g->whole_dirs;
	g->star.pattern = NULL;
	g->stars = (struct glob_retry){.pattern = g->pattern, .text = g->text};
}

/* Lets the last star that can match more match one byte, or one component, more. false: none
 * can. */
static bool backtrack(struct glob *g)
{
	if (g->star.pattern != NULL && g->star.text < g->end && *g->star.text != '/') {
		g->text = ++g->star.text;
		g->pattern = g->star.pattern;
		return true;
	}
	g->star.pattern = NULL;
	if (g->stars.pattern == NULL || g->stars.text == g->end)
		return false;
	if (g->whole_dirs) {
		while (g->stars.text < g->end && *g->stars.text != '/')
			g->stars.text++;
		if (g->stars.text == g->end)
			return false;
	}
	g->text = ++g->stars.text;
	g->pattern = g->stars.pattern;
	return true;
}

/* Whether pattern matches all len bytes of text. '*', '?' and [a-z] do not match '/'; "**" does,
 * and "**" followed by '/' matches any number of directories, including none. A backslash makes the
 * next byte literal. Bytes, not characters: '?' is one byte. */
static bool glob_matches(const char *pattern, const char *text, size_t len)
{
	struct glob g = {.pattern = pattern, .text = text, .end = text + len};

	for (;;) {
		bool more = g.text < g.end && *g.pattern != '\0';

		if (*g.pattern == '*')
			enter_star(&g, g.pattern == pattern || g.pattern[-1] == '/');
		else if (g.text == g.end && *g.pattern == '\0')
			return true;
		else if (!(more && match_byte(&g)) && !backtrack(&g))
			return false;
	}
}

/* Selection of entries. */

/* Whether pattern matches the entry or a directory that contains it. */
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

/* Patterns may be spelled as names in archives are: "./train/" means "train", but only at the
 * top. */
static bool any_covers(const char *const *patterns, const char *name)
{
	for (; *patterns != NULL; patterns++) {
		size_t len = strlen(*patterns);
		_free_ char *pattern = text_copy(*patterns);
		const char *p = pattern;

		while (len > 1 && pattern[len - 1] == '/')
			pattern[--len] = '\0';
		if (strncmp(p, "./", 2) == 0)
			p++;
		/* A leading '/' anchors the pattern at the top; names have none. */
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

static void note_left(struct selection_left *left, const char *name)
{
	size_t len = strlen(name);
	unsigned i;

	if (atomic_load(&left->n) > SELECTION_LEFT_MAX || len == 0 || name[len - 1] == '/')
		return;
	i = atomic_fetch_add(&left->n, 1);
	if (i < SELECTION_LEFT_MAX)
		atomic_store(&left->names[i], text_format("%.200s", name));
}

void select_describe_left(struct selection_left *left, struct text *ret)
{
	bool any = false;

	for (size_t i = 0; i < SELECTION_LEFT_MAX; i++) {
		const char *name = atomic_load(&left->names[i]);

		if (name == NULL)
			continue;
		text_addf(ret, "%s'%s'", any ? ", " : ": there are ", name);
		any = true;
	}
	if (any && atomic_load(&left->n) > SELECTION_LEFT_MAX)
		text_add(ret, ", ...");
}

void select_left_done(struct selection_left *left)
{
	for (size_t i = 0; i < SELECTION_LEFT_MAX; i++)
		free(atomic_exchange(&left->names[i], NULL));
	atomic_store(&left->n, 0);
}

static const char *apply(const struct selection *sel, const char *name)
{
	const char *rest = name;
	size_t len;

	if (!is_wanted(sel, name))
		return NULL;
	if (sel->strip_components == 0)
		return name;
	for (unsigned i = 0; i < sel->strip_components; i++)
		if (name_next_component(&rest, &len) == NULL)
			return NULL;
	return name_next_component(&rest, &len);
}

const char *select_apply(const struct selection *sel, const char *name)
{
	const char *kept = sel != NULL ? apply(sel, name) : name;

	if (kept == NULL && sel->left != NULL)
		note_left(sel->left, name);
	return kept;
}

/* Returns the reason why no tree accepts the name; NULL: there is none. */
static const char *objection(const char *name)
{
	const char *part;
	size_t len;

	if (name[0] == '/')
		return "the name is absolute";
	while ((part = name_next_component(&name, &len)) != NULL)
		if (len == 2 && memcmp(part, "..", 2) == 0)
			return "the name contains '..'";
	return NULL;
}

/* Returns how many leading components must be removed until there is no objection. */
static unsigned count_to_strip(const char *name)
{
	unsigned n = 0, last = name[0] == '/';
	const char *part;
	size_t len;

	while ((part = name_next_component(&name, &len)) != NULL) {
		n++;
		if (len == 2 && memcmp(part, "..", 2) == 0)
			last = n;
	}
	return last;
}

/* Adds advice about strip_components. A directory of which nothing is left can be omitted. */
static void advise_strip(const struct selection *sel, const char *name, struct text *advice)
{
	struct selection stripped = sel != NULL ? *sel : (struct selection){0};
	size_t len = strlen(name);
	const char *left;

	stripped.left = NULL;
	stripped.strip_components = count_to_strip(name);
	left = select_apply(&stripped, name);
	if (left != NULL && objection(left) == NULL)
		text_addf(advice, "strip_components: %u makes it '%.200s'",
			stripped.strip_components, left);
	else if (left == NULL && len > 0 && name[len - 1] == '/')
		text_addf(
			advice, "strip_components: %u does without it", stripped.strip_components);
}

/* Adds a pattern that matches exactly these bytes. */
static void add_escaped(struct text *pattern, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (strchr("*?[\\", bytes[i]) != NULL)
			text_add(pattern, "\\");
		text_add_bytes(pattern, &bytes[i], 1);
	}
}

/* Adds advice about exclude: ".." for every name that contains it, or else the first directory of
 * an absolute name. */
static void advise_exclude(const char *name, struct text *advice)
{
	struct text pattern = {0};
	const char *rest = name, *first;
	const char *exclude[] = {"..", NULL};
	const struct selection without = {.exclude = exclude};
	size_t len;

	if (name[0] == '/' && (first = name_next_component(&rest, &len)) != NULL) {
		text_add(&pattern, "/");
		add_escaped(&pattern, first, len);
		exclude[0] = pattern.s;
	}
	if (select_apply(&without, name) == NULL)
		text_addf(advice, "%sexclude: '%.200s' leaves it out", advice->len > 0 ? ", " : "",
			exclude[0]);
	text_done(&pattern);
}

int select_entry(const struct selection *sel, const char *name, const char **ret, struct error *err)
{
	const char *kept, *why;
	struct text advice = {0};

	if (name[0] == '/' && name[strspn(name, "/")] == '\0')
		name = "./";
	kept = select_apply(sel, name);
	*ret = kept;
	why = kept != NULL ? objection(kept) : NULL;
	if (why == NULL)
		return kept != NULL;
	text_add(&advice, "");
	advise_strip(sel, name, &advice);
	advise_exclude(name, &advice);
	error_set(err, -ERR_REFUSED, "'%.200s' was refused: %s%s%s", kept, why,
		advice.len > 0 ? " (the first such name); " : "", advice.s);
	text_done(&advice);
	return -ERR_REFUSED;
}
