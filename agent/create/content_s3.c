/* SPDX-License-Identifier: MIT */
/* Content of S3 objects. Each is asked for by the ETag that the listing said: another one since then is a
 * change. */
#include "create_private.h"
#include "defer.h"
#include <errno.h>

static char *key_of(const struct hand *h, const struct item *i)
{
	return format_text("%s%s", h->creation->place.key, i->path);
}

static int s3_content_open(
	struct hand *h, const struct item *i, struct content *ret, struct error *err)
{
	const struct create_options *o = h->creation->opts;
	int r = h->s3 == NULL ? s3_client_new(o->s3, o->cancel, &h->s3, err) : 0;

	*ret = (struct content){.hand = h, .item = i, .fd = -1};
	return r;
}

static int s3_content_read(
	struct content *c, uint64_t offset, void *buf, size_t len, struct error *err)
{
	const struct creation *creation = c->hand->creation;
	_free_ char *key = key_of(c->hand, c->item);
	size_t got;
	int r = s3_get(c->hand->s3, creation->place.bucket, key, offset, buf, len, c->item->etag,
		&got, NULL, err);

	if (r == -ERR_CHANGED || r == -ENOENT || (r == 0 && got < len))
		return item_changed(creation, c->item, err);
	return r;
}

static int s3_content_check(struct content *c, struct error *err)
{
	(void)c;
	(void)err;
	return 0;
}

static void s3_content_close(struct content *c)
{
	(void)c;
}

const struct contents contents_of_s3 = {.open = s3_content_open,
	.read = s3_content_read,
	.check = s3_content_check,
	.close = s3_content_close};
