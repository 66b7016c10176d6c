/* SPDX-License-Identifier: MIT */
/* Entries under way, and works made of them. Memory only. */
#include "create_private.h"
#include "defer.h"
#include <string.h>

static char *append(char *at, const char *s, const char **ret)
{
	size_t len;

	*ret = s == NULL ? NULL : at;
	if (s == NULL)
		return at;
	len = strlen(s) + 1;
	return mempcpy(at, s, len);
}

static size_t size_of(const char *s)
{
	return s == NULL ? 0 : strlen(s) + 1;
}

struct item *item_new(enum index_type type, const char *path, const char *target, const char *etag)
{
	struct item *i = zalloc(sizeof(*i) + size_of(path) + size_of(target) + size_of(etag));
	char *at = append(i->text, path, &i->path);

	i->type = type;
	at = append(at, target, &i->target);
	append(at, etag, &i->etag);
	return i;
}

void item_free(struct item *i)
{
	if (i != NULL)
		free(i->earlier);
	free(i);
}

bool item_has_content(const struct item *i)
{
	return i->type == INDEX_FILE && i->size > 0;
}

int item_changed(const struct creation *c, const struct item *i, struct error *err)
{
	return error_set(err, -ERR_CHANGED,
		"'%s' in %s changed while it was read: a version must be of one moment; create it "
		"again when "
		"nothing writes there (what was sent is not sent again)",
		i->path, c->where);
}

void create_object_free(struct create_object *o)
{
	if (o != NULL)
		free(o->frames);
	free(o);
}

struct work *work_new(enum work_kind kind)
{
	struct work *w = zalloc(sizeof(*w));

	w->kind = kind;
	return w;
}

void work_add(struct work *w, struct item *i, uint64_t raw)
{
	if (w->n == w->cap) {
		w->cap = w->cap * 2 + 8;
		w->items = reallocarray(w->items, w->cap, sizeof(struct item *));
		if (w->items == NULL)
			abort();
	}
	w->items[w->n++] = i;
	w->raw += raw;
	w->open++;
}

void work_free(struct work *w)
{
	if (w == NULL)
		return;
	free(w->items);
	free(w->bytes);
	free(w);
}
