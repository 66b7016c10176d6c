/* SPDX-License-Identifier: MIT */
/* What a dry run says of everything that would be staged first: each source is asked what it is. */
#include "agent.h"
#include "datastore.h"
#include "defer.h"
#include "dry_run.h"
#include "source.h"
#include <string.h>

#define DATASTORE "datastore:"

/* One source that is asked for its size, on a thread of libuv's pool. */
struct probe {
	uv_work_t work;
	struct source_env env;
	struct store *store; /* for datastores */
	const char *url;
	struct identity identity;
	struct manifest *manifest; /* of a datastore */
	struct error err;
	int code;
	bool done; /* loop thread */
};

static void on_probed(uv_work_t *work, int status)
{
	struct probe *p = container_of(work, struct probe, work);

	(void)status;
	p->done = true;
}

/* url is "datastore:NAME[:VERSION]". */
static int find_version(struct probe *p, struct store_hand *h, struct error *err)
{
	const char *name = p->url + strlen(DATASTORE);
	size_t len = strcspn(name, ":");
	_free_ char *plain = format_text("%.*s", (int)len, name);
	uint64_t version = 0;
	int code = name[len] == ':' ? parse_uint(name + len + 1, INT32_MAX, &version, err) : 0;

	return code < 0 ? code : datastore_find(h, plain, (unsigned)version, &p->manifest, err);
}

static int probe_datastore(struct probe *p, struct error *err)
{
	struct store_hand *h = NULL;
	int code = store_hand_open(p->store, p->env.cancel, &h, err);

	if (code == 0)
		code = find_version(p, h, err);
	store_hand_close(h);
	return code;
}

static int probe_stream(struct probe *p, struct error *err)
{
	const struct source_request request = {.url = p->url, .want = WANT_IDENTITY};
	struct object *o;
	int code = source_open(&p->env, &request, &o, err);

	if (code < 0)
		return code;
	p->identity = o->identity;
	object_close(o);
	return 0;
}

static bool is_datastore(const char *url)
{
	return strncmp(url, DATASTORE, strlen(DATASTORE)) == 0;
}

static void probe_source(uv_work_t *work)
{
	struct probe *p = container_of(work, struct probe, work);

	p->code = is_datastore(p->url) ? probe_datastore(p, &p->err) : probe_stream(p, &p->err);
}

static void print_globs(const char *key, const struct strings *globs)
{
	for (size_t i = 0; i < globs->n; i++)
		dry_run_print("      %s %s\n", key, globs->v[i]);
}

/* All of these are from the place that asked for the stage. */
static void print_options(const struct stage_spec *spec)
{
	if (spec->sources[0].sha256 != NULL)
		dry_run_print("      sha256 %s\n", spec->sources[0].sha256);
	print_globs("include", &spec->include);
	print_globs("exclude", &spec->exclude);
	if (spec->strip_components > 0)
		dry_run_print("      strip_components %u\n", spec->strip_components);
	if (spec->no_extract)
		dry_run_print("      stored as it is\n");
	if (spec->replace)
		dry_run_print("      replaces what is there\n");
	if (spec->shard_world > 0)
		dry_run_print("      shard %u of %u\n", spec->shard_rank, spec->shard_world);
}

static void print_manifest(const struct manifest *m)
{
	char bytes[32], stored[32];

	dry_run_print("version %u, %llu files, %s (%s in the store), manifest sha256 %s\n",
		m->version, (unsigned long long)m->files, print_size(m->bytes, bytes),
		print_size(m->stored_bytes, stored), m->sha256);
}

static void print_source(const struct probe *p, const struct stage_spec *spec)
{
	_free_ char *name = source_display(p->url);
	char size[32] = "size unknown";

	dry_run_print("  %s -> %s  (%s)\n", name, spec->to, spec->origin);
	print_options(spec);
	dry_run_print("      ");
	if (p->code < 0) {
		dry_run_print("cannot be read: %s\n", p->err.msg);
		return;
	}
	if (p->manifest != NULL) {
		print_manifest(p->manifest);
		return;
	}
	if (p->identity.size != SIZE_UNKNOWN)
		print_size(p->identity.size, size);
	dry_run_print(
		"%s%s%s\n", size, p->identity.etag[0] != '\0' ? ", ETag " : "", p->identity.etag);
}

/* Whom the store, or S3, would be asked as. */
static void print_store(const struct agent *a)
{
	_free_ char *s3 = a->s3 != NULL ? s3_describe(a->s3) : NULL;
	bool remote = a->store == NULL || strncmp(store_name(a->store), "s3://", 5) == 0;

	if (a->store != NULL)
		dry_run_print("\nStore\n  %s\n", store_name(a->store));
	if (s3 != NULL && remote)
		dry_run_print("%s  %s\n", a->store == NULL ? "\nS3\n" : "", s3);
}

int dry_run_head(struct agent *a, const struct plan *p, struct cancel *cancel)
{
	struct probe *probes = zalloc(p->n_head * sizeof(*probes));
	int code = 0;

	print_store(a);
	if (p->n_head > 0)
		dry_run_print("\nStaged first, all at once\n");
	for (size_t i = 0; i < p->n_head; i++) {
		probes[i].env =
			(struct source_env){.transfer = a->transfer, .s3 = a->s3, .cancel = cancel};
		probes[i].store = a->store;
		probes[i].url = p->head[i].sources[0].url;
		uv_queue_work(&a->loop, &probes[i].work, probe_source, on_probed);
	}
	for (size_t i = 0; i < p->n_head && !a->out_of_time; i++) {
		while (!probes[i].done && !a->out_of_time)
			uv_run(&a->loop, UV_RUN_ONCE);
		if (!probes[i].done)
			break;
		print_source(&probes[i], &p->head[i]);
		if (probes[i].code < 0)
			code = probes[i].code;
	}
	for (size_t i = 0; i < p->n_head && !a->out_of_time; i++)
		manifest_free(probes[i].manifest);
	if (!a->out_of_time)
		free(probes);
	return code;
}
