/* SPDX-License-Identifier: MIT */
/* Datastores as sources. The stage's or the source's thread. A version never changes, so its number
 * and the digest of its manifest identify what was staged; they are stored as its ETag. The newest
 * version is found by one look into the store; a version that is given by its number needs none. */
#include "datastore.h"
#include "datastore_fetch.h"
#include "datastore_ref.h"
#include "defer.h"
#include "log.h"
#include "stage_private.h"
#include <inttypes.h>
#include <string.h>

/* The version that a URL asks for. */
struct wanted_version {
	char *name;
	unsigned version; /* 0: the newest */
};

static int parse_url(const char *url, struct wanted_version *ret, struct error *err)
{
	_free_ char *name = datastore_ref_source_name(url);
	unsigned version = 0;
	int code = datastore_name_check(name, err);

	if (code == 0)
		code = datastore_ref_source_version(url, &version, err);
	if (code < 0)
		return error_prefix(err, "'%s'", url);
	*ret = (struct wanted_version){.name = take_ptr(&name), .version = version};
	return 0;
}

/* Checks that source i is well-formed and that there is a store. 0 or -ERR_USAGE. */
static int check_reference(const struct stage *s, size_t i, struct error *err)
{
	struct wanted_version w = {0};
	int code = parse_url(s->sources[i].url, &w, err);

	if (code == 0 && s->env->store == NULL)
		code = error_set(err, -ERR_USAGE,
			"%s: no store is configured: give --store URL, set STAGERUN_STORE, or store in agent.ini",
			s->sources[i].url);
	free(w.name);
	return code;
}

char *stage_datastore_key(const struct stage *s, size_t i)
{
	_free_ char *name = datastore_ref_source_name(s->sources[i].url);
	_free_ char *source = datastore_ref_source(name, NULL);

	return text_format(
		"%s in %s", source, s->env->store != NULL ? store_name(s->env->store) : "");
}

/* Identities: the number and the digest of the manifest are the ETag. */

static struct identity identify(const struct manifest *m)
{
	struct identity id = {.size = SIZE_UNKNOWN};

	snprintf(id.etag, sizeof(id.etag), "%u:%s", m->version, m->sha256);
	return id;
}

/* Returns false if a datastore has no such identity. */
static bool parse_identity(
	const struct identity *id, unsigned *ret_version, char ret_sha256[static 65])
{
	return sscanf(id->etag, "%u:%64[0-9a-f]", ret_version, ret_sha256) == 2;
}

/* Stores the version for the result and logs it. */
static void store_version(
	struct stage *s, size_t i, const char *name, unsigned version, const char *manifest_sha256)
{
	struct source_outcome *a = &s->outcomes[i];

	free(a->datastore);
	a->datastore = text_copy(name);
	a->version = version;
	snprintf(a->manifest_sha256, sizeof(a->manifest_sha256), "%s", manifest_sha256);
	log_debug("datastore %s: version %u (manifest sha256 %s)", name, version, manifest_sha256);
}

static int check_pin(const struct stage *s, size_t i, const struct manifest *m, struct error *err)
{
	const char *sha256 = s->sources[i].sha256;

	if (sha256 == NULL || strcmp(sha256, m->sha256) == 0)
		return 0;
	return error_set(err, -ERR_DIGEST,
		"the manifest of version %u has the SHA-256 %s, expected %s: it is not the version that was pinned",
		m->version, m->sha256, sha256);
}

static int find_version(struct stage *s, size_t i, struct manifest **ret, struct error *err)
{
	struct store_conn *hand = NULL;
	struct wanted_version w = {0};
	int code = check_reference(s, i, err);

	if (code == 0)
		code = parse_url(s->sources[i].url, &w, err);
	if (code == 0)
		code = store_conn_open(s->env->store, &s->attempt, &hand, err);
	if (code == 0)
		code = datastore_find(hand, w.name, w.version, ret, err);
	store_conn_close(hand);
	free(w.name);
	return code;
}

static int fetch_version(struct stage *s, size_t i, const struct manifest *m, struct error *err)
{
	const struct stage_spec *spec = s->spec;
	const struct selection selection = {.include = (const char *const *)spec->include.v,
		.exclude = (const char *const *)spec->exclude.v,
		.strip_components = spec->strip_components,
		.left = &s->outcomes[i].left};
	const struct fetch_options opts = {.store = s->env->store,
		.s3 = s->env->s3,
		.budget = s->env->budget,
		.cancel = &s->attempt,
		.progress = &s->progress[i],
		.threads = s->threads,
		.connections = s->env->connections,
		.selection = &selection,
		.shard = {.rank = spec->shard_rank, .world = spec->shard_world},
		/* Entries of the cache have no write bits anyway; the cache stores the original
		 * modes. */
		.read_only = spec->read_only && s->entry == NULL};

	return datastore_fetch(&opts, m, s->tree, err);
}

int stage_datastore_fetch(struct stage *s, size_t i, struct identity *ret, struct error *err)
{
	struct manifest *m = NULL;
	int code = find_version(s, i, &m, err);

	if (code == 0)
		code = check_pin(s, i, m, err);
	if (code == 0) {
		store_version(s, i, m->name, m->version, m->sha256);
		*ret = identify(m);
		code = stage_continue(s, ret, err);
	}
	if (code == 0) {
		code = fetch_version(s, i, m, err);
	}
	manifest_free(m);
	return code;
}

int stage_datastore_find(struct stage *s, size_t i, struct manifest **ret, struct identity *ret_id,
	struct error *err)
{
	struct manifest *m = NULL;
	int code = find_version(s, i, &m, err);

	if (code == 0)
		code = check_pin(s, i, m, err);
	if (code == 0) {
		*ret_id = identify(m);
		*ret = take_ptr(&m);
	}
	manifest_free(m);
	return code;
}

int stage_datastore_identify(
	struct stage *s, size_t i, struct identity *ret, uint64_t *ret_bytes, struct error *err)
{
	struct manifest *m = NULL;
	int code = stage_datastore_find(s, i, &m, ret, err);

	if (code == 0)
		*ret_bytes += m->bytes;
	manifest_free(m);
	return code;
}

void stage_datastore_store_version(struct stage *s, size_t i, const struct identity *id)
{
	struct wanted_version w = {0};
	unsigned version = 0;
	char sha256[65] = "";

	if (parse_identity(id, &version, sha256) && parse_url(s->sources[i].url, &w, NULL) == 0)
		store_version(s, i, w.name, version, sha256);
	free(w.name);
}

static int find_newest(struct stage *s, const char *name, unsigned *ret, struct error *err)
{
	struct store_conn *hand = NULL;
	int code = store_conn_open(s->env->store, &s->attempt, &hand, err);

	if (code == 0)
		code = datastore_newest(hand, name, ret, err);
	store_conn_close(hand);
	return code;
}

int stage_datastore_is_unchanged(
	struct stage *s, size_t i, const struct identity *had, struct error *err)
{
	const char *pinned = s->sources[i].sha256;
	struct wanted_version w = {0};
	unsigned version = 0;
	char sha256[65] = "";
	int code = check_reference(s, i, err);

	if (code < 0 || !parse_identity(had, &version, sha256))
		return code;
	code = parse_url(s->sources[i].url, &w, err);
	if (code == 0 && w.version == 0)
		code = find_newest(s, w.name, &w.version, err);
	if (code == 0)
		code = w.version == version && (pinned == NULL || strcmp(pinned, sha256) == 0);
	if (code > 0)
		store_version(s, i, w.name, version, sha256);
	free(w.name);
	return code;
}
