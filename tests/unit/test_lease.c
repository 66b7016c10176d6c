/* SPDX-License-Identifier: MIT */
/* Creators and the collector keep out of each other's way, also when one of them is killed. */
#include "../../agent/store/backend.h"
#include "../../agent/store/collect.h"
#include "../../agent/store/lease.h"
#include "../../agent/store/versions.h"
#include "defer.h"
#include "store_fixture.h"
#include "test.h"
#include "text.h"
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define PACK "packs/aa/one.tar.zst"

static void sleep_ms(unsigned ms)
{
	usleep(ms * 1000);
}

static struct lease *take(struct store_fixture *f, uint64_t life_ms)
{
	struct lease *l = NULL;

	assert_int_equal(lease_take_for(f->store, "cats", life_ms, NULL, &l, &f->err), 0);
	return l;
}

/* Everything that no version names is removed, whatever its age. */
static uint64_t collect(struct store_fixture *f)
{
	const struct collect_options opts = {.life_ms = LEASE_LIFE_MS};
	struct collected total = {0};

	assert_int_equal(collect_with(f->hand, &opts, &total, &f->err), 0);
	return total.objects;
}

TEST(a_lease_is_an_object_until_it_is_released)
{
	struct store_fixture f;
	struct lease *l;
	_free_ char *held = NULL, *after = NULL;

	store_fixture_setup(&f);
	l = take(&f, LEASE_LIFE_MS);
	held = store_fixture_keys(&f, "leases/");
	assert_true(strncmp(held, "leases/create-", 14) == 0);
	assert_int_equal(lease_check(l, NULL), 0);
	lease_release(l);
	after = store_fixture_keys(&f, "leases/");
	assert_string_equal(after, "");
	store_fixture_teardown(&f);
}

TEST(a_lease_is_renewed_while_it_is_held)
{
	struct store_fixture f;
	struct lease *l;

	store_fixture_setup(&f);
	l = take(&f, 3000); /* renewed each second, on a busy machine a little later */
	for (unsigned i = 0; i < 10; i++) {
		sleep_ms(400);
		assert_int_equal(lease_check(l, &f.err), 0);
	}
	lease_release(l);
	store_fixture_teardown(&f);
}

TEST(a_lease_that_could_not_be_renewed_for_a_while_is_lost_for_good)
{
	struct store_fixture f;
	struct lease *l;
	_free_ char *away = NULL, *leases = NULL;

	store_fixture_setup(&f);
	leases = format_text("%s/leases", f.dir);
	away = format_text("%s/away", f.dir);
	l = take(&f, 600);
	/* No file can be made where another one is. */
	assert_int_equal(rename(leases, away), 0);
	store_fixture_put(&f, "leases", "");
	sleep_ms(700);
	assert_int_equal(lease_check(l, &f.err), -ERR_RESTART);
	assert_int_equal(unlink(leases), 0);
	assert_int_equal(rename(away, leases), 0);
	sleep_ms(300);
	assert_int_equal(lease_check(l, &f.err), -ERR_RESTART);
	lease_release(l);
	store_fixture_teardown(&f);
}

TEST(nothing_is_collected_while_a_creation_is_under_way)
{
	struct store_fixture f;
	struct lease *l;

	store_fixture_setup(&f);
	store_fixture_put(&f, PACK, "data");
	store_fixture_age(&f, PACK, 1);
	l = take(&f, LEASE_LIFE_MS);
	assert_int_equal(collect(&f), 0);
	assert_true(store_fixture_has(&f, PACK));
	lease_release(l);
	assert_int_equal(collect(&f), 1);
	assert_false(store_fixture_has(&f, PACK));
	store_fixture_teardown(&f);
}

TEST(a_creation_that_was_killed_does_not_keep_the_collector_away_for_longer_than_its_lease)
{
	struct store_fixture f;

	store_fixture_setup(&f);
	store_fixture_put(&f, PACK, "data");
	store_fixture_age(&f, PACK, 1);
	store_fixture_put(&f, "leases/create-dead.json", "{}");
	store_fixture_put(&f, "leases/probe-dead.json", "1");
	store_fixture_age(&f, "leases/probe-dead.json", 302);
	store_fixture_age(&f, "leases/create-dead.json", 299);
	assert_int_equal(collect(&f), 0);
	store_fixture_age(&f, "leases/create-dead.json", 302);
	assert_int_equal(collect(&f), 1);
	assert_false(store_fixture_has(&f, "leases/create-dead.json"));
	assert_false(store_fixture_has(&f, "leases/probe-dead.json"));
	store_fixture_teardown(&f);
}

