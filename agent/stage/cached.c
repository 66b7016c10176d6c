/* SPDX-License-Identifier: MIT */
/* A stage by way of the node cache: its entry is staged as any destination, once a node, and delivered from
 * there. Stage thread. Whatever is wrong with the cache is no reason to fail: then it is staged directly. */
#include "cache.h"
#include "defer.h"
#include "log.h"
#include "report.h"
#include "stage_datastore.h"
#include <errno.h>
#include <string.h>

/* The source changes, or others damage the entry, again and again: then it goes without the cache. */
enum { CACHE_TRIES = 3 };

static struct cache_wish wish_of(struct stage *s)
{
	return (struct cache_wish){.asked = s->cache_key,
		.version = s->version,
		.what = s->progress[0].name,
		.cancel = s->cancel,
		.progress = &s->progress[0]};
}

bool stage_keep_shared(struct stage *s, const struct record *had)
{
	struct cache_wish wish = wish_of(s);
	char version[65];

	if (s->env->cache == NULL || !pin_record(s, had, version))
		return true;
	wish.version = version;
	return cache_keep_shared(s->env->cache, &wish, s->to, s->env->cache_keeps);
}

/* 0: it is to be staged directly. */
static int go_without(
	const struct stage *s, enum log_level level, int code, const struct error *err)
{
	if (code == -ECANCELED || s->env->cache_only)
		return code;
	log_line(level, "%s is staged without the node cache: %s", s->progress[0].name, err->msg);
	return 0;
}

/* What would be refused in the end is refused before anything is fetched. */
static int check_destination(struct stage *s, struct error *err)
{
	/* Where a link leads is about to be seen to. */
	if (destination_link(s->destination) != NULL)
		return 0;
	return destination_check(s->destination, s->key, err);
}

/* 1: it is whole. */
static int fill(struct stage *s, struct cache_entry *e, uint64_t bytes, struct error *err)
{
	struct destination *to = s->destination;
	int code = cache_fill_begin(e, bytes, s->progress, s->n_sources, err);

	if (code < 0)
		return go_without(s, LOG_WARN, code, err);
	s->destination = cache_fill_destination(e);
	s->entry = e;
	code = stage_fill(s, err);
	s->destination = to;
	s->entry = NULL;
	if (code < 0)
		(void)cache_fill_end(e, false, NULL);
	else
		code = cache_fill_end(e, true, err);
	if (code == -ERR_SPACE)
		return go_without(s, LOG_WARN, code, err);
	return code < 0 ? code : 1;
}

/* What the entry is, when it was not this stage that filled it. */
static void tell_arrivals(struct stage *s, const struct record *record)
{
	for (size_t i = 0; i < s->n_sources; i++)
		if (stage_is_datastore(s->sources[i].url) && s->arrivals[i].datastore == NULL)
			stage_datastore_arrived(s, i, &record->sources[i].identity);
}

/* The entry was damaged, and filled again behind the link. */
static bool is_there(struct stage *s, const struct cache_entry *e)
{
	const char *link = destination_link(s->destination);

	return link != NULL && strcmp(link, cache_entry_path(e)) == 0 &&
	       destination_holds(s->destination, s->key) != NULL;
}

/* *keep: the entry is used from where it is. */
static int deliver(
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

	*keep = is_there(s, e);
	if (!*keep)
		code = cache_deliver(e, &target, &how, keep, err);
	if (code < 0)
		return code;
	tell_arrivals(s, cache_entry_record(e));
	if (!filled)
		s->end = STAGE_CACHED;
	for (size_t i = 0; i < s->n_sources && !filled; i++)
		report_source_cached(&s->progress[i], s->to, how);
	if (filled)
		log_debug("%s is in the node cache, and comes into %s by %s", s->progress[0].name,
			s->to, how);
	return 1;
}

static int use_entry(struct stage *s, struct cache_entry *e, uint64_t bytes, struct error *err)
{
	bool keep = false, filled = cache_entry_record(e) == NULL;
	int code = filled ? fill(s, e, bytes, err) : 1;

	if (code > 0)
		code = deliver(s, e, filled, &keep, err);
	if (code == -ESTALE) {
		log_warn("the node cache's copy of %s is damaged: %s; it is fetched again",
			s->progress[0].name, err->msg);
		if (cache_entry_discard(e))
			return code;
		return go_without(s, LOG_WARN, -EBUSY, err);
	}
	cache_entry_close(e, keep && s->env->cache_keeps, atomic_load(s->signalled));
	return code;
}

static int try_once(struct stage *s, struct error *err)
{
	struct cache_wish wish = wish_of(s);
	struct cache_entry *e = NULL;
	uint64_t bytes;
	int code = pin_sources(s, &bytes, err);

	if (code <= 0)
		return code;
	code = cache_entry_open(s->env->cache, &wish, &e, err);
	return code < 0 ? go_without(s, LOG_WARN, code, err) : use_entry(s, e, bytes, err);
}

int stage_from_cache(struct stage *s, struct error *err)
{
	int code;

	if (s->env->cache == NULL)
		return 0;
	code = check_destination(s, err);
	for (int n = 0; n < CACHE_TRIES && code == 0; n++) {
		code = try_once(s, err);
		if (code != -ERR_CHANGED && code != -ESTALE)
			return code;
		log_warn("%s; starting again", err->msg);
		code = 0;
	}
	return code;
}

/* s->to was for messages; now it is where the entry is. */
static void tell_entry(struct stage *s, const struct cache_entry *e)
{
	const struct record *record = cache_entry_record(e);

	free(s->to);
	s->to = copy_text(cache_entry_path(e));
	tell_arrivals(s, record);
	stage_note_found(s, record);
}

static int make_entry(struct stage *s, struct error *err)
{
	struct cache_wish wish = wish_of(s);
	struct cache_entry *e = NULL;
	uint64_t bytes;
	int code = pin_sources(s, &bytes, err);

	if (code == 0)
		return error_set(err, -ERR_UNSUPPORTED,
			"%s cannot be kept in the node cache: nothing names its version for "
			"certain "
			"(a strong ETag, or a sha256 in config.yml)",
			s->progress[0].name);
	if (code > 0)
		code = cache_entry_open(s->env->cache, &wish, &e, err);
	if (code < 0)
		return code;
	s->end = cache_entry_record(e) != NULL ? STAGE_WARM : STAGE_FETCHED;
	if (s->end == STAGE_FETCHED)
		code = fill(s, e, bytes, err);
	else
		stage_report_warm(s);
	if (code >= 0)
		tell_entry(s, e);
	cache_entry_close(e, false, atomic_load(s->signalled));
	return code;
}

int stage_into_cache(struct stage *s, struct error *err)
{
	int code = -ERR_CHANGED;

	for (int n = 0; n < CACHE_TRIES && code == -ERR_CHANGED; n++) {
		if (n > 0)
			log_warn("%s; starting again", err->msg);
		code = make_entry(s, err);
	}
	return code < 0 ? code : 0;
}
