/* SPDX-License-Identifier: MIT */
/* A directory of objects (s3://bucket/prefix/) as a source. The thread of the source lists it, and
 * workers fetch small objects by the hundred at once, since each costs little more than a round
 * trip to S3. */
#include "defer.h"
#include "source.h"
#include "stage_private.h"
#include "text.h"
#include "umask.h"
#include "unpack.h"
#include "workers.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

/* Listed objects that wait for a worker, and the workers: as many threads as there is work for. */

enum { PREFIX_WORKERS_MAX = 128, PREFIX_LARGE_MAX = 8 };

struct prefix_item {
	struct prefix_item *next;
	char *key;
	const char *name; /* in the tree; points into key */
	uint64_t size;
	time_t modified;
	char etag[128];
};

struct prefix_queue {
	/* Set by prefix_queue_init() and constant. */
	/* main function of a worker: takes items until there are no more */
	void *(*worker_main)(void *ctx);
	void *ctx;

	struct workers pool; /* its threads are started by the listing thread */
	struct workers_condition changed;

	/* Under the pool's lock. */
	struct prefix_item *first, **last;
	unsigned n, idle;
	unsigned large; /* large objects that are being streamed */
	bool complete;  /* no more items will come */
};

/* Source i of the stage. */

struct prefix {
	/* Constant. */
	struct stage *stage;
	size_t i;
	struct s3_bucket_key place;
	size_t small_max; /* bytes; larger objects are streamed, a few at once */

	struct prefix_queue queue;

	/* The listing thread. */
	struct s3_tally *tally;
	/* selected objects of the current page of the listing, the last one first */
	struct prefix_item *page;
	uint64_t n_listed;
};

enum { WAITING_MAX = 2000 };

static void prefix_item_free(struct prefix_item *item)
{
	free(item->key);
	free(item);
}

static void prefix_queue_init(struct prefix_queue *q, struct cancel *cancel, unsigned workers_max,
	void *(*worker_main)(void *ctx), void *ctx)
{
	*q = (struct prefix_queue){.worker_main = worker_main, .ctx = ctx};
	q->last = &q->first;
	workers_init(&q->pool, workers_max < PREFIX_WORKERS_MAX ? workers_max : PREFIX_WORKERS_MAX,
		cancel);
	workers_add_condition(&q->pool, &q->changed);
}

static void enqueue_locked(struct prefix_queue *q, struct prefix_item *item)
{
	*q->last = item;
	q->last = &item->next;
	q->n++;
	workers_wake_all(&q->changed);
}

/* The listing thread. Takes over the item; sleeps while many wait. Starts a worker if all are
 * busy. */
static int prefix_queue_put(struct prefix_queue *q, struct prefix_item *item, struct error *err)
{
	bool all_busy;
	int code;

	pthread_mutex_lock(&q->pool.mutex);
	while (q->n >= WAITING_MAX && !workers_must_stop(&q->pool))
		workers_wait(&q->pool, &q->changed);
	code = workers_outcome_locked(&q->pool, err);
	if (code == 0)
		enqueue_locked(q, item);
	all_busy = q->n > q->idle;
	pthread_mutex_unlock(&q->pool.mutex);
	if (code < 0)
		prefix_item_free(item);
	else if (all_busy)
		code = workers_start(&q->pool, q->worker_main, q->ctx, err);
	return code < 0 ? code : 0;
}

/* Workers. Returns NULL if there are no more items, or after a failure. */
static struct prefix_item *prefix_queue_take(struct prefix_queue *q)
{
	struct prefix_item *item = NULL;

	pthread_mutex_lock(&q->pool.mutex);
	q->idle++;
	while (q->n == 0 && !q->complete && !workers_must_stop(&q->pool))
		workers_wait(&q->pool, &q->changed);
	q->idle--;
	if (q->n > 0 && !workers_must_stop(&q->pool)) {
		item = q->first;
		q->first = item->next;
		if (q->first == NULL)
			q->last = &q->first;
		/* The listing thread sleeps until there is room. */
		if (q->n-- == WAITING_MAX)
			workers_wake_all(&q->changed);
	}
	pthread_mutex_unlock(&q->pool.mutex);
	return item;
}

static int prefix_queue_begin_large(struct prefix_queue *q, struct error *err)
{
	int code;

	pthread_mutex_lock(&q->pool.mutex);
	while (q->large == PREFIX_LARGE_MAX && !workers_must_stop(&q->pool))
		workers_wait(&q->pool, &q->changed);
	code = workers_outcome_locked(&q->pool, err);
	q->large += code == 0;
	pthread_mutex_unlock(&q->pool.mutex);
	return code;
}

