/* SPDX-License-Identifier: MIT */
/* Creators and the collector keep out of each other's way, also when one of them is killed. */
#include "../../agent/store/store_private.h"
#include "defer.h"
#include "store_fixture.h"
#include "test.h"
#include "text.h"
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>

#define HEX       "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd"
#define PACK      "packs/aa/aa" HEX ".tar.zst"
#define COLLECTOR "leases/collect-0123456789abcdef.json"
#define CREATOR   "leases/create-0123456789abcdef.json"
#define PROBE     "leases/probe-0123456789abcdef.json"

static void sleep_ms(unsigned ms)
{
	usleep(ms * 1000);
}

static struct lease *take(struct store_fixture *f, uint64_t life_ms)
{
	const struct lease_times times = {.life_ms = life_ms};
	struct lease *l = NULL;

	assert_int_equal(lease_take_for(f->store, "cats", &times, NULL, &l, &f->err), 0);
	return l;
}

/* Everything that no version names is removed, whatever its age. */
static uint64_t collect(struct store_fixture *f)
{
	const struct collect_options opts = {0};
	struct collected total = {0};

	assert_int_equal(collect_with(f->hand, &opts, &total, &f->err), 0);
	return total.objects;
}

TEST(a_lease_is_an_object_until_it_is_released)
{
	struct store_fixture f;
	struct lease *l;
	_free_ char *held = NULL, *after = NULL;

	store_fixture_claim(&f);
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

	store_fixture_claim(&f);
	l = take(&f, 3000); /* renewed each second, on a busy machine a little later */
	for (unsigned i = 0; i < 10; i++) {
		sleep_ms(1600);
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

	store_fixture_claim(&f);
	leases = text_format("%s/leases", f.dir);
	away = text_format("%s/away", f.dir);
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

	store_fixture_claim(&f);
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

	store_fixture_claim(&f);
	store_fixture_put(&f, PACK, "data");
	store_fixture_age(&f, PACK, 1);
	store_fixture_put(&f, CREATOR, "{}");
	store_fixture_put(&f, PROBE, "1");
	store_fixture_age(&f, PROBE, 302);
	store_fixture_age(&f, CREATOR, 299);
	assert_int_equal(collect(&f), 0);
	store_fixture_age(&f, CREATOR, 302);
	assert_int_equal(collect(&f), 1);
	assert_false(store_fixture_has(&f, CREATOR));
	assert_false(store_fixture_has(&f, PROBE));
	store_fixture_teardown(&f);
}

/* --- holders that are known to be dead --- */

struct holder {
	const char *host, *scope; /* NULL: this process's */
	pid_t pid;
	uint64_t start;
	const char *more; /* JSON, with a ',' before it */
};

static void put_lease(struct store_fixture *f, const char *key, const struct holder *who)
{
	char host[65] = "", scope[LEASE_SCOPE_SIZE];
	_free_ char *json = NULL;

	(void)gethostname(host, sizeof(host) - 1);
	lease_scope(scope);
	assert_true(scope[0] != '\0');
	json = text_format("{\"name\":\"cats\",\"host\":\"%s\",\"scope\":\"%s\",\"pid\":%d,"
			   "\"start\":%llu%s}",
		who->host != NULL ? who->host : host, who->scope != NULL ? who->scope : scope,
		(int)who->pid, (unsigned long long)who->start, who->more != NULL ? who->more : "");
	store_fixture_put(f, key, json);
}

static pid_t ended_process(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	return pid;
}

/* Whether a creation would wait for the collector. */
static bool is_live(struct store_fixture *f, const char *key)
{
	_free_ char *own = lease_new_key(LEASE_CLOCK);
	const struct lease_content words = {.life_ms = LEASE_LIFE_MS};
	struct leases all = {0};
	bool live = false;

	assert_int_equal(lease_write(f->hand, own, &words, &f->err), 0);
	assert_int_equal(lease_list(f->hand, own, &all, &f->err), 0);
	lease_remove(f->hand, own);
	for (size_t i = 0; i < all.n; i++)
		live |= strcmp(all.v[i].key, key) == 0 && all.v[i].live;
	lease_list_done(&all);
	return live;
}

static bool counts(struct store_fixture *f, const struct holder *who)
{
	put_lease(f, COLLECTOR, who);
	return is_live(f, COLLECTOR);
}

TEST(a_lease_of_a_process_that_is_gone_does_not_count)
{
	static const char looks[] = ",\"removes\":false";
	struct store_fixture f;
	pid_t gone = ended_process();

	store_fixture_claim(&f);
	assert_false(counts(&f, &(struct holder){.pid = gone, .start = 7, .more = looks}));
	/* Its number is another's now. */
	assert_false(counts(&f, &(struct holder){.pid = getpid(), .start = 7, .more = looks}));
	assert_true(counts(
		&f, &(struct holder){.pid = getpid(), .start = lease_own_start(), .more = looks}));
	store_fixture_teardown(&f);
}

TEST(a_lease_counts_when_it_cannot_be_known_that_its_process_is_gone)
{
	static const char looks[] = ",\"removes\":false";
	struct store_fixture f;
	pid_t gone = ended_process();

	store_fixture_claim(&f);
	assert_true(counts(
		&f, &(struct holder){.host = "other", .pid = gone, .start = 7, .more = looks}));
	/* Of another container of this machine, or another boot. */
	assert_true(
		counts(&f, &(struct holder){.scope = "x", .pid = gone, .start = 7, .more = looks}));
	assert_true(
		counts(&f, &(struct holder){.scope = "", .pid = gone, .start = 7, .more = looks}));
	assert_true(counts(&f, &(struct holder){.pid = gone, .start = 0, .more = looks}));
	store_fixture_teardown(&f);
}

TEST(a_lease_of_a_zombie_does_not_count)
{
	struct store_fixture f;
	siginfo_t ended;
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	store_fixture_claim(&f);
	assert_int_equal(waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOWAIT), 0);
	assert_false(counts(&f, &(struct holder){.pid = pid,
					.start = lease_process_start(pid),
					.more = ",\"removes\":false"}));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	store_fixture_teardown(&f);
}

