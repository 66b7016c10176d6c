/* SPDX-License-Identifier: MIT */
/* The steps of a creation, on the calling thread: take a lease, so that a collection does not
 * remove what is sent meanwhile; find the previous version; send the content and the index; publish
 * the manifest, from which moment on the version exists. */
#include "create_private.h"
#include "defer.h"
#include "log.h"
#include "random.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

struct version_making {
	const struct create_options *opts;
	struct create_source source;
	struct creation creation;
	struct store_conn *store;
	struct lease *lease;
	struct manifest *previous; /* the newest version; NULL: there is none */
	struct manifest *manifest;
	struct objects objects;
	uint64_t reused_files;
};

static void set_creator(struct manifest *m)
{
	char host[256] = "";

	gethostname(host, sizeof(host) - 1);
	m->creator = text_format("stagerun %s on %s", STAGERUN_VERSION, host);
}

static void init_manifest(struct version_making *v)
{
	struct manifest *m = manifest_new();
	uint8_t random[16];

	random_fill(random, sizeof(random));
	m->name = text_copy(v->opts->name);
	m->created = time(NULL);
	set_creator(m);
	m->source = text_copy(v->source.display);
	m->nonce = text_format(
		"%016lx%016lx", *(unsigned long *)random, *(unsigned long *)(random + 8));
	v->manifest = m;
}

/* Opens and checks the store, takes the lease and finds the previous version. */
static int prepare_store(struct version_making *v, struct error *err)
{
	const struct create_options *o = v->opts;
	int code = store_conn_open(o->store, o->cancel, &v->store, err);

	if (code == 0)
		code = store_probe(v->store, err);
	if (code == 0)
		code = store_claim(v->store, err);
	if (code == 0)
		code = datastore_check_limit(v->store, o->max_datastores, err);
	if (code == 0)
		code = lease_take(o->store, o->name, &o->lock_limit, o->cancel, &v->lease, err);
	if (code < 0)
		return code;
	code = datastore_find(v->store, o->name, 0, &v->previous, err);
	return code == -ENOENT ? 0 : code;
}

static int run_planner(struct version_making *v, struct planner *p, struct error *err)
{
	int code = v->creation.streamed ? 0 : create_workers_start(&v->creation, &p->workers, err);

	if (code < 0)
		return code;
	code = create_feed(p, &v->source, err);
	if (code == 0)
		code = planner_finish(p, err);
	create_workers_stop(take_ptr(&p->workers));
	return code;
}

static int store_content(struct version_making *v, struct error *err)
{
	struct planner p;
	int code;

	v->creation.opts = v->opts;
	v->creation.root_fd = v->source.root_fd;
	v->creation.streamed = v->source.kind == CREATE_OBJECT;
	v->creation.local = v->source.root_fd >= 0;
	v->creation.where = v->source.display;
	planner_init(&p, &v->creation);
	p.store = v->store;
	p.objects = &v->objects;
	p.manifest = v->manifest;
	p.previous = planner_previous_new(v->store, &v->objects, v->previous);
	planner_objects_add_earlier(&v->objects, v->previous);
	code = run_planner(v, &p, err);
	v->reused_files = p.reused_files;
	planner_previous_free(p.previous);
	planner_done(&p);
	return code;
}

static void list_objects(struct version_making *v)
{
	struct manifest *m = v->manifest;
	size_t n = 0;

	for (const struct create_object *o = v->objects.first; o != NULL; o = o->next)
		n++;
	m->objects = zalloc((n + 1) * sizeof(*m->objects));
	for (const struct create_object *o = v->objects.first; o != NULL; o = o->next) {
		struct manifest_object *to = &m->objects[m->n_objects++];

		*to = (struct manifest_object){.key = text_copy(o->key),
			.bytes = o->bytes,
			.raw = o->raw,
			.live = o->live < o->raw ? o->live : o->raw};
		memcpy(to->sha256, o->sha256, sizeof(to->sha256));
		m->stored_bytes += o->bytes;
	}
}

static int publish(struct version_making *v, struct error *err)
{
	return publish_under_lease(v->store, v->lease, v->manifest, err);
}

/* Removes what aborted creations and deleted versions left in the store. A failure is only logged,
 * since the new version exists already. */
static void collect_garbage(struct version_making *v)
{
	uint64_t objects, bytes;
	struct error err;

	if (datastore_collect(v->store, v->opts->grace_ms, &objects, &bytes, &err) < 0)
		log_warn("what is not needed any more stays in the store for now: %s", err.msg);
}

static int check_source(struct version_making *v, struct error *err)
{
	const struct create_options *o = v->opts;

	if (o->no_copy && v->source.kind != CREATE_PREFIX)
		return error_set(err, -ERR_USAGE,
			"--no-copy is for s3://bucket/prefix/ (with a '/' at its end); %s has to be copied",
			v->source.display);
	return v->source.kind == CREATE_PREFIX
		       ? s3_bucket_key_parse(o->source, &v->creation.place, err)
		       : 0;
}

static int create_version(struct version_making *v, struct error *err)
{
	int code = datastore_name_check(v->opts->name, err);

	if (code == 0)
		code = create_source_open(v->opts, &v->source, err);
	if (code == 0)
		code = check_source(v, err);
	if (code == 0)
		code = prepare_store(v, err);
	if (code < 0)
		return code;
	init_manifest(v);
	code = store_content(v, err);
	if (code < 0)
		return code;
	list_objects(v);
	return publish(v, err);
}

int datastore_create(const struct create_options *opts, struct manifest **ret,
	struct create_result *result, struct error *err)
{
	struct version_making v = {.opts = opts, .source = {.root_fd = -1}};
	int code;

	planner_objects_init(&v.objects);
	code = create_version(&v, err);
	lease_release(v.lease);
	if (code == 0) {
		collect_garbage(&v);
		*ret = take_ptr(&v.manifest);
		*result = (struct create_result){
			.sent_bytes = v.creation.sent_bytes, .reused_files = v.reused_files};
	}
	manifest_free(v.manifest);
	manifest_free(v.previous);
	planner_objects_done(&v.objects);
	store_conn_close(v.store);
	create_source_close(&v.source);
	s3_bucket_key_done(&v.creation.place);
	return code;
}
