/* SPDX-License-Identifier: MIT */
/* Which frame has which number in a part that is being written. Entries of a new version point into packs of
 * several older ones, in any order: hence the hash table. A row of frames that was numbered in another order
 * gets new numbers: rare, and a reader does not care. */
#include "index_frames.h"
#include "defer.h"
#include <inttypes.h>
#include <string.h>

enum { FIRST_SLOTS = 256 };

struct numbered_frame {
	uint64_t offset;
	uint32_t object, length;
};

static bool same(const struct numbered_frame *a, uint32_t object, const struct index_frame *b)
{
	return a->offset == b->offset && a->length == b->length && a->object == object;
}

static size_t slot_of(const struct frame_numbers *n, uint32_t object, uint64_t offset)
{
	uint64_t h = (offset + ((uint64_t)object << 40)) * UINT64_C(0x9e3779b97f4a7c15);

	return (size_t)(h >> 32) & (n->n_slots - 1);
}

static void insert(struct frame_numbers *n, uint32_t number)
{
	const struct numbered_frame *f = &n->frames[number];
	size_t i = slot_of(n, f->object, f->offset);

	while (n->slots[i] != 0)
		i = (i + 1) & (n->n_slots - 1);
	n->slots[i] = number + 1;
}

static void make_slots(struct frame_numbers *n)
{
	if (n->n_slots > 2 * n->n_frames)
		return;
	n->n_slots = n->n_slots > 0 ? 2 * n->n_slots : FIRST_SLOTS;
	free(n->slots);
	n->slots = zalloc(n->n_slots * sizeof(*n->slots));
	for (uint32_t i = 0; i < n->n_frames; i++)
		insert(n, i);
}

static uint32_t add(
	struct frame_numbers *n, struct text *text, uint32_t object, const struct index_frame *f)
{
	if (n->n_frames == n->frames_cap) {
		n->frames_cap = n->frames_cap > 0 ? 2 * n->frames_cap : FIRST_SLOTS;
		n->frames = realloc(n->frames, n->frames_cap * sizeof(*n->frames));
		if (n->frames == NULL)
			abort();
	}
	make_slots(n);
	n->frames[n->n_frames] =
		(struct numbered_frame){.offset = f->offset, .object = object, .length = f->length};
	insert(n, (uint32_t)n->n_frames);
	text_addf(text, "k\t%" PRIu32 "\t%" PRIu64 "\t%" PRIu32 "\t%" PRIu32 "\n", object,
		f->offset, f->length, f->raw);
	return (uint32_t)n->n_frames++;
}

/* The last of the same name is the likely one. */
static uint32_t object_number(struct frame_numbers *n, struct text *text, const char *key)
{
	for (size_t i = n->objects.n; i > 0; i--) {
		if (strcmp(n->objects.v[i - 1], key) == 0)
			return (uint32_t)(i - 1);
	}
	strings_add(&n->objects, key);
	text_addf(text, "p\t%s\n", key);
	return (uint32_t)(n->objects.n - 1);
}

/* Whether all the frames follow each other from this number on, as far as there are numbers; *ret_known: how
 * many have one. */
static bool follows(const struct frame_numbers *n, uint32_t number, uint32_t object,
	const struct index_frame *frames, size_t n_frames, size_t *ret_known)
{
	size_t i;

	for (i = 0; i < n_frames && number + i < n->n_frames; i++) {
		if (!same(&n->frames[number + i], object, &frames[i]))
			return false;
	}
	*ret_known = i;
	return true;
}

/* *ret_known 0: not found. */
static uint32_t find(const struct frame_numbers *n, uint32_t object,
	const struct index_frame *frames, size_t n_frames, size_t *ret_known)
{
	*ret_known = 0;
	if (n->n_slots == 0)
		return 0;
	for (size_t i = slot_of(n, object, frames[0].offset); n->slots[i] != 0;
		i = (i + 1) & (n->n_slots - 1)) {
		uint32_t number = n->slots[i] - 1;

		if (follows(n, number, object, frames, n_frames, ret_known))
			return number;
	}
	*ret_known = 0;
	return 0;
}

uint32_t frame_numbers_get(struct frame_numbers *n, struct text *text, const char *object,
	const struct index_frame *frames, size_t n_frames)
{
	uint32_t in = object_number(n, text, object);
	size_t known;
	uint32_t first = find(n, in, frames, n_frames, &known);

	if (known == 0)
		first = (uint32_t)n->n_frames;
	for (size_t i = known; i < n_frames; i++)
		add(n, text, in, &frames[i]);
	return first;
}

void frame_numbers_done(struct frame_numbers *n)
{
	strings_done(&n->objects);
	free(n->frames);
	free(n->slots);
	*n = (struct frame_numbers){0};
}
