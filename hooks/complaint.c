/* SPDX-License-Identifier: MIT */
/* Reads what pip, conda, mamba and micromamba say when they fail. The last error is the one that ended
 * them: what comes before it is how they got there, and what comes after it is advice. */
#include "complaint.h"
#include "defer.h"
#include "text.h"
#include <string.h>
#include <strings.h>

enum { LONGEST = 400 };

static void keep(char **into, const char *s)
{
	free(*into);
	*into = format_text("%.*s", LONGEST, s);
}

static bool holds(const char *word, size_t len, const char *part)
{
	size_t n = strlen(part);

	for (size_t i = 0; i + n <= len; i++)
		if (strncasecmp(word + i, part, n) == 0)
			return true;
	return false;
}

/* "ERROR: ...", "PackagesNotFoundError: ...", "ResolvePackageNotFound:", "critical libmamba ...". */
static bool tells_an_error(const char *line)
{
	size_t len = strcspn(line, " :");

	if (strncmp(line, "critical ", 9) == 0 || strncmp(line, "error ", 6) == 0)
		return true;
	return line[len] == ':' && (holds(line, len, "error") || holds(line, len, "exception") ||
					   holds(line, len, "notfound"));
}

/* "ERROR: " says nothing that "could not" does not; a name such as CondaHTTPError does. */
static const char *without_label(const char *line)
{
	if (strncasecmp(line, "error:", 6) != 0)
		return line;
	return line + 6 + strspn(line + 6, " ");
}

static void note_package(struct complaint *c, const char *error)
{
	static const char label[] = "No matching distribution found for ";
	const char *name = error + strlen(label);

	if (strncmp(error, label, strlen(label)) != 0)
		return;
	free(c->package);
	c->package = format_text("%.*s", (int)strcspn(name, " "), name);
}

static void note_error(struct complaint *c, const char *error)
{
	keep(&c->error, error);
	c->continues = *error != '\0' && error[strlen(error) - 1] == ':';
	c->is_managed = c->is_managed || strcmp(error, "externally-managed-environment") == 0;
	note_package(c, error);
}

void complaint_add(struct complaint *c, const char *line, size_t len)
{
	_free_ char *s = format_text("%.*s", (int)len, line);
	char *start = s + strspn(s, " \t");

	for (size_t n = strlen(start); n > 0 && strchr(" \t\r", start[n - 1]) != NULL; n--)
		start[n - 1] = '\0';
	if (*start == '\0')
		return;
	keep(&c->last, start);
	if (tells_an_error(start)) {
		note_error(c, without_label(start));
	} else if (c->continues) {
		_free_ char *whole = format_text("%s %s", c->error, start);

		keep(&c->error, whole);
		c->continues = false;
	}
}

const char *complaint_text(const struct complaint *c)
{
	return c->error != NULL ? c->error : c->last;
}

void complaint_done(struct complaint *c)
{
	free(c->error);
	free(c->last);
	free(c->package);
	*c = (struct complaint){0};
}
