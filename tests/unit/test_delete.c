/* SPDX-License-Identifier: MIT */
/* Deleting versions, and what goes with them. */
#include "../../agent/store/store_private.h"
#include "datastore.h"
#include "defer.h"
#include "store_fixture.h"
#include "test.h"
#include "text.h"
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define HOUR 3600
#define HEX  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd"
#define ONE  "packs/aa/aa" HEX ".tar.zst"
#define TWO  "packs/bb/bb" HEX ".tar.zst"

static int delete_version(struct store_fixture *f, unsigned version, unsigned grace_s, bool force)
{
	const struct datastore_delete_options opts = {
		.all = true, .force = force, .grace_ms = (uint64_t)grace_s * 1000};

	int code = datastore_delete(f->hand, "cats", version, &opts, &f->err);

	if (code == 0)
		code = datastore_collect(f->hand, opts.grace_ms, NULL, NULL, &f->err);
	return code;
}

static void collect(struct store_fixture *f, unsigned grace_s)
{
	assert_int_equal(
		datastore_collect(f->hand, (uint64_t)grace_s * 1000, NULL, NULL, &f->err), 0);
}

static void collect_fails(struct store_fixture *f, int code, const char *says)
{
	assert_int_equal(datastore_collect(f->hand, 0, NULL, NULL, &f->err), code);
	assert_non_null(strstr(f->err.msg, says));
}

TEST(deletion_hides_a_version_at_once_and_leaves_its_content_to_its_readers)
{
	struct store_fixture f;
	struct manifest *m = NULL;

	store_fixture_claim(&f);
	store_fixture_publish(&f, "cats", ONE);
	assert_int_equal(delete_version(&f, 1, HOUR, false), 0);
	assert_int_equal(datastore_find(f.hand, "cats", 1, &m, &f.err), -ENOENT);
	assert_true(store_fixture_has(&f, ONE));
	store_fixture_age(&f, "datastores/cats/1/deleted.json", HOUR - 10);
	collect(&f, HOUR);
	assert_true(store_fixture_has(&f, ONE));
	store_fixture_age(&f, "datastores/cats/1/deleted.json", HOUR);
	collect(&f, HOUR);
	assert_false(store_fixture_has(&f, ONE));
	store_fixture_teardown(&f);
}

TEST(deletion_leaves_what_another_version_needs)
{
	struct store_fixture f;
	_free_ char *packs = NULL;

	store_fixture_claim(&f);
	store_fixture_publish(&f, "cats", ONE);
	store_fixture_publish(&f, "cats", TWO);
	store_fixture_publish(&f, "dogs", ONE);
	assert_int_equal(delete_version(&f, 0, 0, false), 0);
	packs = store_fixture_keys(&f, "packs/");
	assert_string_equal(packs, ONE " ");
	store_fixture_teardown(&f);
}

TEST(deletion_leaves_the_manifest_without_its_lists_so_that_the_number_is_used)
{
	struct store_fixture f;
	_free_ char *json = NULL;

	store_fixture_claim(&f);
	store_fixture_publish(&f, "cats", ONE);
	assert_int_equal(delete_version(&f, 1, 0, false), 0);
	assert_int_equal(
		store_get_all(f.hand, "datastores/cats/1/manifest.json", 4096, &json, NULL, &f.err),
		0);
	assert_null(strstr(json, "\"key\""));
	assert_null(strstr(json, "\"first\""));
	assert_int_equal(store_fixture_publish(&f, "cats", ONE), 2);
	store_fixture_teardown(&f);
}

TEST(deletion_of_what_is_not_there_is_an_error)
{
	struct store_fixture f;

	store_fixture_claim(&f);
	assert_int_equal(delete_version(&f, 0, HOUR, false), -ENOENT);
	store_fixture_publish(&f, "cats", ONE);
	assert_int_equal(delete_version(&f, 2, HOUR, false), -ENOENT);
	assert_int_equal(delete_version(&f, 1, HOUR, false), 0);
	assert_int_equal(delete_version(&f, 1, HOUR, false), -ENOENT);
	assert_int_equal(delete_version(&f, 0, HOUR, false), -ENOENT);
	store_fixture_teardown(&f);
}

