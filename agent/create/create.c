/* SPDX-License-Identifier: MIT */
/* The story of a new version: a lease, so that nothing is collected meanwhile; the version before, for what has
 * not changed; entries to packs and an index; the manifest, with which the version exists. */
#include "create.h"
#include "defer.h"
#include "log.h"
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

struct making {
	const struct create_options *opts;
	struct create_source source;
	struct creation creation;
	struct store_hand *store;
	struct lease *lease;
	struct manifest *before; /* the newest version there is, or NULL */
	struct manifest *manifest;
	struct objects objects;
	uint64_t reused_files;
};

static void name_creator(struct manifest *m)
{
	char host[256] = "";

	gethostname(host, sizeof(host) - 1);
	m->creator = format_text("stagerun %s on %s", STAGERUN_VERSION, host);
}

static void describe(struct making *k)
{
	struct manifest *m = manifest_new();
	uint8_t random[16];

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		abort();
	m->name = copy_text(k->opts->name);
	m->created = time(NULL);
	name_creator(m);
	m->source = copy_text(k->source.display);
	m->nonce = format_text(
		"%016lx%016lx", *(unsigned long *)random, *(unsigned long *)(random + 8));
	k->manifest = m;
}

/* What the store must be, and what it has. */
static int look_at_store(struct making *k, struct error *err)
{
	const struct create_options *o = k->opts;
	int r;

	if ((r = store_hand_open(o->store, o->cancel, &k->store, err)) < 0 ||
		(r = store_probe(k->store, err)) < 0 ||
		(r = datastore_check_limit(k->store, o->max_datastores, err)) < 0 ||
		(r = lease_take(o->store, o->name, o->cancel, &k->lease, err)) < 0)
		return r;
	r = datastore_find(k->store, o->name, 0, &k->before, err);
	return r == -ENOENT ? 0 : r;
}

static int direct(struct making *k, struct director *d, struct error *err)
{
	int r = k->creation.streamed ? 0 : makers_start(&k->creation, &d->hands, err);

	if (r < 0)
		return r;
	r = create_feed(d, &k->source, err);
	if (r == 0)
		r = director_finish(d, err);
	makers_stop(take_ptr(&d->hands));
	return r;
}

static int store_content(struct making *k, struct error *err)
{
	struct director d;
	int r;

	k->creation.opts = k->opts;
	k->creation.root_fd = k->source.root_fd;
	k->creation.streamed = k->source.kind == CREATE_OBJECT;
	k->creation.local = k->source.root_fd >= 0;
	k->creation.where = k->source.display;
	director_init(&d, &k->creation);
	d.store = k->store;
	d.objects = &k->objects;
	d.manifest = k->manifest;
	d.base = base_new(k->store, &k->objects, k->before);
	objects_know(&k->objects, k->before);
	r = direct(k, &d, err);
	k->reused_files = d.reused_files;
	base_free(d.base);
	director_done(&d);
	return r;
}

static void list_objects(struct making *k)
{
	struct manifest *m = k->manifest;
	size_t n = 0;

	for (const struct create_object *o = k->objects.first; o != NULL; o = o->next)
		n++;
	m->objects = zalloc((n + 1) * sizeof(*m->objects));
	for (const struct create_object *o = k->objects.first; o != NULL; o = o->next) {
		struct manifest_object *to = &m->objects[m->n_objects++];

		*to = (struct manifest_object){.key = copy_text(o->key),
			.bytes = o->bytes,
			.raw = o->raw,
			.live = o->live < o->raw ? o->live : o->raw};
		memcpy(to->sha256, o->sha256, sizeof(to->sha256));
		m->stored_bytes += o->bytes;
	}
}

static int publish(struct making *k, struct error *err)
{
	return lease_publish(k->store, k->lease, k->manifest, err);
}

/* What dead creations and deleted versions left is removed by whoever comes by; that it fails is no reason for
 * this version not to be. */
static void collect(struct making *k)
{
	uint64_t objects, bytes;
	struct error err;

	if (datastore_collect(k->store, k->opts->grace_ms, &objects, &bytes, &err) < 0)
		log_warn("what is not needed any more stays in the store for now: %s", err.msg);
}

static int find_place(struct making *k, struct error *err)
{
	const struct create_options *o = k->opts;

	if (o->no_copy && k->source.kind != CREATE_PREFIX)
		return error_set(err, -ERR_USAGE,
			"--no-copy is for s3://bucket/prefix/ (with a '/' at its end); %s has to "
			"be copied",
			k->source.display);
	return k->source.kind == CREATE_PREFIX ? s3_place_parse(o->source, &k->creation.place, err)
					       : 0;
}

static int make(struct making *k, struct error *err)
{
	int r;

	if ((r = datastore_name_check(k->opts->name, err)) < 0 ||
		(r = create_source_open(k->opts, &k->source, err)) < 0 ||
		(r = find_place(k, err)) < 0 || (r = look_at_store(k, err)) < 0)
		return r;
	describe(k);
	if ((r = store_content(k, err)) < 0)
		return r;
	list_objects(k);
	return publish(k, err);
}

int datastore_create(const struct create_options *opts, struct manifest **ret,
	struct create_result *result, struct error *err)
{
	struct making k = {.opts = opts, .source = {.root_fd = -1}};
	int r;

	objects_init(&k.objects);
	r = make(&k, err);
	lease_release(k.lease);
	if (r == 0) {
		collect(&k);
		*ret = take_ptr(&k.manifest);
		*result = (struct create_result){
			.sent_bytes = k.creation.sent_bytes, .reused_files = k.reused_files};
	}
	manifest_free(k.manifest);
	manifest_free(k.before);
	objects_done(&k.objects);
	store_hand_close(k.store);
	create_source_close(&k.source);
	s3_place_done(&k.creation.place);
	return r;
}
