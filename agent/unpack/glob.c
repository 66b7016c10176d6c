/* SPDX-License-Identifier: MIT */
/* Matching one glob against one name, without recursion. Pure; any thread. It does not know about
 * selections or directories.
 *
 * Only the last '*' and the last "**" are ever tried again. An earlier '*' need not be: all it
 * could do is to move the later one to the right within the same component, and that one can take
 * those bytes itself. An earlier "**" need not be for the same reason, across components. So the
 * time is polynomial, whatever the pattern. */
#include "glob.h"

/* Where to go on when what follows a star did not match. */
struct retry {
	const char *pattern; /* after the star; NULL: no star yet */
	const char *text;    /* what the star has taken so far ends here */
};

struct glob {
	const char *pattern, *text, *end;
	struct retry star, stars;
	bool whole_dirs; /* the last "**" was followed by '/': it takes whole components */
};

/* A bracket expression at p ("[...]"): sets *ret_end after it and says whether c is in it; a '['
 * that is never closed stands for itself. */
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

/* Matches one byte of text with what stands at the pattern, and moves past both. */
static bool step(struct glob *g)
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

/* Takes note of the stars at the pattern and moves past them. */
static void enter_star(struct glob *g, bool at_component)
{
	if (g->pattern[1] != '*') {
		g->star = (struct retry){.pattern = ++g->pattern, .text = g->text};
		return;
	}
	while (*g->pattern == '*')
		g->pattern++;
	g->whole_dirs = at_component && *g->pattern == '/';
	g->pattern += g->whole_dirs;
	g->star.pattern = NULL;
	g->stars = (struct retry){.pattern = g->pattern, .text = g->text};
}

/* Gives the last star that can take more a little more. */
static bool go_back(struct glob *g)
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

bool glob_matches(const char *pattern, const char *text, size_t len)
{
	struct glob g = {.pattern = pattern, .text = text, .end = text + len};

	for (;;) {
		bool more = g.text < g.end && *g.pattern != '\0';

		if (*g.pattern == '*')
			enter_star(&g, g.pattern == pattern || g.pattern[-1] == '/');
		else if (g.text == g.end && *g.pattern == '\0')
			return true;
		else if (!(more && step(&g)) && !go_back(&g))
			return false;
	}
}