struct taker {
	struct store *store;
	struct cancel *cancel;
	struct lease *lease;
	int code;
	atomic_bool done;
};

static void *take_in_thread(void *ctx)
{
	struct taker *t = ctx;

	t->code = lease_take(t->store, "cats", t->cancel, &t->lease, NULL);
	atomic_store(&t->done, true);
	return NULL;
}

TEST(a_creation_waits_while_a_collection_is_under_way)
{
	static const char *const collector = "leases/collect-1.json";
	struct store_fixture f;
	struct taker t = {0};
	pthread_t thread;

	store_fixture_setup(&f);
	t.store = f.store;
	store_fixture_put(&f, collector, "{}");
	assert_int_equal(pthread_create(&thread, NULL, take_in_thread, &t), 0);
	sleep_ms(100);
	assert_false(atomic_load(&t.done));
	assert_int_equal(store_delete(f.hand, &collector, 1, NULL), 0);
	pthread_join(thread, NULL);
	assert_int_equal(t.code, 0);
	lease_release(t.lease);
	store_fixture_teardown(&f);
}

TEST(a_creation_does_not_wait_for_a_collector_that_was_killed)
{
	struct store_fixture f;

	store_fixture_setup(&f);
	store_fixture_put(&f, "leases/collect-1.json", "{}");
	store_fixture_age(&f, "leases/collect-1.json", 302);
	lease_release(take(&f, LEASE_LIFE_MS));
	store_fixture_teardown(&f);
}

TEST(a_creation_that_waits_can_be_cancelled_and_leaves_no_lease)
{
	struct store_fixture f;
	struct cancel cancel;
	struct taker t = {.cancel = &cancel};
	_free_ char *left = NULL;
	pthread_t thread;

	store_fixture_setup(&f);
	cancel_init(&cancel);
	t.store = f.store;
	store_fixture_put(&f, "leases/collect-1.json", "{}");
	assert_int_equal(pthread_create(&thread, NULL, take_in_thread, &t), 0);
	sleep_ms(50);
	cancel_request(&cancel);
	pthread_join(thread, NULL);
	assert_int_equal(t.code, -ECANCELED);
	left = store_fixture_keys(&f, "leases/");
	assert_string_equal(left, "leases/collect-1.json ");
	cancel_done(&cancel);
	store_fixture_teardown(&f);
}

TEST(a_second_collector_leaves_the_work_to_the_first)
{
	struct store_fixture f;
	_free_ char *left = NULL;

	store_fixture_setup(&f);
	store_fixture_put(&f, PACK, "data");
	store_fixture_age(&f, PACK, 1);
	store_fixture_put(&f, "leases/collect-1.json", "{}");
	assert_int_equal(collect(&f), 0);
	left = store_fixture_keys(&f, "leases/");
	assert_string_equal(left, "leases/collect-1.json ");
	store_fixture_teardown(&f);
}

/* A store whose manifests take longer than the lease lives, which cannot be renewed: meanwhile an object goes. */
static struct {
	int (*put)(struct store_hand *h, const char *key, const void *bytes, size_t len,
		bool if_absent, struct error *err);
	_Atomic(const char *) lost; /* NULL: all is well */
} slow;

static int slow_put(struct store_hand *h, const char *key, const void *bytes, size_t len,
	bool if_absent, struct error *err)
{
	const char *lost = atomic_load(&slow.lost);

	if (strncmp(key, "leases/", 7) == 0 && lost != NULL)
		return error_set(err, -EIO, "the network is away");
	if (strstr(key, "manifest.json") != NULL) {
		sleep_ms(400);
		assert_int_equal(store_delete(h, &lost, 1, NULL), 0);
	}
	return slow.put(h, key, bytes, len, if_absent, err);
}

