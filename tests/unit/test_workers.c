/* SPDX-License-Identifier: MIT */
/* The threads of one task: their first failure, their ends and their turns. */
#include "defer.h"
#include "test.h"
#include "workers.h"
#include <errno.h>
#include <string.h>

/* Threads that wait for work that never comes, and count themselves. */
struct idlers {
	struct workers pool;
	struct workers_condition work;
	struct cancel cancel;
	atomic_uint ended;
};

static void *idle_main(void *ctx)
{
	struct idlers *t = ctx;

	pthread_mutex_lock(&t->pool.mutex);
	while (!workers_must_stop(&t->pool))
		workers_wait(&t->pool, &t->work);
	pthread_mutex_unlock(&t->pool.mutex);
	atomic_fetch_add(&t->ended, 1);
	return NULL;
}

static void idlers_open(struct idlers *t, unsigned threads)
{
	struct error err;

	*t = (struct idlers){0};
	cancel_init(&t->cancel);
	workers_init(&t->pool, threads, &t->cancel);
	workers_add_condition(&t->pool, &t->work);
	while (workers_start(&t->pool, idle_main, t, &err) > 0)
		usleep(2000);
}

static void idlers_close(struct idlers *t)
{
	workers_done(&t->pool);
	cancel_done(&t->cancel);
}

TEST(workers_are_as_many_as_may_be)
{
	struct idlers t;
	struct error err;

	idlers_open(&t, 3);
	assert_int_equal(3, t.pool.n_threads);
	assert_int_equal(0, workers_start(&t.pool, idle_main, &t, &err));
	assert_false(workers_start_extra(&t.pool, idle_main, &t));
	t.pool.max_threads = 4;
	assert_true(workers_start_extra(&t.pool, idle_main, &t));
	workers_stop(&t.pool);
	assert_int_equal(4, atomic_load(&t.ended));
	idlers_close(&t);
}

TEST(workers_that_are_stopped_end_and_refuse_more)
{
	struct idlers t;
	struct error err;

	idlers_open(&t, 2);
	assert_int_equal(0, workers_outcome(&t.pool, &err));
	workers_stop(&t.pool);
	assert_int_equal(2, atomic_load(&t.ended));
	assert_int_equal(-ECANCELED, workers_outcome(&t.pool, &err));
	idlers_close(&t);
}

TEST(workers_end_with_the_first_failure_of_any_of_them)
{
	struct idlers t;
	struct error err;

	idlers_open(&t, 2);
	workers_fail(&t.pool, error_set(&err, -ENOSPC, "the disk is full"), &err);
	workers_fail(&t.pool, error_set(&err, -EIO, "the disk is broken"), &err);
	workers_join(&t.pool);
	cancel_request(&t.cancel);
	assert_int_equal(2, atomic_load(&t.ended));
	assert_int_equal(-ENOSPC, workers_outcome(&t.pool, &err));
	assert_string_equal("the disk is full", err.msg);
	assert_int_equal(-ENOSPC, workers_outcome(&t.pool, NULL));
	idlers_close(&t);
}

TEST(workers_end_with_a_cancel_request)
{
	struct idlers t;
	struct error err;

	idlers_open(&t, 2);
	cancel_request(&t.cancel);
	workers_join(&t.pool);
	assert_int_equal(2, atomic_load(&t.ended));
	assert_int_equal(-ECANCELED, workers_outcome(&t.pool, &err));
	idlers_close(&t);
}

TEST(workers_that_cancel_others_report_the_failure_and_not_its_consequence)
{
	struct idlers t;
	struct error err;

	idlers_open(&t, 1);
	workers_fail_and_cancel(&t.pool, error_set(&err, -ECANCELED, "cancelled"), &err);
	workers_fail_and_cancel(&t.pool, error_set(&err, -ENOSPC, "the disk is full"), &err);
	workers_fail_and_cancel(&t.pool, error_set(&err, -ECANCELED, "cancelled"), &err);
	workers_join(&t.pool);
	assert_true(cancel_requested(&t.cancel));
	assert_int_equal(-ENOSPC, workers_outcome(&t.pool, &err));
	assert_string_equal("the disk is full", err.msg);
	idlers_close(&t);
}

/* Pieces whose threads are started in the opposite order. */
struct turns {
	struct workers pool;
	struct workers_condition changed;
	uint64_t turn;
	atomic_uint unstarted;
	char done[8];
};

static void *turn_main(void *ctx)
{
	struct turns *t = ctx;
	uint64_t number = atomic_fetch_sub(&t->unstarted, 1) - 1;

	if (workers_await_turn(&t->pool, &t->changed, &t->turn, number, NULL) == 0) {
		t->done[number] = (char)('a' + strlen(t->done));
		workers_next_turn(&t->pool, &t->changed, &t->turn);
	}
	return NULL;
}

static void start_turns(struct turns *t, unsigned first_turn)
{
	struct error err;

	*t = (struct turns){.turn = first_turn, .unstarted = 4};
	workers_init(&t->pool, 4, NULL);
	workers_add_condition(&t->pool, &t->changed);
	while (workers_start(&t->pool, turn_main, t, &err) > 0)
		usleep(2000);
}

TEST(workers_take_turns_in_the_order_of_their_numbers)
{
	struct turns t;

	start_turns(&t, 0);
	workers_join(&t.pool);
	assert_string_equal("abcd", t.done);
	workers_done(&t.pool);
}

TEST(workers_whose_turn_never_comes_end_with_the_failure)
{
	struct error err;
	struct turns t;

	start_turns(&t, 4);
	workers_fail(&t.pool, error_set(&err, -EIO, "the disk is broken"), &err);
	workers_join(&t.pool);
	assert_string_equal("", t.done);
	assert_int_equal(-EIO, workers_await_turn(&t.pool, &t.changed, &t.turn, 4, &err));
	workers_done(&t.pool);
}

/* A thread that starts another one, under the lock. */
struct chain_of_threads {
	struct workers pool;
	unsigned left;
	atomic_uint ended;
};

static void *chain_main(void *ctx)
{
	struct chain_of_threads *t = ctx;

	usleep(2000);
	pthread_mutex_lock(&t->pool.mutex);
	if (t->left-- > 1)
		workers_start_extra(&t->pool, chain_main, t);
	pthread_mutex_unlock(&t->pool.mutex);
	atomic_fetch_add(&t->ended, 1);
	return NULL;
}

TEST(workers_that_start_others_are_joined_with_them)
{
	struct chain_of_threads t = {.left = 5};

	workers_init(&t.pool, 5, NULL);
	pthread_mutex_lock(&t.pool.mutex);
	assert_true(workers_start_extra(&t.pool, chain_main, &t));
	pthread_mutex_unlock(&t.pool.mutex);
	workers_join(&t.pool);
	assert_int_equal(5, atomic_load(&t.ended));
	workers_done(&t.pool);
}
