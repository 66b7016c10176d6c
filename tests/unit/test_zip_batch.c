/* SPDX-License-Identifier: MIT */
/* Small entries on their way to the threads that write them. */
#include "../../agent/unpack/zip_private.h"
#include "defer.h"
#include "test.h"
#include "unpack_fixture.h"
#include <errno.h>
#include <libdeflate.h>
#include <pthread.h>
#include <string.h>

/* What all tests have: a tree, a worker, and a pool of blocks that counts them. */
struct bench {
	struct box box;
	struct zip_worker worker;
	struct block_pool *pool;
	atomic_uint back; /* blocks that came back */
	atomic_bool stop;
	struct error err;
};

static void on_free(void *ctx)
{
	atomic_fetch_add(&((struct bench *)ctx)->back, 1);
}

static void bench_open(struct bench *t)
{
	*t = (struct bench){0};
	box_open(&t->box);
	t->pool = block_pool_new(64, 1000, on_free, t);
	t->worker.crew = crew_new(&(struct crew_env){.tree = t->box.tree,
		.source = "test",
		.budget = t->box.budget,
		.cancel = &t->box.cancel});
	t->worker.writer = writer_new(t->box.tree, "test", NULL);
	t->worker.cancel = &t->box.cancel;
}

static void bench_close(struct bench *t)
{
	writer_close(t->worker.writer);
	crew_finish(t->worker.crew, 0, NULL);
	block_pool_free(t->pool);
	box_close(&t->box);
}

/* A stored file; its bytes are in a block of their own. */
static void add(struct bench *t, struct zip_batch *b, const char *name, const char *content)
{
	struct block *block = block_pool_take(t->pool, NULL);
	size_t len = strlen(content);

	memcpy(block->data, content, len);
	zip_batch_add(b, &(struct zip_job){
				 .name = name,
				 .type = S_IFREG,
				 .meta = {.mode = 0644, .uid = (uid_t)-1, .gid = (gid_t)-1},
				 .crc = libdeflate_crc32(0, content, len),
				 .size = len,
				 .packed[0] = {block->data, len, block},
			 });
}

TEST(zip_batch_writes_its_entries_in_order_so_that_the_later_of_one_name_wins)
{
	struct zip_batch b = {0};
	struct bench t;

	bench_open(&t);
	add(&t, &b, "a", "first");
	add(&t, &b, "b", "other");
	add(&t, &b, "./a", "second");
	assert_int_equal(0, zip_batch_run(&b, &t.worker, &t.stop, &t.err));
	box_assert_content(&t.box, "a", "second");
	box_assert_content(&t.box, "b", "other");
	assert_int_equal(3, t.back);
	zip_batch_done(&b);
	bench_close(&t);
}

TEST(zip_batch_cancelled_in_the_middle_writes_no_more_and_keeps_no_block)
{
	struct zip_batch b = {0};
	struct bench t;

	bench_open(&t);
	add(&t, &b, "a", "content");
	assert_int_equal(0, zip_batch_run(&b, &t.worker, &t.stop, &t.err));
	zip_batch_clear(&b);
	add(&t, &b, "b", "content");
	add(&t, &b, "c", "content");
	cancel_request(&t.box.cancel);
	assert_int_equal(-ECANCELED, zip_batch_run(&b, &t.worker, &t.stop, &t.err));
	box_assert_content(&t.box, "a", "content");
	box_assert_absent(&t.box, "b");
	assert_int_equal(3, t.back);
	zip_batch_done(&b);
	bench_close(&t);
}

TEST(zip_batch_ends_at_its_first_failure_and_keeps_no_block)
{
	struct zip_batch b = {0};
	struct bench t;

	bench_open(&t);
	add(&t, &b, "a", "content");
	add(&t, &b, "../b", "content");
	add(&t, &b, "c", "content");
	assert_int_equal(-ERR_REFUSED, zip_batch_run(&b, &t.worker, &t.stop, &t.err));
	assert_non_null(strstr(t.err.msg, "'../b' was refused"));
	box_assert_content(&t.box, "a", "content");
	box_assert_absent(&t.box, "c");
	assert_int_equal(3, t.back);
	zip_batch_done(&b);
	bench_close(&t);
}

TEST(zip_batch_stops_when_another_worker_failed)
{
	struct zip_batch b = {0};
	struct bench t;

	bench_open(&t);
	add(&t, &b, "a", "content");
	atomic_store(&t.stop, true);
	assert_int_equal(0, zip_batch_run(&b, &t.worker, &t.stop, &t.err));
	box_assert_absent(&t.box, "a");
	assert_int_equal(1, t.back);
	zip_batch_done(&b);
	bench_close(&t);
}

