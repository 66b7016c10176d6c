/* SPDX-License-Identifier: MIT */
/* The planner: looks up each entry in the previous version, groups new ones into jobs, and writes
 * the index. The planner's thread; reads and sends parts of the index. */
#include "create_private.h"
#include "defer.h"
#include "digest.h"
#include "log.h"
#include <errno.h>
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

void planner_objects_init(struct objects *o)
{
	*o = (struct objects){.end = &o->first};
}

void planner_objects_done(struct objects *o)
{
	tdestroy(o->by_key, free_one);
}

/* NULL when there is none. */
static struct create_object *objects_find(struct objects *o, const char *key)
{
	struct create_object wanted;
	struct create_object **found;

	if (strlen(key) >= sizeof(wanted.key))
		return NULL;
	snprintf(wanted.key, sizeof(wanted.key), "%s", key);
	found = tfind(&wanted, &o->by_key, by_key);
	return found != NULL ? *found : NULL;
}

/* Takes object over. Returns it, or the object of the same key that was there before. */
static struct create_object *objects_add(struct objects *o, struct create_object *object)
{
	struct create_object **there = tsearch(object, &o->by_key, by_key);

	if (there == NULL)
		abort();
	if (*there == object)
		return object;
	/* An object that was just made comes with all its frames; the one of an earlier version has
	 * none. */
	if ((*there)->frames == NULL) {
		(*there)->frames = object->frames;
		(*there)->n_frames = object->n_frames;
		object->frames = NULL;
	}
	create_object_free(object);
	return *there;
}

void planner_objects_add_earlier(struct objects *o, const struct manifest *m)
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
		objects_add(o, object);
	}
}

/* Records that the new version uses raw bytes of object. */
static void objects_use(struct objects *o, struct create_object *object, uint64_t raw)
{
	object->live += raw;
	if (object->listed)
		return;
	object->listed = true;
	*o->end = object;
	o->end = &object->next;
}

/* Reads the index of the previous version, on the planner's thread: entry by entry, as far as the
 * source has come. */

/* Limit for the stored bytes of one part. A valid part has a few hundred KiB. */
#define PART_MAX ((size_t)80 << 20)

struct previous {
	struct store_conn *store;
	struct objects *objects;
	const struct manifest *manifest;
	size_t next_part;
	struct index_part part;
	size_t at;       /* the next entry */
	char *last_path; /* the path of the entry before it */
	bool at_links;   /* the source, and so this index, is at the files with several names */
};

struct previous *planner_previous_new(
	struct store_conn *store, struct objects *objects, const struct manifest *m)
{
	struct previous *prev = zalloc(sizeof(*prev));

	prev->store = store;
	prev->objects = objects;
	prev->manifest = m;
	return prev;
}

void planner_previous_free(struct previous *prev)
{
	if (prev == NULL)
		return;
	index_part_done(&prev->part);
	free(prev->last_path);
	free(prev);
}

static int load_part(struct previous *prev, struct error *err)
{
	const struct manifest_part *p = &prev->manifest->parts[prev->next_part++];
	_free_ char *key = manifest_part_key(p->sha256);
	_free_ char *bytes = NULL;
	size_t len;
	int code;

	index_part_done(&prev->part);
	prev->part = (struct index_part){0};
	prev->at = 0;
	code = store_get_all(prev->store, key, PART_MAX, &bytes, &len, err);
	if (code == 0)
		code = index_part_decode(bytes, len, &prev->part, err);
	if (code != -ENOENT && code != -ERR_FORMAT)
		return code;
	log_warn(
		"version %u of %s has a damaged index (%s); what would be looked up there is sent anew",
		prev->manifest->version, prev->manifest->name, err->msg);
	prev->part = (struct index_part){0};
	prev->next_part = prev->manifest->n_parts;
	return 0;
}

/* Returns the next entry without skipping it; *ret is NULL at the end. */
static int peek(struct previous *prev, const struct index_entry **ret, struct error *err)
{

	*ret = NULL;
	while (prev->at == prev->part.n_entries) {
		int code;

		if (prev->manifest == NULL || prev->next_part == prev->manifest->n_parts)
			return 0;
		code = load_part(prev, err);
		if (code < 0)
			return code;
	}
	*ret = &prev->part.entries[prev->at];
	return 0;
}