/* What it had asked the store for may still be done. */
TEST(a_lease_of_a_collector_that_died_while_it_removed_counts_a_little_longer)
{
	const struct holder who = {.pid = ended_process(), .start = 7, .more = ",\"removes\":true"};
	struct store_fixture f;

	store_fixture_claim(&f);
	assert_true(counts(&f, &who));
	store_fixture_age(&f, COLLECTOR, LEASE_SETTLE_MS / 1000 - 1);
	assert_true(is_live(&f, COLLECTOR));
	store_fixture_age(&f, COLLECTOR, LEASE_SETTLE_MS / 1000 + 2);
	assert_false(is_live(&f, COLLECTOR));
	store_fixture_teardown(&f);
}

TEST(a_lease_lives_as_long_as_it_says_and_no_longer_than_the_longest)
{
	struct store_fixture f;

	store_fixture_claim(&f);
	store_fixture_put(&f, COLLECTOR, "{\"life_ms\":60000}");
	store_fixture_age(&f, COLLECTOR, 58);
	assert_true(is_live(&f, COLLECTOR));
	store_fixture_age(&f, COLLECTOR, 62);
	assert_false(is_live(&f, COLLECTOR));
	store_fixture_put(&f, COLLECTOR, "{\"life_ms\":900000}");
	store_fixture_age(&f, COLLECTOR, 299);
	assert_true(is_live(&f, COLLECTOR));
	store_fixture_age(&f, COLLECTOR, 302);
	assert_false(is_live(&f, COLLECTOR));
	store_fixture_teardown(&f);
}

TEST(a_creation_that_was_killed_does_not_keep_others_from_deleting_and_collecting)
{
	const struct datastore_delete_options opts = {.grace_ms = 0};
	struct store_fixture f;

	store_fixture_claim(&f);
	store_fixture_publish(&f, "cats", PACK);
	put_lease(&f, CREATOR,
		&(struct holder){.pid = getpid(),
			.start = lease_own_start(),
			.more = ",\"since\":1795984745,\"uid\":0"});
	assert_int_equal(datastore_delete(f.hand, "cats", 1, &opts, &f.err), -EBUSY);
	assert_non_null(strstr(f.err.msg, "of user 0), since 2026-11-29 20:39:05 UTC"));
	put_lease(&f, CREATOR, &(struct holder){.pid = ended_process(), .start = 7});
	assert_int_equal(datastore_delete(f.hand, "cats", 1, &opts, &f.err), 0);
	assert_int_equal(collect(&f), 1);
	assert_false(store_fixture_has(&f, CREATOR));
	store_fixture_teardown(&f);
}

