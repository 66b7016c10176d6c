/* SPDX-License-Identifier: MIT */
/* Directories: what tree_finish() makes of what entries said of them. */
#include "text.h"
#include "tree_fixture.h"
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

static int put_dir_at(struct fixture *f, const char *name, mode_t mode, time_t sec)
{
	struct meta m = {.mode = mode, .mtime = {sec, 5}};

	return writer_dir(f->w, name, &m, &f->err);
}

TREE_TEST(directory_has_its_mode_and_time_in_the_end)
{
	assert_ok(f, put_dir_at(f, "a", 0750, 1000));
	assert_ok(f, put_dir_at(f, "a/empty", 0777, 2000));
	assert_ok(f, put_file(f, "a/file", "changes a's time"));
	assert_ok(f, put_dir_at(f, "special", 07755, 3000));
	assert_ok(f, fixture_finish(f, NULL));
	assert_int_equal(stat_of(f, "a").st_mode, S_IFDIR | 0750);
	assert_int_equal(stat_of(f, "a").st_mtim.tv_sec, 1000);
	assert_int_equal(stat_of(f, "a").st_mtim.tv_nsec, 5);
	assert_int_equal(stat_of(f, "a/empty").st_mode, S_IFDIR | 0777);
	assert_int_equal(stat_of(f, "a/empty").st_mtim.tv_sec, 2000);
	assert_int_equal(stat_of(f, "special").st_mode, S_IFDIR | 0755);
}

TREE_TEST(directory_that_nobody_may_write_is_filled_by_an_ordinary_user)
{
	int r;

	become_nobody(f);
	fixture_reopen(f);
	r = put_dir_at(f, "ro", 0500, 1000);
	r = r != 0 ? r : put_dir_at(f, "ro/none", 0000, 2000);
	r = r != 0 ? r : put_file(f, "ro/none/file", "x");
	r = r != 0 ? r : put_dir_at(f, "ro/none/deeper", 0555, 3000);
	r = r != 0 ? r : put_file(f, "ro/none/deeper/file", "x");
	r = r != 0 ? r : put_dir_at(f, "late/sub", 0111, 4000);
	r = r != 0 ? r : put_dir_at(f, "late", 0000, 5000);
	r = r != 0 ? r : fixture_finish(f, NULL);
	become_root();
	assert_ok(f, r);
	assert_int_equal(stat_of(f, "ro").st_mode, S_IFDIR | 0500);
	assert_int_equal(stat_of(f, "ro").st_mtim.tv_sec, 1000);
	assert_int_equal(stat_of(f, "ro/none").st_mode, S_IFDIR);
	assert_int_equal(stat_of(f, "ro/none").st_mtim.tv_sec, 2000);
	assert_int_equal(stat_of(f, "late").st_mode, S_IFDIR);
	/* To look further, whoever we are. */
	assert_int_equal(fchmodat(f->root_fd, "ro/none", 0700, 0), 0);
	assert_int_equal(fchmodat(f->root_fd, "late", 0700, 0), 0);
	assert_int_equal(stat_of(f, "ro/none/deeper").st_mode, S_IFDIR | 0555);
	assert_int_equal(stat_of(f, "late/sub").st_mode, S_IFDIR | 0111);
	assert_content(f, "ro/none/deeper/file", "x");
}

TREE_TEST(directory_listed_twice_is_what_the_last_entry_says)
{
	assert_ok(f, put_dir_at(f, "opened", 0500, 1000));
	assert_ok(f, put_dir_at(f, "opened", 0755, 2000));
	assert_ok(f, put_dir_at(f, "closed", 0755, 1000));
	assert_ok(f, put_dir_at(f, "closed", 0500, 2000));
	assert_ok(f, put_file(f, "implicit/f", "x"));
	assert_ok(f, put_dir_at(f, "implicit", 0711, 3000));
	assert_ok(f, fixture_finish(f, NULL));
	assert_int_equal(stat_of(f, "opened").st_mode, S_IFDIR | 0755);
	assert_int_equal(stat_of(f, "opened").st_mtim.tv_sec, 2000);
	assert_int_equal(stat_of(f, "closed").st_mode, S_IFDIR | 0500);
	assert_int_equal(stat_of(f, "implicit").st_mode, S_IFDIR | 0711);
	assert_int_equal(stat_of(f, "implicit").st_mtim.tv_sec, 3000);
}

