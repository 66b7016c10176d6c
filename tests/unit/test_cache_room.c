/* SPDX-License-Identifier: MIT */
/* What the node cache removes and what it keeps; whose it is; damage; many at once. */
#include "../../agent/cache/cache_private.h"
#include "cache_fixture.h"
#include "defer.h"
#include "log.h"
#include "publish_fixture.h"
#include "test.h"
#include "text.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOBODY 65534
#define MIB    ((size_t)1 << 20)

static void open_sized(struct cached *c, uint64_t max_size)
{
	const struct cache_options opts = {.max_size = max_size, .deliver = CACHE_COPY};

	log_setup(LOG_ERROR, LOG_TEXT, STDERR_FILENO);
	cached_open(c, &opts);
}

static void put_away(struct cached *c, char letter, size_t size)
{
	cache_entry_close(entry_of(c, letter, size), false, false);
}

TEST(cache_evicts_what_was_not_used_for_longest)
{
	struct cached c;

	open_sized(&c, 4 * MIB);
	put_away(&c, 'a', MIB);
	put_away(&c, 'b', MIB);
	put_away(&c, 'c', MIB);
	put_away(&c, 'a', MIB); /* used once more */
	put_away(&c, 'd', MIB);
	assert_true(there(&c, 'a'));
	assert_false(there(&c, 'b'));
	assert_true(there(&c, 'c'));
	assert_true(there(&c, 'd'));
	cached_done(&c);
}

TEST(cache_never_evicts_what_is_in_use)
{
	struct cached c;
	struct cache_entry *used;

	open_sized(&c, 3 * MIB);
	used = entry_of(&c, 'a', MIB);
	put_away(&c, 'b', MIB);
	put_away(&c, 'c', MIB);
	assert_true(there(&c, 'a'));
	assert_false(there(&c, 'b'));
	cache_entry_close(used, false, false);
	cached_done(&c);
}

TEST(cache_says_so_when_there_is_no_room)
{
	struct cached c;
	struct cache_entry *used, *e;

	open_sized(&c, 3 * MIB);
	used = entry_of(&c, 'a', 2 * MIB);
	assert_int_equal(0, entry_open(&c, 'b', &e));
	assert_int_equal(-ERR_SPACE, entry_fill(&c, e, 2 * MIB));
	assert_non_null(strstr(c.err.msg, "in use"));
	assert_int_equal(-ERR_SPACE, entry_fill(&c, e, 4 * MIB));
	assert_non_null(strstr(c.err.msg, "cache.max_size"));
	cache_entry_close(e, false, false);
	cache_entry_close(used, false, false);
	cached_done(&c);
}

TEST(cache_leaves_what_it_was_told_free)
{
	const struct cache_options opts = {.min_free = UINT64_MAX / 2};
	struct cached c;
	struct cache_entry *e;

	cached_open(&c, &opts);
	assert_int_equal(0, entry_open(&c, 'a', &e));
	assert_int_equal(-ERR_SPACE, entry_fill(&c, e, 1));
	cache_entry_close(e, false, false);
	cached_done(&c);
}

static int count_in_use(void *ctx, const struct cache_info *info, struct error *err)
{
	unsigned *n = ctx;

	(void)err;
	n[0]++;
	n[1] += info->in_use;
	n[2] += info->complete && info->bytes == 3000 + 7 + 1 && info->entries == 7;
	return 0;
}

TEST(cache_list_tells_what_is_there_and_what_is_in_use)
{
	struct cached c;
	struct cache_entry *used;
	unsigned n[3] = {0};

	open_sized(&c, 0);
	put_away(&c, 'a', 3000);
	used = entry_of(&c, 'b', 3000);
	assert_int_equal(0, cache_each(c.cache, count_in_use, n, &c.err));
	assert_int_equal(2, n[0]);
	assert_int_equal(1, n[1]);
	assert_int_equal(2, n[2]);
	cache_entry_close(used, false, false);
	cached_done(&c);
}

TEST(cache_evict_removes_down_to_a_size_but_nothing_in_use)
{
	struct cached c;
	struct cache_entry *used;
	uint64_t n, bytes;

	open_sized(&c, 0);
	put_away(&c, 'a', MIB);
	used = entry_of(&c, 'b', MIB);
	assert_int_equal(0, cache_evict(c.cache, 0, NULL, &n, &bytes, &c.err));
	assert_int_equal(1, n);
	assert_true(bytes >= MIB);
	assert_false(there(&c, 'a'));
	assert_true(there(&c, 'b'));
	cache_entry_close(used, false, false);
	cached_done(&c);
}

