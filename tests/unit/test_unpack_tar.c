/* SPDX-License-Identifier: MIT */
#include "log.h"
#include "tar_builder.h"
#include "test.h"
#include "unpack_fixture.h"
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ODD_NAME "a\xff\xfe\x01 b\nc"

static void add_some(struct archive *a)
{
	archive_add(a, AE_IFDIR, "d", NULL, NULL);
	archive_add(a, AE_IFREG, "d/file", NULL, "content");
	archive_add(a, AE_IFREG, "d/empty", NULL, NULL);
	archive_add(a, AE_IFLNK, "d/link", "file", NULL);
}

TEST(tar_entries_get_their_type_content_mode_and_time)
{
	struct text tar = {0};
	struct archive *a = archive_begin(&tar, archive_write_set_format_pax);
	struct box b;
	struct stat st;

	add_some(a);
	archive_end(a);
	box_open(&b);
	assert_int_equal(0, box_unpack(&b, &tar));
	assert_string_equal("tar", b.format);
	box_assert_content(&b, "d/file", "content");
	box_assert_content(&b, "d/empty", "");
	box_assert_link(&b, "d/link", "file");
	st = box_stat(&b, "d/file");
	assert_int_equal(S_IFREG | 0640, st.st_mode);
	assert_int_equal(BUILDER_MTIME, st.st_mtim.tv_sec);
	assert_int_equal(BUILDER_MTIME_NSEC, st.st_mtim.tv_nsec);
	st = box_stat(&b, "d");
	assert_int_equal(S_IFDIR | 0750, st.st_mode);
	assert_int_equal(BUILDER_MTIME, st.st_mtim.tv_sec);
	assert_int_equal(4, counted(&b.progress.entries));
	assert_int_equal(strlen("content"), counted(&b.progress.expanded));
	box_close(&b);
	text_done(&tar);
}

static void check_any_slices(size_t slice_bytes, const struct text *tar, const char *large)
{
	struct box b;

	box_open(&b);
	b.slice_bytes = slice_bytes;
	assert_int_equal(0, box_unpack(&b, tar));
	box_assert_content(&b, "small", "x");
	box_assert_content(&b, "large", large);
	box_assert_content(&b, "after", "y");
	assert_true(b.drained);
	box_close(&b);
}

TEST(tar_content_is_the_same_however_the_stream_is_cut)
{
	char large[5001];
	struct text tar = {0};

	for (int i = 0; i < 5000; i++)
		large[i] = (char)('a' + i % 26);
	large[5000] = '\0';
	tar_add(&tar, '0', "small", NULL, "x");
	tar_add(&tar, '0', "large", NULL, large);
	tar_add(&tar, '0', "after", NULL, "y");
	tar_end(&tar);
	check_any_slices(1, &tar, large);
	check_any_slices(7, &tar, large);
	check_any_slices(512, &tar, large);
	check_any_slices(1000, &tar, large);
	check_any_slices(100000, &tar, large);
	text_done(&tar);
}

static void check_odd_name(int (*set_format)(struct archive *))
{
	struct text tar = {0};
	struct archive *a = archive_begin(&tar, set_format);
	struct box b;

	archive_add(a, AE_IFREG, ODD_NAME, NULL, "odd");
	archive_add(a, AE_IFLNK, "link", ODD_NAME, NULL);
	archive_add(a, AE_IFREG, "hard", ODD_NAME, NULL);
	archive_add(a, AE_IFREG, "gr\xc3\xbc\xc3\x9f", NULL, "utf-8");
	archive_end(a);
	box_open(&b);
	assert_int_equal(0, box_unpack(&b, &tar));
	box_assert_content(&b, ODD_NAME, "odd");
	box_assert_link(&b, "link", ODD_NAME);
	box_assert_content(&b, "hard", "odd");
	box_assert_content(&b, "gr\xc3\xbc\xc3\x9f", "utf-8");
	box_close(&b);
	text_done(&tar);
}

TEST(tar_names_keep_every_byte_in_ustar)
{
	check_odd_name(archive_write_set_format_ustar);
}

TEST(tar_names_keep_every_byte_in_gnu_tar)
{
	check_odd_name(archive_write_set_format_gnutar);
}

TEST(tar_names_keep_every_byte_in_pax)
{
	check_odd_name(archive_write_set_format_pax);
}

TEST(tar_pax_path_that_is_no_utf8_keeps_its_bytes)
{
	struct text tar = {0};
	struct box b;

	tar_add_pax(&tar, 'x', "17 path=p\xff\xfe\xfdname\n");
	tar_add(&tar, '0', "short", NULL, "odd");
	tar_end(&tar);
	box_open(&b);
	assert_int_equal(0, box_unpack(&b, &tar));
	box_assert_content(&b, "p\xff\xfe\xfdname", "odd");
	box_close(&b);
	text_done(&tar);
}

static void check_long_names(int (*set_format)(struct archive *))
{
	char name[612], target[401];
	struct text tar = {0};
	struct archive *a = archive_begin(&tar, set_format);
	struct box b;

	memset(name, 'n', sizeof(name) - 1);
	name[200] = name[400] = name[600] = '/';
	name[sizeof(name) - 1] = '\0';
	memset(target, 't', sizeof(target) - 1);
	target[200] = '/';
	target[400] = '\0';
	archive_add(a, AE_IFREG, name, NULL, "deep");
	archive_add(a, AE_IFLNK, "link", target, NULL);
	archive_end(a);
	box_open(&b);
	assert_int_equal(0, box_unpack(&b, &tar));
	box_assert_content(&b, name, "deep");
	box_assert_link(&b, "link", target);
	box_close(&b);
	text_done(&tar);
}

