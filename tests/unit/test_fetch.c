/* SPDX-License-Identifier: MIT */
#include "defer.h"
#include "test.h"
#include "version_fixture.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

TEST(fetch_brings_every_type_of_entry_with_its_metadata)
{
	struct version v;
	struct stat st;
	struct meta root;

	version_open(&v);
	version_dir(&v, ".", 0711);
	version_dir(&v, "empty", 0700);
	version_dir(&v, "sub", 0750);
	version_text(&v, "sub/file", "hello");
	version_symlink(&v, "sub/link", "file");
	version_text(&v, "zero", "");
	version_text(&v, "zz", "shared");
	version_hardlink(&v, "zz2", "zz");
	version_store(&v);
	assert_int_equal(0, datastore_fetch(&v.options, v.manifest, v.box.tree, &v.box.err));
	assert_int_equal(0, tree_finish(v.box.tree, &root, &v.box.err));
	assert_int_equal(0711, root.mode);
	assert_int_equal(0700, box_stat(&v.box, "empty").st_mode & 07777);
	assert_int_equal(0750, box_stat(&v.box, "sub").st_mode & 07777);
	assert_int_equal(1600000000, box_stat(&v.box, "sub").st_mtim.tv_sec);
	box_assert_content(&v.box, "sub/file", "hello");
	st = box_stat(&v.box, "sub/file");
	assert_int_equal(0640, st.st_mode & 07777);
	assert_int_equal(1600000000, st.st_mtim.tv_sec);
	assert_int_equal(7, st.st_mtim.tv_nsec);
	box_assert_link(&v.box, "sub/link", "file");
	box_assert_content(&v.box, "zero", "");
	assert_int_equal(2, box_stat(&v.box, "zz").st_nlink);
	assert_int_equal(box_stat(&v.box, "zz").st_ino, box_stat(&v.box, "zz2").st_ino);
	version_close(&v);
}

TEST(fetch_brings_files_that_share_frames_and_files_of_several_frames)
{
	struct version v;
	_free_ char *a = make_text(3000), *b = make_text(70000), *c = make_text(100);

	version_open(&v);
	version_file(&v, "a", a, 3000);
	version_file(&v, "c", c, 100);
	/* b goes on through three frames, the last of which it shares. */
	{
		struct index_entry *e;

		version_file(&v, "b", b, 20000);
		e = version_last(&v);
		version_cut(&v);
		text_add_bytes(&v.raw, b + 20000, 20000);
		version_cut(&v);
		text_add_bytes(&v.raw, b + 40000, 30000);
		e->size = 70000;
		e->sha256 = NULL;
	}
	version_file(&v, "d", c, 100);
	version_store(&v);
	version_fetch_ok(&v);
	box_assert_bytes(&v.box, "a", a, 3000);
	box_assert_bytes(&v.box, "b", b, 70000);
	box_assert_bytes(&v.box, "c", c, 100);
	box_assert_bytes(&v.box, "d", c, 100);
	version_close(&v);
}

/* Several pieces, each of several frames. */
static char *add_large(struct version *v, const char *path, size_t len)
{
	char *bytes = zalloc(len);
	unsigned x = 1;

	for (size_t i = 0; i < len; i++) {
		x = x * 1103515245 + 12345;
		bytes[i] = (char)(x >> 24);
	}
	version_file(v, path, bytes, len);
	v->raw.len -= len;
	for (size_t at = 0; at < len; at += 3 * MIB) {
		text_add_bytes(&v->raw, bytes + at, len - at < 3 * MIB ? len - at : 3 * MIB);
		version_cut(v);
	}
	return bytes;
}

TEST(fetch_brings_large_files_in_pieces)
{
	struct version v;
	_free_ char *one = NULL, *two = NULL;

	version_open(&v);
	version_text(&v, "before", "it");
	version_cut(&v);
	one = add_large(&v, "one", 40 * MIB + 5);
	version_pack(&v);
	two = add_large(&v, "two", 25 * MIB);
	version_text(&v, "zz", "after");
	version_store(&v);
	version_fetch_ok(&v);
	box_assert_bytes(&v.box, "one", one, 40 * MIB + 5);
	box_assert_bytes(&v.box, "two", two, 25 * MIB);
	box_assert_content(&v.box, "before", "it");
	box_assert_content(&v.box, "zz", "after");
	assert_int_equal(v.manifest->stored_bytes, counted(&v.box.progress.total));
	assert_int_equal(v.manifest->stored_bytes, counted(&v.box.progress.received));
	version_close(&v);
}

