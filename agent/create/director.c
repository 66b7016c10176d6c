/* SPDX-License-Identifier: MIT */
/* Gathers entries to works. An entry is looked up in the version before; if that may have its content, a hand
 * compares them. Then, in the order of the entries whatever takes how long, each gets its place: where it was,
 * or in the pack that is being filled, or an object of its own. When its place is made, it goes into the
 * index. */
#include "director.h"
#include "defer.h"
#include "pack_tar.h"
#include <errno.h>

/* What is compared at one go: enough that handing over costs little, and little enough for all hands. */
#define BATCH_BYTES   ((uint64_t)8 << 20)
#define BATCH_ENTRIES 512

void director_init(struct director *d, struct creation *c)
{
	*d = (struct director){.creation = c};
	d->index = index_writer_new(director_on_part, d);
}

static void drop_work(struct director *d, struct work *w)
{
	if (w == NULL || --w->open > 0)
		return;
	large_free(w->large, d->store);
	if (!w->taken)
		create_object_free(w->object);
	work_free(w);
}

void director_drop(struct director *d, struct item *i)
{
	drop_work(d, i->batch);
	drop_work(d, i->work);
	item_free(i);
}

void director_done(struct director *d)
{
	while (d->first != NULL) {
		struct item *i = d->first;

		d->first = i->next;
		director_drop(d, i);
	}
	if (d->target != NULL)
		director_drop(d, d->target);
	index_writer_free(d->index);
}

static int give(struct director *d, struct work **w, struct error *err)
{
	struct work *given = take_ptr(w);

	return given != NULL ? makers_give(d->hands, given, err) : 0;
}

static int give_large(struct director *d, struct item *i, struct error *err)
{
	struct work *w = work_new(WORK_LARGE);

	work_add(w, i, i->size);
	i->work = w;
	w->large = large_new(i);
	return makers_give(d->hands, w, err);
}

static int add_to_pack(struct director *d, struct item *i, struct error *err)
{
	uint64_t raw = tar_member_size(i);
	int r;

	if (d->pack != NULL && d->pack->raw + raw > PACK_RAW && (r = give(d, &d->pack, err)) < 0)
		return r;
	if (d->pack == NULL)
		d->pack = work_new(WORK_PACK);
	work_add(d->pack, i, raw);
	i->work = d->pack;
	return 0;
}

/* Entries behind a pack wait for it: it must not be filled for ever. */
static int end_long_pack(struct director *d, const struct item *i, struct error *err)
{
	if (d->pack == NULL || i->number - d->pack->items[0]->number < PACK_SPAN)
		return 0;
	return give(d, &d->pack, err);
}

/* Whether the tars of earlier versions have it: other names of a file are where that is. */
static bool is_there(struct director *d, const struct item *i)
{
	if (i->type != INDEX_HARDLINK)
		d->was_there = i->earlier != NULL ? !i->changed : i->known && !item_has_content(i);
	return d->was_there;
}

static int place(struct director *d, struct item *i, struct error *err)
{
	int r = end_long_pack(d, i, err);

	if (r < 0 || i->type == INDEX_REFERENCE)
		return r;
	if (is_there(d, i)) {
		d->reused_files += i->earlier != NULL;
		return 0;
	}
	return item_has_content(i) && i->size >= LARGE_MIN ? give_large(d, i, err)
							   : add_to_pack(d, i, err);
}

static int place_what_can_be(struct director *d, struct error *err)
{
	int r = 0;

	while (r == 0 && d->next != NULL &&
		(d->next->batch == NULL || work_is_done(d->next->batch))) {
		r = place(d, d->next, err);
		d->next = d->next->next;
	}
	return r;
}

static bool is_placed(const struct director *d, const struct item *i)
{
	return d->next == NULL || i->number < d->next->number;
}

static int index_and_drop(struct director *d, struct item *i, struct error *err)
{
	int r = director_index(d, i, err);

	/* Hard links to a file follow it. */
	if (i->type == INDEX_FILE) {
		struct item *before = d->target;

		d->target = i;
		i = before;
	}
	if (i != NULL)
		director_drop(d, i);
	return r;
}

int director_add_placed(struct director *d, struct item *i, struct error *err)
{
	int r = i->work != NULL ? makers_await(d->hands, i->work, err) : 0;

	if (r == 0)
		return index_and_drop(d, i, err);
	director_drop(d, i);
	return r;
}

static int index_what_can_be(struct director *d, struct error *err)
{
	int r = 0;

	while (r == 0 && d->first != NULL && is_placed(d, d->first) &&
		(d->first->work == NULL || work_is_done(d->first->work))) {
		struct item *i = d->first;

		d->first = i->next;
		d->waiting--;
		if (d->first == NULL)
			d->last = NULL;
		r = index_and_drop(d, i, err);
	}
	return r;
}

static int advance(struct director *d, struct error *err)
{
	int r = place_what_can_be(d, err);

	return r < 0 ? r : index_what_can_be(d, err);
}

/* Sleeps until something is done that the first entries wait for. */
static int await_something(struct director *d, struct error *err)
{
	struct item *i = d->first;
	int r = 0;

	if (d->next != NULL && d->next->batch != NULL && !work_is_done(d->next->batch)) {
		if (d->next->batch == d->batch)
			r = give(d, &d->batch, err);
		return r < 0 ? r : makers_await(d->hands, d->next->batch, err);
	}
	if (!is_placed(d, i) || i->work == NULL)
		return 0; /* the batch was done just now */
	if (i->work == d->pack)
		r = give(d, &d->pack, err);
	return r < 0 ? r : makers_await(d->hands, i->work, err);
}

static int await_until(struct director *d, size_t waiting, struct error *err)
{
	int r = advance(d, err);

	while (r == 0 && d->waiting > waiting) {
		r = await_something(d, err);
		if (r == 0)
			r = advance(d, err);
	}
	return r;
}

static int compare_later(struct director *d, struct item *i, struct error *err)
{
	if (d->batch == NULL)
		d->batch = work_new(WORK_HASH);
	work_add(d->batch, i, i->size);
	i->batch = d->batch;
	if (d->batch->raw < BATCH_BYTES && d->batch->n < BATCH_ENTRIES)
		return 0;
	return give(d, &d->batch, err);
}

static void append(struct director *d, struct item *i)
{
	i->number = d->numbers++;
	if (d->last != NULL)
		d->last->next = i;
	else
		d->first = i;
	d->last = i;
	if (d->next == NULL)
		d->next = i;
	d->waiting++;
}

int director_add(struct director *d, struct item *i, struct error *err)
{
	int r;

	append(d, i);
	if (item_has_content(i))
		count(&d->creation->opts->progress->total, i->size);
	if (i->type != INDEX_HARDLINK && (r = base_look_up(d->base, i, err)) < 0)
		return r;
	if (i->earlier != NULL && (r = compare_later(d, i, err)) < 0)
		return r;
	if ((r = advance(d, err)) < 0)
		return r;
	return d->waiting > MAX_WAITING ? await_until(d, MAX_WAITING, err) : 0;
}

int director_go_to_links(struct director *d, struct error *err)
{
	return base_go_to_links(d->base, err);
}

int director_finish(struct director *d, struct error *err)
{
	int r = await_until(d, 0, err);

	return r < 0 ? r : index_writer_finish(d->index, err);
}