TEST(deletion_is_refused_while_a_creation_of_that_name_is_under_way)
{
	struct store_fixture f;
	struct lease *cats = NULL, *dogs = NULL;

	store_fixture_claim(&f);
	store_fixture_publish(&f, "cats", ONE);
	assert_int_equal(lease_take(f.store, "cats", NULL, NULL, &cats, &f.err), 0);
	assert_int_equal(delete_version(&f, 1, HOUR, false), -EBUSY);
	assert_non_null(strstr(f.err.msg, "is creating a version"));
	assert_non_null(strstr(f.err.msg, "--force"));
	assert_int_equal(delete_version(&f, 1, HOUR, true), 0);
	lease_release(cats);
	store_fixture_publish(&f, "cats", ONE);
	assert_int_equal(lease_take(f.store, "dogs", NULL, NULL, &dogs, &f.err), 0);
	assert_int_equal(delete_version(&f, 2, HOUR, false), 0);
	lease_release(dogs);
	store_fixture_teardown(&f);
}

TEST(deletion_is_refused_while_a_run_is_registered)
{
	struct store_fixture f;
	_free_ char *key = NULL;

	store_fixture_claim(&f);
	store_fixture_publish(&f, "cats", ONE);
	store_fixture_publish(&f, "cats", ONE);
	assert_int_equal(datastore_register(f.hand, "cats", 1, time(NULL) + HOUR, &key, &f.err), 0);
	assert_int_equal(delete_version(&f, 0, HOUR, false), -EBUSY);
	assert_int_equal(delete_version(&f, 1, HOUR, false), -EBUSY);
	assert_non_null(strstr(f.err.msg, "1 run is registered for version 1"));
	assert_int_equal(delete_version(&f, 2, HOUR, false), 0);
	assert_int_equal(store_delete(f.hand, (const char *const *)&key, 1, &f.err), 0);
	assert_int_equal(delete_version(&f, 1, HOUR, false), 0);
	store_fixture_teardown(&f);
}

TEST(deletion_is_not_refused_for_a_run_whose_time_is_over)
{
	struct store_fixture f;
	_free_ char *key = NULL;

	store_fixture_claim(&f);
	store_fixture_publish(&f, "cats", ONE);
	assert_int_equal(datastore_register(f.hand, "cats", 1, time(NULL) - 10, &key, &f.err), 0);
	assert_int_equal(delete_version(&f, 1, HOUR, false), 0);
	assert_false(store_fixture_has(&f, key));
	store_fixture_teardown(&f);
}

TEST(collection_keeps_what_a_killed_creation_sent_a_while_for_the_next_one)
{
	struct store_fixture f;

	store_fixture_claim(&f);
	store_fixture_put(&f, ONE, "data");
	store_fixture_age(&f, ONE, 590);
	collect(&f, 0);
	assert_true(store_fixture_has(&f, ONE));
	store_fixture_age(&f, ONE, 602);
	collect(&f, HOUR);
	assert_true(store_fixture_has(&f, ONE));
	collect(&f, 0);
	assert_false(store_fixture_has(&f, ONE));
	store_fixture_teardown(&f);
}

TEST(collection_removes_nothing_when_a_manifest_cannot_be_read)
{
	struct store_fixture f;
	uint64_t objects = 0;

	store_fixture_claim(&f);
	store_fixture_put(&f, ONE, "data");
	store_fixture_age(&f, ONE, 24 * HOUR);
	store_fixture_put(&f, "datastores/cats/1/manifest.json", "{\"format\": 2}");
	assert_int_equal(datastore_collect(f.hand, 0, &objects, NULL, &f.err), -ERR_UNSUPPORTED);
	assert_true(store_fixture_has(&f, ONE));
	store_fixture_teardown(&f);
}

