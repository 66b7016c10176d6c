/* SPDX-License-Identifier: MIT */
/* Regular files: content, holes, modes, times, owners, attributes, and how few calls they cost. */
#include "tree_fixture.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

static int open_file(struct fixture *f, const char *name, mode_t mode, uint64_t size)
{
	struct meta m = meta_of(mode);

	return writer_file_open(f->w, name, &m, size, false, &f->err);
}

static int write_at(struct fixture *f, uint64_t offset, const char *bytes)
{
	return writer_file_write(f->w, offset, bytes, strlen(bytes), &f->err);
}

static int put_with_mtime(struct fixture *f, const char *name, time_t sec, long nsec)
{
	struct meta m = {.mode = 0644, .mtime = {sec, nsec}};
	struct slice empty = {0};

	return writer_file(f->w, name, &m, &empty, &f->err);
}

TREE_TEST(file_is_written_in_parts)
{
	assert_ok(f, open_file(f, "f", 0644, SIZE_UNKNOWN));
	assert_ok(f, write_at(f, 0, "one "));
	assert_ok(f, write_at(f, 4, "two "));
	assert_ok(f, write_at(f, 8, ""));
	assert_ok(f, write_at(f, 8, "three"));
	assert_ok(f, writer_file_close(f->w, &f->err));
	assert_content(f, "f", "one two three");
	assert_int_equal(counted(&f->progress.expanded), 13);
	assert_int_equal(counted(&f->progress.entries), 1);
	assert_true(counted(&f->progress.disk_ns) > 0);
}

TREE_TEST(file_has_the_mode_it_was_given_but_for_the_special_bits)
{
	mode_t modes[] = {0644, 0600, 0755, 0444, 0400, 0000, 0777, 0111, 06755, 01644, 07777};

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		assert_ok(f, open_file(f, "f", modes[i], SIZE_UNKNOWN));
		assert_ok(f, write_at(f, 0, "x"));
		assert_ok(f, writer_file_close(f->w, &f->err));
		assert_int_equal(stat_of(f, "f").st_mode, S_IFREG | (modes[i] & 0777));
	}
}

TREE_TEST(file_has_its_mode_under_any_umask)
{
	mode_t masks[] = {0, 022, 077, 0777};

	for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		mode_t before = umask(masks[i]);

		fixture_reopen(f);
		assert_ok(f, put_dir(f, "dir", 0775));
		assert_ok(f, open_file(f, "implicit/f", 0666, SIZE_UNKNOWN));
		assert_ok(f, writer_file_close(f->w, &f->err));
		assert_ok(f, fixture_finish(f, NULL));
		umask(before);
		assert_int_equal(stat_of(f, "dir").st_mode, S_IFDIR | 0775);
		assert_int_equal(stat_of(f, "implicit").st_mode, S_IFDIR | 0755);
		assert_int_equal(stat_of(f, "implicit/f").st_mode, S_IFREG | 0666);
		assert_int_equal(unlinkat(f->root_fd, "implicit/f", 0), 0);
		assert_int_equal(unlinkat(f->root_fd, "implicit", AT_REMOVEDIR), 0);
		assert_int_equal(unlinkat(f->root_fd, "dir", AT_REMOVEDIR), 0);
	}
}

TREE_TEST(file_has_its_mtime_to_the_nanosecond)
{
	struct {
		time_t sec;
		long nsec;
	} times[] = {{1700000000, 999999999}, {0, 1}, {-86400, 500000000}, {4102444800, 7}};

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		assert_ok(f, put_with_mtime(f, "f", times[i].sec, times[i].nsec));
		assert_int_equal(stat_of(f, "f").st_mtim.tv_sec, times[i].sec);
		assert_int_equal(stat_of(f, "f").st_mtim.tv_nsec, times[i].nsec);
	}
}

TREE_TEST(file_takes_nanoseconds_that_are_commands_for_numbers)
{
	assert_ok(f, put_with_mtime(f, "now", 1000, UTIME_NOW));
	assert_ok(f, put_with_mtime(f, "omit", 1000, UTIME_OMIT));
	assert_ok(f, put_with_mtime(f, "negative", 1000, -5));
	assert_int_equal(stat_of(f, "now").st_mtim.tv_sec, 1000);
	assert_int_equal(stat_of(f, "omit").st_mtim.tv_sec, 1000);
	assert_int_equal(stat_of(f, "negative").st_mtim.tv_sec, 1000);
}