static void skip(struct previous *prev, const struct index_entry *e)
{
	free(prev->last_path);
	prev->last_path = text_copy(e->path);
	prev->at++;
}

/* Whether e is the first of the files with several names, where the order of paths starts again. */
static bool starts_links(const struct previous *prev, const struct index_entry *e)
{
	return !prev->at_links && prev->last_path != NULL &&
	       walk_path_order(e->path, prev->last_path) <= 0;
}

/* Skips to the files with hard links, which come last in an index. */
static int previous_skip_to_links(struct previous *prev, struct error *err)
{
	const struct index_entry *e;
	int code = peek(prev, &e, err);

	while (code == 0 && e != NULL && !starts_links(prev, e)) {
		skip(prev, e);
		code = peek(prev, &e, err);
	}
	prev->at_links = true;
	return code;
}

/* Skips to the entry of this path; *ret is NULL when there is none. */
static int seek(
	struct previous *prev, const char *path, const struct index_entry **ret, struct error *err)
{
	int code = peek(prev, ret, err);

	while (code == 0 && *ret != NULL) {
		const struct index_entry *e = *ret;
		int order = e->type == INDEX_HARDLINK ? -1 : walk_path_order(e->path, path);

		if (order == 0 && !starts_links(prev, e))
			return 0;
		if (order > 0 || starts_links(prev, e))
			break;
		skip(prev, e);
		code = peek(prev, ret, err);
	}
	*ret = NULL;
	return code;
}

/* How many frames, from e->frame on, hold the content of e. */
static size_t count_frames(const struct index_part *p, const struct index_entry *e)
{
	uint64_t covered = p->frames[e->frame].raw - e->skip;
	size_t n = 1;

	while (covered < e->size)
		covered += p->frames[e->frame + n++].raw;
	return n;
}

static void set_earlier(struct previous *prev, struct create_item *i, const struct index_entry *e)
{
	const struct index_frame *frames = &prev->part.frames[e->frame];
	struct create_object *object =
		objects_find(prev->objects, prev->part.objects[frames->object]);
	size_t n = count_frames(&prev->part, e);

	if (object == NULL || object->hardly_used)
		return;
	i->earlier = zalloc(sizeof(*i->earlier) + n * sizeof(*frames));
	if (!digest_parse(e->sha256, i->earlier->sha256)) {
		free(take_ptr(&i->earlier));
		return;
	}
	i->earlier->object = object;
	i->earlier->skip = e->skip;
	i->earlier->n_frames = n;
	memcpy(i->earlier->frames, frames, n * sizeof(*frames));
}

/* Sets i->known and i->earlier from the entry of the same path, if there is one. Paths must rise
 * from call to call; the order starts again after previous_skip_to_links(). */
static int previous_look_up(struct previous *prev, struct create_item *i, struct error *err)
{
	const struct index_entry *e;
	int code = seek(prev, i->path, &e, err);

	if (code < 0 || e == NULL)
		return code;
	i->known = e->type == i->type;
	if (create_item_has_content(i) && i->known && e->size == i->size && e->sha256 != NULL)
		set_earlier(prev, i, e);
	return 0;
}

/* From entries to the index, on the planner's thread: the items and jobs themselves, the lines of
 * the index, and the order in which entries become jobs. */

static char *append_string(char *at, const char *s, const char **ret)
{
	size_t len;

	*ret = s == NULL ? NULL : at;
	if (s == NULL)
		return at;
	len = strlen(s) + 1;
	return mempcpy(at, s, len);
}

static size_t string_size(const char *s)
{
	return s == NULL ? 0 : strlen(s) + 1;
}

struct create_item *create_item_new(
	enum index_type type, const char *path, const char *target, const char *etag)
{
	struct create_item *i =
		zalloc(sizeof(*i) + string_size(path) + string_size(target) + string_size(etag));
	char *at = append_string(i->text, path, &i->path);

	i->type = type;
	at = append_string(at, target, &i->target);
	append_string(at, etag, &i->etag);
	return i;
}

void create_item_free(struct create_item *i)
{
	if (i != NULL)
		free(i->earlier);
	free(i);
}

