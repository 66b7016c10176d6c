/* SPDX-License-Identifier: MIT */
/* Entries of the node cache: filled once, found again, delivered. */
#include "cache_fixture.h"
#include "defer.h"
#include "log.h"
#include "publish_fixture.h"
#include "test.h"
#include "text.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/xattr.h>

#define NOBODY 65534

static const struct cache_options by_itself = {0};

static void open_with(struct cached *c, enum cache_delivery deliver)
{
	const struct cache_options opts = {.deliver = deliver};

	log_setup(LOG_ERROR, LOG_TEXT, STDERR_FILENO);
	cached_open(c, &opts);
}

TEST(cache_entry_is_to_be_filled_once_and_is_found_from_then_on)
{
	struct cached c;
	struct cache_entry *e;

	open_with(&c, CACHE_AUTO);
	assert_int_equal(0, entry_open(&c, 'a', &e));
	assert_null(cache_entry_record(e));
	assert_int_equal(0, entry_fill(&c, e, 3000));
	assert_non_null(cache_entry_record(e));
	cache_entry_close(e, false, false);
	assert_int_equal(0, entry_open(&c, 'a', &e));
	assert_string_equal("\"v1\"", cache_entry_record(e)->sources[0].identity.etag);
	cache_entry_close(e, false, false);
	cached_done(&c);
}

TEST(cache_entry_cannot_be_written_to)
{
	struct cached c;
	char *tree;

	open_with(&c, CACHE_AUTO);
	cache_entry_close(entry_of(&c, 'a', 3000), false, false);
	tree = entry_path(&c, 'a', "tree");
	assert_usual(tree, false, 3000);
	assert_int_equal(0555, look(tree, "").st_mode & 07777);
	cached_done(&c);
}

TEST(cache_copy_has_the_true_modes_times_and_links)
{
	struct cached c;
	struct cache_entry *e;
	const char *how;

	open_with(&c, CACHE_COPY);
	e = entry_of(&c, 'a', 300000);
	assert_int_equal(0, deliver(&c, e, &(struct wanted){.to = "x"}, &how));
	assert_string_equal("copy", how);
	assert_usual(in(c.dir, "x"), true, 300000);
	assert_int_equal(0755, look(c.dir, "x").st_mode & 07777);
	cache_entry_close(e, false, false);
	cached_done(&c);
}

TEST(cache_copy_for_reading_has_no_write_bits)
{
	struct cached c;
	struct cache_entry *e;

	open_with(&c, CACHE_COPY);
	e = entry_of(&c, 'a', 3000);
	assert_int_equal(0, deliver(&c, e, &(struct wanted){.to = "x", .read_only = true}, NULL));
	assert_usual(in(c.dir, "x"), false, 3000);
	cache_entry_close(e, false, false);
	cached_done(&c);
}

TEST(cache_copy_has_the_attributes_and_the_holes)
{
	struct cached c;
	struct cache_entry *e;
	char *file, value[8] = "";
	int fd;

	open_with(&c, CACHE_COPY);
	e = entry_of(&c, 'a', 3000);
	file = entry_path(&c, 'a', "tree/d/run");
	/* As if it had come so. */
	assert_int_equal(0, chmod(file, 0700));
	if (setxattr(file, "user.kind", "cat", 3, 0) != 0)
		skip();
	assert_int_equal(0, chmod(file, 0555));
	assert_int_equal(0, deliver(&c, e, &(struct wanted){.to = "x"}, NULL));
	assert_int_equal(3, getxattr(in(c.dir, "x/d/run"), "user.kind", value, sizeof(value)));
	assert_string_equal("cat", value);
	fd = open(in(c.dir, "x/a"), O_RDONLY | O_CLOEXEC);
	close(fd);
	cache_entry_close(e, false, false);
	cached_done(&c);
}

TEST(cache_copy_goes_among_what_is_there)
{
	struct cached c;
	struct cache_entry *e;

	open_with(&c, CACHE_COPY);
	e = entry_of(&c, 'a', 3000);
	assert_int_equal(0, mkdir(in(c.dir, "x"), 0755));
	put_text(in(c.dir, "x/mine"), "mine\n");
	assert_int_equal(0, deliver(&c, e, &(struct wanted){.to = "x"}, NULL));
	assert_usual(in(c.dir, "x"), true, 3000);
	assert_true(exists(in(c.dir, "x/mine")));
	cache_entry_close(e, false, false);
	cached_done(&c);
}