TEST(collection_does_not_need_the_manifest_of_a_version_whose_grace_time_is_over)
{
	struct store_fixture f;

	store_fixture_claim(&f);
	store_fixture_put(&f, ONE, "data");
	store_fixture_age(&f, ONE, 24 * HOUR);
	store_fixture_put(&f, "datastores/cats/1/manifest.json", "{\"format\": 1");
	collect_fails(&f, -ERR_FORMAT, "cats:1");
	assert_int_equal(delete_version(&f, 1, 0, false), 0);
	assert_false(store_fixture_has(&f, ONE));
	store_fixture_teardown(&f);
}

/* A store whose cats:1 nobody may lose, beside an orphan: whatever goes wrong, nothing goes. */
static void begin_with_doubt(struct store_fixture *f)
{
	store_fixture_claim(f);
	store_fixture_publish(f, "cats", ONE);
	store_fixture_publish(f, "cats", ONE);
	store_fixture_age(f, ONE, 24 * HOUR);
	store_fixture_put(f, TWO, "data");
	store_fixture_age(f, TWO, 24 * HOUR);
}

static void end_with_all(struct store_fixture *f)
{
	assert_true(store_fixture_has(f, ONE));
	assert_true(store_fixture_has(f, TWO));
	store_fixture_teardown(f);
}

/* Each of these in the place of something: links that lead nowhere (an unmounted disk) or in circles. */
TEST(collection_removes_nothing_when_a_look_fails)
{
	static const char *const places[] = {"datastores", "datastores/cats", "datastores/cats/1",
		"datastores/cats/1/manifest.json", "packs/cc", "leases", "uses"};

	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		for (int circle = 0; circle < 2; circle++) {
			struct store_fixture f;
			_free_ char *place = NULL, *away = NULL;

			begin_with_doubt(&f);
			place = text_format("%s/%s", f.dir, places[i]);
			away = text_format("%s/away", f.dir);
			(void)rename(place, away);
			store_fixture_link(&f, places[i], circle ? place : "/nonexistent/disk");
			if (datastore_collect(f.hand, 0, NULL, NULL, &f.err) >= 0)
				fail_msg("a link in the place of %s was no error", places[i]);
			end_with_all(&f);
		}
	}
}

TEST(collection_removes_nothing_when_a_file_is_where_a_directory_was)
{
	struct store_fixture f;
	_free_ char *place = NULL, *away = NULL;

	begin_with_doubt(&f);
	place = text_format("%s/datastores/cats/1/manifest.json", f.dir);
	away = text_format("%s/away", f.dir);
	assert_int_equal(rename(place, away), 0);
	assert_int_equal(mkfifo(place, 0600), 0);
	collect_fails(&f, -ERR_FORMAT, "no regular file");
	end_with_all(&f);
}

/* A listing that is whole in its form, but lacks what there is: of a proxy's cache, or a file system's. */
static struct {
	int (*list)(struct store_conn *h, const char *prefix,
		int (*each)(void *ctx, const char *key, uint64_t size, time_t modified,
			struct error *err),
		void *ctx, struct error *err);
	const char *hidden; /* keys that begin so */
	bool timeless;

	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err);
	void *ctx;
} liar;

static int tell_some(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err)
{
	(void)ctx;
	if (strncmp(key, liar.hidden, strlen(liar.hidden)) != 0)
		return liar.each(liar.ctx, key, size, modified, err);
	return liar.timeless ? liar.each(liar.ctx, key, size, 0, err) : 0;
}

static int lie(struct store_conn *h, const char *prefix,
	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err),
	void *ctx, struct error *err)
{
	liar.each = each;
	liar.ctx = ctx;
	return liar.list(h, prefix, tell_some, NULL, err);
}

