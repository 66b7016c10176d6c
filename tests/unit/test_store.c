/* SPDX-License-Identifier: MIT */
/* A store in a directory, through the functions that are the same for every store. */
#include "../../agent/store/store_private.h"
#include "defer.h"
#include "store_fixture.h"
#include "test.h"
#include "text.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static int make(const char *url, char **ret_name, struct error *err)
{
	struct store_env env = {.url = url};
	struct store *s = NULL;
	int code = store_new(&env, &s, err);

	if (code == 0)
		*ret_name = text_copy(store_name(s));
	store_free(s);
	return code;
}

static void assert_named(const char *url, const char *want)
{
	_free_ char *name = NULL;

	assert_int_equal(make(url, &name, NULL), 0);
	assert_string_equal(name, want);
}

TEST(a_store_in_a_directory_has_one_name_however_it_is_written)
{
	assert_named("file:///data/stores", "file:///data/stores");
	assert_named("/data/stores//", "file:///data/stores");
	assert_named("file:///data/my%20stores", "file:///data/my stores");
}

TEST(a_store_by_a_relative_path_is_named_from_the_root)
{
	_free_ char *here = getcwd(NULL, 0);
	_free_ char *want = text_format("file://%s/stores", here);

	assert_named("stores", want);
}

TEST(a_store_that_is_none_is_refused_with_what_would_be_one)
{
	static const char *const none[] = {
		"", "ftp://host/x", "http://host/x", "file://host/x", "/", "file:///"};
	struct error err;

	for (size_t i = 0; i < ARRAY_LEN(none); i++) {
		_free_ char *name = NULL;

		assert_int_equal(make(none[i], &name, &err), -ERR_USAGE);
	}
	make("ftp://host/x", NULL, &err);
	assert_non_null(strstr(err.msg, "s3://bucket/prefix"));
}

TEST(a_store_gives_back_what_was_put)
{
	struct store_fixture f;
	_free_ char *all = NULL;
	char some[5] = "";
	uint64_t size = 0;
	size_t len = 0;

	store_fixture_setup(&f);
	store_fixture_put(&f, "packs/aa/one", "hello world");
	assert_int_equal(store_get_all(f.hand, "packs/aa/one", 100, &all, &len, &f.err), 0);
	assert_string_equal(all, "hello world");
	assert_int_equal(len, 11);
	assert_int_equal(store_get(f.hand, "packs/aa/one", 6, some, 4, &f.err), 0);
	assert_string_equal(some, "worl");
	assert_int_equal(store_has(f.hand, "packs/aa/one", &size, &f.err), 1);
	assert_int_equal(size, 11);
	store_fixture_teardown(&f);
}

TEST(a_store_gives_back_an_object_that_is_larger_than_the_first_read)
{
	struct store_fixture f;
	_free_ char *bytes = zalloc(200001), *all = NULL;
	size_t len = 0;

	store_fixture_setup(&f);
	memset(bytes, 'x', 200000);
	bytes[123456] = 'y';
	store_fixture_put(&f, "packs/large", bytes);
	assert_int_equal(store_get_all(f.hand, "packs/large", 200000, &all, &len, &f.err), 0);
	assert_int_equal(len, 200000);
	assert_string_equal(all, bytes);
	assert_int_equal(
		store_get_all(f.hand, "packs/large", 199999, &all, &len, &f.err), -ERR_LIMIT);
	store_fixture_teardown(&f);
}

TEST(a_store_says_that_an_object_is_not_there)
{
	struct store_fixture f;
	char byte, *all = NULL;

	store_fixture_setup(&f);
	store_fixture_put(&f, "a/b", "x");
	assert_int_equal(store_get(f.hand, "a/c", 0, &byte, 1, &f.err), -ENOENT);
	assert_non_null(strstr(f.err.msg, "a/c"));
	assert_int_equal(store_get_all(f.hand, "b/b/c", 10, &all, NULL, &f.err), -ENOENT);
	assert_int_equal(store_has(f.hand, "b/b/c", NULL, &f.err), 0);
	assert_int_equal(store_has(f.hand, "a", NULL, &f.err), 0);
	store_fixture_teardown(&f);
}