TEST(fetch_of_large_files_lives_within_a_small_budget)
{
	struct version v;
	_free_ char *one = NULL;

	version_open(&v);
	budget_free(v.box.budget);
	v.box.budget = v.options.budget = budget_new(16 * MIB);
	one = add_large(&v, "one", 30 * MIB);
	version_store(&v);
	version_fetch_ok(&v);
	box_assert_bytes(&v.box, "one", one, 30 * MIB);
	version_close(&v);
}

TEST(fetch_leaves_holes_where_a_sparse_file_has_zeros)
{
	struct version v;
	_free_ char *bytes = zalloc(8 * MIB + 10);
	struct stat st;

	version_open(&v);
	memset(bytes + 2 * MIB, 'x', 5000);
	version_file(&v, "sparse", bytes, 8 * MIB + 10);
	version_last(&v)->sparse = true;
	version_file(&v, "dense", bytes, 8 * MIB + 10);
	version_store(&v);
	version_fetch_ok(&v);
	box_assert_bytes(&v.box, "sparse", bytes, 8 * MIB + 10);
	box_assert_bytes(&v.box, "dense", bytes, 8 * MIB + 10);
	st = box_stat(&v.box, "sparse");
	assert_true((size_t)st.st_blocks * 512 < MIB);
	assert_true((size_t)box_stat(&v.box, "dense").st_blocks * 512 >= 8 * MIB);
	version_close(&v);
}

static void add_many(struct version *v, unsigned n, unsigned in_frame)
{
	for (unsigned i = 0; i < n; i++) {
		_free_ char *path = text_format("d%u/%05u", i % 7, i);
		_free_ char *content = text_format("%u %s", i, "bytes that compress bytes that");

		version_text(v, path, content);
		if (i % in_frame == in_frame - 1)
			version_cut(v);
	}
}

static void check_many(const struct version *v, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		_free_ char *path = text_format("d%u/%05u", i % 7, i);
		_free_ char *content = text_format("%u %s", i, "bytes that compress bytes that");

		box_assert_content(&v->box, path, content);
	}
}

TEST(fetch_brings_thousands_of_files_from_many_parts)
{
	struct version v;

	version_open(&v);
	add_many(&v, 40000, 100);
	version_store(&v);
	assert_int_equal(3, v.manifest->n_parts);
	version_fetch_ok(&v);
	check_many(&v, 40000);
	assert_int_equal(40000, counted(&v.box.progress.entries));
	version_close(&v);
}

TEST(fetch_moves_only_the_frames_that_a_selection_needs)
{
	static const char *const include[] = {"d3/00003", "d1/*7777", NULL};
	struct version v;

	version_open(&v);
	v.selection.include = include;
	/* Each file a frame of its own, larger than what is read over. */
	for (unsigned i = 0; i < 20; i++) {
		_free_ char *path = text_format("d3/%05u", i);
		_free_ char *bytes = make_text(700000);

		version_file(&v, path, bytes, 700000);
		version_cut(&v);
	}
	version_store(&v);
	version_fetch_ok(&v);
	assert_int_equal(1, counted(&v.box.progress.entries));
	assert_int_equal(700000, box_stat(&v.box, "d3/00003").st_size);
	assert_int_equal(v.box.progress.total, counted(&v.box.progress.received));
	assert_true(counted(&v.box.progress.received) <= v.manifest->stored_bytes / 20 + 1000);
	version_close(&v);
}

TEST(fetch_makes_the_directories_of_what_was_selected_as_they_were)
{
	static const char *const include[] = {"a/b/wanted", "z", NULL};
	struct version v;
	struct meta root;

	version_open(&v);
	v.selection.include = include;
	v.options.read_only = true;
	version_dir(&v, ".", 0711);
	version_dir(&v, "a", 0775);
	version_dir(&v, "a/a", 0700);
	version_text(&v, "a/a/x", "no");
	version_dir(&v, "a/b", 0750);
	version_text(&v, "a/b/wanted", "yes");
	version_text(&v, "a/c", "no");
	version_text(&v, "z", "yes");
	version_store(&v);
	assert_int_equal(0, datastore_fetch(&v.options, v.manifest, v.box.tree, &v.box.err));
	assert_int_equal(0, tree_finish(v.box.tree, &root, &v.box.err));
	assert_int_equal(0511, root.mode);
	assert_int_equal(0555, box_stat(&v.box, "a").st_mode & 07777);
	assert_int_equal(0550, box_stat(&v.box, "a/b").st_mode & 07777);
	assert_int_equal(1600000000, box_stat(&v.box, "a").st_mtim.tv_sec);
	box_assert_absent(&v.box, "a/a");
	box_assert_absent(&v.box, "a/c");
	version_close(&v);
}