/* A store that is cancelled when the collector has its lease. */
static struct {
	struct cancel *cancel;
	int (*list)(struct store_conn *h, const char *prefix,
		int (*each)(void *ctx, const char *key, uint64_t size, time_t modified,
			struct error *err),
		void *ctx, struct error *err);
} stopping;

static int list_and_stop(struct store_conn *h, const char *prefix,
	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err),
	void *ctx, struct error *err)
{
	if (strcmp(prefix, "packs/") == 0)
		cancel_request(stopping.cancel);
	return stopping.list(h, prefix, each, ctx, err);
}

TEST(a_collection_that_is_cancelled_gives_its_lease_back)
{
	struct store_fixture f;
	struct store_conn *h = NULL;
	struct cancel cancel;
	struct store_ops ops;
	const struct store_ops *usual;
	_free_ char *left = NULL;

	store_fixture_claim(&f);
	store_fixture_publish(&f, "cats", PACK);
	cancel_init(&cancel);
	assert_int_equal(store_conn_open(f.store, &cancel, &h, &f.err), 0);
	usual = f.store->ops;
	ops = *usual;
	stopping.cancel = &cancel;
	stopping.list = ops.list;
	ops.list = list_and_stop;
	f.store->ops = &ops;
	assert_int_equal(datastore_collect(h, 0, NULL, NULL, &f.err), -ECANCELED);
	f.store->ops = usual;
	left = store_fixture_keys(&f, "leases/");
	assert_string_equal(left, "");
	store_conn_close(h);
	cancel_done(&cancel);
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

	t->code = lease_take(t->store, "cats", NULL, t->cancel, &t->lease, NULL);
	atomic_store(&t->done, true);
	return NULL;
}