static void prefix_queue_end_large(struct prefix_queue *q)
{
	pthread_mutex_lock(&q->pool.mutex);
	q->large--;
	workers_wake_all(&q->changed);
	pthread_mutex_unlock(&q->pool.mutex);
}

/* The listing thread, after the last item; code: the result of the listing. Joins the workers and
 * returns the first failure. */
static int prefix_queue_finish(struct prefix_queue *q, int code, struct error *err)
{
	pthread_mutex_lock(&q->pool.mutex);
	q->complete = true;
	workers_wake_all(&q->changed);
	pthread_mutex_unlock(&q->pool.mutex);
	if (code < 0)
		workers_fail_and_cancel(&q->pool, code, err);
	workers_join(&q->pool);
	while (q->first != NULL) {
		struct prefix_item *item = q->first;

		q->first = item->next;
		prefix_item_free(item);
	}
	code = workers_outcome(&q->pool, err);
	workers_done(&q->pool);
	return code;
}

/* Fetching one object into one file. Workers. */

static struct meta item_meta(const struct prefix_item *item, mode_t mode)
{
	return (struct meta){
		.mode = mode, .mtime.tv_sec = item->modified, .uid = (uid_t)-1, .gid = (gid_t)-1};
}

static int refuse_changed(const struct prefix *p, const struct prefix_item *item, struct error *err)
{
	return error_set(err, -ERR_CHANGED, "s3://%s/%.300s changed after it had been listed",
		p->place.bucket, item->key);
}

static struct s3_object listed_object(const struct prefix_item *item)
{
	struct s3_object o = {.size = item->size};

	snprintf(o.etag, sizeof(o.etag), "%s", item->etag);
	return o;
}

static void count_bytes(struct prefix *p, uint64_t n)
{
	struct progress *progress = &p->stage->progress[p->i];

	count(&progress->received, n);
	count(&progress->consumed, n);
}

static void count_network_wait(struct prefix *p, uint64_t started_ns)
{
	count(&p->stage->progress[p->i].network_ns, now_ns() - started_ns);
}

/* Fetches a whole object into memory. */
static int fetch_small(struct prefix *p, const struct prefix_item *item, struct s3_client *client,
	struct writer *w, struct error *err)
{
	const struct meta meta = item_meta(item, umask_apply(0644));
	const struct s3_object listed = listed_object(item);
	_free_ uint8_t *buf = malloc(item->size > 0 ? item->size : 1);
	uint64_t started = now_ns();
	size_t got = 0;
	int code;

	if (buf == NULL)
		return error_set(err, -ENOMEM, "out of memory");
	code = s3_get(
		client, p->place.bucket, item->key, 0, buf, item->size, &listed, &got, NULL, err);
	count_network_wait(p, started);
	if (code == -ENOENT || code == -ERR_CHANGED || (code == 0 && got != item->size))
		return refuse_changed(p, item, err);
	if (code < 0)
		return code;
	count_bytes(p, got);
	return writer_file(w, item->name, &meta, &(struct slice){.data = buf, .len = got}, err);
}

static int fetch_reserved(struct prefix *p, const struct prefix_item *item,
	struct s3_client *client, struct writer *w, struct error *err)
{
	struct stage *s = p->stage;
	int code = budget_reserve_counted(
		s->env->budget, item->size, &s->attempt, &s->progress[p->i].budget_ns, err);

	if (code < 0)
		return code;
	code = fetch_small(p, item, client, w, err);
	budget_release(s->env->budget, item->size);
	return code;
}

static int write_stream(struct prefix *p, struct reader *in, struct writer *w, struct error *err)
{
	struct slice slice = {0};
	uint64_t offset = 0, started = now_ns();
	int code;

	for (; (code = reader_next(in, &slice, err)) > 0; started = now_ns()) {
		count_network_wait(p, started);
		count_bytes(p, slice.len);
		code = writer_file_write(w, offset, slice.data, slice.len, err);
		offset += slice.len;
		slice_drop(&slice);
		if (code < 0)
			break;
	}
	return code;
}

static int stream_object(struct prefix *p, const struct prefix_item *item, struct object *o,
	struct writer *w, struct error *err)
{
	const struct meta meta = item_meta(item, umask_apply(0644));
	const struct s3_object listed = listed_object(item);
	struct s3_object opened = {.size = o->identity.size};
	struct reader *in;
	int code;

