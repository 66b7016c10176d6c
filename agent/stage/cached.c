/* SPDX-License-Identifier: MIT */
/* Staging by way of the node cache. Stage thread. The cache entry is staged like any destination,
 * once per node, and then delivered to DEST. Problems of the cache are no reason to fail: then the
 * source is staged directly. */
#include "cache.h"
#include "datastore_ref.h"
#include "defer.h"
#include "log.h"
#include "report.h"
#include "stage_private.h"
#include <errno.h>
#include <string.h>

/* If the source keeps changing, or others keep damaging the entry, the stage goes on without the
 * cache. */
enum { CACHE_TRIES = 3 };

static struct cache_request make_request(struct stage *s)
{
	return (struct cache_request){.asked = s->cache_key,
		.version = s->version,
		.what = s->progress[0].name,
		.cancel = s->cancel,
		.progress = &s->progress[0],
		.timeline = s->env->timeline,
		.span = s->span,
		.lock_ns = &s->lock_ns,
		.lock_limit = s->env->lock_limit};
}

bool stage_retain_shared(struct stage *s, const struct record *had)
{
	struct cache_request request = make_request(s);
	char version[65];

	if (s->env->cache == NULL || !resume_pin_record(s, had, version))
		return true;
	request.version = version;
	return cache_hold_shared(s->env->cache, &request, s->to, s->env->cache_keeps);
}

/* Returns 0: stage directly; or code, if the stage was cancelled or only fills the cache. */
static int skip_cache(
	const struct stage *s, enum log_level level, int code, const struct error *err)
{
	if (code == -ECANCELED || s->env->cache_only)
		return code;
	log_line(level, "%s is staged without the node cache: %s", s->progress[0].name, err->msg);
	return 0;
}

/* An error that would stop the stage at its end is reported before anything is fetched. */
static int check_destination(struct stage *s, struct error *err)
{
	/* The link's target is checked later, by is_delivered(). */
	if (destination_link(s->destination) != NULL)
		return 0;
	return destination_check(s->destination, s->key, err);
}

/* Whether the cache's file system has no room, or does not support modes, symbolic links or the
 * like. The file system of the destination may be different. Other errors would occur there
 * again. */
static bool is_file_system_error(int code)
{
	switch (code) {
	case -ERR_SPACE:
	case -EPERM:
	case -EINVAL:
	case -ENOSYS:
	case -EOPNOTSUPP:
	case -EROFS:
		return true;
	default:
		return false;
	}
}

static void log_filling(const struct stage *s, const struct cache_entry *e)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < s->n_sources; i++)
		bytes += counted(&s->progress[i].expanded);
	log_event(log_level_of_detail(), EVENT_CACHE_FILLED,
		(const struct log_field[]){log_field_text("source", s->progress[0].name),
			log_field_text("entry", cache_entry_path(e)),
			log_field_integer("bytes", bytes)},
		3, "%s was staged into the node cache", s->progress[0].name);
}

/* Returns 1: the entry is complete; 0: stage directly; or an error. */
static int fill_entry(struct stage *s, struct cache_entry *e, uint64_t bytes, struct error *err)
{
	struct destination *to = s->destination;
	int code = cache_fill_begin(e, bytes, s->progress, s->n_sources, err);

	if (code < 0)
		return skip_cache(s, LOG_WARN, code, err);
	s->destination = cache_fill_destination(e);
	s->entry = e;
	code = stage_fill(s, err);
	s->destination = to;
	s->entry = NULL;
	if (code < 0)
		(void)cache_fill_end(e, false, NULL);
	else
		code = cache_fill_end(e, true, err);
	if (is_file_system_error(code))
		return skip_cache(s, LOG_WARN, code, err);
	if (code >= 0)
		log_filling(s, e);
	return code < 0 ? code : 1;
}

/* Stores the versions of datastores in the entry, if another stage has filled it. */
static void store_entry_versions(struct stage *s, const struct record *record)
{
	for (size_t i = 0; i < s->n_sources; i++)
		if (datastore_ref_is_source(s->sources[i].url) && s->outcomes[i].datastore == NULL)
			stage_datastore_store_version(s, i, &record->sources[i].identity);
}

/* Whether DEST links to the entry already: it was damaged, and filled again behind the link. */
static bool is_delivered(struct stage *s, const struct cache_entry *e)
{
	const char *link = destination_link(s->destination);

	return link != NULL && strcmp(link, cache_entry_path(e)) == 0 &&
	       destination_holds(s->destination, s->key) != NULL;
}

static void log_use(const struct stage *s, const struct cache_entry *e, const char *how)
{
	const struct log_field fields[] = {log_field_text("source", s->progress[0].name),
		log_field_text("to", s->to), log_field_text("entry", cache_entry_path(e)),
		log_field_word("delivered_by", how)};

	log_event(log_level_of_detail(), EVENT_CACHE_USED, fields, ARRAY_LEN(fields),
		"%s is in the node cache, and comes into %s by %s", s->progress[0].name, s->to,
		how);
}