TREE_TEST(directory_of_several_sources_may_come_from_each)
{
	f->opts.several_sources = true;
	fixture_reopen(f);
	assert_ok(f, put_dir_at(f, "shared", 0755, 1000));
	assert_ok(f, put_dir_at(f, "shared", 0700, 2000));
	assert_ok(f, fixture_finish(f, NULL));
	assert_int_equal(stat_of(f, "shared").st_mode, S_IFDIR | 0700);
}

TREE_TEST(directory_keeps_user_attributes)
{
	struct xattr x = {"user.kind", "train", 5};
	struct meta m = meta_of(0500);
	char value[8];
	int fd;

	m.xattrs = &x;
	m.n_xattrs = 1;
	assert_ok(f, writer_dir(f->w, "d", &m, &f->err));
	assert_ok(f, fixture_finish(f, NULL));
	fd = openat(f->root_fd, "d", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fgetxattr(fd, "user.kind", value, sizeof(value)), 5);
	close(fd);
}

TREE_TEST(directory_gets_the_owner_that_is_asked_for)
{
	struct meta root;

	if (geteuid() != 0)
		skip();
	f->opts.uid = 4321;
	f->opts.gid = 8765;
	fixture_reopen(f);
	assert_ok(f, put_dir(f, "d", 0500));
	assert_ok(f, put_dir(f, "e", 0755));
	assert_ok(f, fixture_finish(f, &root));
	assert_int_equal(stat_of(f, "d").st_uid, 4321);
	assert_int_equal(stat_of(f, "e").st_gid, 8765);
	assert_int_equal(stat_of(f, "d").st_mode, S_IFDIR | 0500);
	assert_int_equal(root.uid, 4321);
	assert_int_equal(root.gid, 8765);
}

TREE_TEST(root_metadata_is_handed_over_and_not_applied)
{
	struct stat before = stat_of(f, "."), after;
	struct meta root;

	assert_ok(f, put_dir_at(f, "./", 04511, 1000));
	after = stat_of(f, ".");
	assert_ok(f, fixture_finish(f, &root));
	assert_int_equal(root.mode, 0511);
	assert_int_equal(root.mtime.tv_sec, 1000);
	assert_int_equal(root.uid, (uid_t)-1);
	assert_int_equal(after.st_mode, before.st_mode);
}

TREE_TEST(root_metadata_is_absent_when_the_archive_says_nothing)
{
	struct meta root;

	assert_ok(f, put_file(f, "f", "x"));
	assert_ok(f, fixture_finish(f, &root));
	assert_int_equal(root.mode, (mode_t)-1);
}

TREE_TEST(tree_finish_stops_when_cancelled)
{
	assert_ok(f, put_dir(f, "d", 0755));
	cancel_request(&f->cancel);
	assert_failed(f, fixture_finish(f, NULL), -ECANCELED, "cancelled");
}

/* 3,000 directories with names of 200 bytes at three depths: enough to fill the spool's buffer. */
TREE_TEST(tree_remembers_more_directories_than_it_keeps_in_memory)
{
	char name[256], tail[200];
	size_t before;

	memset(tail, 't', sizeof(tail));
	tail[sizeof(tail) - 1] = '\0';
	assert_ok(f, put_dir_at(f, "p", 0511, 7));
	assert_ok(f, put_dir_at(f, "p/q", 0500, 8));
	before = mallinfo2().uordblks;
	for (int i = 0; i < 3000; i++) {
		const char *parent[] = {"", "p/", "p/q/"};

		snprintf(name, sizeof(name), "%s%d-%s", parent[i % 3], i, tail);
		assert_ok(f, put_dir_at(f, name, i % 7 ? 0755 : 0555, 1000 + i));
	}
	assert_true(mallinfo2().uordblks - before < (size_t)64 << 10);
	assert_ok(f, fixture_finish(f, NULL));
	for (int i = 0; i < 3000; i += 13) {
		const char *parent[] = {"", "p/", "p/q/"};

		snprintf(name, sizeof(name), "%s%d-%s", parent[i % 3], i, tail);
		assert_int_equal(stat_of(f, name).st_mtim.tv_sec, 1000 + i);
		assert_int_equal(stat_of(f, name).st_mode, S_IFDIR | (i % 7 ? 0755 : 0555));
	}
	assert_int_equal(stat_of(f, "p").st_mode, S_IFDIR | 0511);
	assert_int_equal(stat_of(f, "p/q").st_mtim.tv_sec, 8);
}
