/* SPDX-License-Identifier: MIT */
/* Limits, full disks, and many writers of one tree. */
#include "text.h"
#include "tree_fixture.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

TREE_TEST(limit_of_entries_names_the_setting_and_the_entry)
{
	f->opts.limits.max_entries = 2;
	fixture_reopen(f);
	assert_ok(f, put_file(f, "one", "x"));
	assert_ok(f, put_dir(f, "two", 0755));
	assert_failed(
		f, put_symlink(f, "three", "x"), -ERR_LIMIT, "2 entries (limits.max_entries)");
	assert_non_null(strstr(f->err.msg, "'three'"));
	assert_false(is_there(f, "three"));
}

TREE_TEST(limit_of_bytes_counts_what_is_written)
{
	f->opts.limits.max_bytes = 10;
	fixture_reopen(f);
	assert_ok(f, put_file(f, "one", "12345"));
	assert_ok(f, put_file(f, "two", "67890"));
	assert_ok(f, put_file(f, "empty", ""));
	assert_failed(f, put_file(f, "three", "x"), -ERR_LIMIT, "limits.max_bytes");
	assert_non_null(strstr(f->err.msg, "'three'"));
	assert_false(is_there(f, "three"));
}

TREE_TEST(limit_of_bytes_is_called_what_the_user_called_it)
{
	f->opts.limits.max_bytes = 1;
	f->opts.limits.bytes_why = "scratch.size_gb in config.yml:12";
	fixture_reopen(f);
	assert_failed(f, put_file(f, "f", "xy"), -ERR_LIMIT, "scratch.size_gb in config.yml:12");
}

TREE_TEST(limit_of_bytes_holds_for_files_that_declare_nothing)
{
	struct meta m = meta_of(0644);

	f->opts.limits.max_bytes = 10;
	fixture_reopen(f);
	assert_ok(f, writer_file_open(f->w, "f", &m, SIZE_UNKNOWN, false, &f->err));
	assert_ok(f, writer_file_write(f->w, 0, "12345", 5, &f->err));
	assert_failed(f, writer_file_write(f->w, 5, "678901", 6, &f->err), -ERR_LIMIT, "'f'");
	assert_false(is_there(f, "f"));
}

TREE_TEST(limit_of_bytes_counts_holes)
{
	struct meta m = meta_of(0644);

	f->opts.limits.max_bytes = 1 << 20;
	fixture_reopen(f);
	assert_ok(f, writer_file_open(f->w, "f", &m, SIZE_UNKNOWN, false, &f->err));
	assert_failed(f, writer_file_write(f->w, 1 << 20, "x", 1, &f->err), -ERR_LIMIT, "'f'");
	assert_failed(
		f, writer_file_open(f->w, "g", &m, 1ull << 40, false, &f->err), -ERR_LIMIT, "'g'");
	assert_false(is_there(f, "g"));
}

/* A file that copy_file_range() copies in two pieces, of 16 MiB and of 1 MiB. */
enum { COPIED_BYTES = 17 << 20 };

struct copy {
	struct fixture *f;
	int from_fd, result;
};

static void copy_file(void *ctx)
{
	struct copy *c = ctx;
	struct clone_source from = {.fd = c->from_fd, .size = COPIED_BYTES, .way = CLONE_COPY};
	struct meta m = meta_of(0644);

	c->result = writer_clone(c->f->w, "copy", &m, &from, &c->f->err);
}

TREE_TEST(limit_of_bytes_counts_once_what_the_kernel_stops_copying_in_the_middle)
{
	const struct refusal last_piece = {
		.syscall = SYS_copy_file_range, .errnum = EINVAL, .arg = 4, .bits = 1 << 20};
	struct copy c = {.f = f};
	char *bytes = malloc(COPIED_BYTES), *copied = malloc(COPIED_BYTES);
	int fd;

	memset(bytes, 'x', COPIED_BYTES);
	c.from_fd = openat(f->scratch_fd, "source", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(c.from_fd, bytes, COPIED_BYTES), COPIED_BYTES);
	f->opts.limits.max_bytes = COPIED_BYTES;
	fixture_reopen(f);
	with_refusal(&last_piece, copy_file, &c);
	assert_ok(f, c.result);
	assert_int_equal(counted(&f->progress.expanded), COPIED_BYTES);
	fd = openat(f->root_fd, "copy", O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, copied, COPIED_BYTES), COPIED_BYTES);
	assert_memory_equal(bytes, copied, COPIED_BYTES);
	close(fd);
	close(c.from_fd);
	free(bytes);
	free(copied);
}

