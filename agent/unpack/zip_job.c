/* SPDX-License-Identifier: MIT */
/* One entry whose compressed bytes are at hand: inflated in one go, checked, written. A worker's.
 * It knows nothing of zip files. */
#include "zip_job.h"
#include "defer.h"
#include "text.h"
#include "zip.h"
#include <errno.h>
#include <libdeflate.h>
#include <string.h>

void zip_job_done(struct zip_job *job)
{
	free(job->name);
	slice_drop(&job->packed);
}

static int inflate(const struct zip_job *job, const struct zip_hands *hands, struct slice *ret,
	struct error *err)
{
	struct block *b = block_pool_take(hands->outputs, hands->cancel);
	enum libdeflate_result result;
	size_t used = 0;

	if (b == NULL)
		return error_set(err, -ECANCELED, "cancelled at '%s'", job->name);
	result = libdeflate_deflate_decompress_ex(hands->inflater, job->packed.data,
		job->packed.len, b->data, job->size, &used, NULL);
	*ret = (struct slice){.data = b->data, .len = job->size, .owner = b};
	if (result == LIBDEFLATE_BAD_DATA)
		return error_set(
			err, -ERR_FORMAT, "the compressed data of '%s' is damaged", job->name);
	if (result != LIBDEFLATE_SUCCESS || used != job->packed.len)
		return error_set(err, -ERR_FORMAT,
			"the data of '%s' is not as long as the zip says (%zu bytes)", job->name,
			job->size);
	return 0;
}

static int write_link(const struct zip_job *job, const struct zip_hands *hands,
	const struct slice *content, struct error *err)
{
	_free_ char *target = zalloc(content->len + 1);

	if (content->len > 0)
		memcpy(target, content->data, content->len);
	if (strlen(target) != content->len)
		return error_set(err, -ERR_REFUSED,
			"the target of the symbolic link '%s' holds a NUL byte", job->name);
	return writer_symlink(hands->writer, job->name, target, &job->meta, err);
}

static int write_content(const struct zip_job *job, const struct zip_hands *hands,
	const struct slice *content, struct error *err)
{
	if (libdeflate_crc32(0, content->data, content->len) != job->crc)
		return error_set(err, -ERR_FORMAT,
			"'%s' is damaged: its checksum is not the one in the zip", job->name);
	if (job->type == S_IFLNK)
		return write_link(job, hands, content, err);
	return writer_file(hands->writer, job->name, &job->meta, content, err);
}

int zip_job_run(const struct zip_job *job, const struct zip_hands *hands, struct error *err)
{
	struct slice content = {0};
	int r = 0;

	if (job->method == ZIP_DEFLATED)
		r = inflate(job, hands, &content, err);
	else
		content = slice_share(&job->packed);
	if (r >= 0)
		r = write_content(job, hands, &content, err);
	slice_drop(&content);
	return r;
}