	if (strlen(o->identity.etag) < sizeof(opened.etag))
		memcpy(opened.etag, o->identity.etag, strlen(o->identity.etag) + 1);
	if (opened.size != item->size || s3_object_differs(&opened, &listed))
		return refuse_changed(p, item, err);
	code = writer_file_open(w, item->name, &meta, item->size, false, err);
	if (code < 0)
		return code;
	in = object_stream(o);
	code = write_stream(p, in, w, err);
	reader_close(in);
	return code < 0 ? code : writer_file_close(w, err);
}

static int fetch_large(
	struct prefix *p, const struct prefix_item *item, struct writer *w, struct error *err)
{
	struct stage *s = p->stage;
	struct object *o = NULL;
	int code = prefix_queue_begin_large(&p->queue, err);

	if (code < 0)
		return code;
	code = s3_object_open(s->env->s3, s->env->transfer, p->place.bucket, item->key, NULL,
		WANT_ALL, NULL, &s->attempt, &o, err);
	if (code == 0)
		code = stream_object(p, item, o, w, err);
	object_close(o);
	prefix_queue_end_large(&p->queue);
	return code == -ENOENT ? refuse_changed(p, item, err) : code;
}

/* Fetches one object and writes it, with the worker's own client and writer. */
static int prefix_fetch(struct prefix *p, const struct prefix_item *item, struct s3_client *client,
	struct writer *w, struct error *err)
{
	if (item->name[strlen(item->name) - 1] == '/') {
		const struct meta meta = item_meta(item, umask_apply(0755));

		return writer_dir(w, item->name, &meta, err);
	}
	return item->size <= p->small_max ? fetch_reserved(p, item, client, w, err)
					  : fetch_large(p, item, w, err);
}

/* Listing. */

/* Workers for each connection that the settings allow to one host. Small objects are limited by
 * time, not by bytes, so that many are under way. SMALL_MAX is in bytes. */
enum { WORKERS_PER_CONNECTION = 8, SMALL_MAX = 8 << 20 };

bool stage_is_prefix(const char *url)
{
	struct s3_bucket_key place;
	bool is;

	if (strncasecmp(url, "s3://", 5) != 0 || s3_bucket_key_parse(url, &place, NULL) < 0)
		return false;
	is = s3_bucket_key_is_prefix(&place);
	s3_bucket_key_done(&place);
	return is;
}

/* Returns why no file system can have the name; NULL: it can. */
static const char *describe_bad_name(const char *name)
{
	const char *part = name;

	for (;;) {
		size_t len = strcspn(part, "/");

		if (len == 0 && (part[0] != '\0' || part == name))
			return "an empty part ('//')";
		if (len == 1 && part[0] == '.')
			return "the part '.'";
		if (len == 2 && part[0] == '.' && part[1] == '.')
			return "the part '..'";
		if (part[len] == '\0' || part[len + 1] == '\0')
			return NULL;
		part += len + 1;
	}
}

static int check_name(
	const struct prefix *p, const struct s3_object *o, const char *name, struct error *err)
{
	const char *what = describe_bad_name(name);

	if (what != NULL)
		return error_set(err, -ERR_REFUSED,
			"s3://%s/%.300s: there is %s in its name, which no file system can have; leave it out with exclude",
			p->place.bucket, o->key, what);
	if (name[strlen(name) - 1] == '/' && o->size > 0)
		return error_set(err, -ERR_REFUSED,
			"s3://%s/%.300s: it is called like a directory, but has %" PRIu64
			" bytes; leave it out with exclude",
			p->place.bucket, o->key, o->size);
	return 0;
}

static const char *select_name(const struct prefix *p, const char *name)
{
	const struct stage_spec *spec = p->stage->spec;
	const struct selection selection = {.include = (const char *const *)spec->include.v,
		.exclude = (const char *const *)spec->exclude.v,
		.strip_components = spec->strip_components};

	return select_apply(&selection, name);
}

static struct prefix_item *prefix_item_new(const struct s3_object *o, const char *name)
{
	struct prefix_item *item = zalloc(sizeof(*item));

	item->key = text_copy(o->key);
	item->name = item->key + (name - o->key);
	item->size = o->size;
	item->modified = o->modified;
	memcpy(item->etag, o->etag, sizeof(item->etag));
	return item;
}

/* Adds one object of the listing to the page. s3_list() returns only keys below the prefix. */
static int add_listed(struct prefix *p, const struct s3_object *o, struct error *err)
{
	struct prefix_item *item;
	size_t len = strlen(p->place.key);
	const char *name;
	int code;

	s3_tally_add(p->tally, o);
	p->n_listed++;
	/* The prefix itself is an object that consoles create as a marker. */
	if (o->key[len] == '\0')
		return 0;
	name = select_name(p, o->key + len);
	if (name == NULL || name[0] == '\0')
		return 0;
	code = check_name(p, o, o->key + len, err);
	if (code == 0)
		code = s3_object_check_archive(p->place.bucket, o, err);
	if (code < 0)
		return code;
	count(&p->stage->progress[p->i].total, o->size);
	count(&p->stage->progress[p->i].entries_total, 1);
	item = prefix_item_new(o, name);
	item->next = p->page;
	p->page = item;
	return 0;
}