bool create_item_has_content(const struct create_item *i)
{
	return i->type == INDEX_FILE && i->size > 0;
}

void create_object_free(struct create_object *o)
{
	if (o != NULL)
		free(o->frames);
	free(o);
}

struct create_job *create_job_new(enum create_job_kind kind)
{
	struct create_job *job = zalloc(sizeof(*job));

	job->kind = kind;
	return job;
}

void create_job_add(struct create_job *job, struct create_item *i, uint64_t raw)
{
	if (job->n == job->cap) {
		job->cap = job->cap * 2 + 8;
		job->items = reallocarray(job->items, job->cap, sizeof(struct create_item *));
		if (job->items == NULL)
			abort();
	}
	job->items[job->n++] = i;
	job->raw += raw;
	job->refs++;
}

void create_job_free(struct create_job *job)
{
	if (job == NULL)
		return;
	free(job->items);
	free(job->bytes);
	free(job);
}

/* The last step of an entry: it is written to the index, with the location of its content. Parts of
 * the index are sent unless the store has them. */

struct content_location {
	struct create_object *object;
	const struct index_frame *frames;
	size_t n;
	uint32_t skip;
};

/* Adds the job's object to those of the version, unless that was done before. */
static struct create_object *add_object(struct planner *p, struct create_job *job)
{
	if (job->object != NULL && !job->object_added) {
		job->object = objects_add(p->objects, job->object);
		objects_use(p->objects, job->object, 0);
		job->object_added = true;
	}
	return job->object;
}

static struct content_location locate_content(struct planner *p, struct create_item *i)
{
	struct content_location at = {0};
	struct frame_range range;

	if (i->earlier != NULL && !i->changed)
		return (struct content_location){.object = i->earlier->object,
			.frames = i->earlier->frames,
			.n = i->earlier->n_frames,
			.skip = i->earlier->skip};
	at.object = i->job != NULL ? add_object(p, i->job) : NULL;
	if (at.object == NULL || !create_item_has_content(i))
		return at;
	range = frames_locate(at.object->frames, at.object->n_frames, i->tar_offset, i->size);
	at.frames = at.object->frames + range.first;
	at.n = range.n;
	at.skip = range.skip;
	return at;
}

static void add_totals(struct planner *p, const struct create_item *i)
{
	bool is_file = i->type != INDEX_DIR && i->type != INDEX_SYMLINK;

	p->manifest->entries++;
	p->manifest->files += is_file;
	if (is_file && i->type != INDEX_HARDLINK)
		p->manifest->bytes += i->size;
	if (!p->creation->streamed)
		count(&p->creation->opts->progress->entries, 1);
}

static int add_to_index(struct planner *p, struct create_item *i, struct error *err)
{
	struct create_item *content = i->type == INDEX_HARDLINK ? p->link_target : i;
	struct content_location at = locate_content(p, content);
	char hex[65];
	struct index_entry e = {.type = i->type,
		.mode = i->mode,
		.mtime = i->mtime,
		.size = i->size,
		.path = i->path,
		.target = i->target,
		.etag = i->etag,
		.frame = INDEX_NO_FRAME,
		.skip = at.skip,
		.sparse = content->sparse};

	if (i != content && i->job != NULL)
		add_object(p, i->job); /* may be in another pack than the content */
	if (create_item_has_content(content)) {
		digest_print(content->sha256, hex);
		e.sha256 = hex;
	}
	if (at.object != NULL)
		objects_use(p->objects, at.object,
			i->type == INDEX_HARDLINK ? 0 : pack_tar_member_size(i));
	add_totals(p, i);
	return index_writer_add(
		p->index, &e, at.object != NULL ? at.object->key : NULL, at.frames, at.n, err);
}

static void add_manifest_part(struct manifest *m, const struct index_part_info *part)
{
	struct manifest_part *to;

	m->parts = reallocarray(m->parts, m->n_parts + 1, sizeof(*m->parts));
	if (m->parts == NULL)
		abort();
	to = &m->parts[m->n_parts++];
	*to = (struct manifest_part){.bytes = part->len,
		.entries = part->entries,
		.first = text_copy(part->first),
		.last = text_copy(part->last)};
	memcpy(to->sha256, part->sha256, sizeof(to->sha256));
}

