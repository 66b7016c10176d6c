/* SPDX-License-Identifier: MIT */
/* The last step of an entry: into the index, with where its content lies. Parts of the index are sent when the
 * store has not got them. */
#include "defer.h"
#include "digest.h"
#include "director.h"
#include "frames.h"
#include "pack_tar.h"
#include <string.h>

/* Where the content of an entry is. */
struct whereabouts {
	struct create_object *object;
	const struct index_frame *frames;
	size_t n;
	uint32_t skip;
};

/* The work's object, from now on among those of the version. */
static struct create_object *object_of(struct director *d, struct work *w)
{
	if (w->object != NULL && !w->taken) {
		w->object = objects_take(d->objects, w->object);
		objects_use(d->objects, w->object, 0);
		w->taken = true;
	}
	return w->object;
}

static struct whereabouts locate(struct director *d, struct item *i)
{
	struct whereabouts at = {0};
	struct frame_range range;

	if (i->earlier != NULL && !i->changed)
		return (struct whereabouts){.object = i->earlier->object,
			.frames = i->earlier->frames,
			.n = i->earlier->n_frames,
			.skip = i->earlier->skip};
	at.object = i->work != NULL ? object_of(d, i->work) : NULL;
	if (at.object == NULL || !item_has_content(i))
		return at;
	range = frames_locate(at.object->frames, at.object->n_frames, i->at, i->size);
	at.frames = at.object->frames + range.first;
	at.n = range.n;
	at.skip = range.skip;
	return at;
}

static void add_totals(struct director *d, const struct item *i)
{
	bool is_file = i->type != INDEX_DIR && i->type != INDEX_SYMLINK;

	d->manifest->entries++;
	d->manifest->files += is_file;
	if (is_file && i->type != INDEX_HARDLINK)
		d->manifest->bytes += i->size;
	if (!d->creation->streamed)
		count(&d->creation->opts->progress->entries, 1);
}

int director_index(struct director *d, struct item *i, struct error *err)
{
	struct item *content = i->type == INDEX_HARDLINK ? d->target : i;
	struct whereabouts at = locate(d, content);
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

	if (i != content && i->work != NULL)
		object_of(d, i->work); /* may be another pack than the content's */
	if (item_has_content(content)) {
		digest_print(content->sha256, hex);
		e.sha256 = hex;
	}
	if (at.object != NULL)
		objects_use(
			d->objects, at.object, i->type == INDEX_HARDLINK ? 0 : tar_member_size(i));
	add_totals(d, i);
	return index_writer_add(
		d->index, &e, at.object != NULL ? at.object->key : NULL, at.frames, at.n, err);
}

static void remember_part(struct manifest *m, const struct index_part_info *part)
{
	struct manifest_part *to;

	m->parts = reallocarray(m->parts, m->n_parts + 1, sizeof(*m->parts));
	if (m->parts == NULL)
		abort();
	to = &m->parts[m->n_parts++];
	*to = (struct manifest_part){.bytes = part->len,
		.entries = part->entries,
		.first = copy_text(part->first),
		.last = copy_text(part->last)};
	memcpy(to->sha256, part->sha256, sizeof(to->sha256));
}

int director_on_part(void *ctx, const struct index_part_info *part, struct error *err)
{
	struct director *d = ctx;
	_free_ char *key = format_text("index/%.2s/%s.zst", part->sha256, part->sha256);
	int has = store_has(d->store, key, NULL, err), r;

	if (has < 0)
		return has;
	if (has == 0) {
		if ((r = store_put(d->store, key, part->bytes, part->len, err)) < 0)
			return r;
		count(&d->creation->sent_bytes, part->len);
	}
	remember_part(d->manifest, part);
	return 0;
}
