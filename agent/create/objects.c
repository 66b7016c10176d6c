/* SPDX-License-Identifier: MIT */
/* Packs and large files by their keys. Memory only. */
#include "objects.h"
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_key(const void *a, const void *b)
{
	return strcmp(
		((const struct create_object *)a)->key, ((const struct create_object *)b)->key);
}

static void free_one(void *object)
{
	create_object_free(object);
}

void objects_init(struct objects *o)
{
	*o = (struct objects){.end = &o->first};
}

void objects_done(struct objects *o)
{
	tdestroy(o->by_key, free_one);
}

struct create_object *objects_find(struct objects *o, const char *key)
{
	struct create_object wanted;
	struct create_object **found;

	if (strlen(key) >= sizeof(wanted.key))
		return NULL;
	snprintf(wanted.key, sizeof(wanted.key), "%s", key);
	found = tfind(&wanted, &o->by_key, by_key);
	return found != NULL ? *found : NULL;
}

struct create_object *objects_take(struct objects *o, struct create_object *object)
{
	struct create_object **there = tsearch(object, &o->by_key, by_key);

	if (there == NULL)
		abort();
	if (*there == object)
		return object;
	/* The frames of what was just made are known; of the earlier one's, only those that were used. */
	if ((*there)->frames == NULL) {
		(*there)->frames = object->frames;
		(*there)->n_frames = object->n_frames;
		object->frames = NULL;
	}
	create_object_free(object);
	return *there;
}

void objects_know(struct objects *o, const struct manifest *m)
{
	for (size_t i = 0; m != NULL && i < m->n_objects; i++) {
		const struct manifest_object *from = &m->objects[i];
		struct create_object *object = zalloc(sizeof(*object));

		if (strlen(from->key) >= sizeof(object->key)) {
			free(object);
			continue;
		}
		snprintf(object->key, sizeof(object->key), "%s", from->key);
		memcpy(object->sha256, from->sha256, sizeof(object->sha256));
		object->bytes = from->bytes;
		object->raw = from->raw;
		object->hardly_used = from->live < from->raw / 2;
		objects_take(o, object);
	}
}

void objects_use(struct objects *o, struct create_object *object, uint64_t raw)
{
	object->live += raw;
	if (object->listed)
		return;
	object->listed = true;
	*o->end = object;
	o->end = &object->next;
}
