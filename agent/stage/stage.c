/* SPDX-License-Identifier: MIT */
/* The story of one stage, on its own thread: make sure of the destination, see whether it is warm,
 * unpack all sources into a hidden tree, publish it. */
#include "cache.h"
#include "defer.h"
#include "log.h"
#include "report.h"
#include "stage_private.h"
#include <errno.h>
#include <string.h>

/* A source that changes under us, or breaks where it cannot go on, is begun again this often. */
enum { ATTEMPTS = 3, PAUSE_MS = 250 };

/* One source of several, on a thread of its own. */
struct source_thread {
	struct stage *stage;
	size_t i;
	struct record_source *record;
	pthread_t thread;
	int code;
	struct error err;
};

static void *source_thread_main(void *arg)
{
	struct source_thread *t = arg;

	t->code = stage_unpack_source(t->stage, t->i, t->record, &t->err);
	if (t->code < 0)
		cancel_request(&t->stage->attempt);
	return NULL;
}

/* The failure to tell: the first that is not just the echo of another one's. */
static int first_failure(const struct source_thread *threads, size_t n, struct error *err)
{
	const struct source_thread *first = NULL;

	for (size_t i = 0; i < n; i++) {
		if (threads[i].code < 0 && (first == NULL || first->code == -ECANCELED))
			first = &threads[i];
	}
	if (first == NULL)
		return 0;
	*err = first->err;
	return first->code;
}

static int unpack_in_threads(struct stage *s, struct record *record, struct error *err)
{
	struct source_thread *threads = zalloc(s->n_sources * sizeof(*threads));
	size_t n = 0;
	int code;

	for (; n < s->n_sources; n++) {
		struct source_thread *t = &threads[n];

		*t = (struct source_thread){.stage = s, .i = n, .record = &record->sources[n]};
		code = pthread_create(&t->thread, NULL, source_thread_main, t);
		if (code != 0) {
			t->code = error_set(
				&t->err, -code, "cannot start a thread: %s", strerrordesc_np(code));
			cancel_request(&s->attempt);
			break;
		}
	}
	for (size_t i = 0; i < n; i++)
		pthread_join(threads[i].thread, NULL);
	code = first_failure(threads, n < s->n_sources ? n + 1 : n, err);
	free(threads);
	return code;
}

static int unpack_sources(struct stage *s, struct record *record, struct error *err)
{
	if (s->n_sources == 1)
		return stage_unpack_source(s, 0, &record->sources[0], err);
	return unpack_in_threads(s, record, err);
}

struct tree_options stage_tree_options(const struct stage *s)
{
	struct tree_options opts = s->env->tree;

	if (s->spec->max_bytes > 0 && s->spec->max_bytes < opts.limits.max_bytes) {
		opts.limits.max_bytes = s->spec->max_bytes;
		opts.limits.bytes_why = s->spec->max_bytes_why;
	}
	opts.several_sources = s->n_sources > 1;
	return opts;
}

static void sum_up(const struct stage *s, struct record *record)
{
	for (size_t i = 0; i < s->n_sources; i++) {
		record->bytes += counted(&s->progress[i].expanded);
		record->entries += counted(&s->progress[i].entries);
	}
	record->staged_at = time(NULL);
	record->synced = s->entry != NULL; /* by the seal */
}

/* Only now: what is not published is not done. */
static void report_published(const struct stage *s)
{
	for (size_t i = 0; i < s->n_sources; i++)
		report_source_done(&s->progress[i], s->to, s->arrivals[i].format,
			s->arrivals[i].elapsed_ns, false);
}

/* What only the whole tree can tell is the fault of one of its sources: of which, if there is one. */
static int finish_tree(struct stage *s, struct meta *ret_root, struct error *err)
{
	int code = tree_finish(s->tree, ret_root, err);

	if (code < 0 && s->n_sources == 1)
		error_prefix(err, "%s", s->progress[0].name);
	return code;
}