TEST(cache_symlink_is_published_with_its_record)
{
	struct cached c;
	struct cache_entry *e;
	struct staging warm = {.key = "aaaa", .etag = "v1", .names = ""};
	const char *how;

	open_with(&c, CACHE_SYMLINK);
	e = entry_of(&c, 'a', 3000);
	assert_int_equal(
		0, deliver(&c, e, &(struct wanted){.to = "x", .read_only = true, .keeps = true},
			   &how));
	assert_string_equal("symlink", how);
	assert_true(S_ISLNK(look(c.dir, "x").st_mode));
	assert_usual(in(c.dir, "x"), false, 3000);
	warm.to = in(c.dir, "x");
	assert_int_equal(WARM, stage(&warm, NULL));
	cache_entry_close(e, false, false);
	cached_done(&c);
}

TEST(cache_symlink_replaces_an_empty_directory_and_no_other)
{
	const struct wanted w = {.to = "x", .read_only = true, .keeps = true};
	struct cached c;
	struct cache_entry *e;

	open_with(&c, CACHE_SYMLINK);
	e = entry_of(&c, 'a', 3000);
	assert_int_equal(0, mkdir(in(c.dir, "x"), 0755));
	put_text(in(c.dir, "x/mine"), "mine\n");
	assert_int_equal(-ENOTEMPTY, deliver(&c, e, &w, NULL));
	assert_non_null(strstr(c.err.msg, "not empty"));
	assert_int_equal(0, unlink(in(c.dir, "x/mine")));
	assert_int_equal(0, deliver(&c, e, &w, NULL));
	assert_true(S_ISLNK(look(c.dir, "x").st_mode));
	cache_entry_close(e, false, false);
	cached_done(&c);
}

TEST(cache_symlink_that_leads_nowhere_is_staged_again)
{
	const struct wanted w = {.to = "x", .read_only = true, .keeps = true};
	struct cached c;
	struct cache_entry *e;
	struct staging again = {.key = "aaaa", .etag = "v1", .names = "b"};

	open_with(&c, CACHE_SYMLINK);
	e = entry_of(&c, 'a', 3000);
	assert_int_equal(0, deliver(&c, e, &w, NULL));
	assert_true(cache_entry_discard(e));
	assert_false(exists(in(c.dir, "x/a")));
	again.to = in(c.dir, "x");
	assert_int_equal(STAGED, stage(&again, NULL));
	assert_true(S_ISDIR(look(c.dir, "x").st_mode));
	assert_true(is_complete(&again));
	e = entry_of(&c, 'a', 3000);
	assert_int_equal(-EEXIST, deliver(&c, e, &w, NULL));
	cache_entry_close(e, false, false);
	cached_done(&c);
}

TEST(cache_symlink_is_never_staged_through)
{
	const struct wanted w = {.to = "x", .read_only = true, .keeps = true};
	struct cached c;
	struct cache_entry *e;
	struct staging other = {.key = "bbbb", .etag = "v2", .names = "b", .replace = true};

	open_with(&c, CACHE_SYMLINK);
	e = entry_of(&c, 'a', 3000);
	assert_int_equal(0, deliver(&c, e, &w, NULL));
	other.to = in(c.dir, "x/");
	assert_int_equal(STAGED, stage(&other, NULL));
	assert_usual(entry_path(&c, 'a', "tree"), false, 3000);
	assert_true(S_ISDIR(look(c.dir, "x").st_mode));
	cache_entry_close(e, false, false);
	cached_done(&c);
}

TEST(cache_hardlink_is_the_same_file)
{
	struct cached c;
	struct cache_entry *e;

	open_with(&c, CACHE_HARDLINK);
	e = entry_of(&c, 'a', 3000);
	assert_int_equal(0, deliver(&c, e, &(struct wanted){.to = "x", .read_only = true}, NULL));
	assert_usual(in(c.dir, "x"), false, 3000);
	assert_int_equal(
		look(entry_path(&c, 'a', "tree"), "a").st_ino, look(in(c.dir, "x"), "a").st_ino);
	cache_entry_close(e, false, false);
	cached_done(&c);
}