TEST(cache_removes_what_an_eviction_left)
{
	struct cached c;
	uint64_t n, bytes;

	open_sized(&c, 0);
	put_away(&c, 'a', 3000);
	assert_int_equal(0, mkdir(in(c.dir, "cache/v1/gone.1.0123456789abcdef"), 0755));
	put_text(in(c.dir, "cache/v1/gone.1.0123456789abcdef/file"), "x");
	assert_int_equal(0, cache_evict(c.cache, UINT64_MAX, NULL, &n, &bytes, &c.err));
	assert_int_equal(0, n);
	assert_false(exists(in(c.dir, "cache/v1/gone.1.0123456789abcdef")));
	cached_done(&c);
}

/* Damage. */

static void assert_damaged(struct cached *c)
{
	struct cache_entry *e;

	assert_int_equal(0, entry_open(c, 'a', &e));
	assert_null(cache_entry_record(e));
	assert_int_equal(0, entry_fill(c, e, 3000));
	cache_entry_close(e, false, false);
	assert_usual(entry_path(c, 'a', "tree"), false, 3000);
}

static void *cancel_soon(void *ctx)
{
	usleep(100000);
	cancel_request(ctx);
	return NULL;
}

TEST(cache_that_another_makes_room_in_is_not_waited_for_when_cancelled)
{
	struct cache_entry *e;
	struct cached c;
	pthread_t thread;
	int room_fd;

	open_sized(&c, 4 * MIB);
	room_fd = open(in(c.dir, "cache/v1/room"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(0, flock(room_fd, LOCK_EX));
	assert_int_equal(0, entry_open(&c, 'a', &e));
	pthread_create(&thread, NULL, cancel_soon, &c.cancel);
	alarm(20);
	assert_int_equal(-ECANCELED, entry_fill(&c, e, MIB));
	alarm(0);
	pthread_join(thread, NULL);
	cache_entry_close(e, false, false);
	close(room_fd);
	cached_done(&c);
}

static int never_set_aside(void *ctx, uint64_t bytes)
{
	(void)ctx, (void)bytes;
	fail_msg("set aside");
	return 0;
}

TEST(cache_evicts_no_more_when_cancelled)
{
	struct cached c;
	struct cache_room room;

	open_sized(&c, 4 * MIB);
	put_away(&c, 'a', MIB);
	put_away(&c, 'b', MIB);
	room = (struct cache_room){
		.cache = c.cache, .key = "", .cancel = &c.cancel, .reserve = never_set_aside};
	cancel_request(&c.cancel);
	assert_int_equal(-ECANCELED, evict_for(&room, 3 * MIB, &c.err));
	assert_true(there(&c, 'a'));
	assert_true(there(&c, 'b'));
	cached_done(&c);
}

TEST(cache_entry_that_lacks_a_file_is_filled_again)
{
	struct cached c;

	open_sized(&c, 0);
	put_away(&c, 'a', 3000);
	assert_int_equal(0, chmod(entry_path(&c, 'a', "tree/d"), 0755));
	assert_int_equal(0, unlink(entry_path(&c, 'a', "tree/d/run")));
	assert_damaged(&c);
	cached_done(&c);
}

TEST(cache_entry_with_a_short_file_is_filled_again)
{
	struct cached c;

	open_sized(&c, 0);
	put_away(&c, 'a', 3000);
	assert_int_equal(0, truncate(entry_path(&c, 'a', "tree/a"), 2999));
	assert_damaged(&c);
	cached_done(&c);
}

TEST(cache_entry_without_a_whole_record_or_inventory_is_filled_again)
{
	struct cached c;

	open_sized(&c, 0);
	put_away(&c, 'a', 3000);
	assert_int_equal(0, truncate(entry_path(&c, 'a', ".stagerun/tree/whole.json"), 10));
	assert_damaged(&c);
	assert_int_equal(0, truncate(entry_path(&c, 'a', "inventory"), 5000));
	assert_damaged(&c);
	cached_done(&c);
}

TEST(cache_entry_that_is_damaged_stays_while_others_use_it)
{
	struct cached c;
	struct cache_entry *used, *e;

	open_sized(&c, 0);
	used = entry_of(&c, 'a', 3000);
	assert_int_equal(0, truncate(entry_path(&c, 'a', "tree/a"), 2999));
	assert_int_equal(-EBUSY, entry_open(&c, 'a', &e));
	assert_true(there(&c, 'a'));
	cache_entry_close(used, false, false);
	cached_done(&c);
}

static const char key_a[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-cccccccccccccccccccccccccccccccc";

TEST(cache_verify_deep_finds_bytes_that_have_changed)
{
	const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, {1000000000, 123456789}};
	struct progress progress = {0};
	struct cached c;
	char *file;

	open_sized(&c, 0);
	put_away(&c, 'a', 3000);
	assert_int_equal(0, cache_verify(c.cache, key_a, true, &progress, NULL, &c.err));
	assert_int_equal(3008, counted(&progress.received)); /* with a file of 8 bytes */
	file = entry_path(&c, 'a', "tree/a");
	assert_int_equal(0, chmod(file, 0644));
	_close_ int fd = open(file, O_WRONLY | O_CLOEXEC);
	assert_int_equal(1, pwrite(fd, "x", 1, 1000));
	assert_int_equal(0, futimens(fd, times));
	assert_int_equal(0, cache_verify(c.cache, key_a, false, &progress, NULL, &c.err));
	assert_int_equal(6016, counted(&progress.received));
	assert_int_equal(-ESTALE, cache_verify(c.cache, key_a, true, NULL, NULL, &c.err));
	assert_non_null(strstr(c.err.msg, "'a'"));
	cached_done(&c);
}

/* Whose it is. */

TEST(cache_of_another_user_is_refused)
{
	_free_ char *dir = test_directory();
	struct cache_options opts = {.dir = in(dir, "cache"), .make = true};
	struct cache *cache;
	struct error err;

	assert_int_equal(0, mkdir(opts.dir, 0777));
	assert_int_equal(0, chmod(opts.dir, 0777));
	assert_int_equal(-EPERM, cache_open(&opts, &cache, &err));
	assert_non_null(strstr(err.msg, "others may write"));
	if (geteuid() != 0)
		return;
	assert_int_equal(0, chmod(opts.dir, 0755));
	assert_int_equal(0, chown(opts.dir, NOBODY, NOBODY));
	assert_int_equal(-EPERM, cache_open(&opts, &cache, &err));
	assert_non_null(strstr(err.msg, "belongs to user 65534"));
}

TEST(cache_entry_of_another_user_is_refused)
{
	struct cached c;
	struct cache_entry *e;

	open_sized(&c, 0);
	put_away(&c, 'a', 3000);
	if (geteuid() == 0) {
		assert_int_equal(0, chown(entry_path(&c, 'a', ""), NOBODY, NOBODY));
		assert_int_equal(-EPERM, entry_open(&c, 'a', &e));
	}
	cached_done(&c);
}

/* Many at once. */

struct agent {
	struct cached *c;
	pthread_t thread;
	int code;
	bool filled;
};

static void *run_agent(void *ctx)
{
	struct agent *a = ctx;
	struct cached own = {.dir = a->c->dir, .cache = a->c->cache};
	struct cache_entry *e = NULL;

	cancel_init(&own.cancel);
	a->code = entry_open(&own, 'a', &e);
	if (a->code == 0 && cache_entry_record(e) == NULL) {
		a->filled = true;
		a->code = entry_fill(&own, e, 3000);
	}
	cache_entry_close(e, false, false);
	cancel_done(&own.cancel);
	return NULL;
}

TEST(cache_entry_is_filled_by_one_of_many)
{
	struct agent agents[8];
	struct cached c;
	unsigned filled = 0;

	open_sized(&c, 0);
	for (size_t i = 0; i < ARRAY_LEN(agents); i++) {
		agents[i] = (struct agent){.c = &c};
		pthread_create(&agents[i].thread, NULL, run_agent, &agents[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(agents); i++) {
		pthread_join(agents[i].thread, NULL);
		assert_int_equal(0, agents[i].code);
		filled += agents[i].filled;
	}
	assert_int_equal(1, filled);
	cached_done(&c);
}

static int fill_one(void *ctx)
{
	struct cached *c = ctx;
	struct cache_entry *e;

	if (entry_open(c, 'a', &e) < 0 ||
		(cache_entry_record(e) == NULL && entry_fill(c, e, 3000) < 0))
		return 1;
	cache_entry_close(e, false, false);
	return 0;
}

TEST(cache_survives_a_death_at_any_system_call)
{
	int killed = 1;

	for (unsigned n = 1; killed == 1; n += 9) {
		struct cached c;
		struct cache_entry *e;

		open_sized(&c, 0);
		killed = kill_at_change(n, fill_one, &c);
		if (killed < 0)
			skip();
		e = entry_of(&c, 'a', 3000);
		assert_usual(entry_path(&c, 'a', "tree"), false, 3000);
		cache_entry_close(e, false, false);
		cached_done(&c);
	}
}
