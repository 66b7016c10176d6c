/* SPDX-License-Identifier: MIT */
/* Which versions there are, and how one comes to be. */
#include "../../agent/store/store_private.h"
#include "datastore.h"
#include "defer.h"
#include "store_fixture.h"
#include "test.h"
#include "text.h"
#include <string.h>

#define PACK "packs/aa/one.tar.zst"

TEST(versions_begin_at_1_and_rise_by_1)
{
	struct store_fixture f;

	store_fixture_setup(&f);
	for (unsigned i = 1; i <= 12; i++)
		assert_int_equal(store_fixture_publish(&f, "cats", PACK), i);
	assert_int_equal(store_fixture_publish(&f, "dogs", PACK), 1);
	store_fixture_teardown(&f);
}

static unsigned find(struct store_fixture *f, const char *name, unsigned version)
{
	struct manifest *m = NULL;
	int code = datastore_find(f->hand, name, version, &m, &f->err);
	unsigned got = code == 0 ? m->version : 0;

	assert_true(code == 0 || code == -ENOENT);
	manifest_free(m);
	return got;
}

TEST(versions_are_found_by_number_or_as_the_newest)
{
	struct store_fixture f;
	unsigned newest = 0;

	store_fixture_setup(&f);
	for (unsigned i = 1; i <= 11; i++)
		store_fixture_publish(&f, "cats", PACK);
	assert_int_equal(find(&f, "cats", 0), 11);
	assert_int_equal(find(&f, "cats", 2), 2);
	assert_int_equal(datastore_newest(f.hand, "cats", &newest, &f.err), 0);
	assert_int_equal(newest, 11);
	store_fixture_teardown(&f);
}

static void delete_version(struct store_fixture *f, const char *name, unsigned version)
{
	const struct datastore_delete_options opts = {.all = true, .grace_ms = 3600000};

	assert_int_equal(datastore_delete(f->hand, name, version, &opts, &f->err), 0);
}

static void assert_says(
	struct store_fixture *f, const char *name, unsigned version, const char *what)
{
	assert_int_equal(find(f, name, version), 0);
	if (strstr(f->err.msg, what) == NULL)
		print_error("'%s' is not in: %s\n", what, f->err.msg);
	assert_non_null(strstr(f->err.msg, what));
}

TEST(versions_that_are_not_there_are_answered_with_those_that_are)
{
	struct store_fixture f;

	store_fixture_setup(&f);
	assert_says(&f, "cats", 0, "has none");
	store_fixture_publish(&f, "cats", PACK);
	store_fixture_publish(&f, "cats", PACK);
	store_fixture_publish(&f, "cats", PACK);
	store_fixture_publish(&f, "birds", PACK);
	assert_says(&f, "cats", 7, "does not exist: there is 1, 2 and 3");
	assert_says(&f, "cast", 0, "did you mean 'cats'");
	assert_says(&f, "elephants", 0, "there is birds, cats");
	delete_version(&f, "cats", 2);
	assert_says(&f, "cats", 2, "was deleted: there is 1 and 3");
	delete_version(&f, "birds", 0);
	assert_says(&f, "birds", 0, "all were deleted");
	assert_says(&f, "bird", 0, "there is cats");
	store_fixture_teardown(&f);
}

TEST(versions_of_many_are_not_all_listed_in_a_message)
{
	struct store_fixture f;

	store_fixture_setup(&f);
	for (unsigned i = 1; i <= 40; i++)
		store_fixture_publish(&f, "cats", PACK);
	assert_says(&f, "cats", 99, "there is ..., 29, 30, ");
	assert_non_null(strstr(f.err.msg, "39 and 40"));
	store_fixture_teardown(&f);
}

TEST(versions_are_never_numbered_again)
{
	struct store_fixture f;

	store_fixture_setup(&f);
	store_fixture_publish(&f, "cats", PACK);
	store_fixture_publish(&f, "cats", PACK);
	delete_version(&f, "cats", 0);
	assert_int_equal(find(&f, "cats", 0), 0);
	assert_int_equal(store_fixture_publish(&f, "cats", PACK), 3);
	assert_int_equal(find(&f, "cats", 0), 3);
	store_fixture_teardown(&f);
}

TEST(versions_do_not_exist_by_what_is_no_manifest)
{
	struct store_fixture f;

	store_fixture_setup(&f);
	store_fixture_put(&f, "datastores/cats/1/other.json", "{}");
	store_fixture_put(&f, "datastores/cats/x/manifest.json", "{}");
	store_fixture_put(&f, "datastores/cats/02/manifest.json", "{}");
	store_fixture_put(&f, "datastores/cats/99999999999/manifest.json", "{}");
	store_fixture_put(&f, "datastores/CATS/1/manifest.json", "{}");
	store_fixture_put(&f, "datastores/manifest.json", "{}");
	assert_int_equal(find(&f, "cats", 0), 0);
	store_fixture_teardown(&f);
}

TEST(a_manifest_under_another_version_is_refused)
{
	struct store_fixture f;
	struct manifest *m = store_fixture_manifest("dogs", "n", PACK);
	_free_ char *json = NULL;

	store_fixture_setup(&f);
	m->version = 1;
	json = manifest_print(m);
	manifest_free(m);
	m = NULL;
	store_fixture_put(&f, "datastores/cats/1/manifest.json", json);
	assert_int_equal(datastore_find(f.hand, "cats", 1, &m, &f.err), -ERR_FORMAT);
	assert_non_null(strstr(f.err.msg, "dogs:1"));
	store_fixture_teardown(&f);
}