static int put_hole(struct fixture *f, const char *name, uint64_t size)
{
	struct meta m = meta_of(0644);
	int r = writer_file_open(f->w, name, &m, size, false, &f->err);

	return r != 0 ? r : writer_file_close(f->w, &f->err);
}

/* With so much of it counted as expanded, as if it had been written. */
static int put_counted(struct fixture *f, const char *name, uint64_t size)
{
	int r;

	count(&f->progress.expanded, size - 1);
	r = writer_file_open(f->w, name, &(struct meta){.mode = 0644}, 1, false, &f->err);
	if (r == 0)
		r = writer_file_write(f->w, 0, "x", 1, &f->err);
	return r != 0 ? r : writer_file_close(f->w, &f->err);
}

TREE_TEST(limit_of_ratio_stops_a_bomb_after_the_first_gigabyte)
{
	f->opts.limits.max_ratio = 100;
	fixture_reopen(f);
	count(&f->progress.consumed, 1 << 20);
	assert_ok(f, put_counted(f, "small", 512 << 20)); /* 512 times, but small */
	assert_failed(
		f, put_counted(f, "bomb", 512 << 20), -ERR_LIMIT, "100 times (limits.max_ratio)");
	assert_non_null(strstr(f->err.msg, "'bomb'"));
	assert_false(is_there(f, "bomb"));
}

TREE_TEST(limit_of_ratio_lets_honest_archives_pass)
{
	f->opts.limits.max_ratio = 100;
	fixture_reopen(f);
	count(&f->progress.consumed, 32 << 20);
	assert_ok(f, put_counted(f, "a", 2048ull << 20)); /* 64 times */
}

TREE_TEST(limit_of_ratio_counts_no_holes)
{
	f->opts.limits.max_ratio = 100;
	fixture_reopen(f);
	count(&f->progress.consumed, 1 << 10);
	assert_ok(f, put_hole(f, "sparse", 1ull << 40));
	assert_ok(f, put_counted(f, "b", 1 << 10));
}

TREE_TEST(check_room_says_what_is_needed_and_what_there_is)
{
	struct statvfs fs;

	assert_ok(f, tree_check_room(f->tree, 1, 1, &f->err));
	assert_failed(
		f, tree_check_room(f->tree, 1ull << 62, 0, &f->err), -ERR_SPACE, "are needed");
	assert_non_null(strstr(f->err.msg, "free"));
	assert_int_equal(fstatvfs(f->root_fd, &fs), 0);
	if (fs.f_files > 0)
		assert_failed(
			f, tree_check_room(f->tree, 1, 1ull << 60, &f->err), -ERR_SPACE, "inodes");
}

TREE_TEST(full_disk_says_what_is_free_and_leaves_no_half_file)
{
	char *megabyte = zalloc((1 << 20) + 1);

	memset(megabyte, 'x', 1 << 20);
	root_on_tmpfs(f, "512k", "100");
	assert_ok(f, put_file(f, "fits", "x"));
	assert_failed(f, put_file(f, "dir/large", megabyte), -ERR_SPACE,
		"cannot write 'dir/large': no space left: ");
	assert_non_null(
		strstr(f->err.msg, "of 100 inodes are free; free space or stage elsewhere"));
	assert_false(is_there(f, "dir/large"));
	free(megabyte);
}

TREE_TEST(disk_without_inodes_says_so)
{
	char name[16];
	int r = 0;

	root_on_tmpfs(f, "1m", "10");
	for (int i = 0; i < 20 && r == 0; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		r = put_file(f, name, "x");
	}
	assert_failed(f, r, -ERR_SPACE, "no space left");
	assert_non_null(strstr(f->err.msg, "and 0 of 10 inodes are free"));
}

