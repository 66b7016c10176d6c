/* SPDX-License-Identifier: MIT */
/* Builds archives for tests. */
#include "tar_builder.h"
#include "test.h"
#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <string.h>

static const char zeros[1024];

static void pad(struct text *tar)
{
	text_add_bytes(tar, zeros, (512 - tar->len % 512) % 512);
}

static void add_header(struct text *tar, char type, const char *name, const char *link, size_t size)
{
	char h[513] = "";
	unsigned sum = 0;

	memcpy(h, name, strnlen(name, 100));
	snprintf(h + 100, 8, "%07o", type == '5' ? 0755 : 0644);
	snprintf(h + 108, 8, "%07o", 0);
	snprintf(h + 116, 8, "%07o", 0);
	snprintf(h + 124, 12, "%011o", (unsigned)size & 07777777777);
	snprintf(h + 136, 12, "%011o", BUILDER_MTIME);
	memset(h + 148, ' ', 8);
	h[156] = type;
	memcpy(h + 157, link, strnlen(link, 100));
	memcpy(h + 257, "ustar\00000", 8);
	for (int i = 0; i < 512; i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 7, "%06o", sum);
	text_add_bytes(tar, h, 512);
}

void tar_add(struct text *tar, char type, const char *name, const char *link, const char *content)
{
	size_t len = content != NULL ? strlen(content) : 0;

	add_header(tar, type, name, link != NULL ? link : "", len);
	if (len > 0)
		text_add_bytes(tar, content, len);
	pad(tar);
}

void tar_add_pax(struct text *tar, char type, const char *records)
{
	tar_add(tar, type, "pax", NULL, records);
}

void tar_end(struct text *tar)
{
	text_add_bytes(tar, zeros, sizeof(zeros));
}

static la_ssize_t on_write(struct archive *a, void *ctx, const void *bytes, size_t len)
{
	(void)a;
	text_add_bytes(ctx, bytes, len);
	return (la_ssize_t)len;
}

struct archive *archive_begin(struct text *to, int (*set_format)(struct archive *))
{
	struct archive *a = archive_write_new();

	assert_int_equal(ARCHIVE_OK, set_format(a));
	archive_write_set_bytes_in_last_block(a, 1);
	assert_int_equal(ARCHIVE_OK, archive_write_open(a, to, NULL, on_write, NULL));
	return a;
}

void archive_add(
	struct archive *a, unsigned type, const char *name, const char *link, const char *content)
{
	struct archive_entry *e = archive_entry_new();
	size_t len = content != NULL ? strlen(content) : 0;

	archive_entry_copy_pathname(e, name);
	archive_entry_set_mode(e, type | (type == AE_IFDIR ? 0750 : 0640));
	archive_entry_set_mtime(e, BUILDER_MTIME, BUILDER_MTIME_NSEC);
	archive_entry_set_size(e, (la_int64_t)len);
	if (type == AE_IFLNK)
		archive_entry_copy_symlink(e, link);
	else if (link != NULL)
		archive_entry_copy_hardlink(e, link);
	/* For a name that is not UTF-8, libarchive warns, and marks the header accordingly. */
	assert_true(archive_write_header(a, e) >= ARCHIVE_WARN);
	if (len > 0)
		assert_int_equal(len, archive_write_data(a, content, len));
	archive_entry_free(e);
}

void archive_end(struct archive *a)
{
	assert_int_equal(ARCHIVE_OK, archive_write_close(a));
	archive_write_free(a);
}

void run_tool(struct text *to, const char *command)
{
	FILE *f = popen(command, "re");
	char buf[4096];
	size_t n;

	while ((n = fread(buf, 1, sizeof(buf), f)) > 0)
		text_add_bytes(to, buf, n);
	if (pclose(f) != 0)
		fail_msg("failed: %s", command);
}