TEST(a_creation_whose_first_request_was_answered_by_silence_finds_its_own_version)
{
	struct store_fixture f;
	struct manifest *m = store_fixture_manifest("cats", "mine", PACK);
	_free_ char *json = NULL;

	store_fixture_setup(&f);
	m->version = 1;
	json = manifest_print(m);
	assert_int_equal(
		store_put(f.hand, "datastores/cats/1/manifest.json", json, strlen(json), &f.err),
		0);
	assert_int_equal(publish_number(f.hand, m, &f.err), 1);
	free(m->nonce);
	m->nonce = text_copy("another's");
	assert_int_equal(publish_number(f.hand, m, &f.err), 0);
	manifest_free(m);
	store_fixture_teardown(&f);
}

struct creator {
	pthread_t thread;
	struct store *store;
	struct store_conn *hand;
	unsigned number;
	int code;
};

static void *create_one(void *ctx)
{
	struct creator *c = ctx;
	char nonce[32];
	struct manifest *m;

	snprintf(nonce, sizeof(nonce), "%p", (void *)c);
	m = store_fixture_manifest("cats", nonce, PACK);
	c->code = datastore_publish(c->hand, m, NULL);
	c->number = m->version;
	manifest_free(m);
	return NULL;
}

TEST(versions_of_twenty_creators_at_once_are_1_to_20)
{
	struct creator creators[20] = {0};
	unsigned seen = 0;
	struct store_fixture f;

	store_fixture_setup(&f);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(store_conn_open(f.store, NULL, &creators[i].hand, NULL), 0);
		assert_int_equal(
			pthread_create(&creators[i].thread, NULL, create_one, &creators[i]), 0);
	}
	for (unsigned i = 0; i < 20; i++) {
		pthread_join(creators[i].thread, NULL);
		store_conn_close(creators[i].hand);
		assert_int_equal(creators[i].code, 0);
		assert_in_range(creators[i].number, 1, 20);
		seen |= 1U << creators[i].number;
	}
	assert_int_equal(seen, ((1U << 20) - 1) << 1);
	store_fixture_teardown(&f);
}

static int add_version(void *ctx, const struct manifest *m, struct error *err)
{
	(void)err;
	text_addf(ctx, "%s:%u ", m->name, m->version);
	return 0;
}

static char *each(struct store_fixture *f, const char *name)
{
	struct text t = {0};

	assert_int_equal(datastore_each(f->hand, name, add_version, &t, &f->err), 0);
	return text_take(&t);
}

TEST(versions_are_shown_by_name_and_number)
{
	struct store_fixture f;
	_free_ char *all = NULL, *some = NULL;
	struct text want = {0};

	store_fixture_setup(&f);
	text_add(&want, "birds:1 ");
	for (unsigned i = 1; i <= 20; i++) {
		store_fixture_publish(&f, "cats", PACK);
		text_addf(&want, "cats:%u ", i);
	}
	store_fixture_publish(&f, "birds", PACK);
	store_fixture_publish(&f, "dogs", PACK);
	store_fixture_publish(&f, "dogs", PACK);
	delete_version(&f, "dogs", 1);
	all = each(&f, NULL);
	text_add(&want, "dogs:2 ");
	assert_string_equal(all, want.s);
	some = each(&f, "dogs");
	assert_string_equal(some, "dogs:2 ");
	text_done(&want);
	store_fixture_teardown(&f);
}

TEST(versions_beyond_the_limit_are_refused_with_the_oldest_named)
{
	struct store_fixture f;

	store_fixture_setup(&f);
	store_fixture_publish(&f, "cats", PACK);
	store_fixture_publish(&f, "dogs", PACK);
	assert_int_equal(datastore_check_limit(f.hand, 3, &f.err), 0);
	store_fixture_publish(&f, "cats", PACK);
	store_fixture_age(&f, "datastores/dogs/1/manifest.json", 1000000);
	assert_int_equal(datastore_check_limit(f.hand, 3, &f.err), -ERR_LIMIT);
	assert_non_null(strstr(f.err.msg, "the oldest are dogs:1 ("));
	delete_version(&f, "cats", 1);
	assert_int_equal(datastore_check_limit(f.hand, 3, &f.err), 0);
	store_fixture_teardown(&f);
}

TEST(names_of_datastores_are_plain)
{
	static const char *const good[] = {"cats", "0", "a.b_c-d", "cifar5"};
	static const char *const bad[] = {
		"", "Cats", ".cats", "-cats", "a/b", "a b", "k\xc3\xa4se", "a:1"};
	_free_ char *longest = zalloc(130);
	struct error err;

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(datastore_name_check(good[i], NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(datastore_name_check(bad[i], &err), -ERR_USAGE);
	memset(longest, 'a', 128);
	assert_int_equal(datastore_name_check(longest, NULL), 0);
	longest[128] = 'a';
	assert_int_equal(datastore_name_check(longest, NULL), -ERR_USAGE);
}
