/* SPDX-License-Identifier: MIT */
/* `stagerun datastore delete` and `purge`. */
#include "datastore_call.h"
#include "defer.h"
#include "log.h"
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>

struct deletion {
	struct datastore_target target;
	struct datastore_delete_options opts;
	bool json;
	uint64_t objects, bytes; /* that went with it */
};

/* What was deleted long ago goes now. That it could not is no failure of this deletion. */
static void collect(struct deletion *d, struct store_hand *h)
{
	struct error why;

	if (datastore_collect(h, d->opts.grace_ms, &d->objects, &d->bytes, &why) < 0)
		log_warn("what no version needs was not removed: %s; the next deletion tries again",
			why.msg);
}

static int delete (void *ctx, struct store_hand *h, struct cancel *cancel, struct error *err)
{
	struct deletion *d = ctx;
	int code = datastore_delete(h, d->target.name, d->target.version, &d->opts, err);

	(void)cancel;
	if (code == 0)
		collect(d, h);
	return code;
}

static void print_json(const char *key, const char *name, unsigned version, uint64_t objects)
{
	json_t *o = json_pack("{s:s, s:I}", key, name, "removed_objects", (json_int_t)objects);

	if (version > 0)
		json_object_set_new(o, "version", json_integer(version));
	json_dumpf(o, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(o);
}

static void print_deleted(void *ctx, const struct datastore_call *c)
{
	struct deletion *d = ctx;
	char size[32];

	(void)c;
	if (d->json) {
		print_json("deleted", d->target.name, d->target.version, d->objects);
		return;
	}
	if (d->target.version > 0)
		printf("deleted %s version %u\n", d->target.name, d->target.version);
	else
		printf("deleted %s, all versions\n", d->target.name);
	if (d->objects > 0)
		printf("removed %" PRIu64 " objects (%s) that no version needs\n", d->objects,
			print_size(d->bytes, size));
}

static void deletion_free(void *ctx)
{
	struct deletion *d = ctx;

	free(d->target.name);
	free(d);
}

int datastore_command_delete(struct datastore_call *c, struct error *err)
{
	const struct datastore_work work = {
		.work = delete, .print = print_deleted, .done = deletion_free};
	struct datastore_target target;
	int code = datastore_target_parse(c->words.v[0], &target, err);
	struct deletion *d;

	if (code < 0)
		return code;
	d = zalloc(sizeof(*d));
	d->target = target;
	d->opts = (struct datastore_delete_options){
		.force = c->request.force, .grace_ms = c->settings->store_grace_ms};
	d->json = c->request.json;
	return datastore_call_work(c, &work, d, err);
}

struct purge {
	char *store;
	bool json;
	uint64_t objects, left;
};

static int count_left(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err)
{
	(void)key;
	(void)size;
	(void)modified;
	(void)err;
	((struct purge *)ctx)->left++;
	return 0;
}

static int purge(void *ctx, struct store_hand *h, struct cancel *cancel, struct error *err)
{
	struct purge *p = ctx;
	int code = store_purge(h, &p->objects, err);

	(void)cancel;
	if (code == 0)
		code = store_list(h, "", count_left, p, err);
	if (code == 0 && p->left > 0)
		return error_set(err, -EBUSY,
			"%s: %" PRIu64 " objects came while it was purged; is something still "
			"creating datastores? Run purge again",
			p->store, p->left);
	return code;
}

static void print_purged(void *ctx, const struct datastore_call *c)
{
	struct purge *p = ctx;

	(void)c;
	if (p->json)
		print_json("purged", p->store, 0, p->objects);
	else
		printf("purged %s: %" PRIu64 " objects removed, nothing is left\n", p->store,
			p->objects);
}

static void purge_free(void *ctx)
{
	struct purge *p = ctx;

	free(p->store);
	free(p);
}

int datastore_command_purge(struct datastore_call *c, struct error *err)
{
	const struct datastore_work work = {
		.work = purge, .print = print_purged, .done = purge_free};
	struct purge *p;
	int code = agent_need_store(&c->agent, err);

	if (code < 0)
		return code;
	if (!c->request.yes)
		return error_set(err, -ERR_USAGE,
			"this removes every datastore in %s, at once and for good; if that is what "
			"you want, say --yes",
			store_name(c->agent.store));
	p = zalloc(sizeof(*p));
	p->store = copy_text(store_name(c->agent.store));
	p->json = c->request.json;
	return datastore_call_work(c, &work, p, err);
}