TEST(a_store_does_not_take_a_look_that_failed_for_an_absence)
{
	struct store_fixture f;
	char *all = NULL;

	store_fixture_setup(&f);
	store_fixture_put(&f, "a/b", "x");
	assert_int_equal(store_get_all(f.hand, "a/b/c", 10, &all, NULL, &f.err), -ENOTDIR);
	assert_int_equal(store_has(f.hand, "a/b/c", NULL, &f.err), -ENOTDIR);
	store_fixture_link(&f, "a/nowhere", "/nonexistent/x");
	assert_int_equal(store_get_all(f.hand, "a/nowhere", 10, &all, NULL, &f.err), -ERR_FORMAT);
	assert_int_equal(store_has(f.hand, "a/nowhere", NULL, &f.err), -ERR_FORMAT);
	store_fixture_teardown(&f);
}

TEST(a_store_says_that_an_object_ends_too_early)
{
	struct store_fixture f;
	char some[5];

	store_fixture_setup(&f);
	store_fixture_put(&f, "one", "hello");
	assert_int_equal(store_get(f.hand, "one", 3, some, 5, &f.err), -ERR_TRUNCATED);
	store_fixture_teardown(&f);
}

TEST(a_store_replaces_by_put_but_never_by_put_if_absent)
{
	struct store_fixture f;
	_free_ char *all = NULL;

	store_fixture_setup(&f);
	assert_int_equal(store_put_if_absent(f.hand, "d/m", "1", 1, &f.err), 0);
	assert_int_equal(store_put_if_absent(f.hand, "d/m", "2", 1, &f.err), -EEXIST);
	assert_int_equal(store_get_all(f.hand, "d/m", 9, &all, NULL, &f.err), 0);
	assert_string_equal(all, "1");
	free(take_ptr(&all));
	store_fixture_put(&f, "d/m", "3");
	assert_int_equal(store_get_all(f.hand, "d/m", 9, &all, NULL, &f.err), 0);
	assert_string_equal(all, "3");
	store_fixture_teardown(&f);
}

/* As an NFS client asks again that had no answer. */
TEST(a_file_that_was_linked_or_renamed_though_the_answer_was_lost_is_in_its_place)
{
	struct store_fixture f;

	store_fixture_setup(&f);
	for (int if_absent = 0; if_absent < 2; if_absent++) {
		const char *key = if_absent ? "d/linked" : "d/renamed";
		_free_ char *path = NULL;
		_close_ int fd = -1;

		assert_int_equal(store_file_temporary(f.hand, &path, &fd, &f.err), 0);
		for (int i = 0; i < 2; i++)
			assert_int_equal(
				store_file_place(f.hand, fd, path, key, if_absent, &f.err), 0);
		unlink(path);
	}
	store_fixture_teardown(&f);
}

TEST(a_file_with_another_name_elsewhere_does_not_take_the_place_of_another)
{
	struct store_fixture f;
	_free_ char *path = NULL, *backup = NULL;
	_close_ int fd = -1;

	store_fixture_setup(&f);
	store_fixture_put(&f, "d/m", "1");
	assert_int_equal(store_file_temporary(f.hand, &path, &fd, &f.err), 0);
	backup = text_format("%s.backup", path);
	assert_int_equal(0, link(path, backup));
	assert_int_equal(store_file_place(f.hand, fd, path, "d/m", true, &f.err), -EEXIST);
	unlink(path);
	unlink(backup);
	store_fixture_teardown(&f);
}

TEST(a_store_lists_keys_in_their_order_also_where_a_directorys_is_between_files)
{
	struct store_fixture f;
	_free_ char *all = NULL, *some = NULL;

	store_fixture_setup(&f);
	store_fixture_put(&f, "a/b", "");
	store_fixture_put(&f, "a.z", "");
	store_fixture_put(&f, "a0", "");
	store_fixture_put(&f, "a/a/c", "");
	store_fixture_put(&f, "b", "");
	all = store_fixture_keys(&f, "");
	assert_string_equal(all, "a.z a/a/c a/b a0 b ");
	some = store_fixture_keys(&f, "a/");
	assert_string_equal(some, "a/a/c a/b ");
	store_fixture_teardown(&f);
}

TEST(a_store_without_its_directory_is_empty)
{
	struct store_fixture f;
	_free_ char *all = NULL;

	store_fixture_setup(&f);
	assert_int_equal(rmdir(f.dir), 0);
	all = store_fixture_keys(&f, "datastores/");
	assert_string_equal(all, "");
	assert_int_equal(store_has(f.hand, "x", NULL, &f.err), 0);
	store_fixture_put(&f, "x", "1");
	store_fixture_teardown(&f);
}