TEST(fetch_strips_components)
{
	struct version v;

	version_open(&v);
	v.selection.strip_components = 1;
	version_text(&v, "top", "no");
	version_text(&v, "a/b", "yes");
	version_store(&v);
	version_fetch_ok(&v);
	box_assert_content(&v.box, "b", "yes");
	box_assert_absent(&v.box, "top");
	version_close(&v);
}

TEST(fetch_makes_a_file_of_a_hard_link_whose_target_is_left_out)
{
	static const char *const exclude[] = {"first", NULL};
	struct version v;

	version_open(&v);
	v.selection.exclude = exclude;
	version_text(&v, "first", "content");
	version_hardlink(&v, "second", "first");
	version_store(&v);
	version_fetch_ok(&v);
	box_assert_absent(&v.box, "first");
	box_assert_content(&v.box, "second", "content");
	version_close(&v);
}

TEST(fetch_shards_have_each_file_exactly_once_and_all_directories)
{
	enum { WORLD = 3, FILES = 300 };
	unsigned seen[FILES] = {0};

	for (unsigned rank = 0; rank < WORLD; rank++) {
		struct version v;
		unsigned mine = 0;

		version_open(&v);
		v.options.shard = (struct shard){.rank = rank, .world = WORLD};
		version_dir(&v, "d0", 0755);
		add_many(&v, FILES, 10);
		version_dir(&v, "e", 0755);
		version_symlink(&v, "link", "e");
		version_store(&v);
		version_fetch_ok(&v);
		for (unsigned i = 0; i < FILES; i++) {
			_free_ char *path = text_format("d%u/%05u", i % 7, i);
			bool here = faccessat(v.box.root_fd, path, F_OK, 0) == 0;

			seen[i] += here;
			mine += here;
		}
		assert_true(mine > FILES / WORLD / 2);
		assert_int_equal(0755, box_stat(&v.box, "e").st_mode & 07777);
		box_assert_link(&v.box, "link", "e");
		version_close(&v);
	}
	for (unsigned i = 0; i < FILES; i++)
		assert_int_equal(1, seen[i]);
}

TEST(fetch_read_only_leaves_no_write_bits)
{
	struct version v;

	version_open(&v);
	v.options.read_only = true;
	version_dir(&v, "d", 0775);
	version_text(&v, "d/f", "x");
	version_last(&v)->mode = 0666;
	version_store(&v);
	version_fetch_ok(&v);
	assert_int_equal(0555, box_stat(&v.box, "d").st_mode & 07777);
	assert_int_equal(0444, box_stat(&v.box, "d/f").st_mode & 07777);
	assert_int_equal(0, fchmodat(v.box.root_fd, "d", 0755, 0));
	version_close(&v);
}

/* --- what is wrong with the store --- */

TEST(fetch_names_the_file_whose_frame_is_damaged)
{
	struct version v;

	version_open(&v);
	version_text(&v, "good", "x");
	version_cut(&v);
	version_text(&v, "bad", "some content here");
	version_store(&v);
	version_damage(&v, "packs/00/pack.tar.zst", v.manifest->stored_bytes - 8);
	assert_true(version_fetch(&v) == -ERR_FORMAT);
	box_assert_error(&v.box, -ERR_FORMAT, "'bad'");
	box_assert_absent(&v.box, "bad");
	version_close(&v);
}

TEST(fetch_names_the_file_whose_digest_is_wrong_and_does_not_write_it)
{
	struct version v;

	version_open(&v);
	version_text(&v, "good", "x");
	version_text(&v, "bad", "some content here");
	v.entries[1].sha256[3] ^= 1;
	version_store(&v);
	assert_true(version_fetch(&v) == -ERR_DIGEST);
	box_assert_error(&v.box, -ERR_DIGEST, "'bad'");
	box_assert_absent(&v.box, "bad");
	version_close(&v);
}

