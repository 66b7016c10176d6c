/* SPDX-License-Identifier: MIT */
#include "decode_util.h"
#include "defer.h"
#include <pthread.h>
#include <signal.h>
#include <string.h>

/* A source that delivers "x" when it is let, and tells how often it was asked. Asleep, it is woken
 * by cancel, as a network source is. */
struct gate {
	struct reader base;
	struct cancel *cancel;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	struct cancel_watch watch;
	unsigned asked, let;
	bool saw_signals; /* the thread that asks can be interrupted by one */
	bool *closed;
};

static int gate_next(struct reader *r, struct slice *ret, struct error *err)
{
	struct gate *g = container_of(r, struct gate, base);
	sigset_t mask;
	bool open;

	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	pthread_mutex_lock(&g->mutex);
	g->saw_signals = !sigismember(&mask, SIGTERM) || !sigismember(&mask, SIGINT);
	g->asked++;
	pthread_cond_broadcast(&g->changed);
	while (g->let == 0 && !cancel_requested(g->cancel))
		pthread_cond_wait(&g->changed, &g->mutex);
	open = g->let > 0;
	g->let -= open;
	pthread_mutex_unlock(&g->mutex);
	if (!open)
		return error_set(err, -ECANCELED, "cancelled");
	*ret = (struct slice){.data = (const uint8_t *)"x", .len = 1};
	return 1;
}

static void gate_close(struct reader *r)
{
	struct gate *g = container_of(r, struct gate, base);

	cancel_unwatch(g->cancel, &g->watch);
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->mutex);
	*g->closed = true;
	free(g);
}

static struct gate *gate_new(struct cancel *cancel, unsigned let, bool *closed)
{
	static const struct reader_ops ops = {.next = gate_next, .close = gate_close};
	struct gate *g = zalloc(sizeof(*g));

	reader_init(&g->base, &ops, "gate");
	g->cancel = cancel;
	g->let = let;
	g->closed = closed;
	*closed = false;
	pthread_mutex_init(&g->mutex, NULL);
	pthread_cond_init(&g->changed, NULL);
	g->watch = (struct cancel_watch){.mutex = &g->mutex, .cond = &g->changed};
	cancel_watch(cancel, &g->watch);
	return g;
}

static void gate_let(struct gate *g, unsigned n)
{
	pthread_mutex_lock(&g->mutex);
	g->let += n;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->mutex);
}

static void gate_wait_asked(struct gate *g, unsigned n)
{
	pthread_mutex_lock(&g->mutex);
	while (g->asked < n)
		pthread_cond_wait(&g->changed, &g->mutex);
	pthread_mutex_unlock(&g->mutex);
}

TEST(ahead_delivers_the_same_bytes_in_order)
{
	struct text in = sample(500000), got = {0};
	struct reader *r = ahead_reader(reader_in_pieces(in.s, in.len, 777, 0), 3, NULL, NULL);
	struct error err;
	struct slice s;

	assert_string_equal("pieces", r->name);
	while (reader_next(r, &s, &err) > 0)
		text_add_bytes(&got, s.data, s.len);
	assert_int_equal(0, reader_next(r, &s, &err));
	assert_same_bytes(&in, &got);
	reader_close(r);
	text_done(&in);
	text_done(&got);
}

TEST(ahead_delivers_an_error_behind_the_bytes_before_it)
{
	struct reader *r =
		ahead_reader(reader_in_pieces("abcdef", 6, 2, -ERR_CHANGED), 2, NULL, NULL);
	struct error err;
	struct slice s;

	for (int i = 0; i < 3; i++)
		assert_int_equal(1, reader_next(r, &s, &err));
	assert_int_equal(-ERR_CHANGED, reader_next(r, &s, &err));
	assert_string_equal("the line is dead", err.msg);
	assert_int_equal(-ERR_CHANGED, reader_next(r, &s, &err));
	reader_close(r);
}

TEST(ahead_runs_no_further_than_its_slices)
{
	bool closed;
	struct cancel cancel;
	struct reader *r;
	struct gate *g;
	struct error err;
	struct slice s;

	cancel_init(&cancel);
	g = gate_new(&cancel, 100, &closed);
	r = ahead_reader(&g->base, 2, &cancel, NULL);
	gate_wait_asked(g, 3); /* two in the ring, one in the hand */
	usleep(20000);
	pthread_mutex_lock(&g->mutex);
	assert_int_equal(3, g->asked);
	pthread_mutex_unlock(&g->mutex);
	assert_int_equal(1, reader_next(r, &s, &err));
	gate_wait_asked(g, 4);
	reader_close(r);
	assert_true(closed);
	cancel_done(&cancel);
}