TEST(a_store_refuses_keys_that_would_lead_out_of_it)
{
	static const char *const bad[] = {"", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", ".",
		"a/./b", "a b", "a\nb", "a%2fb"};
	struct store_fixture f;

	store_fixture_setup(&f);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		const char *const keys[] = {bad[i]};

		assert_int_equal(store_put(f.hand, bad[i], "x", 1, &f.err), -ERR_FORMAT);
		assert_int_equal(store_has(f.hand, bad[i], NULL, &f.err), -ERR_FORMAT);
		assert_int_equal(store_delete(f.hand, keys, 1, &f.err), -ERR_FORMAT);
	}
	store_fixture_teardown(&f);
}

TEST(a_store_is_an_empty_directory_after_its_last_object_was_deleted)
{
	static const char *const keys[] = {"a/b/c", "a/b/d", "not/there"};
	struct store_fixture f;
	struct stat st;
	_free_ char *sub = NULL;

	store_fixture_setup(&f);
	store_fixture_put(&f, "a/b/c", "1");
	store_fixture_put(&f, "a/b/d", "1");
	assert_int_equal(store_delete(f.hand, keys, 3, &f.err), 0);
	sub = text_format("%s/a", f.dir);
	assert_int_equal(stat(sub, &st), -1);
	assert_int_equal(stat(f.dir, &st), 0);
	store_fixture_teardown(&f);
}

TEST(a_store_in_a_directory_makes_files_that_their_owner_writes_and_all_read)
{
	struct store_fixture f;
	_free_ char *path = NULL;
	struct stat st;

	store_fixture_setup(&f);
	store_fixture_put(&f, "a/b", "1");
	path = text_format("%s/a/b", f.dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	*strrchr(path, '/') = '\0';
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	store_fixture_teardown(&f);
}

TEST(an_upload_appears_when_it_is_complete_whatever_the_order_of_its_parts)
{
	struct store_fixture f;
	struct store_upload *u = NULL;
	_free_ char *all = NULL;

	store_fixture_setup(&f);
	assert_int_equal(store_upload_begin(f.hand, "large/one", &u, &f.err), 0);
	assert_int_equal(store_upload_part(f.hand, u, 3, "!", 1, &f.err), 0);
	assert_int_equal(store_upload_part(f.hand, u, 1, "hello ", 6, &f.err), 0);
	assert_int_equal(store_upload_part(f.hand, u, 2, "world", 5, &f.err), 0);
	assert_int_equal(store_has(f.hand, "large/one", NULL, &f.err), 0);
	assert_int_equal(store_upload_complete(f.hand, u, &f.err), 0);
	store_upload_free(u);
	assert_int_equal(store_get_all(f.hand, "large/one", 99, &all, NULL, &f.err), 0);
	assert_string_equal(all, "hello world!");
	store_fixture_teardown(&f);
}

TEST(an_upload_that_lacks_a_part_is_not_completed)
{
	struct store_fixture f;
	struct store_upload *u = NULL;

	store_fixture_setup(&f);
	assert_int_equal(store_upload_begin(f.hand, "large/one", &u, &f.err), 0);
	assert_int_equal(store_upload_part(f.hand, u, 2, "world", 5, &f.err), 0);
	assert_int_equal(store_upload_complete(f.hand, u, &f.err), -ERR_TRUNCATED);
	store_upload_abort(f.hand, u);
	store_upload_free(u);
	assert_int_equal(store_has(f.hand, "large/one", NULL, &f.err), 0);
	store_fixture_teardown(&f);
}

TEST(an_upload_that_is_aborted_leaves_nothing)
{
	struct store_fixture f;
	struct store_upload *u = NULL;
	_free_ char *temporary = NULL;

	store_fixture_setup(&f);
	assert_int_equal(store_upload_begin(f.hand, "large/one", &u, &f.err), 0);
	assert_int_equal(store_upload_part(f.hand, u, 2, "world", 5, &f.err), 0);
	store_upload_abort(f.hand, u);
	store_upload_free(u);
	temporary = text_format("%s/.tmp", f.dir);
	assert_int_equal(rmdir(temporary), 0);
	store_fixture_teardown(&f);
}

TEST(a_cancelled_hand_does_nothing_more)
{
	struct store_fixture f;
	struct store_conn *hand = NULL;
	struct cancel cancel;

	store_fixture_setup(&f);
	cancel_init(&cancel);
	assert_int_equal(store_conn_open(f.store, &cancel, &hand, &f.err), 0);
	cancel_request(&cancel);
	assert_int_equal(store_put(hand, "x", "1", 1, &f.err), -ECANCELED);
	store_conn_close(hand);
	cancel_done(&cancel);
	store_fixture_teardown(&f);
}