TEST(tar_long_names_of_gnu_tar_are_read)
{
	check_long_names(archive_write_set_format_gnutar);
}

TEST(tar_long_names_of_pax_are_read)
{
	check_long_names(archive_write_set_format_pax);
}

TEST(tar_global_header_applies_to_what_follows)
{
	struct text tar = {0};
	struct box b;

	tar_add_pax(&tar, 'g', "19 comment=0123456\n");
	tar_add(&tar, '0', "file", NULL, "x");
	tar_end(&tar);
	box_open(&b);
	assert_int_equal(0, box_unpack(&b, &tar));
	box_assert_content(&b, "file", "x");
	box_close(&b);
	text_done(&tar);
}

static void check_sparse(const char *tar_options)
{
	static const char make[] = "cd \"$(mktemp -d)\" && printf begin > s && truncate -s 9M s && "
				   "printf middle | dd of=s bs=1 seek=4000000 conv=notrunc "
				   "status=none && tar -cSf - %s s && rm s && rmdir \"$PWD\"";
	_Alignas(64) static char want[9 << 20];
	char *command = text_format(make, tar_options);
	struct text tar = {0};
	struct box b;

	memcpy(want, "begin", 5);
	memcpy(want + 4000000, "middle", 6);
	run_tool(&tar, command);
	assert_true(tar.len < 1 << 20);
	box_open(&b);
	assert_int_equal(0, box_unpack(&b, &tar));
	box_assert_bytes(&b, "s", want, sizeof(want));
	assert_true(box_stat(&b, "s").st_blocks * 512 < 4 << 20);
	box_close(&b);
	text_done(&tar);
	free(command);
}

TEST(tar_sparse_files_of_old_gnu_tar_keep_their_holes)
{
	check_sparse("--format=gnu");
}

TEST(tar_sparse_files_of_pax_0_0_keep_their_holes)
{
	check_sparse("--format=pax --sparse-version=0.0");
}

TEST(tar_sparse_files_of_pax_0_1_keep_their_holes)
{
	check_sparse("--format=pax --sparse-version=0.1");
}

TEST(tar_sparse_files_of_pax_1_0_keep_their_holes)
{
	check_sparse("--format=pax --sparse-version=1.0");
}

TEST(tar_hard_links_are_one_file_also_when_components_are_stripped)
{
	struct text tar = {0};
	struct box b;

	tar_add(&tar, '0', "top/a", NULL, "shared");
	tar_add(&tar, '1', "top/b", "top/a", NULL);
	tar_end(&tar);
	box_open(&b);
	b.selection.strip_components = 1;
	assert_int_equal(0, box_unpack(&b, &tar));
	box_assert_content(&b, "b", "shared");
	assert_int_equal(box_stat(&b, "a").st_ino, box_stat(&b, "b").st_ino);
	box_close(&b);
	text_done(&tar);
}

TEST(tar_user_xattrs_are_kept)
{
	struct text tar = {0};
	struct archive *a = archive_begin(&tar, archive_write_set_format_pax);
	struct archive_entry *e = archive_entry_new();
	char path[4200], value[16] = "";
	struct box b;

	archive_entry_set_pathname(e, "file");
	archive_entry_set_mode(e, AE_IFREG | 0644);
	archive_entry_set_size(e, 0);
	archive_entry_xattr_add_entry(e, "user.label", "cat", 3);
	archive_entry_xattr_add_entry(e, "security.capability", "no", 2);
	archive_write_header(a, e);
	archive_entry_free(e);
	archive_end(a);
	box_open(&b);
	assert_int_equal(0, box_unpack(&b, &tar));
	snprintf(path, sizeof(path), "%s/file", b.path);
	if (getxattr(path, "user.label", value, sizeof(value)) < 0 && errno == ENOTSUP)
		skip(); /* the file system has none */
	assert_string_equal("cat", value);
	box_close(&b);
	text_done(&tar);
}

TEST(tar_of_1979_is_known_by_its_checksum)
{
	struct text tar = {0};
	struct box b;
	unsigned sum = 0;

	tar_add(&tar, '0', "old", NULL, "x");
	tar_end(&tar);
	memset(tar.s + 257, 0, 8);
	tar.s[156] = '\0';
	memset(tar.s + 148, ' ', 8);
	for (int i = 0; i < 512; i++)
		sum += (unsigned char)tar.s[i];
	snprintf(tar.s + 148, 7, "%06o", sum);
	box_open(&b);
	assert_int_equal(0, box_unpack(&b, &tar));
	assert_string_equal("tar", b.format);
	box_assert_content(&b, "old", "x");
	box_close(&b);
	text_done(&tar);
}

TEST(tar_that_was_cancelled_stops_before_the_next_entry)
{
	struct text tar = {0};
	struct box b;

	tar_add(&tar, '0', "one", NULL, "first");
	tar_end(&tar);
	box_open(&b);
	cancel_request(&b.cancel);
	assert_int_equal(-ECANCELED, box_unpack(&b, &tar));
	box_assert_absent(&b, "one");
	box_close(&b);
	text_done(&tar);
}