static void collect_with_liar(struct store_fixture *f, const char *hidden, bool timeless)
{
	const struct store_ops *usual = f->store->ops;
	struct store_ops ops = *usual;

	liar.list = ops.list;
	liar.hidden = hidden;
	liar.timeless = timeless;
	ops.list = lie;
	f->store->ops = &ops;
	if (datastore_collect(f->hand, 0, NULL, NULL, &f->err) >= 0)
		fail_msg("a listing without '%s' was believed", hidden);
	f->store->ops = usual;
}

TEST(collection_does_not_believe_a_listing_without_the_version_that_was_just_made)
{
	struct store_fixture f;

	begin_with_doubt(&f);
	collect_with_liar(&f, "datastores/", false);
	assert_non_null(strstr(f.err.msg, "cats:2"));
	end_with_all(&f);
}

TEST(collection_does_not_believe_a_listing_with_a_gap)
{
	struct store_fixture f;

	begin_with_doubt(&f);
	collect_with_liar(&f, "datastores/cats/1/", false);
	assert_non_null(strstr(f.err.msg, "cats:1"));
	end_with_all(&f);
}

TEST(collection_does_not_believe_a_listing_without_a_version_that_is_in_use)
{
	struct store_fixture f;
	_free_ char *key = NULL;

	begin_with_doubt(&f);
	store_fixture_publish(&f, "dogs", ONE);
	assert_int_equal(datastore_register(f.hand, "cats", 2, time(NULL) + HOUR, &key, &f.err), 0);
	collect_with_liar(&f, "datastores/cats/", false);
	assert_non_null(strstr(f.err.msg, "cats:2"));
	end_with_all(&f);
}

TEST(collection_does_not_take_what_has_no_time_for_old)
{
	static const char *const keys[] = {"packs/", "leases/", "datastores/cats/1/deleted"};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		struct store_fixture f;

		begin_with_doubt(&f);
		store_fixture_put(&f, "datastores/cats/1/deleted.json", "{}");
		collect_with_liar(&f, keys[i], true);
		end_with_all(&f);
	}
}

TEST(publishing_goes_on_behind_a_listing_that_lacks_the_newest_version)
{
	struct store_fixture f;
	struct store_ops ops;

	begin_with_doubt(&f);
	ops = *f.store->ops;
	liar.list = ops.list;
	liar.hidden = "datastores/";
	liar.timeless = false;
	ops.list = lie;
	f.store->ops = &ops;
	assert_int_equal(store_fixture_publish(&f, "cats", TWO), 3);
	store_fixture_teardown(&f);
}

TEST(collection_leaves_temporary_files_that_are_not_a_stores)
{
	struct store_fixture f;
	struct store_upload *old = NULL;
	_free_ char *own = NULL;

	store_fixture_claim(&f);
	assert_int_equal(store_upload_begin(f.hand, "large/old", &old, &f.err), 0);
	own = store_fixture_temporary(&f);
	store_fixture_put(&f, ".tmp/session", "an editor's");
	store_fixture_age(&f, own, 24 * HOUR);
	store_fixture_age(&f, ".tmp/session", 24 * HOUR);
	collect(&f, 0);
	assert_false(store_fixture_has(&f, own));
	assert_true(store_fixture_has(&f, ".tmp/session"));
	store_upload_abort(f.hand, old);
	store_upload_free(old);
	store_fixture_teardown(&f);
}

TEST(collection_counts_what_it_removed)
{
	struct store_fixture f;
	uint64_t objects = 0, bytes = 0;

	store_fixture_claim(&f);
	store_fixture_put(&f, ONE, "data");
	store_fixture_put(&f, TWO, "more data");
	store_fixture_age(&f, ONE, 24 * HOUR);
	store_fixture_age(&f, TWO, 24 * HOUR);
	assert_int_equal(datastore_collect(f.hand, HOUR, &objects, &bytes, &f.err), 0);
	assert_int_equal(objects, 2);
	assert_int_equal(bytes, 13);
	store_fixture_teardown(&f);
}

