/* SPDX-License-Identifier: MIT */
/* Versions of sources before their bytes are fetched, and trees of killed runs. Stage thread. Only
 * identifiers that are certain count as a version: a digest, a strong ETag, the manifest of a
 * datastore. */
#include "cache.h"
#include "datastore_ref.h"
#include "defer.h"
#include "digest.h"
#include "log.h"
#include "source.h"
#include "stage_private.h"
#include <inttypes.h>
#include <string.h>

/* Returns false if the version is not certain. */
static bool describe_version(
	const struct stage *s, size_t i, const struct record_source *r, struct text *t)
{
	const char *url = s->sources[i].url;

	if (!datastore_ref_is_source(url) && s->sources[i].sha256 != NULL)
		text_addf(t, "sha256 %s\n", s->sources[i].sha256);
	else if (r->identity.etag[0] != '\0')
		text_addf(t, "etag %s\n", r->identity.etag);
	else
		return false;
	return true;
}

bool resume_pin_record(const struct stage *s, const struct record *r, char version[static 65])
{
	struct text t = {0};
	bool pinned = r->n_sources == s->n_sources;

	for (size_t i = 0; i < s->n_sources && pinned; i++)
		pinned = describe_version(s, i, &r->sources[i], &t);
	if (pinned)
		digest_hex(t.s, t.len, version);
	text_done(&t);
	return pinned;
}

/* Returns 1 if had is still the current version, 0 if not, or an error. A pinned digest, or a
 * pinned version of a datastore, needs no request; any other source needs one conditional request
 * for one byte. */
static int look_for_change(
	struct stage *s, size_t i, const struct record_source *had, struct error *err)
{
	const struct source_env env = {
		.transfer = s->env->transfer, .s3 = s->env->s3, .cancel = &s->attempt};
	const struct source_request request = {
		.url = s->sources[i].url, .have = &had->identity, .want = WANT_IDENTITY};
	struct object *o;
	int code;

	if (datastore_ref_is_source(s->sources[i].url))
		return stage_datastore_is_unchanged(s, i, &had->identity, err);
	if (s->sources[i].sha256 != NULL && strcmp(s->sources[i].sha256, had->sha256) == 0)
		return 1;
	if (!object_identity_pins(&had->identity))
		return 0;
	code = source_open(&env, &request, &o, err);
	if (code < 0)
		return code;
	code = o->not_modified || object_identity_same(&o->identity, &had->identity);
	object_close(o);
	return code;
}

static int source_is_unchanged(
	struct stage *s, size_t i, const struct record_source *had, struct error *err)
{
	uint64_t began_ns = now_ns();
	int code = look_for_change(s, i, had, err);

	stage_span_looked(s, i, began_ns, code, err);
	return code;
}

/* Whether the newest entry of the cache is the current version. If so, no further request is
 * needed. */
static int cache_is_current(struct stage *s, struct error *err)
{
	struct record *had = cache_newest(s->env->cache, s->cache_key);
	int unchanged = had != NULL && resume_pin_record(s, had, s->version);

	for (size_t i = 0; i < s->n_sources && unchanged > 0; i++)
		unchanged = source_is_unchanged(s, i, &had->sources[i], err);
	publish_record_free(had);
	return unchanged;
}

static int ask_for_identity(
	struct stage *s, size_t i, struct identity *ret, uint64_t *bytes, struct error *err)
{
	const struct source_env env = {
		.transfer = s->env->transfer, .s3 = s->env->s3, .cancel = &s->attempt};
	const struct source_request request = {.url = s->sources[i].url, .want = WANT_IDENTITY};
	struct object *o;
	int code;

	if (datastore_ref_is_source(s->sources[i].url))
		return stage_datastore_identify(s, i, ret, bytes, err);
	if (s->sources[i].sha256 != NULL || stage_is_prefix(s->sources[i].url))
		return 0;
	code = source_open(&env, &request, &o, err);
	if (code < 0)
		return code;
	*ret = o->identity;
	if (o->identity.size != SIZE_UNKNOWN)
		*bytes += o->identity.size;
	object_close(o);
	return 0;
}

static int identify_source(
	struct stage *s, size_t i, struct identity *ret, uint64_t *bytes, struct error *err)
{
	uint64_t began_ns = now_ns();
	int code = ask_for_identity(s, i, ret, bytes, err);

	stage_span_looked(s, i, began_ns, code, err);
	return code;
}

