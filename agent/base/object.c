/* SPDX-License-Identifier: MIT */
/* What all kinds of objects share: comparing identities, and calling their operations. */
#include "object.h"
#include <string.h>

bool object_identity_pins(const struct identity *id)
{
	return id->etag[0] != '\0' ||
	       (id->last_modified[0] != '\0' && !id->recent && id->size != SIZE_UNKNOWN);
}

bool object_identity_same(const struct identity *a, const struct identity *b)
{
	if (a->etag[0] != '\0' || b->etag[0] != '\0')
		return strcmp(a->etag, b->etag) == 0;
	return object_identity_pins(a) && object_identity_pins(b) && a->size == b->size &&
	       strcmp(a->last_modified, b->last_modified) == 0;
}

struct reader *object_stream(struct object *o)
{
	return o->ops->stream(o);
}

int object_read_at(struct object *o, uint64_t offset, void *buf, size_t len, struct error *err)
{
	if (!o->seekable)
		return error_set(err, -ERR_UNSUPPORTED,
			"%s: its server cannot send parts of it, only the whole", o->name);
	return o->ops->read_at(o, offset, buf, len, err);
}

void object_close(struct object *o)
{
	if (o != NULL)
		o->ops->close(o);
}
