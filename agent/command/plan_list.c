/* SPDX-License-Identifier: MIT */
/* Lists of what to stage: a line each. Loop thread, before any other starts. */
#include "defer.h"
#include "plan.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* A file under way. */
struct list {
	struct plan *plan;
	const char *name; /* for messages */
	unsigned line;
	const char *cwd;
};

static char *trim(char *s)
{
	size_t len;

	s += strspn(s, " \t");
	for (len = strlen(s); len > 0 && strchr(" \t\r\n", s[len - 1]) != NULL; len--)
		s[len - 1] = '\0';
	return s;
}

static bool begins_with(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static int add_datastore(struct list *l, const char *text, const char *origin, struct error *err)
{
	struct datastore_ref ref = {0};
	int code = datastore_ref_parse(text, &ref, err);

	if (code < 0)
		return error_prefix(err, "%s", origin);
	code = attach_add(&l->plan->attached, &ref, ATTACH_OPTION, origin, l->cwd, err);
	datastore_ref_done(&ref);
	return code;
}

/* A word with nothing of an address is a datastore's name, most likely. */
static const char *advice(const char *text)
{
	return strpbrk(text, "/=") == NULL ? "; a datastore is written datastore:NAME[:V][=DIR]"
					   : "";
}

static int add_source(struct list *l, const char *text, const char *origin, struct error *err)
{
	struct plan *p = l->plan;
	struct stage_spec spec;
	int code = stage_spec_parse(text, &spec, err);

	if (code < 0) {
		struct error why = *err;

		return error_set(err, code, "%s: %s%s", origin, why.msg, advice(text));
	}
	spec.origin = copy_text(origin);
	p->listed = reallocarray(p->listed, p->n_listed + 1, sizeof(*p->listed));
	if (p->listed == NULL)
		abort();
	p->listed[p->n_listed++] = spec;
	return 0;
}

static int add_line(struct list *l, const char *written, struct error *err)
{
	_free_ char *origin = format_text("%s:%u", l->name, l->line);
	_free_ char *text = NULL;
	int code = plan_expand(l->plan, written, &text, err);

	if (code < 0)
		return error_prefix(err, "%s", origin);
	if (begins_with(text, "datastore:") || begins_with(text, "grid:"))
		return add_datastore(l, strchr(text, ':') + 1, origin, err);
	return add_source(l, text, origin, err);
}

static int read_lines(struct list *l, FILE *file, struct error *err)
{
	_free_ char *buf = NULL;
	size_t cap = 0;
	ssize_t len;
	int code = 0;

	while (code == 0 && (len = getline(&buf, &cap, file)) >= 0) {
		bool cut = strlen(buf) != (size_t)len;
		char *text = trim(buf);

		l->line++;
		if (cut)
			return error_set(err, -ERR_CONFIG,
				"%s:%u: there is a zero byte in it; is this a list?", l->name,
				l->line);
		if (*text != '\0' && *text != '#')
			code = add_line(l, text, err);
	}
	if (code == 0 && ferror(file))
		code = error_set(err, -errno, "cannot read %s: %m", l->name);
	return code;
}

static int read_list(struct plan *p, const char *path, const char *cwd, struct error *err)
{
	bool is_stdin = strcmp(path, "-") == 0;
	struct list l = {.plan = p, .name = is_stdin ? "standard input" : path, .cwd = cwd};
	FILE *file = is_stdin ? stdin : fopen(path, "re");
	int code;

	if (file == NULL)
		return error_set(err, -errno, "--list: cannot open %s: %m", path);
	code = read_lines(&l, file, err);
	if (!is_stdin)
		fclose(file);
	return code;
}

int plan_lists(struct plan *p, const struct request *r, struct error *err)
{
	char cwd[PATH_MAX];
	int code = 0;

	if (getcwd(cwd, sizeof(cwd)) == NULL)
		snprintf(cwd, sizeof(cwd), "."); /* what is relative fails where it is staged */
	for (size_t i = 0; i < r->lists.n && code == 0; i++)
		code = read_list(p, r->lists.v[i], cwd, err);
	return code;
}