static int mount_in_namespace(void *ctx)
{
	const struct wanted w = {.to = "x", .read_only = true, .keeps = true};
	struct cached *c = ctx;
	struct cache_entry *e;
	struct staging warm = {.key = "aaaa", .etag = "v1", .names = "", .to = in(c->dir, "x")};

	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return 99;
	EXPECT(entry_open(c, 'a', &e) == 0);
	EXPECT(deliver(c, e, &w, NULL) == 0);
	EXPECT(look(in(c->dir, "x"), "a").st_ino == look(entry_path(c, 'a', "tree"), "a").st_ino);
	EXPECT(open(in(c->dir, "x/new"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0);
	EXPECT(errno == EROFS);
	EXPECT(stage(&warm, NULL) == WARM);
	EXPECT(deliver(c, e, &w, NULL) < 0); /* a mount stays what it is */
	return 0;
}

TEST(cache_bind_is_read_only_and_warm_while_it_is_mounted)
{
	struct staging s = {.key = "aaaa", .etag = "v1", .names = "b"};
	struct cached c;
	int line;

	open_with(&c, CACHE_BIND);
	cache_entry_close(entry_of(&c, 'a', 3000), false, false);
	line = in_child(geteuid(), mount_in_namespace, &c);
	if (line == 99)
		skip();
	assert_int_equal(0, line);
	/* Elsewhere there is no mount, and so nothing was staged. */
	s.to = in(c.dir, "x");
	assert_int_equal(STAGED, stage(&s, NULL));
	cached_done(&c);
}

TEST(cache_that_is_forced_says_why_it_cannot)
{
	struct cached c;
	struct cache_entry *e;

	open_with(&c, CACHE_SYMLINK);
	e = entry_of(&c, 'a', 3000);
	assert_int_equal(-ERR_CONFIG, deliver(&c, e, &(struct wanted){.to = "x"}, NULL));
	assert_non_null(strstr(c.err.msg, "cache.deliver = symlink"));
	assert_non_null(strstr(c.err.msg, "written to"));
	cache_entry_close(e, false, false);
	cached_done(&c);
}

static int deliver_as_nobody(void *ctx)
{
	const struct wanted w = {.to = "x", .read_only = true, .keeps = true};
	const struct cache_options opts = {.dir = in(ctx, "cache"), .make = true};
	struct cached c = {.dir = ctx};
	struct cache_entry *e;
	const char *how;

	cancel_init(&c.cancel);
	EXPECT(cache_open(&opts, &c.cache, &c.err) == 0);
	EXPECT(entry_open(&c, 'a', &e) == 0);
	EXPECT(entry_fill(&c, e, 3000) == 0);
	EXPECT(deliver(&c, e, &w, &how) == 0);
	EXPECT(strcmp(how, "symlink") == 0);
	EXPECT(deliver(&c, e, &(struct wanted){.to = "y"}, &how) == 0);
	EXPECT(strcmp(how, "copy") == 0 || strcmp(how, "reflink") == 0);
	EXPECT(deliver(&c, e, &(struct wanted){.to = "z", .read_only = true}, &how) == 0);
	EXPECT(strcmp(how, "hardlink") == 0 || strcmp(how, "reflink") == 0);
	return 0;
}

TEST(cache_by_itself_links_only_what_is_read_only_and_not_for_root)
{
	_free_ char *dir = shared_directory();
	struct cached c;
	struct cache_entry *e;
	const char *how;

	assert_int_equal(0, chmod(dir, 01777));
	assert_int_equal(0, in_child(geteuid() == 0 ? NOBODY : geteuid(), deliver_as_nobody, dir));
	if (geteuid() != 0)
		return;
	cached_open(&c, &by_itself);
	e = entry_of(&c, 'a', 3000);
	assert_int_equal(
		0, deliver(&c, e, &(struct wanted){.to = "x", .read_only = true, .keeps = true},
			   &how));
	assert_true(strcmp(how, "copy") == 0 || strcmp(how, "reflink") == 0);
	cache_entry_close(e, false, false);
	cached_done(&c);
}

TEST(cache_that_is_kept_passes_its_lock_on)
{
	struct cached c;
	char *use;
	int fd;

	open_with(&c, CACHE_AUTO);
	cache_entry_close(entry_of(&c, 'a', 3000), true, false);
	use = entry_path(&c, 'a', "use");
	fd = open(use, O_RDONLY | O_CLOEXEC);
	assert_int_equal(-1, flock(fd, LOCK_EX | LOCK_NB));
	cache_pass_on(c.cache);
	assert_int_equal(0, fcntl(960, F_GETFD));
	cached_done(&c);
	assert_int_equal(-1, flock(fd, LOCK_EX | LOCK_NB));
	close(960);
	assert_int_equal(0, flock(fd, LOCK_EX | LOCK_NB));
	close(fd);
}
