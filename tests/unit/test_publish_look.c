/* SPDX-License-Identifier: MIT */
/* A destination that is opened only to look: what a stage into it would do. */
#include "defer.h"
#include "publish_fixture.h"
#include "test.h"
#include "text.h"
#include <fts.h>
#include <string.h>
#include <sys/stat.h>

#define KEY_A "aaaa"
#define KEY_B "bbbb"

static struct staging cats(const char *dir)
{
	return (struct staging){
		.to = in(dir, "cats"), .key = KEY_A, .etag = "v1", .names = "a b/ c"};
}

/* What is found; and whether it may be staged into. */
struct found {
	const char *to, *key;
	bool replace;
	bool holds;
	int code;
	struct error err;
	struct destination_outlook outlook;
};

static int look(void *ctx)
{
	struct found *f = ctx;
	const struct destination_options opts = {.replace = f->replace};
	struct destination *d = NULL;

	f->code = destination_look(f->to, &opts, &d, &f->err);
	if (f->code < 0)
		return 0;
	f->holds = destination_holds(d, f->key) != NULL;
	f->code = destination_check(d, f->key, &f->err);
	destination_outlook(d, f->key, &f->outlook);
	destination_close(d, true);
	return 0;
}

static struct found look_at(const char *to, const char *key)
{
	struct found f = {.to = to, .key = key};

	look(&f);
	return f;
}

static void assert_list(const char *want, const char *dir)
{
	_free_ char *have = list(dir);

	assert_string_equal(want, have);
}

TEST(look_makes_neither_an_absent_destination_nor_its_parents)
{
	_free_ char *dir = test_directory();
	struct found f = look_at(in(dir, "x/y/cats"), KEY_A);

	assert_int_equal(0, f.code);
	assert_false(f.holds);
	assert_true(f.outlook.disk_fd >= 0);
	assert_list("", dir);
}

TEST(look_finds_what_was_staged)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir);

	assert_int_equal(STAGED, stage(&s, NULL));
	assert_true(look_at(s.to, KEY_A).holds);
	assert_false(look_at(s.to, KEY_B).holds);
}

TEST(look_has_the_error_of_a_stage_that_may_not_replace)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir);
	struct found f;

	assert_int_equal(STAGED, stage(&s, NULL));
	f = look_at(s.to, KEY_B);
	assert_int_equal(-EEXIST, f.code);
	assert_non_null(strstr(f.err.msg, "--replace"));
	f.replace = true;
	look(&f);
	assert_int_equal(0, f.code);
}

TEST(look_names_the_entries_of_others)
{
	_free_ char *dir = test_directory();
	struct found f;

	assert_int_equal(0, mkdir(in(dir, "cats"), 0755));
	for (const char *name = "p\0q\0r\0s\0t\0"; *name != '\0'; name += 2)
		put_text(in(in(dir, "cats"), name), "");
	f = look_at(in(dir, "cats"), KEY_A);
	assert_int_equal(0, f.code);
	assert_int_equal(3, f.outlook.names.n);
	assert_int_equal(2, f.outlook.n_more);
	text_strings_done(&f.outlook.names);
}

TEST(look_refuses_a_file)
{
	_free_ char *dir = test_directory();

	put_text(in(dir, "cats"), "");
	assert_int_equal(-ENOTDIR, look_at(in(dir, "cats"), KEY_A).code);
}

static int look_without_permission(void *ctx)
{
	const char *dir = ctx;
	struct found absent = look_at(in(dir, "x/y"), KEY_A),
		     there = look_at(in(dir, "cats"), KEY_A);

	EXPECT(absent.code == -EACCES && strstr(absent.err.msg, "not writable") != NULL);
	EXPECT(there.code == -EACCES && strstr(there.err.msg, "cats") != NULL);
	return 0;
}

TEST(look_knows_that_another_user_cannot_write)
{
	_free_ char *dir = shared_directory();

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, chmod(dir, 0755));
	assert_int_equal(0, mkdir(in(dir, "cats"), 0755));
	assert_int_equal(0, in_child(12345, look_without_permission, dir));
}

/* Names and times of change of everything below dir; heap. */
static char *describe_all(char *dir)
{
	char *const paths[] = {dir, NULL};
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	struct text t = {0};

	for (const FTSENT *e = fts_read(fts); e != NULL; e = fts_read(fts))
		text_addf(&t, "%s %lld.%09ld\n", e->fts_path,
			(long long)e->fts_statp->st_ctim.tv_sec, e->fts_statp->st_ctim.tv_nsec);
	fts_close(fts);
	return text_take(&t);
}

TEST(look_changes_nothing)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir), merged = cats(dir);
	struct found all[] = {{.to = s.to, .key = KEY_A}, {.to = s.to, .key = KEY_B},
		{.to = s.to, .key = KEY_B, .replace = true},
		{.to = in(dir, "others"), .key = KEY_A},
		{.to = in(dir, "others"), .key = KEY_B, .replace = true},
		{.to = in(dir, "x/y/z"), .key = KEY_A}};
	_free_ char *before = NULL, *after = NULL;

	merged.to = in(dir, "others");
	assert_int_equal(0, mkdir(merged.to, 0755));
	put_text(in(merged.to, "mine"), "");
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(STAGED, stage(&merged, NULL));
	before = describe_all(dir);
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		look(&all[i]);
		text_strings_done(&all[i].outlook.names);
	}
	assert_true(all[0].holds && all[3].holds);
	after = describe_all(dir);
	assert_string_equal(before, after);
}