TREE_TEST(file_keeps_holes)
{
	char byte;
	int fd;

	assert_ok(f, open_file(f, "sparse", 0644, 64 << 20));
	assert_ok(f, write_at(f, 16 << 20, "data"));
	assert_ok(f, writer_file_close(f->w, &f->err));
	assert_int_equal(stat_of(f, "sparse").st_size, 64 << 20);
	assert_true(stat_of(f, "sparse").st_blocks < 256);
	fd = openat(f->root_fd, "sparse", O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, &byte, 1, 16 << 20), 1);
	assert_int_equal(byte, 'd');
	assert_int_equal(pread(fd, &byte, 1, 40 << 20), 1);
	assert_int_equal(byte, 0);
	close(fd);
	assert_int_equal(counted(&f->progress.expanded), 64 << 20);
}

TREE_TEST(file_that_is_one_hole_has_its_size)
{
	assert_ok(f, open_file(f, "hole", 0644, 1 << 20));
	assert_ok(f, writer_file_close(f->w, &f->err));
	assert_int_equal(stat_of(f, "hole").st_size, 1 << 20);
}

TREE_TEST(file_longer_than_declared_fails_and_is_gone)
{
	assert_ok(f, open_file(f, "f", 0644, 4));
	assert_failed(f, write_at(f, 0, "12345"), -ERR_FORMAT, "longer than the 4 bytes");
	assert_false(is_there(f, "f"));
	assert_ok(f, put_file(f, "next", "the writer is fit for more"));
}

TREE_TEST(file_with_overlapping_parts_fails_and_is_gone)
{
	assert_ok(f, open_file(f, "f", 0644, SIZE_UNKNOWN));
	assert_ok(f, write_at(f, 10, "abc"));
	assert_failed(f, write_at(f, 12, "x"), -ERR_FORMAT, "overlap");
	assert_false(is_there(f, "f"));
}

TREE_TEST(file_beyond_any_offset_fails)
{
	assert_ok(f, open_file(f, "f", 0644, SIZE_UNKNOWN));
	assert_failed(f, write_at(f, INT64_MAX, "x"), -EFBIG, "larger than any file");
	assert_ok(f, open_file(f, "f", 0644, UINT64_MAX - 1));
	assert_failed(f, writer_file_close(f->w, &f->err), -EFBIG, "larger than any file");
	assert_false(is_there(f, "f"));
}

TREE_TEST(file_that_was_not_closed_is_gone_with_its_writer)
{
	assert_ok(f, open_file(f, "dir/half", 0644, SIZE_UNKNOWN));
	assert_ok(f, write_at(f, 0, "half a"));
	writer_close(f->w);
	f->w = NULL;
	assert_false(is_there(f, "dir/half"));
}

TREE_TEST(file_writing_stops_when_cancelled)
{
	assert_ok(f, open_file(f, "f", 0644, SIZE_UNKNOWN));
	cancel_request(&f->cancel);
	assert_failed(f, write_at(f, 0, "x"), -ECANCELED, "cancelled");
	assert_false(is_there(f, "f"));
	assert_failed(f, put_file(f, "g", "x"), -ECANCELED, "cancelled");
	assert_failed(f, put_dir(f, "d", 0755), -ECANCELED, "cancelled");
	assert_false(is_there(f, "g"));
}

static int put_with_xattrs(struct fixture *f, const char *name, mode_t mode)
{
	struct xattr x[] = {{"user.colour", "blue", 4}, {"trusted.secret", "x", 1},
		{"security.capability", "x", 1}, {"user.empty", "", 0}};
	struct meta m = meta_of(mode);
	struct slice empty = {0};

	m.xattrs = x;
	m.n_xattrs = sizeof(x) / sizeof(x[0]);
	return writer_file(f->w, name, &m, &empty, &f->err);
}

TREE_TEST(file_keeps_user_attributes_and_no_others)
{
	char value[16], list[256];
	int fd, r;

	become_nobody(f);
	r = put_with_xattrs(f, "f", 0444); /* read-only: attributes nevertheless */
	become_root();
	assert_ok(f, r);
	fd = openat(f->root_fd, "f", O_RDONLY | O_CLOEXEC);
	assert_int_equal(stat_of(f, "f").st_mode, S_IFREG | 0444);
	assert_int_equal(fgetxattr(fd, "user.colour", value, sizeof(value)), 4);
	assert_memory_equal(value, "blue", 4);
	assert_int_equal(fgetxattr(fd, "user.empty", value, sizeof(value)), 0);
	assert_int_equal(fgetxattr(fd, "trusted.secret", value, sizeof(value)), -1);
	assert_int_equal(
		flistxattr(fd, list, sizeof(list)), sizeof("user.colour") + sizeof("user.empty"));
	close(fd);
}

static void put_two_with_xattrs(void *ctx)
{
	struct fixture *f = ctx;
	int r = put_with_xattrs(f, "one", 0644);

	f->err.code = r != 0 ? r : put_with_xattrs(f, "two", 0644);
}