/* An entry of the cache is that version for good. */
static int seal(struct stage *s, const struct record *record, struct meta *root, struct error *err)
{
	char version[65];

	if (s->entry == NULL)
		return 0;
	if (!pin_record(s, record, version) || strcmp(version, s->version) != 0)
		return error_set(
			err, -ERR_CHANGED, "%s changed while it was staged", s->progress[0].name);
	return cache_fill_seal(s->entry, s->root_fd, root, record, err);
}

static int fill_and_publish(struct stage *s, struct error *err)
{
	struct record *record = zalloc(sizeof(*record));
	struct meta root;
	int code = stage_open_tree(s, err);

	record->key = copy_text(s->key);
	record->sources = zalloc(s->n_sources * sizeof(*record->sources));
	record->n_sources = s->n_sources;
	if (code == 0)
		code = unpack_sources(s, record, err);
	if (code == 0)
		code = finish_tree(s, &root, err);
	if (code == 0) {
		stage_tell_continued(s);
		record->sum = tree_file_sum(s->tree);
	}
	tree_free(take_ptr(&s->tree));
	if (code == 0) {
		sum_up(s, record);
		code = seal(s, record, &root, err);
	}
	if (code == 0)
		code = destination_publish(s->destination, record, &root, err);
	if (code == 0)
		report_published(s);
	record_free(record);
	return code;
}

/* Readies s->attempt for a new try. The set requests its own cancel first and this one after: one
 * of the two looks here sees it. */
static int begin_attempt(struct stage *s, struct error *err)
{
	atomic_store(&s->attempt.requested, false);
	if (atomic_load(&s->cancel->requested)) {
		atomic_store(&s->attempt.requested, true);
		return error_set(err, -ECANCELED, "cancelled");
	}
	for (size_t i = 0; i < s->n_sources; i++)
		progress_reset(&s->progress[i]);
	return 0;
}

/* Another version is another entry of the cache. */
static bool worth_another_try(const struct stage *s, int code)
{
	return code == -ERR_RESTART || (code == -ERR_CHANGED && s->entry == NULL);
}

int stage_fill(struct stage *s, struct error *err)
{
	for (unsigned n = 1;; n++) {
		int code = begin_attempt(s, err);

		if (code == 0)
			code = fill_and_publish(s, err);
		if (!worth_another_try(s, code) || n == ATTEMPTS)
			return code;
		s->anew = code == -ERR_CHANGED;
		log_warn("%s; starting again (try %u of %u)", err->msg, n + 1, (unsigned)ATTEMPTS);
		usleep(n * PAUSE_MS * 1000);
	}
}

void stage_report_warm(const struct stage *s)
{
	for (size_t i = 0; i < s->n_sources; i++)
		report_source_done(&s->progress[i], s->to, NULL, 0, true);
}

static int stage_tell(struct stage *s, struct error *err)
{
	const struct destination_options opts = {.replace = s->spec->replace,
		.renew = s->spec->renew,
		.keep_replaced = s->spec->keep_replaced,
		.cancel = s->cancel};
	int code = destination_open(s->to, &opts, &s->destination, err);

	if (code < 0)
		return code;
	code = stage_is_warm(s, err);
	s->end = code > 0 ? STAGE_WARM : STAGE_FETCHED;
	if (code > 0)
		stage_report_warm(s);
	else if (code == 0)
		code = stage_from_cache(s, err);
	if (code == 0)
		code = stage_fill(s, err);
	if (code >= 0 && s->env->on_result != NULL)
		stage_note_found(s, destination_holds(s->destination, s->key));
	destination_close(take_ptr(&s->destination), atomic_load(s->signalled));
	return code < 0 ? code : 0;
}

void stage_run(struct stage *s)
{
	uint64_t started = now_ns();

	s->code = s->env->cache_only ? stage_into_cache(s, &s->err) : stage_tell(s, &s->err);
	s->elapsed_ns = now_ns() - started;
	if (s->code >= 0)
		return;
	error_item(&s->err, "%s", s->n_sources == 1 ? s->progress[0].name : s->to);
	if (strstr(s->err.msg, s->to) != NULL)
		error_prefix(&s->err, "%s", s->spec->origin);
	else
		error_prefix(&s->err, "cannot stage into %s (%s)", s->to, s->spec->origin);
}