/* Restores the order of the listing. */
static struct prefix_item *reverse_items(struct prefix_item *item)
{
	struct prefix_item *first = NULL;

	while (item != NULL) {
		struct prefix_item *next = item->next;

		item->next = first;
		first = item;
		item = next;
	}
	return first;
}

static int queue_page(struct prefix *p, struct error *err)
{
	struct prefix_item *item = reverse_items(take_ptr(&p->page));
	int code = 0;

	while (item != NULL) {
		struct prefix_item *next = item->next;

		item->next = NULL;
		if (code == 0)
			code = prefix_queue_put(&p->queue, item, err);
		else
			prefix_item_free(item);
		item = next;
	}
	return code;
}

/* No object of a page is fetched before the whole page was checked, so that an object that cannot
 * be staged is reported before the first byte. */
static int on_listed(void *ctx, const struct s3_object *o, struct error *err)
{
	struct prefix *p = ctx;
	int code = add_listed(p, o, err);

	return code == 0 && o->ends_page ? queue_page(p, err) : code;
}

static int check_listed(const struct prefix *p, struct error *err)
{
	if (p->n_listed > 0)
		return 0;
	return error_set(err, -ENOENT,
		"s3://%s/%s: there is no object whose key begins so; check its spelling",
		p->place.bucket, p->place.key);
}

static int list_prefix(struct prefix *p, struct error *err)
{
	struct stage *s = p->stage;
	struct s3_client *client;
	int code = s3_client_new(s->env->s3, &s->attempt, &client, err);

	if (code < 0)
		return code;
	code = s3_list(client, p->place.bucket, p->place.key, NULL, '\0', on_listed, p, err);
	s3_client_free(client);
	return code < 0 ? code : check_listed(p, err);
}

static int fetch_items(
	struct prefix *p, struct s3_client *client, struct writer *writer, struct error *err)
{
	struct prefix_item *item;
	int code = 0;

	while (code == 0 && (item = prefix_queue_take(&p->queue)) != NULL) {
		code = prefix_fetch(p, item, client, writer, err);
		prefix_item_free(item);
	}
	return code;
}

static void *worker_main(void *ctx)
{
	struct prefix *p = ctx;
	struct stage *s = p->stage;
	struct progress *progress = &s->progress[p->i];
	struct writer *writer = writer_new(s->tree, progress->name, progress);
	struct s3_client *client = NULL;
	struct error err = {0};
	int code = s3_client_new(s->env->s3, &s->attempt, &client, &err);

	if (code == 0)
		code = fetch_items(p, client, writer, &err);
	s3_client_free(client);
	writer_close(writer);
	if (code < 0)
		workers_fail_and_cancel(&p->queue.pool, code, &err);
	return NULL;
}

static int check_source(const struct stage *s, size_t i, struct error *err)
{
	if (s->sources[i].sha256 != NULL)
		return error_set(err, -ERR_USAGE,
			"%s is a directory of objects, and a sha256 is of one", s->sources[i].url);
	if (s->env->s3 == NULL)
		return error_set(
			err, -ERR_UNSUPPORTED, "%s: S3 is not to be had here", s->sources[i].url);
	return 0;
}

int stage_prefix(struct stage *s, size_t i, struct identity *ret, struct error *err)
{
	struct prefix *p = zalloc(sizeof(*p));
	uint64_t share = budget_stage_half(s->env->budget) / 4;
	int code = check_source(s, i, err);

	if (code == 0)
		code = s3_bucket_key_parse(s->sources[i].url, &p->place, err);
	if (code == 0) {
		p->stage = s;
		p->i = i;
		p->small_max = share < SMALL_MAX ? (size_t)share : SMALL_MAX;
		p->tally = s3_tally_new();
		prefix_queue_init(&p->queue, &s->attempt,
			s->env->connections * WORKERS_PER_CONNECTION, worker_main, p);
		code = prefix_queue_finish(&p->queue, list_prefix(p, err), err);
		s3_tally_free(p->tally, ret);
		s3_bucket_key_done(&p->place);
	}
	while (p->page != NULL) {
		struct prefix_item *next = p->page->next;

		prefix_item_free(p->page);
		p->page = next;
	}
	free(p);
	return code;
}
