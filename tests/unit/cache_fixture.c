/* SPDX-License-Identifier: MIT */
/* Helpers for the tests of the node cache. */
#include "cache_fixture.h"
#include "defer.h"
#include "publish_fixture.h"
#include "test.h"
#include "text.h"
#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>

#define KEY "cccccccccccccccccccccccccccccccc"

void cached_open(struct cached *c, const struct cache_options *opts)
{
	struct cache_options with = *opts;
	char *dir = test_directory();

	with.dir = in(dir, "cache");
	with.make = true;
	*c = (struct cached){.dir = dir};
	cancel_init(&c->cancel);
	if (cache_open(&with, &c->cache, &c->err) < 0)
		fail_msg("%s", c->err.msg);
}

void cached_done(struct cached *c)
{
	cache_close(c->cache);
	cancel_done(&c->cancel);
	free(c->dir);
}

static void digits(char letter, char buf[33])
{
	memset(buf, letter, 32);
	buf[32] = '\0';
}

int entry_open(struct cached *c, char letter, struct cache_entry **ret)
{
	char asked[33];
	const struct cache_request wish = {
		.asked = asked, .version = KEY, .what = "cats.tar", .cancel = &c->cancel};

	digits(letter, asked);
	return cache_entry_open(c->cache, &wish, ret, &c->err);
}

static struct meta meta_of(mode_t mode, long sec)
{
	return (struct meta){.mode = mode, .mtime = {sec, 123456789}};
}

static int put_file(struct writer *w, const char *name, mode_t mode, size_t size, struct error *err)
{
	struct meta m = meta_of(mode, 1000000000);
	_free_ char *content = zalloc(size + 1);
	int code;

	memset(content, *name, size);
	code = writer_file_open(w, name, &m, size, false, err);
	if (code == 0)
		code = writer_file_write(w, 0, content, size, err);
	return code == 0 ? writer_file_close(w, err) : code;
}

static int put_usual(struct writer *w, size_t size, struct error *err)
{
	const struct meta d = meta_of(0750, 1100000000), s = meta_of(0777, 1200000000);
	const struct meta empty = meta_of(0700, 1300000000);
	int code = writer_dir(w, "d", &d, err);

	code = code < 0 ? code : put_file(w, "a", 0644, size, err);
	code = code < 0 ? code : put_file(w, "d/run", 0755, 7, err);
	code = code < 0 ? code : put_file(w, "d/odd name\n", 0600, 1, err);
	code = code < 0 ? code : writer_symlink(w, "d/s", "run", &s, err);
	code = code < 0 ? code : writer_hardlink(w, "d/h", "a", err);
	return code < 0 ? code : writer_dir(w, "empty", &empty, err);
}

static struct tree_options options(void)
{
	return (struct tree_options){
		.limits = {.max_bytes = UINT64_MAX, .max_entries = UINT64_MAX, .max_path = 4096},
		.uid = (uid_t)-1,
		.gid = (gid_t)-1};
}

static int fill_tree(
	int root_fd, int state_fd, size_t size, struct meta *ret_root, struct error *err)
{
	const struct tree_options opts = options();
	struct tree *tree;
	struct writer *w;
	int code = tree_new(root_fd, state_fd, &opts, &tree, err);

	if (code < 0)
		return code;
	w = writer_new(tree, "cats.tar", NULL);
	code = put_usual(w, size, err);
	writer_close(w);
	if (code == 0)
		code = tree_finish(tree, ret_root, err);
	tree_free(tree);
	return code;
}

static int fill_and_publish(
	struct cache_entry *e, size_t size, const struct record *record, struct error *err)
{
	struct meta root;
	int root_fd, state_fd;
	int code =
		destination_begin(cache_fill_destination(e), record->key, &root_fd, &state_fd, err);

	if (code == 0)
		code = fill_tree(root_fd, state_fd, size, &root, err);
	if (code == 0)
		code = cache_fill_seal(e, root_fd, &root, record, err);
	return code == 0 ? destination_publish(cache_fill_destination(e), record, &root, err)
			 : code;
}

int entry_fill(struct cached *c, struct cache_entry *e, size_t size)
{
	const struct staging s = {.key = "aaaa", .etag = "v1"};
	static const struct progress progress;
	struct record *record = record_for(&s);
	int code = cache_fill_begin(e, size, &progress, 1, &c->err);

	record->bytes = size;
	if (code == 0)
		code = fill_and_publish(e, size, record, &c->err);
	if (code == 0)
		code = cache_fill_end(e, true, &c->err);
	publish_record_free(record);
	return code;
}

struct cache_entry *entry_of(struct cached *c, char letter, size_t size)
{
	struct cache_entry *e = NULL;

	if (entry_open(c, letter, &e) < 0)
		fail_msg("%s", c->err.msg);
	if (cache_entry_record(e) == NULL && entry_fill(c, e, size) < 0)
		fail_msg("%s", c->err.msg);
	return e;
}

char *entry_path(const struct cached *c, char letter, const char *name)
{
	char asked[33];
	_free_ char *path = NULL;

	digits(letter, asked);
	path = text_format("cache/v1/%s-" KEY "/%s", asked, name);
	return in(c->dir, path);
}

int deliver(struct cached *c, struct cache_entry *e, const struct wanted *w, const char **ret_how)
{
	const struct destination_options opts = {0};
	struct cache_target target = {.key = "aaaa",
		.read_only = w->read_only,
		.keeps = w->keeps,
		.tree = options(),
		.cancel = &c->cancel,
		.threads = 2};
	const char *how = "";
	bool keep;
	int code = destination_open(in(c->dir, w->to), &opts, &target.to, &c->err);

	if (code == 0)
		code = cache_deliver(e, &target, &how, &keep, &c->err);
	destination_close(target.to, false);
	if (ret_how != NULL)
		*ret_how = how;
	return code;
}

struct stat look(const char *path, const char *name)
{
	struct stat st;

	if (lstat(in(path, name), &st) != 0)
		fail_msg("%s/%s is not there", path, name);
	return st;
}

static void assert_is(const char *path, const char *name, mode_t mode, long sec)
{
	struct stat st = look(path, name);

	if ((st.st_mode & 07777) != mode)
		fail_msg("%s has mode %o", name, st.st_mode & 07777);
	assert_int_equal(sec, st.st_mtim.tv_sec);
	assert_int_equal(123456789, st.st_mtim.tv_nsec);
}

void assert_usual(const char *path, bool writable, size_t size)
{
	mode_t mask = writable ? 07777 : 07777 & ~0222;
	char target[8] = "";

	assert_is(path, "a", 0644 & mask, 1000000000);
	assert_is(path, "d", 0750 & mask, 1100000000);
	assert_is(path, "d/run", 0755 & mask, 1000000000);
	assert_is(path, "d/odd name\n", 0600 & mask, 1000000000);
	assert_is(path, "empty", 0700 & mask, 1300000000);
	assert_int_equal(3, readlink(in(path, "d/s"), target, sizeof(target)));
	assert_string_equal("run", target);
	assert_int_equal(size, look(path, "a").st_size);
	assert_int_equal(look(path, "a").st_ino, look(path, "d/h").st_ino);
	assert_int_equal(1200000000, look(path, "d/s").st_mtim.tv_sec);
}

bool there(const struct cached *c, char letter)
{
	return exists(entry_path(c, letter, "tree"));
}