TEST(fetch_names_the_large_file_whose_digest_is_wrong_and_takes_it_away)
{
	struct version v;
	_free_ char *bytes = NULL;

	version_open(&v);
	bytes = add_large(&v, "bad", 20 * MIB);
	assert_non_null(bytes);
	v.entries[0].sha256[3] ^= 1;
	version_store(&v);
	assert_true(version_fetch(&v) == -ERR_DIGEST);
	box_assert_error(&v.box, -ERR_DIGEST, "'bad'");
	box_assert_absent(&v.box, "bad");
	version_close(&v);
}

TEST(fetch_says_that_an_object_is_short_or_gone)
{
	struct version v;

	version_open(&v);
	version_text(&v, "file", "some content here");
	version_store(&v);
	version_truncate(&v, "packs/00/pack.tar.zst", v.manifest->stored_bytes - 1);
	assert_true(version_fetch(&v) == -ERR_TRUNCATED);
	box_assert_error(&v.box, -ERR_TRUNCATED, "'file'");
	version_close(&v);

	version_open(&v);
	version_text(&v, "file", "some content here");
	version_store(&v);
	assert_int_equal(
		0, store_delete(v.hand, (const char *[]){"packs/00/pack.tar.zst"}, 1, &v.box.err));
	assert_true(version_fetch(&v) == -ENOENT);
	box_assert_error(&v.box, -ENOENT, "the version was deleted");
	version_close(&v);
}

TEST(fetch_refuses_an_index_that_is_not_the_manifests)
{
	struct version v;
	_free_ char *key = NULL;

	version_open(&v);
	version_text(&v, "file", "some content here");
	version_store(&v);
	key = text_format(
		"index/%.2s/%s.zst", v.manifest->parts[0].sha256, v.manifest->parts[0].sha256);
	version_damage(&v, key, v.manifest->parts[0].bytes / 2);
	assert_true(version_fetch(&v) == -ERR_DIGEST);
	box_assert_error(&v.box, -ERR_DIGEST, "index/");
	version_close(&v);
}

TEST(fetch_ends_when_it_is_cancelled)
{
	struct version v;
	_free_ char *bytes = NULL;

	version_open(&v);
	bytes = add_large(&v, "one", 20 * MIB);
	assert_non_null(bytes);
	version_store(&v);
	cancel_request(&v.box.cancel);
	assert_true(version_fetch(&v) == -ECANCELED);
	version_close(&v);
}

TEST(fetch_refuses_a_rank_that_is_not_in_the_world)
{
	struct version v;

	version_open(&v);
	version_store(&v);
	v.options.shard = (struct shard){.rank = 2, .world = 2};
	assert_true(version_fetch(&v) == -ERR_USAGE);
	version_close(&v);
}

TEST(fetch_of_an_empty_version_is_an_empty_tree)
{
	struct version v;

	version_open(&v);
	version_store(&v);
	assert_int_equal(0, v.manifest->n_parts);
	version_fetch_ok(&v);
	version_close(&v);
}

/* --- files --- */

static int remember(void *ctx, const struct index_entry *e, struct error *err)
{
	struct strings *paths = ctx;

	(void)err;
	text_strings_add(paths, e->path);
	return 0;
}

TEST(files_are_listed_in_order_and_by_globs)
{
	static const char *const include[] = {"*/00007", NULL};
	struct strings paths = {0};
	struct version v;
	struct error err = {0};

	version_open(&v);
	add_many(&v, 40000, 100);
	version_store(&v);
	assert_int_equal(0, datastore_files(&(struct files_options){.store = v.store, .threads = 4},
				    v.manifest, remember, &paths, &err));
	assert_int_equal(40000, paths.n);
	for (unsigned i = 0; i < 40000; i++) {
		_free_ char *path = text_format("d%u/%05u", i % 7, i);

		assert_string_equal(path, paths.v[i]);
	}
	text_strings_done(&paths);
	v.selection.include = include;
	assert_int_equal(0, datastore_files(&(struct files_options){.store = v.store,
						    .selection = &v.selection},
				    v.manifest, remember, &paths, &err));
	assert_int_equal(1, paths.n);
	text_strings_done(&paths);
	version_close(&v);
}

static int stop(void *ctx, const struct index_entry *e, struct error *err)
{
	(void)ctx;
	return error_set(err, -EPIPE, "enough at %s", e->path);
}

TEST(files_stop_when_the_caller_has_enough)
{
	struct version v;
	struct error err = {0};

	version_open(&v);
	add_many(&v, 40000, 100);
	version_store(&v);
	assert_int_equal(
		-EPIPE, datastore_files(&(struct files_options){.store = v.store, .threads = 2},
				v.manifest, stop, NULL, &err));
	version_close(&v);
}