int resume_pin_sources(struct stage *s, uint64_t *ret_bytes, struct error *err)
{
	struct record r = {.n_sources = s->n_sources};
	int code = cache_is_current(s, err);

	*ret_bytes = 0;
	if (code != 0)
		return code;
	r.sources = zalloc(s->n_sources * sizeof(*r.sources));
	for (size_t i = 0; i < s->n_sources && code == 0; i++)
		code = identify_source(s, i, &r.sources[i].identity, ret_bytes, err);
	if (code == 0)
		code = resume_pin_record(s, &r, s->version);
	free(r.sources);
	if (code == 0)
		log_debug("%s is not kept in the node cache: nothing names its version for certain",
			s->progress[0].name);
	return code;
}

int stage_is_warm(struct stage *s, struct error *err)
{
	const struct record *had = destination_holds(s->destination, s->key);
	int unchanged = 1;

	if (had == NULL || had->n_sources != s->n_sources)
		return 0;
	for (size_t i = 0; i < s->n_sources && unchanged > 0; i++)
		unchanged = source_is_unchanged(s, i, &had->sources[i], err);
	return unchanged > 0 ? stage_retain_shared(s, had) : unchanged;
}

/* Continuing the tree of a killed run. The tree is identified by its key and by the version of its
 * source; only if both are the same, a file in it counts as already unpacked. */

static int accept_top_name(void *destination, const char *name, struct error *err)
{
	return destination_accepts(destination, name, err);
}

static int new_tree(struct stage *s, struct error *err)
{
	struct tree_options opts = stage_tree_options(s);

	opts.cancel = &s->attempt;
	opts.unique_names = s->n_sources == 1 && (datastore_ref_is_source(s->sources[0].url) ||
							 stage_is_prefix(s->sources[0].url));
	opts.accept_top_name = accept_top_name;
	opts.accept_ctx = s->destination;
	opts.losses = destination_losses(s->destination);
	return tree_new(s->root_fd, s->state_fd, &opts, &s->tree, err);
}

/* With several sources, a name that exists already is an error, and the source of a name in the
 * tree is not known. */
static bool can_continue(const struct stage *s)
{
	return s->n_sources == 1 && !s->discard_left;
}

int stage_open_tree(struct stage *s, struct error *err)
{
	int code = can_continue(s) ? destination_continue(
					     s->destination, s->key, &s->root_fd, &s->state_fd, err)
				   : destination_begin(s->destination, s->key, &s->root_fd,
					     &s->state_fd, err);

	return code < 0 ? code : new_tree(s, err);
}

/* Starts with an empty tree. keep: the partial download is of this version. */
static int begin_new_tree(struct stage *s, bool keep, struct error *err)
{
	int code;

	if (!keep)
		log_info(
			"%s has changed since an earlier run was interrupted: nothing of that is used",
			s->progress[0].name);
	tree_free(take_ptr(&s->tree));
	code = keep ? destination_restart(s->destination, s->key, &s->root_fd, &s->state_fd, err)
		    : destination_begin(s->destination, s->key, &s->root_fd, &s->state_fd, err);
	return code < 0 ? code : new_tree(s, err);
}

/* A digest of the whole archive is compared only at the end, so the files of an interrupted run
 * were never verified. The files of a datastore were, each by its own digest. */
static bool is_digested_at_the_end(const struct stage *s)
{
	return s->sources[0].sha256 != NULL && !datastore_ref_is_source(s->sources[0].url);
}

static int write_unfinished(
	struct stage *s, const struct identity *id, struct timespec *ret_since, struct error *err)
{
	struct record_source source = {.name = s->names[0], .identity = *id};
	const struct record r = {.key = s->key, .sources = &source, .n_sources = 1};

	return destination_note(s->destination, &r, ret_since, err);
}

int stage_continue(struct stage *s, const struct identity *id, struct error *err)
{
	const struct record *left = destination_continued(s->destination);
	bool same = left != NULL && left->n_sources == 1 &&
		    object_identity_same(&left->sources[0].identity, id);
	bool continued = same && !is_digested_at_the_end(s) && tree_can_continue(s->tree);
	struct timespec since;
	int code = 0;

	if (s->n_sources > 1)
		return 0;
	if (left != NULL && !continued)
		code = begin_new_tree(s, same, err);
	if (code < 0 || !object_identity_pins(id))
		return code;
	code = write_unfinished(s, id, &since, err);
	if (code == 0 && continued)
		tree_continue(s->tree, &since);
	return code;
}

void stage_report_continued(const struct stage *s)
{
	uint64_t found = tree_found(s->tree);

	if (found > 0)
		log_info("%s: %" PRIu64 " of %" PRIu64
			 " entries were there already, from a run that was interrupted",
			s->progress[0].name, found, counted(&s->progress[0].entries));
}