TEST(a_creation_waits_while_a_collection_is_under_way)
{
	static const char *const collector = COLLECTOR;
	struct store_fixture f;
	struct taker t = {0};
	pthread_t thread;

	store_fixture_claim(&f);
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

TEST(a_creation_waits_for_a_collection_as_long_as_it_may_and_leaves_no_lease)
{
	static const char *const collector = COLLECTOR;
	static const struct wait_limit at_once = {.limited = true};
	struct store_fixture f;
	struct lease *l = NULL;

	store_fixture_claim(&f);
	store_fixture_put(&f, collector, "{}");
	assert_int_equal(lease_take(f.store, "cats", &at_once, NULL, &l, &f.err), -EBUSY);
	assert_non_null(strstr(f.err.msg, "lock_timeout in agent.ini allows"));
	assert_null(l);
	assert_int_equal(store_delete(f.hand, &collector, 1, NULL), 0);
	lease_release(take(&f, LEASE_LIFE_MS));
	store_fixture_teardown(&f);
}

TEST(a_creation_does_not_wait_for_a_collector_that_was_killed)
{
	struct store_fixture f;

	store_fixture_claim(&f);
	store_fixture_put(&f, COLLECTOR, "{}");
	store_fixture_age(&f, COLLECTOR, 302);
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

	store_fixture_claim(&f);
	cancel_init(&cancel);
	t.store = f.store;
	store_fixture_put(&f, COLLECTOR, "{}");
	assert_int_equal(pthread_create(&thread, NULL, take_in_thread, &t), 0);
	sleep_ms(50);
	cancel_request(&cancel);
	pthread_join(thread, NULL);
	assert_int_equal(t.code, -ECANCELED);
	left = store_fixture_keys(&f, "leases/");
	assert_string_equal(left, COLLECTOR " ");
	cancel_done(&cancel);
	store_fixture_teardown(&f);
}

TEST(a_second_collector_leaves_the_work_to_the_first)
{
	struct store_fixture f;
	_free_ char *left = NULL;

	store_fixture_claim(&f);
	store_fixture_put(&f, PACK, "data");
	store_fixture_age(&f, PACK, 1);
	store_fixture_put(&f, COLLECTOR, "{}");
	assert_int_equal(collect(&f), 0);
	left = store_fixture_keys(&f, "leases/");
	assert_string_equal(left, COLLECTOR " ");
	store_fixture_teardown(&f);
}

/* A store whose manifests take longer than the lease lives, which cannot be renewed: meanwhile an object goes. */
static struct {
	int (*put)(struct store_conn *h, const char *key, const void *bytes, size_t len,
		bool if_absent, struct error *err);
	_Atomic(const char *) lost; /* NULL: all is well */
} slow;

static int slow_put(struct store_conn *h, const char *key, const void *bytes, size_t len,
	bool if_absent, struct error *err)
{
	const char *lost = atomic_load(&slow.lost);

	if (strncmp(key, "leases/", 7) == 0 && lost != NULL)
		return error_set(err, -EIO, "the network is away");
	if (strstr(key, "manifest.json") != NULL) {
		sleep_ms(1600);
		assert_int_equal(store_delete(h, &lost, 1, NULL), 0);
	}
	return slow.put(h, key, bytes, len, if_absent, err);
}

static int publish_slowly(struct store_fixture *f, const char *lost)
{
	struct store_ops ops = *f->store->ops;
	const struct store_ops *usual = f->store->ops;
	struct manifest *m = store_fixture_manifest("cats", "n", PACK);
	_free_ char *part = text_format("index/aa/%s.zst", m->parts[0].sha256);
	struct lease *l;
	int code;

	store_fixture_put(f, PACK, "data");
	store_fixture_put(f, part, "data");
	slow.put = ops.put;
	ops.put = slow_put;
	f->store->ops = &ops;
	l = take(f, 1500);
	atomic_store(&slow.lost, lost);
	code = publish_under_lease(f->hand, l, m, &f->err);
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

	store_fixture_claim(&f);
	assert_int_equal(publish_slowly(&f, PACK), -ERR_RESTART);
	assert_non_null(strstr(f.err.msg, PACK));
	assert_int_equal(datastore_find(f.hand, "cats", 1, &m, NULL), -ENOENT);
	store_fixture_teardown(&f);
}

TEST(a_version_that_is_whole_stays_however_long_its_manifest_was_under_way)
{
	struct store_fixture f;
	struct manifest *m = NULL;

	store_fixture_claim(&f);
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
	const struct collect_options opts = {0};
	struct race *r = ctx;
	struct store_conn *h = NULL;

	if (store_conn_open(r->store, NULL, &h, NULL) < 0)
		abort();
	while (!atomic_load(&r->stop)) {
		struct collected total = {0};

		atomic_fetch_add(&r->failed, collect_with(h, &opts, &total, NULL) < 0);
		atomic_fetch_add(&r->collections, 1);
	}
	store_conn_close(h);
	return NULL;
}

static void create_with_a_pack(struct race *r, struct store_conn *h, unsigned i)
{
	_free_ char *pack = text_format("packs/aa/aa%062x.tar.zst", i % 3);
	_free_ char *nonce = text_format("%p-%u", (void *)h, i);
	struct manifest *m = store_fixture_manifest("cats", nonce, pack);
	struct lease *l = NULL;
	int code = lease_take(r->store, "cats", NULL, NULL, &l, NULL);

	/* A part of the index is not needed here: it is as good as a pack. */
	if (code == 0 && store_has(h, pack, NULL, NULL) == 0)
		code = store_put(h, pack, "data", 4, NULL);
	if (code == 0)
		code = publish_under_lease(h, l, m, NULL);
	atomic_fetch_add(&r->failed, code < 0);
	lease_release(l);
	atomic_fetch_add(&r->broken, store_has(h, pack, NULL, NULL) != 1);
	/* From now on the collector may take it, unless another version names it. */
	atomic_fetch_add(&r->failed, version_mark_deleted(h, "cats", m->version, NULL) < 0);
	manifest_free(m);
}

static void *create_on(void *ctx)
{
	struct race *r = ctx;
	struct store_conn *h = NULL;

	if (store_conn_open(r->store, NULL, &h, NULL) < 0)
		abort();
	for (unsigned i = 0; i < 10; i++)
		create_with_a_pack(r, h, i);
	store_conn_close(h);
	return NULL;
}

TEST(a_pack_that_a_creation_counts_on_is_not_collected_under_it)
{
	struct store_fixture f;
	struct race r = {0};
	pthread_t collector, creators[3];

	store_fixture_claim(&f);
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
