/* SPDX-License-Identifier: MIT */
/* Unpacks into a new directory, and checks the result. */
#include "unpack_fixture.h"
#include "defer.h"
#include "memory_object.h"
#include "test.h"
#include <fcntl.h>
#include <locale.h>
#include <string.h>

void box_open(struct box *b)
{
	box_open_limited(b, UINT64_MAX, UINT64_MAX);
}

void box_open_limited(struct box *b, uint64_t max_bytes, uint64_t max_entries)
{
	struct tree_options options = {
		.limits = {.max_bytes = max_bytes, .max_entries = max_entries, .max_path = 4096},
		.uid = (uid_t)-1,
		.gid = (gid_t)-1,
		.cancel = &b->cancel,
	};

	/* As in main(): libarchive converts names by the locale. */
	setlocale(LC_CTYPE, "C.UTF-8"); // NOLINT(concurrency-mt-unsafe): before any thread
	*b = (struct box){.slice_bytes = 1000,
		.slices_in_block = 1,
		.seekable = true,
		.has_object = true,
		.extract = true,
		.file_name = "single"};
	b->path = test_directory();
	b->root_fd = open(b->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	b->scratch_fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cancel_init(&b->cancel);
	b->budget = budget_new((uint64_t)64 << 20);
	assert_int_equal(0, tree_new(b->root_fd, b->scratch_fd, &options, &b->tree, &b->err));
	b->env = (struct unpack_env){
		.tree = b->tree,
		.budget = b->budget,
		.cancel = &b->cancel,
		.progress = &b->progress,
		.selection = &b->selection,
		.threads = 3,
		.scratch_fd = b->scratch_fd,
	};
}

void box_close(struct box *b)
{
	assert_true(budget_try_reserve(b->budget, budget_stage_half(b->budget)));
	budget_release(b->budget, budget_stage_half(b->budget));
	tree_free(b->tree);
	budget_free(b->budget);
	cancel_done(&b->cancel);
	close(b->root_fd);
	close(b->scratch_fd);
	free(b->path);
}

int box_unpack(struct box *b, const struct text *archive)
{
	struct object *o = memory_object(
		archive->s, archive->len, b->slice_bytes, b->seekable, "https://host/archive");
	struct said said = {0};
	struct unpack_input input = {
		.in = object_stream(o),
		.object = b->has_object ? o : NULL,
		.source = "https://host/archive",
		.url = b->url != NULL ? b->url : b->file_name,
		.said = &said,
		.compression = b->compression,
		.file_name = b->file_name,
		.extract = b->extract,
		.mtime = b->mtime,
	};
	int r;

	if (b->media_type != NULL)
		snprintf(said.media_type, sizeof(said.media_type), "%s", b->media_type);
	if (b->disposition != NULL)
		snprintf(said.disposition, sizeof(said.disposition), "%s", b->disposition);
	memory_object_fill_blocks(o, b->slices_in_block);
	r = unpack(&b->env, &input, &b->format, &b->err);
	b->drained = memory_object_drained(o);
	object_close(o);
	return r < 0 ? r : tree_finish(b->tree, NULL, &b->err);
}

void box_unpack_ok(struct box *b, const struct text *archive, const char *format)
{
	box_open(b);
	if (box_unpack(b, archive) < 0)
		fail_msg("%s", b->err.msg);
	assert_string_equal(format, b->format);
	assert_true(b->drained);
}

void box_assert_bytes(const struct box *b, const char *name, const void *bytes, size_t len)
{
	_close_ int fd = openat(b->root_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	_free_ char *got = zalloc(len + 1);

	if (fd < 0)
		fail_msg("'%s' is not there", name);
	assert_int_equal(len, read(fd, got, len + 1));
	assert_memory_equal(bytes, got, len);
}

void box_assert_content(const struct box *b, const char *name, const char *content)
{
	box_assert_bytes(b, name, content, strlen(content));
}

void box_assert_link(const struct box *b, const char *name, const char *target)
{
	char got[4096] = "";

	if (readlinkat(b->root_fd, name, got, sizeof(got) - 1) < 0)
		fail_msg("'%s' is no symbolic link", name);
	assert_string_equal(target, got);
}

void box_assert_absent(const struct box *b, const char *name)
{
	assert_int_equal(-1, faccessat(b->root_fd, name, F_OK, AT_SYMLINK_NOFOLLOW));
}

void box_assert_error(const struct box *b, int code, const char *part_of_message)
{
	assert_int_equal(code, b->err.code);
	if (strstr(b->err.msg, part_of_message) == NULL)
		fail_msg("'%s' is not in: %s", part_of_message, b->err.msg);
}

struct stat box_stat(const struct box *b, const char *name)
{
	struct stat st;

	if (fstatat(b->root_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		fail_msg("'%s' is not there", name);
	return st;
}

char *make_text(size_t len)
{
	char *s = zalloc(len + 1);
	unsigned x = 7;

	for (size_t i = 0; i < len; i++) {
		x = x * 1103515245 + 12345;
		s[i] = (char)('a' + (x >> 16) % 16);
	}
	return s;
}