/* Called by the index writer; ctx is the planner. */
static int on_part(void *ctx, const struct index_part_info *part, struct error *err)
{
	struct planner *p = ctx;
	_free_ char *key = manifest_part_key(part->sha256);
	int has = store_has(p->store, key, NULL, err);

	if (has < 0)
		return has;
	if (has == 0) {
		int code = store_put(p->store, key, part->bytes, part->len, err);

		if (code < 0)
			return code;
		count(&p->creation->sent_bytes, part->len);
	}
	add_manifest_part(p->manifest, part);
	return 0;
}

/* Entries become jobs. Each entry is looked up in the previous version; if that may have the same
 * content, a worker compares the two. Then each entry gets its place, in the order of the entries
 * and independent of how long anything takes: the place in the previous version, the pack that is
 * being filled, or an object of its own. It is written to the index when that object is done. */

/* Limits of one JOB_COMPARE: large enough that submitting it costs little, and small enough to
 * occupy all workers. */
#define BATCH_BYTES   ((uint64_t)8 << 20)
#define BATCH_ENTRIES 512

void planner_init(struct planner *p, struct creation *c)
{
	*p = (struct planner){.creation = c};
	p->index = index_writer_new(on_part, p);
}

static void release_job(struct planner *p, struct create_job *job)
{
	if (job == NULL || --job->refs > 0)
		return;
	large_free(job->large, p->store);
	if (!job->object_added)
		create_object_free(job->object);
	create_job_free(job);
}

void planner_drop(struct planner *p, struct create_item *i)
{
	release_job(p, i->batch);
	release_job(p, i->job);
	create_item_free(i);
}

void planner_done(struct planner *p)
{
	while (p->first != NULL) {
		struct create_item *i = p->first;

		p->first = i->next;
		planner_drop(p, i);
	}
	if (p->link_target != NULL)
		planner_drop(p, p->link_target);
	index_writer_free(p->index);
}

static int submit(struct planner *p, struct create_job **job, struct error *err)
{
	struct create_job *submitted = take_ptr(job);

	return submitted != NULL ? create_workers_submit(p->workers, submitted, err) : 0;
}

static int submit_large(struct planner *p, struct create_item *i, struct error *err)
{
	struct create_job *job = create_job_new(JOB_LARGE);

	create_job_add(job, i, i->size);
	i->job = job;
	job->large = large_new(i);
	return create_workers_submit(p->workers, job, err);
}

static int add_to_pack(struct planner *p, struct create_item *i, struct error *err)
{
	uint64_t raw = pack_tar_member_size(i);
	int code = 0;

	if (p->pack != NULL && p->pack->raw + raw > PACK_RAW)
		code = submit(p, &p->pack, err);
	if (code < 0)
		return code;
	if (p->pack == NULL)
		p->pack = create_job_new(JOB_PACK);
	create_job_add(p->pack, i, raw);
	i->job = p->pack;
	return 0;
}

/* The entries behind a pack wait until it is done, so that it must be submitted some time. */
static int end_long_pack(struct planner *p, const struct create_item *i, struct error *err)
{
	if (p->pack == NULL || i->number - p->pack->items[0]->number < PACK_SPAN)
		return 0;
	return submit(p, &p->pack, err);
}

/* Whether the previous version has the entry in its packs. Hard links go where their file goes. */
static bool is_reused(const struct planner *p, const struct create_item *i)
{
	if (i->type == INDEX_HARDLINK)
		return p->last_reused;
	return i->earlier != NULL ? !i->changed : i->known && !create_item_has_content(i);
}

static int place_item(struct planner *p, struct create_item *i, struct error *err)
{
	int code = end_long_pack(p, i, err);

	if (code < 0 || i->type == INDEX_REFERENCE)
		return code;
	p->last_reused = is_reused(p, i);
	if (p->last_reused) {
		p->reused_files += i->earlier != NULL;
		return 0;
	}
	return create_item_has_content(i) && i->size >= LARGE_MIN ? submit_large(p, i, err)
								  : add_to_pack(p, i, err);
}