static int publish_slowly(struct store_fixture *f, const char *lost)
{
	struct store_ops ops = *f->store->ops;
	const struct store_ops *usual = f->store->ops;
	struct manifest *m = store_fixture_manifest("cats", "n", PACK);
	_free_ char *part = format_text("index/aa/%s.zst", m->parts[0].sha256);
	struct lease *l;
	int code;

	store_fixture_put(f, PACK, "data");
	store_fixture_put(f, part, "data");
	slow.put = ops.put;
	ops.put = slow_put;
	f->store->ops = &ops;
	l = take(f, 400);
	atomic_store(&slow.lost, lost);
	code = lease_publish(f->hand, l, m, &f->err);
	lease_release(l);
	atomic_store(&slow.lost, NULL);
	f->store->ops = usual;
	manifest_free(m);
	return code;
}

TEST(a_version_whose_pack_went_while_its_manifest_was_under_way_is_deleted_again)
{
	struct store_fixture f;
	struct manifest *m = NULL;

	store_fixture_setup(&f);
	assert_int_equal(publish_slowly(&f, PACK), -ERR_RESTART);
	assert_non_null(strstr(f.err.msg, PACK));
	assert_int_equal(datastore_find(f.hand, "cats", 1, &m, NULL), -ENOENT);
	store_fixture_teardown(&f);
}

TEST(a_version_that_is_whole_stays_however_long_its_manifest_was_under_way)
{
	struct store_fixture f;
	struct manifest *m = NULL;

	store_fixture_setup(&f);
	assert_int_equal(publish_slowly(&f, "packs/other"), 0);
	assert_int_equal(datastore_find(f.hand, "cats", 1, &m, NULL), 0);
	manifest_free(m);
	store_fixture_teardown(&f);
}

/* One thread collects without pause. Creators find a pack, or send it, and publish a version that names
 * it; whenever they look, all packs of all versions must be there. */
struct race {
	struct store *store;
	atomic_bool stop;
	atomic_uint broken, collections, failed;
};

static void *collect_on(void *ctx)
{
	const struct collect_options opts = {.life_ms = LEASE_LIFE_MS};
	struct race *r = ctx;
	struct store_hand *h = NULL;

	if (store_hand_open(r->store, NULL, &h, NULL) < 0)
		abort();
	while (!atomic_load(&r->stop)) {
		struct collected total = {0};

		atomic_fetch_add(&r->failed, collect_with(h, &opts, &total, NULL) < 0);
		atomic_fetch_add(&r->collections, 1);
	}
	store_hand_close(h);
	return NULL;
}

static void create_with_a_pack(struct race *r, struct store_hand *h, unsigned i)
{
	_free_ char *pack = format_text("packs/aa/%u.tar.zst", i % 3);
	_free_ char *nonce = format_text("%p-%u", (void *)h, i);
	struct manifest *m = store_fixture_manifest("cats", nonce, pack);
	struct lease *l = NULL;
	int code = lease_take(r->store, "cats", NULL, &l, NULL);

	/* A part of the index is not needed here: it is as good as a pack. */
	if (code == 0 && store_has(h, pack, NULL, NULL) == 0)
		code = store_put(h, pack, "data", 4, NULL);
	if (code == 0)
		code = lease_publish(h, l, m, NULL);
	atomic_fetch_add(&r->failed, code < 0);
	lease_release(l);
	atomic_fetch_add(&r->broken, store_has(h, pack, NULL, NULL) != 1);
	/* From now on the collector may take it, unless another version names it. */
	atomic_fetch_add(&r->failed, version_bury(h, "cats", m->version, NULL) < 0);
	manifest_free(m);
}

static void *create_on(void *ctx)
{
	struct race *r = ctx;
	struct store_hand *h = NULL;

	if (store_hand_open(r->store, NULL, &h, NULL) < 0)
		abort();
	for (unsigned i = 0; i < 10; i++)
		create_with_a_pack(r, h, i);
	store_hand_close(h);
	return NULL;
}

TEST(a_pack_that_a_creation_counts_on_is_not_collected_under_it)
{
	struct store_fixture f;
	struct race r = {0};
	pthread_t collector, creators[3];

	store_fixture_setup(&f);
	r.store = f.store;
	assert_int_equal(pthread_create(&collector, NULL, collect_on, &r), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&creators[i], NULL, create_on, &r), 0);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(creators[i], NULL);
	atomic_store(&r.stop, true);
	pthread_join(collector, NULL);
	assert_int_equal(atomic_load(&r.failed), 0);
	assert_int_equal(atomic_load(&r.broken), 0);
	assert_true(atomic_load(&r.collections) > 0);
	store_fixture_teardown(&f);
}