TEST(ahead_counts_the_time_its_caller_sleeps)
{
	struct progress progress = {0};
	bool closed;
	struct gate *g = gate_new(NULL, 1, &closed);
	struct reader *r = ahead_reader(&g->base, 2, NULL, &progress);
	struct error err;
	struct slice s;

	gate_wait_asked(g, 2); /* the first slice is there: no sleep */
	assert_int_equal(1, reader_next(r, &s, &err));
	assert_int_equal(0, counted(&progress.decode_ns));
	gate_let(g, 4); /* as many as there is room for, so that it ends waiting for room */
	reader_close(r);
}

static void *let_after_30_ms(void *arg)
{
	usleep(30000);
	gate_let(arg, 3);
	return NULL;
}

TEST(ahead_counts_a_sleep_of_its_length)
{
	struct progress progress = {0};
	bool closed;
	struct gate *g = gate_new(NULL, 0, &closed);
	struct reader *r = ahead_reader(&g->base, 1, NULL, &progress);
	struct error err;
	struct slice s;
	pthread_t thread;

	pthread_create(&thread, NULL, let_after_30_ms, g);
	assert_int_equal(1, reader_next(r, &s, &err));
	assert_true(counted(&progress.decode_ns) >= 20000000);
	pthread_join(thread, NULL);
	reader_close(r);
}

TEST(ahead_runs_where_no_signal_interrupts_it)
{
	bool closed;
	struct gate *g = gate_new(NULL, 2, &closed);
	struct reader *r = ahead_reader(&g->base, 1, NULL, NULL);
	sigset_t mask;

	gate_wait_asked(g, 1);
	pthread_mutex_lock(&g->mutex);
	assert_false(g->saw_signals);
	pthread_mutex_unlock(&g->mutex);
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	assert_false(sigismember(&mask, SIGTERM));
	reader_close(r);
}

static void *cancel_after_20_ms(void *arg)
{
	usleep(20000);
	cancel_request(arg);
	return NULL;
}

TEST(ahead_wakes_its_sleeping_caller_and_its_thread_on_cancel)
{
	bool closed;
	struct cancel cancel;
	struct reader *r;
	struct error err;
	struct slice s;
	pthread_t thread;

	cancel_init(&cancel);
	r = ahead_reader(&gate_new(&cancel, 0, &closed)->base, 1, &cancel, NULL);
	pthread_create(&thread, NULL, cancel_after_20_ms, &cancel);
	assert_int_equal(-ECANCELED, reader_next(r, &s, &err));
	pthread_join(thread, NULL);
	reader_close(r);
	assert_true(closed);
	cancel_done(&cancel);
}

TEST(ahead_closes_while_its_thread_waits_for_room)
{
	struct text in = sample(10000);
	struct reader *r = ahead_reader(reader_in_pieces(in.s, in.len, 1, 0), 1, NULL, NULL);
	struct error err;
	struct slice s;

	assert_int_equal(1, reader_next(r, &s, &err));
	reader_close(r);
	text_done(&in);
}

TEST(ahead_of_a_decoder_closes_in_the_middle_and_gives_all_memory_back)
{
	struct text in = sample(8000000), z = {0};
	struct budget *budget = budget_new(SMALLEST_BUDGET);
	struct decode_env env = {.budget = budget, .threads = 2};
	const struct decoder *decoder;
	struct reader *r;
	struct error err;
	struct slice s;

	formats[2].compress(&z, in.s, in.len);
	assert_int_equal(
		0, decode_open(reader_from_memory(z.s, z.len, "data"), &env, &r, &decoder, &err));
	r = ahead_reader(r, DECODE_SLICES - 2, NULL, NULL);
	assert_int_equal(1, reader_next(r, &s, &err));
	reader_close(r);
	assert_true(budget_try_reserve(budget, budget_stage_half(budget)));
	budget_release(budget, budget_stage_half(budget));
	assert_memory_equal(in.s, s.data, s.len);
	slice_drop(&s);
	budget_free(budget);
	text_done(&in);
	text_done(&z);
}