static int place_ready_items(struct planner *p, struct error *err)
{
	int code = 0;

	while (code == 0 && p->next != NULL &&
		(p->next->batch == NULL || create_job_is_done(p->next->batch))) {
		code = place_item(p, p->next, err);
		p->next = p->next->next;
	}
	return code;
}

static bool is_placed(const struct planner *p, const struct create_item *i)
{
	return p->next == NULL || i->number < p->next->number;
}

static int index_and_drop(struct planner *p, struct create_item *i, struct error *err)
{
	int code = add_to_index(p, i, err);

	/* Hard links to the file may follow. */
	if (i->type == INDEX_FILE) {
		struct create_item *before = p->link_target;

		p->link_target = i;
		i = before;
	}
	if (i != NULL)
		planner_drop(p, i);
	return code;
}

int planner_add_placed(struct planner *p, struct create_item *i, struct error *err)
{
	int code = i->job != NULL ? create_workers_await(p->workers, i->job, err) : 0;

	if (code == 0)
		return index_and_drop(p, i, err);
	planner_drop(p, i);
	return code;
}

static int index_ready_items(struct planner *p, struct error *err)
{
	int code = 0;

	while (code == 0 && p->first != NULL && is_placed(p, p->first) &&
		(p->first->job == NULL || create_job_is_done(p->first->job))) {
		struct create_item *i = p->first;

		p->first = i->next;
		p->n_waiting--;
		if (p->first == NULL)
			p->last = NULL;
		code = index_and_drop(p, i, err);
	}
	return code;
}

static int advance(struct planner *p, struct error *err)
{
	int code = place_ready_items(p, err);

	return code < 0 ? code : index_ready_items(p, err);
}

/* Sleeps until the job is done that the first entry waits for. */
static int await_first(struct planner *p, struct error *err)
{
	struct create_item *i = p->first;
	int code = 0;

	if (p->next != NULL && p->next->batch != NULL && !create_job_is_done(p->next->batch)) {
		if (p->next->batch == p->batch)
			code = submit(p, &p->batch, err);
		return code < 0 ? code : create_workers_await(p->workers, p->next->batch, err);
	}
	if (!is_placed(p, i) || i->job == NULL)
		return 0; /* the batch became done meanwhile */
	if (i->job == p->pack)
		code = submit(p, &p->pack, err);
	return code < 0 ? code : create_workers_await(p->workers, i->job, err);
}

static int await_until(struct planner *p, size_t n_waiting, struct error *err)
{
	int code = advance(p, err);

	while (code == 0 && p->n_waiting > n_waiting) {
		code = await_first(p, err);
		if (code == 0)
			code = advance(p, err);
	}
	return code;
}

static int add_to_batch(struct planner *p, struct create_item *i, struct error *err)
{
	if (p->batch == NULL)
		p->batch = create_job_new(JOB_COMPARE);
	create_job_add(p->batch, i, i->size);
	i->batch = p->batch;
	if (p->batch->raw < BATCH_BYTES && p->batch->n < BATCH_ENTRIES)
		return 0;
	return submit(p, &p->batch, err);
}

static void append_item(struct planner *p, struct create_item *i)
{
	i->number = p->next_number++;
	if (p->last != NULL)
		p->last->next = i;
	else
		p->first = i;
	p->last = i;
	if (p->next == NULL)
		p->next = i;
	p->n_waiting++;
}

int planner_add(struct planner *p, struct create_item *i, struct error *err)
{
	int code = 0;

	append_item(p, i);
	if (create_item_has_content(i))
		count(&p->creation->opts->progress->total, i->size);
	if (i->type != INDEX_HARDLINK)
		code = previous_look_up(p->previous, i, err);
	if (code == 0 && i->earlier != NULL)
		code = add_to_batch(p, i, err);
	if (code == 0)
		code = advance(p, err);
	if (code == 0 && p->n_waiting > MAX_WAITING)
		code = await_until(p, MAX_WAITING, err);
	return code;
}

int planner_skip_to_links(struct planner *p, struct error *err)
{
	return previous_skip_to_links(p->previous, err);
}

int planner_finish(struct planner *p, struct error *err)
{
	int code = await_until(p, 0, err);

	return code < 0 ? code : index_writer_finish(p->index, err);
}