/* *keep: DEST uses the entry where it is. */
static int deliver_entry(
	struct stage *s, struct cache_entry *e, bool filled, bool *keep, struct error *err)
{
	const struct cache_target target = {.to = s->destination,
		.key = s->key,
		.read_only = s->spec->read_only,
		.keeps = s->env->cache_keeps,
		.tree = stage_tree_options(s),
		.cancel = &s->attempt,
		.threads = s->threads};
	const char *how = "symlink";
	int code = 0;

	*keep = is_delivered(s, e);
	if (!*keep) {
		unsigned span = stage_span_publish(s);

		code = cache_deliver(e, &target, &how, keep, err);
		stage_span_published(s, span, code, err);
	}
	if (code < 0)
		return code;
	store_entry_versions(s, cache_entry_record(e));
	if (!filled)
		s->end = STAGE_CACHED;
	for (size_t i = 0; i < s->n_sources && !filled; i++)
		report_source_cached(&s->progress[i], s->to, how);
	log_use(s, e, how);
	return 1;
}

static int use_entry(struct stage *s, struct cache_entry *e, uint64_t bytes, struct error *err)
{
	bool keep = false, filled = cache_entry_record(e) == NULL;
	int code = filled ? fill_entry(s, e, bytes, err) : 1;

	if (code > 0)
		code = deliver_entry(s, e, filled, &keep, err);
	if (code == -ESTALE) {
		log_warn("the node cache's copy of %s is damaged: %s; it is fetched again",
			s->progress[0].name, err->msg);
		if (cache_entry_discard(e))
			return code;
		return skip_cache(s, LOG_WARN, -EBUSY, err);
	}
	/* After a read error it is not known whether the entry is damaged, so it is not removed. */
	if (code == -EIO) {
		cache_entry_close(e, false, false);
		return skip_cache(s, LOG_WARN, code, err);
	}
	cache_entry_close(e, keep && s->env->cache_keeps, atomic_load(s->signalled));
	return code;
}

static int try_cache(struct stage *s, struct error *err)
{
	struct cache_request request = make_request(s);
	struct cache_entry *e = NULL;
	uint64_t bytes = 0;
	int code = stage_begin_attempt(s, err);

	if (code == 0)
		code = resume_pin_sources(s, &bytes, err);
	if (code <= 0)
		return code;
	code = cache_entry_open(s->env->cache, &request, &e, err);
	return code < 0 ? skip_cache(s, LOG_WARN, code, err) : use_entry(s, e, bytes, err);
}

int stage_from_cache(struct stage *s, struct error *err)
{
	int code;

	if (s->env->cache == NULL)
		return 0;
	code = check_destination(s, err);
	for (int n = 0; n < CACHE_TRIES && code == 0; n++) {
		code = try_cache(s, err);
		if (code != -ERR_CHANGED && code != -ESTALE)
			return code;
		log_warn("%s; starting again", err->msg);
		code = 0;
	}
	return code;
}

/* Stores the entry's path and versions for the result. */
static void report_entry(struct stage *s, const struct cache_entry *e)
{
	const struct record *record = cache_entry_record(e);

	s->entry_path = text_copy(cache_entry_path(e));
	store_entry_versions(s, record);
	stage_store_versions(s, record);
}

static int ensure_entry(struct stage *s, struct error *err)
{
	struct cache_request request = make_request(s);
	struct cache_entry *e = NULL;
	uint64_t bytes = 0;
	int code = stage_begin_attempt(s, err);

	if (code < 0)
		return code;
	code = resume_pin_sources(s, &bytes, err);
	if (code == 0)
		return error_set(err, -ERR_UNSUPPORTED,
			"%s cannot be kept in the node cache: nothing names its version for certain (a strong ETag, or a sha256 in config.yml)",
			s->progress[0].name);
	if (code > 0)
		code = cache_entry_open(s->env->cache, &request, &e, err);
	if (code < 0)
		return code;
	s->end = cache_entry_record(e) != NULL ? STAGE_WARM : STAGE_FETCHED;
	if (s->end == STAGE_FETCHED)
		code = fill_entry(s, e, bytes, err);
	else
		stage_report_warm(s);
	if (code >= 0)
		report_entry(s, e);
	cache_entry_close(e, false, atomic_load(s->signalled));
	return code;
}

int stage_into_cache(struct stage *s, struct error *err)
{
	int code = -ERR_CHANGED;

	for (int n = 0; n < CACHE_TRIES && code == -ERR_CHANGED; n++) {
		if (n > 0)
			log_warn("%s; starting again", err->msg);
		code = ensure_entry(s, err);
	}
	return code < 0 ? code : 0;
}
