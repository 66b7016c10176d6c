/* SPDX-License-Identifier: MIT */
/* Directories that a selection did not name but has something in: they too are as they were, and read-only
 * where all is. Each comes before what is in it, so that a stack of those around the present entry is enough.
 * The walk's. */
#include "fetch_private.h"
#include "text.h"
#include <stdlib.h>
#include <string.h>

struct fetch_parent {
	char *path;
	struct meta meta;
};

static bool is_above(const char *directory, const char *path)
{
	size_t len = strlen(directory);

	return strcmp(directory, ".") == 0 ||
	       (strncmp(directory, path, len) == 0 && path[len] == '/');
}

static bool may_leave_out(const struct fetch *f)
{
	const struct selection *s = f->opts->selection;

	return s != NULL && (s->include != NULL || s->exclude != NULL);
}

static void leave(struct fetch *f, const char *path)
{
	while (f->n_parents > 0 && !is_above(f->parents[f->n_parents - 1].path, path))
		free(f->parents[--f->n_parents].path);
}

static void enter(struct fetch *f, const struct index_entry *e)
{
	if (f->n_parents == f->parents_cap) {
		f->parents_cap = f->parents_cap > 0 ? 2 * f->parents_cap : 16;
		f->parents = realloc(f->parents, f->parents_cap * sizeof(*f->parents));
		if (f->parents == NULL)
			abort();
	}
	f->parents[f->n_parents++] =
		(struct fetch_parent){.path = copy_text(e->path), .meta = fetch_meta(f, e)};
}

void fetch_parents_pass(struct fetch *f, const struct index_entry *e, bool is_selected)
{
	if (!may_leave_out(f))
		return;
	leave(f, e->path);
	if (e->type == INDEX_DIR && !is_selected)
		enter(f, e);
}

static int make(struct fetch *f, const struct fetch_parent *p, struct error *err)
{
	const struct selection strip = {.strip_components = f->opts->selection->strip_components};
	const char *name = selection_apply(&strip, p->path);

	return name != NULL ? crew_dir(f->crew, f->writer, name, &p->meta, err) : 0;
}

int fetch_parents_make(struct fetch *f, const struct index_entry *e, struct error *err)
{
	size_t n = 0;
	int r = 0;

	for (; n < f->n_parents && is_above(f->parents[n].path, e->path) && r == 0; n++) {
		r = make(f, &f->parents[n], err);
		free(f->parents[n].path);
	}
	if (n == 0)
		return r;
	f->n_parents -= n; /* they are made once */
	memmove(f->parents, f->parents + n, f->n_parents * sizeof(*f->parents));
	return r;
}

void fetch_parents_done(struct fetch *f)
{
	while (f->n_parents > 0)
		free(f->parents[--f->n_parents].path);
	free(f->parents);
}