TREE_TEST(file_without_attribute_support_is_written_with_one_warning)
{
	struct refusal refusal = {.syscall = SYS_fsetxattr, .errnum = ENOTSUP};
	char *log, *first;

	log_capture(f);
	with_refusal(&refusal, put_two_with_xattrs, f);
	assert_ok(f, f->err.code);
	assert_ok(f, fixture_finish(f, NULL));
	log = log_captured(f);
	assert_true(is_there(f, "two"));
	first = strstr(log, "extended attributes are left out");
	assert_non_null(first);
	assert_null(strstr(first + 1, "extended attributes"));
	free(log);
}

TREE_TEST(file_gets_the_owner_that_is_asked_for)
{
	struct meta m = meta_of(0640);
	struct slice empty = {0};

	if (geteuid() != 0)
		skip();
	m.uid = 1234;
	m.gid = 5678;
	f->opts.same_owner = true;
	fixture_reopen(f);
	assert_ok(f, writer_file(f->w, "same", &m, &empty, &f->err));
	assert_int_equal(stat_of(f, "same").st_uid, 1234);
	assert_int_equal(stat_of(f, "same").st_gid, 5678);
	assert_int_equal(stat_of(f, "same").st_mode, S_IFREG | 0640);
	f->opts.same_owner = false;
	f->opts.uid = 4321;
	fixture_reopen(f);
	assert_ok(f, writer_file(f->w, "new/set", &m, &empty, &f->err));
	assert_int_equal(stat_of(f, "new/set").st_uid, 4321);
	assert_int_equal(stat_of(f, "new/set").st_gid, getegid());
	assert_int_equal(stat_of(f, "new").st_uid, 4321);
	assert_ok(f, put_symlink(f, "link", "x"));
	assert_int_equal(stat_of(f, "link").st_uid, 4321);
}

TREE_TEST(file_keeps_the_running_user_by_default)
{
	struct meta m = meta_of(0640);
	struct slice empty = {0};

	m.uid = 1234;
	m.gid = 5678;
	assert_ok(f, writer_file(f->w, "f", &m, &empty, &f->err));
	assert_int_equal(stat_of(f, "f").st_uid, geteuid());
}

TREE_TEST(file_owner_without_root_is_left_out_and_says_so)
{
	char *log;
	int r;

	f->opts.uid = 1;
	fixture_reopen(f);
	log_capture(f);
	become_nobody(f);
	r = put_file(f, "f", "x");
	r = r == 0 ? fixture_finish(f, NULL) : r;
	log = log_captured(f);
	become_root();
	assert_ok(f, r);
	assert_true(is_there(f, "f"));
	assert_non_null(strstr(log, "owners are left out"));
	free(log);
}

static void put_unnamed(void *ctx)
{
	struct fixture *f = ctx;

	fixture_reopen(f);
	f->err.code = put_dir(f, "d", 0500);
}

/* Every openat() with O_TMPFILE fails, as on NFS. */
TREE_TEST(tree_works_where_there_are_no_unnamed_files)
{
	struct refusal refusal = {
		.syscall = SYS_openat, .errnum = EOPNOTSUPP, .arg = 2, .bits = O_TMPFILE};

	with_refusal(&refusal, put_unnamed, f);
	assert_ok(f, f->err.code);
	assert_ok(f, fixture_finish(f, NULL));
	assert_int_equal(stat_of(f, "d").st_mode, S_IFDIR | 0500);
	assert_int_equal(stat_of(f, ".").st_nlink, 3); /* nothing else was left */
}

static void put_small_file(void *ctx)
{
	struct fixture *f = ctx;

	f->err.code = put_file(f, "f", "x");
}

/* Errno 0: the call returns 0, and has written nothing. */
TREE_TEST(disk_that_takes_no_byte_and_gives_no_reason_is_an_error)
{
	struct refusal refusal = {.syscall = SYS_pwrite64, .errnum = 0};

	with_refusal(&refusal, put_small_file, f);
	assert_failed(f, f->err.code, -EIO, "cannot write 'f': Input/output error");
	assert_false(is_there(f, "f"));
}

/* With umask 0 a small file is open, write, time, close: each other call here would kill it. */
TREE_TEST(file_costs_no_stat_and_no_chmod)
{
	int calls[] = {SYS_newfstatat, SYS_fstat, SYS_fchmod, SYS_lseek, SYS_ftruncate};
	mode_t before = umask(0);

	fixture_reopen(f);
	umask(before);
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		struct refusal refusal = {.syscall = calls[i], .errnum = EIO};

		before = umask(0);
		with_refusal(&refusal, put_small_file, f);
		umask(before);
		assert_ok(f, f->err.code);
		assert_content(f, "f", "x");
	}
}
