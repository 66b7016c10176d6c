/* SPDX-License-Identifier: MIT */
/* Symbolic and hard links: nothing leads out of the tree, now or later. */
#include "tree_fixture.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

TREE_TEST(tree_keeps_symlinks_inside_even_dangling_ones)
{
	assert_ok(f, put_symlink(f, "dangling", "not/here"));
	assert_ok(f, put_symlink(f, "a/b/up", "../../top"));
	assert_ok(f, put_symlink(f, "self", "."));
	assert_ok(f, fixture_finish(f, NULL));
	assert_target(f, "dangling", "not/here");
	assert_target(f, "a/b/up", "../../top");
	assert_target(f, "self", ".");
}

TREE_TEST(tree_keeps_a_symlinks_mtime)
{
	assert_ok(f, put_symlink(f, "l", "x"));
	assert_int_equal(stat_of(f, "l").st_mtim.tv_sec, 1000000000);
	assert_int_equal(stat_of(f, "l").st_mtim.tv_nsec, 123456789);
}

TREE_TEST(tree_refuses_symlinks_that_lead_out)
{
	assert_failed(f, put_symlink(f, "l", "/etc/passwd"), -ERR_REFUSED, "absolute");
	assert_failed(f, put_symlink(f, "l", ".."), -ERR_REFUSED, "outside the destination");
	assert_failed(f, put_symlink(f, "a/l", "../../x"), -ERR_REFUSED, "outside the destination");
	assert_failed(f, put_symlink(f, "l", "a/../../x"), -ERR_REFUSED, "outside");
	assert_failed(f, put_symlink(f, "l", ""), -ERR_REFUSED, "link to nothing");
	assert_false(is_there(f, "l"));
}

TREE_TEST(tree_allows_going_up_from_a_real_directory)
{
	assert_ok(f, put_symlink(f, "a/l", "sub/../../b/./c/../d"));
	assert_ok(f, put_dir(f, "a/sub", 0755));
	assert_ok(f, put_dir(f, "b/c", 0755));
	assert_ok(f, fixture_finish(f, NULL));
}

TREE_TEST(tree_refuses_a_chain_of_symlinks_that_climbs)
{
	assert_ok(f, put_dir(f, "d", 0755));
	assert_ok(f, put_symlink(f, "d/a", "."));
	assert_ok(f, put_symlink(f, "d/b", "a/../.."));
	assert_failed(f, fixture_finish(f, NULL), -ERR_REFUSED, "goes up from 'd/a'");
}

TREE_TEST(tree_refuses_going_up_from_a_symlink_at_the_root)
{
	assert_ok(f, put_symlink(f, "a", "."));
	assert_ok(f, put_symlink(f, "b", "a/.."));
	assert_failed(f, fixture_finish(f, NULL), -ERR_REFUSED, "'b' was refused");
}

TREE_TEST(tree_refuses_going_up_through_a_symlink_on_the_way)
{
	assert_ok(f, put_dir(f, "x/y/z", 0755));
	assert_ok(f, put_symlink(f, "x/y/s", "../../x"));
	assert_ok(f, put_symlink(f, "l", "x/y/s/y/../../.."));
	assert_failed(f, fixture_finish(f, NULL), -ERR_REFUSED, "'x/y/s/y'");
}

TREE_TEST(tree_refuses_going_up_from_a_name_that_is_missing_or_a_file)
{
	assert_ok(f, put_symlink(f, "l", "missing/../x"));
	assert_failed(f, fixture_finish(f, NULL), -ERR_REFUSED, "goes up from 'missing'");
	fixture_reopen(f);
	assert_ok(f, put_file(f, "file", "x"));
	assert_ok(f, put_symlink(f, "l", "file/../x"));
	assert_failed(f, fixture_finish(f, NULL), -ERR_REFUSED, "goes up from 'file'");
}

TREE_TEST(tree_judges_the_link_that_is_there_in_the_end)
{
	assert_ok(f, put_symlink(f, "l", "missing/../x"));
	assert_ok(f, put_symlink(f, "l", "fine"));
	assert_ok(f, put_symlink(f, "m", "missing/../x"));
	assert_ok(f, put_file(f, "m", "a file now"));
	assert_ok(f, fixture_finish(f, NULL));
	assert_target(f, "l", "fine");
}

/* A resolver that gives up at PATH_MAX takes what is left for harmless: each link of the chain is
 * long, and the last goes up once for each of them. */