static int write_zeros(struct fixture *f, const char *name, uint64_t offset, uint64_t size)
{
	char *megabyte = zalloc(1 << 20);
	struct meta m = meta_of(0644);
	int r = writer_file_open(f->w, name, &m, size, false, &f->err);

	for (int i = 0; i < 64 && r == 0; i++, offset += 1 << 20)
		r = writer_file_write(f->w, offset, megabyte, 1 << 20, &f->err);
	free(megabyte);
	return r;
}

TREE_TEST(large_file_that_will_not_fit_fails_before_the_disk_is_full)
{
	int r;

	root_on_tmpfs(f, "80m", "100");
	r = write_zeros(f, "large", 0, 1ull << 30);
	assert_failed(f, r, -ERR_SPACE, "cannot write the rest of 'large': ");
	assert_false(is_there(f, "large"));
}

TREE_TEST(large_file_with_holes_is_not_taken_for_its_size)
{
	root_on_tmpfs(f, "80m", "100");
	assert_ok(f, write_zeros(f, "sparse", 4096, 1ull << 30));
	assert_ok(f, writer_file_close(f->w, &f->err));
	assert_int_equal(stat_of(f, "sparse").st_size, 1 << 30);
}

TEST(disk_error_explains_quota_and_read_only)
{
	struct error err;

	assert_int_equal(tree_disk_error(&err, EDQUOT, -1, "write", "a/b"), -ERR_SPACE);
	assert_non_null(strstr(err.msg, "cannot write 'a/b': the disk quota is used up"));
	assert_int_equal(tree_disk_error(&err, EROFS, -1, "create", "a/b"), -ERR_SPACE);
	assert_non_null(strstr(err.msg, "read-only; mount it writable"));
	assert_int_equal(tree_disk_error(&err, EIO, -1, "write", "a/b"), -EIO);
	assert_non_null(strstr(err.msg, "cannot write 'a/b': Input/output error"));
}

struct one_writer {
	struct fixture *f;
	int number;
	int result;
};

static int put_one(struct writer *w, int number, int i, struct error *err)
{
	struct meta m = meta_of(i % 5 ? 0755 : 0555);
	struct slice s = {.data = (const uint8_t *)"content", .len = 7};
	char name[64];
	int r;

	snprintf(name, sizeof(name), "shared%d/of%d", i % 20, number);
	if ((r = writer_dir(w, name, &m, err)) < 0)
		return r;
	snprintf(name, sizeof(name), "shared%d/of%d/file%d", i % 20, number, i);
	if ((r = writer_file(w, name, &m, &s, err)) < 0)
		return r;
	snprintf(name, sizeof(name), "shared%d/link%d-%d", i % 20, number, i);
	return writer_symlink(w, name, "of0/../of1", &m, err);
}

static void *write_many(void *arg)
{
	struct one_writer *one = arg;
	struct progress progress = {0};
	struct error err = {0};
	struct writer *w = writer_new(one->f->tree, "thread", &progress);

	for (int i = 0; i < 300 && one->result == 0; i++)
		one->result = put_one(w, one->number, i, &err);
	writer_close(w);
	return NULL;
}

TREE_TEST(writers_of_one_tree_work_in_threads)
{
	struct one_writer one[3];
	pthread_t threads[3];
	char name[64];

	for (int i = 0; i < 3; i++) {
		one[i] = (struct one_writer){.f = f, .number = i};
		assert_int_equal(pthread_create(&threads[i], NULL, write_many, &one[i]), 0);
	}
	for (int i = 0; i < 3; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(one[i].result, 0);
	}
	assert_ok(f, fixture_finish(f, NULL));
	for (int i = 0; i < 900; i++) {
		snprintf(
			name, sizeof(name), "shared%d/of%d/file%d", i % 300 % 20, i / 300, i % 300);
		assert_content(f, name, "content");
	}
	assert_int_equal(stat_of(f, "shared1/of2").st_mtim.tv_nsec, 123456789);
}

TREE_TEST(writers_of_one_tree_may_race_for_a_name)
{
	struct one_writer one[2];
	pthread_t threads[2];

	for (int i = 0; i < 2; i++) {
		one[i] = (struct one_writer){.f = f, .number = 7};
		assert_int_equal(pthread_create(&threads[i], NULL, write_many, &one[i]), 0);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(one[i].result, 0);
	}
	assert_content(f, "shared0/of7/file0", "content");
}
