/* SPDX-License-Identifier: MIT */
/* Objects of versions by reference: not ours, so that the only promise is their ETag. Workers. */
#include "fetch_private.h"
#include "s3.h"
#include <errno.h>
#include <string.h>

static int changed(const struct fetch *f, const struct index_entry *e, struct error *err)
{
	return error_set(err, -ERR_REFUSED,
		"'%.300s' is no longer what version %u of %s refers to: s3://%s/%.300s was "
		"changed; "
		"create a new version",
		e->path, f->manifest->version, f->manifest->name, f->bucket, e->target);
}

static int get(struct fetch_worker *w, const struct fetch_job *job, struct s3_object *ret,
	struct error *err)
{
	const struct fetch *f = w->fetch;
	const struct index_entry *e = job->item.entry;
	size_t got = 0;
	int r;

	if (job->length == 0) /* no range of it can be asked for */
		return s3_head(w->s3, f->bucket, e->target, ret, err);
	r = s3_get(w->s3, f->bucket, e->target, job->offset, w->kit->packed, job->length, e->etag,
		&got, ret, err);
	if (r == 0 && got < job->length)
		r = error_set(err, -ERR_TRUNCATED, "the object ends early");
	return r;
}

static int get_same(struct fetch_worker *w, const struct fetch_job *job, struct error *err)
{
	const struct fetch *f = w->fetch;
	const struct index_entry *e = job->item.entry;
	struct s3_object object = {.size = SIZE_UNKNOWN};
	int r = 0;

	if (w->s3 == NULL && f->opts->s3 == NULL)
		return error_set(
			err, -ERR_CONFIG, "'%.300s' is in S3, which is not set up", e->path);
	if (w->s3 == NULL)
		r = s3_client_new(f->opts->s3, f->opts->cancel, &w->s3, err);
	if (r == 0)
		r = get(w, job, &object, err);
	if (r == -ERR_CHANGED || r == -ENOENT || r == -ERR_TRUNCATED)
		return changed(f, e, err);
	if (r == 0 && ((e->etag != NULL && strcmp(object.etag, e->etag) != 0) ||
			      (object.size != SIZE_UNKNOWN && object.size != e->size)))
		return changed(f, e, err);
	return r;
}

int fetch_reference(struct fetch_worker *w, const struct fetch_job *job, struct error *err)
{
	struct progress *progress = w->fetch->opts->progress;
	int r = get_same(w, job, err);

	if (r == 0 && progress != NULL) {
		count(&progress->received, job->length);
		count(&progress->consumed, job->length);
	}
	if (r == 0 && job->large != NULL)
		r = fetch_write_turn(w, job, w->kit->packed, job->length, err);
	else if (r == 0)
		r = fetch_write_file(w->fetch, w->writer, &job->item, w->kit->packed, err);
	if (r < 0 && strstr(err->msg, job->item.entry->path) == NULL)
		error_prefix(err, "'%.300s'", job->item.entry->path);
	return r;
}