TREE_TEST(tree_refuses_a_chain_of_symlinks_longer_than_any_path)
{
	char dir[248], path[PATH_MAX] = "", link[PATH_MAX + 8], up[64] = "";

	memset(dir, 'd', sizeof(dir) - 1);
	dir[sizeof(dir) - 1] = '\0';
	for (int i = 0; i < 15; i++) {
		snprintf(link, sizeof(link), "%s%s%c", path, *path ? "/" : "", 'a' + i);
		assert_ok(f, put_symlink(f, link, dir));
		snprintf(path + strlen(path), sizeof(path) - strlen(path), "%s%s", *path ? "/" : "",
			dir);
		assert_ok(f, put_dir(f, path, 0755));
		snprintf(up + strlen(up), sizeof(up) - strlen(up), "../");
	}
	snprintf(link, sizeof(link), "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/%s", up);
	assert_ok(f, put_symlink(f, "escape", link));
	assert_failed(f, fixture_finish(f, NULL), -ERR_REFUSED, "'escape' was refused");
}

TREE_TEST(tree_makes_hard_links)
{
	assert_ok(f, put_file(f, "a/one", "shared"));
	assert_ok(f, put_hardlink(f, "b/two", "./a//one"));
	assert_content(f, "b/two", "shared");
	assert_int_equal(stat_of(f, "a/one").st_ino, stat_of(f, "b/two").st_ino);
}

TREE_TEST(tree_refuses_hard_links_to_outside)
{
	assert_failed(f, put_hardlink(f, "h", "/etc/passwd"), -ERR_REFUSED, "'h' was refused");
	assert_failed(f, put_hardlink(f, "h", "../victim"), -ERR_REFUSED, "not a name in the dest");
	assert_failed(f, put_hardlink(f, "h", "a/../../victim"), -ERR_REFUSED, "not a name in");
	assert_false(is_there(f, "h"));
}

TREE_TEST(tree_refuses_a_hard_link_through_a_symlink)
{
	assert_ok(f, put_file(f, "dir/file", "x"));
	assert_ok(f, put_symlink(f, "link", "dir"));
	assert_failed(f, put_hardlink(f, "h", "link/file"), -ERR_REFUSED, "not in the tree");
}

TREE_TEST(tree_says_when_a_hard_links_target_is_not_there)
{
	assert_failed(f, put_hardlink(f, "h", "excluded"), -ERR_REFUSED,
		"hard link to 'excluded', which is not in the tree (was it excluded?)");
	assert_failed(f, put_hardlink(f, "h", "no/dir/x"), -ERR_REFUSED, "was it excluded?");
	assert_false(is_there(f, "no"));
}

TREE_TEST(tree_refuses_a_hard_link_to_a_directory)
{
	assert_ok(f, put_dir(f, "dir", 0755));
	assert_failed(f, put_hardlink(f, "h", "dir"), -ERR_REFUSED, "which is a directory");
	assert_failed(f, put_hardlink(f, "h", "."), -ERR_REFUSED, "which is a directory");
}

TREE_TEST(tree_links_a_symlink_but_checks_its_target_for_the_new_place)
{
	assert_ok(f, put_symlink(f, "a/b/link", "../../x"));
	assert_ok(f, put_hardlink(f, "a/b/same", "a/b/link"));
	assert_target(f, "a/b/same", "../../x");
	assert_failed(f, put_hardlink(f, "a/up", "a/b/link"), -ERR_REFUSED, "outside");
	assert_false(is_there(f, "a/up"));
}

TREE_TEST(tree_judges_a_linked_symlink_in_its_new_place_too)
{
	assert_ok(f, put_dir(f, "a/d", 0755));
	assert_ok(f, put_symlink(f, "a/link", "d/../x"));
	assert_ok(f, put_hardlink(f, "b/link", "a/link"));
	assert_failed(f, fixture_finish(f, NULL), -ERR_REFUSED, "goes up from 'b/d'");
}

TREE_TEST(tree_leaves_a_hard_link_to_itself_alone)
{
	assert_ok(f, put_file(f, "f", "kept"));
	assert_ok(f, put_hardlink(f, "f", "f"));
	assert_ok(f, put_hardlink(f, "g", "f"));
	assert_ok(f, put_hardlink(f, "g", "f"));
	assert_content(f, "f", "kept");
	assert_int_equal(stat_of(f, "f").st_nlink, 2);
}

TREE_TEST(tree_puts_content_that_follows_a_hard_link_into_all_names)
{
	struct meta m = meta_of(0444);

	assert_ok(f, put_file(f, "one", "to be replaced"));
	assert_ok(f, put_hardlink(f, "two", "one"));
	assert_ok(f, writer_file_open(f->w, "two", &m, 3, true, &f->err));
	assert_ok(f, writer_file_write(f->w, 0, "new", 3, &f->err));
	assert_ok(f, writer_file_close(f->w, &f->err));
	assert_content(f, "one", "new");
	assert_int_equal(stat_of(f, "one").st_ino, stat_of(f, "two").st_ino);
	assert_int_equal(stat_of(f, "one").st_mode, S_IFREG | 0444);
}

