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
	slice_drop(&job->packed[0]);
	slice_drop(&job->packed[1]);
}

/* The worker's block, or another one where a writer still holds on to what it got from that. */
static struct block *output(struct zip_hands *hands)
{
	struct block *b = hands->output;

	if (b != NULL && atomic_load_explicit(&b->refs, memory_order_acquire) == 1)
		return b;
	block_unref(b);
	hands->output = block_pool_take(hands->outputs, hands->cancel);
	return hands->output;
}

static int inflate(
	const struct zip_job *job, struct zip_hands *hands, struct slice *ret, struct error *err)
{
	const struct slice *in = &job->packed[0];
	struct block *b = output(hands);
	enum libdeflate_result result;
	size_t used = 0;

	if (b == NULL)
		return error_set(err, -ECANCELED, "cancelled at '%s'", job->name);
	result = libdeflate_deflate_decompress_ex(
		hands->inflater, in->data, in->len, b->data, job->size, &used, NULL);
	if (result == LIBDEFLATE_BAD_DATA)
		return error_set(
			err, -ERR_FORMAT, "the compressed data of '%s' is damaged", job->name);
	if (result != LIBDEFLATE_SUCCESS || used != in->len)
		return error_set(err, -ERR_FORMAT,
			"the data of '%s' is not as long as the zip says (%zu bytes)", job->name,
			job->size);
	*ret = (struct slice){.data = b->data, .len = job->size, .owner = b};
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
	return crew_symlink(hands->crew, hands->writer, job->name, target, &job->meta, err);
}

static int write_parts(const struct zip_job *job, const struct zip_hands *hands,
	const struct slice parts[static 2], struct error *err)
{
	struct writer *writer = hands->writer;
	int r;

	if (parts[1].len == 0)
		return crew_file(hands->crew, writer, job->name, &job->meta, &parts[0], err);
	r = crew_await(hands->crew, job->name, err);
	if (r >= 0)
		r = writer_file_open(writer, job->name, &job->meta, job->size, false, err);
	if (r >= 0)
		r = writer_file_write(writer, 0, parts[0].data, parts[0].len, err);
	if (r >= 0)
		r = writer_file_write(writer, parts[0].len, parts[1].data, parts[1].len, err);
	return r < 0 ? r : writer_file_close(writer, err);
}

static int write_content(const struct zip_job *job, const struct zip_hands *hands,
	const struct slice parts[static 2], struct error *err)
{
	uint32_t crc = libdeflate_crc32(0, parts[0].data, parts[0].len);

	if (parts[1].len > 0) /* without data, the function would begin anew */
		crc = libdeflate_crc32(crc, parts[1].data, parts[1].len);
	if (crc != job->crc)
		return error_set(err, -ERR_FORMAT,
			"'%s' is damaged: its checksum is not the one in the zip", job->name);
	if (job->type == S_IFLNK)
		return write_link(job, hands, &parts[0], err);
	return write_parts(job, hands, parts, err);
}

int zip_job_run(const struct zip_job *job, struct zip_hands *hands, struct error *err)
{
	struct slice inflated[2] = {0};
	int r;

	if (job->method == ZIP_STORED)
		return write_content(job, hands, job->packed, err);
	r = inflate(job, hands, &inflated[0], err); /* borrowed: the block stays the worker's */
	return r < 0 ? r : write_content(job, hands, inflated, err);
}
