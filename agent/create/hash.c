/* SPDX-License-Identifier: MIT */
/* Compares files with what an earlier version has of them: by their digest, as times prove nothing. A hand's. */
#include "frames.h"
#include <errno.h>
#include <string.h>

static int digest(struct hand *h, struct content *from, struct item *i, struct error *err)
{
	struct sha256_ctx sha256;
	uint64_t done = 0;

	sha256_init(&sha256);
	while (done < i->size) {
		size_t n = i->size - done < FRAME_RAW ? (size_t)(i->size - done) : FRAME_RAW;
		int r = makers_failed(h->hands)
				? error_set(err, -ECANCELED, "cancelled")
				: h->creation->contents->read(from, done, h->frames->raw, n, err);

		if (r < 0)
			return r;
		sha256_update(&sha256, n, h->frames->raw);
		done += n;
	}
	sha256_digest(&sha256, sizeof(i->sha256), i->sha256);
	return 0;
}

static int compare(struct hand *h, struct item *i, struct error *err)
{
	const struct contents *contents = h->creation->contents;
	struct content from;
	int r = contents->open(h, i, &from, err);

	if (r < 0)
		return r;
	r = digest(h, &from, i, err);
	if (r == 0)
		r = contents->check(&from, err);
	contents->close(&from);
	if (r < 0)
		return r;
	i->changed = memcmp(i->sha256, i->earlier->sha256, sizeof(i->sha256)) != 0;
	if (!i->changed)
		count(&h->creation->opts->progress->received, i->size);
	return 0;
}

int hash_make(struct hand *h, struct work *w, struct error *err)
{
	int r = 0;

	for (size_t n = 0; n < w->n && r == 0; n++)
		r = compare(h, w->items[n], err);
	return r;
}