TEST(zip_batch_is_full_by_number_by_bytes_and_by_names)
{
	struct zip_batch b = {0};
	_free_ char *long_name = make_text(16000);
	struct bench t;

	bench_open(&t);
	add(&t, &b, "a", "content");
	assert_false(zip_batch_is_full(&b, ZIP_BATCH_JOBS));
	assert_true(zip_batch_is_full(&b, 1));
	add(&t, &b, long_name, "");
	assert_false(zip_batch_is_full(&b, ZIP_BATCH_JOBS));
	add(&t, &b, long_name, "");
	assert_true(zip_batch_is_full(&b, ZIP_BATCH_JOBS));
	zip_batch_clear(&b);
	zip_batch_add(&b, &(struct zip_job){.name = "large", .size = 1 << 20});
	assert_true(zip_batch_is_full(&b, ZIP_BATCH_JOBS));
	zip_batch_done(&b);
	bench_close(&t);
}

/* A batch of one entry without content, put into the queue. */
static int put(struct zip_queue *q, const char *name, struct error *err)
{
	struct zip_batch *b = NULL;
	int r = zip_queue_open(q, &b, err);

	if (r < 0)
		return r;
	zip_batch_add(b, &(struct zip_job){.name = name});
	return zip_queue_put(q, b, err);
}

struct putter {
	struct zip_queue *queue;
	const char *name;
	atomic_bool came_through;
	int code;
	struct error err;
};

static void *put_main(void *ctx)
{
	struct putter *p = ctx;

	p->code = put(p->queue, p->name, &p->err);
	atomic_store(&p->came_through, true);
	return NULL;
}

static pthread_t start_putting(struct putter *p)
{
	pthread_t thread;

	assert_int_equal(0, pthread_create(&thread, NULL, put_main, p));
	usleep(20000);
	return thread;
}

TEST(zip_queue_holds_a_batch_back_while_one_of_its_names_is_under_way)
{
	struct zip_queue *q = zip_queue_new(4, NULL);
	struct putter p = {.queue = q, .name = "d//a"};
	struct error err;
	struct zip_batch *b;
	pthread_t thread;

	assert_int_equal(0, put(q, "d/a", &err));
	assert_int_equal(0, put(q, "d/b", &err));
	b = zip_queue_take(q);
	thread = start_putting(&p);
	assert_false(p.came_through);
	zip_queue_return(q, b, 0, NULL);
	pthread_join(thread, NULL);
	assert_int_equal(0, p.code);
	zip_queue_free(q);
}

TEST(zip_queue_tells_names_apart_that_share_a_bucket)
{
	struct zip_queue *q = zip_queue_new(4, NULL);
	struct error err;
	struct zip_batch *b;

	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(0, zip_queue_open(q, &b, &err));
		zip_batch_add(b, &(struct zip_job){.name = "a"});
		b->hashes[0] = UINT64_C(7) << 40 | i << 30;     /* its lowest bits are alike */
		assert_int_equal(0, zip_queue_put(q, b, &err)); /* or it waits for ever */
	}
	zip_queue_free(q);
}

TEST(zip_queue_without_room_takes_more_when_half_of_it_came_back)
{
	struct zip_queue *q = zip_queue_new(4, NULL);
	struct putter p = {.queue = q, .name = "last"};
	char name[] = "0";
	struct error err;
	pthread_t thread;

	for (; name[0] < '4'; name[0]++)
		assert_int_equal(0, put(q, name, &err));
	thread = start_putting(&p);
	assert_false(p.came_through);
	zip_queue_return(q, zip_queue_take(q), 0, NULL);
	zip_queue_return(q, zip_queue_take(q), 0, NULL);
	pthread_join(thread, NULL);
	assert_int_equal(0, p.code);
	zip_queue_free(q);
}

TEST(zip_queue_tells_the_walk_of_a_workers_failure_even_in_its_sleep)
{
	struct zip_queue *q = zip_queue_new(4, NULL);
	struct putter p = {.queue = q, .name = "a"};
	struct error err;
	struct zip_batch *b;
	pthread_t thread;

	assert_int_equal(0, put(q, "a", &err));
	b = zip_queue_take(q);
	thread = start_putting(&p);
	zip_queue_return(q, b, error_set(&err, -ENOSPC, "the disk is full"), &err);
	pthread_join(thread, NULL);
	assert_int_equal(-ENOSPC, p.code);
	assert_string_equal("the disk is full", p.err.msg);
	assert_true(atomic_load(zip_queue_stop(q)));
	assert_null(zip_queue_take(q));
	zip_queue_free(q);
}

TEST(zip_queue_wakes_the_walk_for_a_cancel)
{
	struct cancel cancel;
	struct zip_queue *q;
	struct putter p = {.name = "a"};
	struct error err;
	pthread_t thread;

	cancel_init(&cancel);
	p.queue = q = zip_queue_new(4, &cancel);
	assert_int_equal(0, put(q, "a", &err));
	thread = start_putting(&p);
	cancel_request(&cancel);
	pthread_join(thread, NULL);
	assert_int_equal(-ECANCELED, p.code);
	assert_null(zip_queue_take(q));
	zip_queue_free(q);
	cancel_done(&cancel);
}