TEST(collection_removes_parts_of_uploads_that_nobody_will_end)
{
	struct store_fixture f;
	struct store_upload *old = NULL, *fresh = NULL;
	_free_ char *temporary = NULL;

	store_fixture_claim(&f);
	assert_int_equal(store_upload_begin(f.hand, "large/old", &old, &f.err), 0);
	assert_int_equal(store_upload_begin(f.hand, "large/fresh", &fresh, &f.err), 0);
	temporary = store_fixture_temporary(&f);
	store_fixture_age(&f, temporary, 24 * HOUR);
	collect(&f, HOUR);
	{
		_free_ char *path = text_format("%s/%s", f.dir, temporary);
		struct stat st;

		assert_int_equal(stat(path, &st), -1);
	}
	store_upload_abort(f.hand, old);
	store_upload_abort(f.hand, fresh);
	store_upload_free(old);
	store_upload_free(fresh);
	store_fixture_teardown(&f);
}

TEST(purge_leaves_an_empty_directory_but_for_what_was_never_a_stores)
{
	struct store_fixture f;
	struct store_upload *u = NULL;
	struct progress progress = {0};
	uint64_t objects = 0;
	_free_ char *left = NULL, *temporary = NULL, *key = NULL;
	struct stat st;

	store_fixture_claim(&f);
	for (unsigned i = 0; i < 1100; i++) {
		_free_ char *pack = text_format("packs/aa/aa%062x.tar.zst", i);

		store_fixture_put(&f, pack, "");
	}
	store_fixture_publish(&f, "cats", ONE);
	assert_int_equal(datastore_register(f.hand, "cats", 1, time(NULL), &key, &f.err), 0);
	store_fixture_put(&f, "thesis.tex", "42");
	assert_int_equal(store_upload_begin(f.hand, "large/old", &u, &f.err), 0);
	assert_int_equal(store_purge(f.hand, &progress, &objects, &f.err), 0);
	assert_int_equal(objects, 1103);
	assert_int_equal(1103, counted(&progress.entries));
	assert_int_equal(1103, counted(&progress.entries_total));
	assert_true(counted(&progress.received) > 0);
	assert_int_equal(counted(&progress.total), counted(&progress.received));
	left = store_fixture_keys(&f, "");
	assert_string_equal(left, "thesis.tex ");
	temporary = text_format("%s/.tmp", f.dir);
	assert_int_equal(stat(temporary, &st), -1);
	store_upload_abort(f.hand, u);
	store_upload_free(u);
	store_fixture_teardown(&f);
}

TEST(a_probe_leaves_nothing_and_is_content_with_links)
{
	struct store_fixture f;
	_free_ char *left = NULL;

	store_fixture_setup(&f);
	assert_int_equal(store_probe(f.hand, &f.err), 0);
	left = store_fixture_keys(&f, "");
	assert_string_equal(left, "");
	store_fixture_teardown(&f);
}

/* A backend that does not look at the condition, as an old S3 server. */
static int (*real_put)(struct store_conn *h, const char *key, const void *bytes, size_t len,
	bool if_absent, struct error *err);

static int careless_put(struct store_conn *h, const char *key, const void *bytes, size_t len,
	bool if_absent, struct error *err)
{
	(void)if_absent;
	return real_put(h, key, bytes, len, false, err);
}

TEST(a_probe_refuses_a_store_that_lets_two_writers_win)
{
	struct store_fixture f;
	struct store_ops careless;
	_free_ char *left = NULL;

	store_fixture_setup(&f);
	careless = *f.store->ops;
	real_put = careless.put;
	careless.put = careless_put;
	f.store->ops = &careless;
	assert_int_equal(store_probe(f.hand, &f.err), -ERR_UNSUPPORTED);
	assert_int_equal(store_probe(f.hand, &f.err), -ERR_UNSUPPORTED);
	left = store_fixture_keys(&f, "");
	assert_string_equal(left, "");
	store_fixture_teardown(&f);
}