static void link_and_copy(void *ctx)
{
	struct fixture *f = ctx;
	int r = put_hardlink(f, "copy", "orig");

	r = r != 0 ? r : put_hardlink(f, "orig", "orig");
	r = r != 0 ? r : put_hardlink(f, "again", "orig");
	r = r != 0 ? r : put_hardlink(f, "symcopy", "sym");
	f->err.code = r;
}

static void put_special_file(struct fixture *f, const char *name)
{
	struct xattr x = {.name = "user.colour", .value = "blue", .len = 4};
	struct meta m = meta_of(0751);

	m.xattrs = &x;
	m.n_xattrs = 1;
	assert_ok(f, writer_file_open(f->w, name, &m, 3 << 20, false, &f->err));
	assert_ok(f, writer_file_write(f->w, 0, "start", 5, &f->err));
	assert_ok(f, writer_file_write(f->w, 2 << 20, "middle", 6, &f->err));
	assert_ok(f, writer_file_close(f->w, &f->err));
}

static void assert_same_file(struct fixture *f, const char *path, const char *other)
{
	struct stat a = stat_of(f, path), b = stat_of(f, other);
	char *x = calloc(2, 4 << 20), *y = x + (4 << 20);
	int fx = openat(f->root_fd, path, O_RDONLY | O_CLOEXEC);
	int fy = openat(f->root_fd, other, O_RDONLY | O_CLOEXEC);

	assert_int_equal(a.st_mode, b.st_mode);
	assert_int_equal(a.st_size, b.st_size);
	assert_memory_equal(&a.st_mtim, &b.st_mtim, sizeof(a.st_mtim));
	assert_int_equal(read(fx, x, 4 << 20), a.st_size);
	assert_int_equal(read(fy, y, 4 << 20), a.st_size);
	assert_memory_equal(x, y, 4 << 20);
	close(fx);
	close(fy);
	free(x);
}

TREE_TEST(tree_copies_where_the_file_system_has_no_hard_links)
{
	struct refusal refusal = {.syscall = SYS_linkat, .errnum = EPERM};
	char colour[8], *log;
	int fd;

	put_special_file(f, "orig");
	assert_ok(f, put_symlink(f, "sym", "orig"));
	log_capture(f);
	with_refusal(&refusal, link_and_copy, f);
	log = log_captured(f);
	assert_ok(f, f->err.code);
	assert_same_file(f, "copy", "orig");
	assert_true(stat_of(f, "copy").st_ino != stat_of(f, "orig").st_ino);
	assert_true(stat_of(f, "copy").st_blocks < 1024); /* the holes are still holes */
	assert_target(f, "symcopy", "orig");
	assert_int_equal(stat_of(f, "symcopy").st_mtim.tv_nsec, 123456789);
	assert_non_null(strstr(log, "hard links become copies"));
	assert_null(strstr(strstr(log, "become copies") + 1, "become copies"));
	free(log);
	fd = openat(f->root_fd, "copy", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fgetxattr(fd, "user.colour", colour, sizeof(colour)), 4);
	close(fd);
}

static void link_with_content(void *ctx)
{
	struct fixture *f = ctx;
	struct meta m = meta_of(0644);
	int r = put_hardlink(f, "two", "one");

	f->err.code = r != 0 ? r : writer_file_open(f->w, "two", &m, 3, true, &f->err);
}

TREE_TEST(tree_refuses_content_for_all_names_of_a_copied_link)
{
	struct refusal refusal = {.syscall = SYS_linkat, .errnum = EOPNOTSUPP};
	char *log;

	assert_ok(f, put_file(f, "one", ""));
	log_capture(f);
	with_refusal(&refusal, link_with_content, f);
	log = log_captured(f);
	assert_failed(f, f->err.code, -ERR_REFUSED, "content for all its names");
	free(log);
}

static void link_once_too_often(struct fixture *f)
{
	struct statfs fs;
	char name[32], *log;
	int i;

	assert_int_equal(fstatfs(f->root_fd, &fs), 0);
	if (fs.f_type != EXT4_SUPER_MAGIC)
		skip(); /* others allow many more, or none */
	assert_ok(f, put_file(f, "one", "content"));
	for (i = 1; i < 65000; i++) {
		snprintf(name, sizeof(name), "d%d", i);
		assert_int_equal(linkat(f->root_fd, "one", f->root_fd, name, 0), 0);
	}
	log_capture(f);
	i = put_hardlink(f, "over", "one");
	log = log_captured(f);
	free(log);
	assert_ok(f, i);
	assert_content(f, "over", "content");
	assert_int_equal(stat_of(f, "over").st_nlink, 1);
}

TEST(tree_copies_a_file_that_has_as_many_names_as_it_can_have)
{
	fixture_run(link_once_too_often, false);
}
