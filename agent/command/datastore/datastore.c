/* SPDX-License-Identifier: MIT */
/* `stagerun datastore delete` and `purge`. Loop thread, except for delete() and purge(), which run
 * on a thread. */
#include "command.h"
#include "datastore_call.h"
#include "datastore_ref.h"
#include "defer.h"
#include "log.h"
#include "progress.h"
#include "text.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct deletion {
	struct datastore_target target;
	struct datastore_delete_options opts;
	bool json;
	uint64_t objects, bytes; /* collected with it */
};

static void log_collected(uint64_t objects, uint64_t bytes)
{
	const struct log_field fields[] = {
		log_field_integer("objects", objects), log_field_integer("bytes", bytes)};

	log_event(log_level_of_detail(), EVENT_DATASTORE_COLLECTED, fields, ARRAY_LEN(fields),
		"removed %" PRIu64 " objects that no version needs", objects);
}

static void log_deleted(const struct datastore_target *target)
{
	const struct log_field fields[] = {log_field_text("datastore", target->name),
		log_field_known("version", target->version)};

	log_event(log_level_of_detail(), EVENT_DATASTORE_DELETED, fields, ARRAY_LEN(fields),
		"deleted %s", target->name);
}

/* Removes the objects of earlier deletions whose grace time is over. A failure is only logged: this
 * deletion is complete. */
static void collect(struct deletion *d, struct store_conn *h)
{
	struct error why;

	if (datastore_collect(h, d->opts.grace_ms, &d->objects, &d->bytes, &why) < 0)
		log_warn("what no version needs was not removed: %s; the next deletion tries again",
			why.msg);
	else
		log_collected(d->objects, d->bytes);
}

static int delete (void *ctx, struct store_conn *h, struct cancel *cancel, struct error *err)
{
	struct deletion *d = ctx;
	int code = datastore_delete(h, d->target.name, d->target.version, &d->opts, err);

	(void)cancel;
	if (code < 0)
		return code;
	log_deleted(&d->target);
	collect(d, h);
	return code;
}

static void print_json(const char *key, const char *name, unsigned version, uint64_t objects)
{
	struct text t = {0};

	text_add(&t, "{");
	output_json_text(&t, key, name);
	if (version > 0)
		output_json_number(&t, "version", version);
	output_json_number(&t, "removed_objects", objects);
	printf("%s}\n", t.s);
	text_done(&t);
}

static void print_deleted(void *ctx, struct subcommand_call *c)
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
			units_print_size(d->bytes, size));
}

static void deletion_free(void *ctx)
{
	struct deletion *d = ctx;

	free(d->target.name);
	free(d);
}

static int datastore_command_delete(struct subcommand_call *c, struct error *err)
{
	const struct datastore_work work = {
		.work = delete, .print = print_deleted, .done = deletion_free};
	const char *word = c->words.v[0];
	size_t len = strlen(word);
	bool all = len > 4 && strcmp(word + len - 4, ":all") == 0;
	_free_ char *name = text_format("%.*s", (int)(all ? len - 4 : len), word);
	struct datastore_target target = {0};
	int code = datastore_target_parse(name, &target, err);
	struct deletion *d;

	if (code < 0)
		return code;
	if (all && target.version > 0) {
		free(target.name);
		return error_set(
			err, -ERR_USAGE, "'%s' is not NAME, NAME:VERSION or NAME:all", word);
	}
	d = zalloc(sizeof(*d));
	d->target = target;
	d->opts = (struct datastore_delete_options){.all = all || c->request.yes,
		.force = c->request.force,
		.grace_ms = c->settings->store_grace_ms};
	d->json = c->request.json;
	return datastore_call_work(c, &work, d, err);
}

struct purge {
	char *store, *shown; /* shown: for the progress line */
	bool json;
	uint64_t objects, elapsed_ns;
	struct progress progress;
};

static int purge(void *ctx, struct store_conn *h, struct cancel *cancel, struct error *err)
{
	struct purge *p = ctx;
	uint64_t began = now_ns();
	int code = store_purge(h, &p->progress, &p->objects, err);

	(void)cancel;
	p->elapsed_ns = now_ns() - began;
	return code;
}

static void log_purged(const struct purge *p)
{
	const struct log_field fields[] = {log_field_text("store", p->store),
		log_field_integer("objects", p->objects),
		log_field_integer("bytes", counted(&p->progress.received)),
		log_field_ns("seconds", p->elapsed_ns)};

	log_event(log_level_of_detail(), EVENT_DATASTORE_PURGED, fields, ARRAY_LEN(fields),
		"purged %s", p->store);
}

static void print_purged(void *ctx, struct subcommand_call *c)
{
	struct purge *p = ctx;

	(void)c;
	log_purged(p);
	if (p->json)
		print_json("purged", p->store, 0, p->objects);
	else
		printf("purged %s: %" PRIu64 " objects removed, of the store nothing is left\n",
			p->store, p->objects);
}

static void purge_free(void *ctx)
{
	struct purge *p = ctx;

	free(p->store);
	free(p->shown);
	free(p);
}

static int datastore_command_purge(struct subcommand_call *c, struct error *err)
{
	struct datastore_work work = {.work = purge, .print = print_purged, .done = purge_free};
	struct purge *p;
	int code = agent_need_store(&c->agent, err);

	if (code < 0)
		return code;
	if (!c->request.yes)
		return error_set(err, -ERR_USAGE,
			"this removes every datastore in %s, at once and for good; if that is what you want, say --yes",
			store_name(c->agent.resources.store));
	p = zalloc(sizeof(*p));
	p->store = text_copy(store_name(c->agent.resources.store));
	p->shown = text_format("purge %s", p->store);
	p->progress.name = p->shown;
	p->json = c->request.json;
	work.progress = &p->progress;
	return datastore_call_work(c, &work, p, err);
}

/* What the subcommands share. Loop thread, except for run_with_conn(). */

int datastore_target_parse(const char *word, struct datastore_target *ret, struct error *err)
{
	struct datastore_ref ref = {0};
	uint64_t version = 0;
	const char *name = "";
	int code = datastore_ref_parse(word, &ref, err);

	if (code == 0) {
		name = datastore_ref_plain_name(ref.name);
		code = datastore_name_check(name, err);
	}
	if (code == 0 && ref.mount_dir != NULL)
		code = error_set(err, -ERR_USAGE, "'%s' is not NAME[:VERSION]", word);
	if (code == 0 && ref.version != NULL &&
		units_parse_uint(ref.version, INT32_MAX, &version, err) < 0)
		code = error_set(err, -ERR_USAGE, "'%s': there is no such version", word);
	if (code == 0)
		*ret = (struct datastore_target){text_copy(name), (unsigned)version};
	datastore_ref_done(&ref);
	return code;
}

/* The argument of the thread. On the heap, because an abandoned thread goes on using it. */
struct datastore_step {
	struct datastore_work work;
	struct store *store;
	void *ctx;
};

static int run_with_conn(void *ctx, struct cancel *cancel, struct error *err)
{
	struct datastore_step *step = ctx;
	struct store_conn *conn = NULL;
	int code = store_conn_open(step->store, cancel, &conn, err);

	if (code == 0)
		code = step->work.work(step->ctx, conn, cancel, err);
	store_conn_close(conn);
	return code;
}

int datastore_call_work(
	struct subcommand_call *c, const struct datastore_work *w, void *ctx, struct error *err)
{
	struct datastore_step *step = zalloc(sizeof(*step));
	int code = agent_need_store(&c->agent, err);

	*step = (struct datastore_step){.work = *w, .store = c->agent.resources.store, .ctx = ctx};
	if (code == 0)
		code = agent_work(&c->agent, run_with_conn, step, w->progress, err);
	if (c->agent.abandoned)
		return code;
	if (code == 0 && w->print != NULL)
		w->print(ctx, c);
	w->done(ctx);
	free(step);
	return code;
}

/* `stagerun datastore get`: a stage with one source. */

static int datastore_command_get(struct subcommand_call *c, struct error *err)
{
	struct stage_spec *spec = &c->request.fetch;
	struct datastore_target target = {0};
	_free_ char *url = NULL, *version = NULL;
	int code = datastore_target_parse(c->words.v[0], &target, err);

	if (code < 0)
		return code;
	if (target.version > 0)
		version = text_format("%u", target.version);
	url = datastore_ref_source(target.name, version);
	free(target.name);
	stage_spec_add_source(spec, url, NULL);
	spec->to = text_copy(c->words.v[1]);
	spec->origin = text_copy("datastore get");
	code = agent_stage(&c->agent, spec, 1, err);
	c->logged = code < 0;
	return code;
}

/* The subcommands. */

#define TABLES(name, ...) \
	static const struct option_row *const name[] = {__VA_ARGS__ store_rows, common_rows, NULL}

TABLES(create_tables, create_rows, select_rows, json_rows, );
TABLES(list_tables, json_rows, );
TABLES(get_tables, select_rows, get_rows, );
TABLES(delete_tables, delete_rows, json_rows, );
TABLES(purge_tables, purge_rows, json_rows, );
TABLES(policy_tables, policy_rows, );

static const struct subcommand subcommands[] = {
	{"create", "SOURCE", "a new version of a datastore",
		"SOURCE is a directory, a file, an http(s) URL, or s3://bucket/prefix/. Only files that\nchanged since the version before are sent. An archive on a disk stays one file;\nof an archive by URL the content is taken.",
		create_tables, 1, 1, datastore_command_create},
	{"list", "[NAME]", "the versions there are", NULL, list_tables, 0, 1,
		datastore_command_list},
	{"files", "NAME[:V] [GLOB...]", "the files in a version", NULL, list_tables, 1, SIZE_MAX,
		datastore_command_files},
	{"get", "NAME[:V] DIR", "bring a version into a directory", NULL, get_tables, 2, 2,
		datastore_command_get},
	{"delete", "NAME[:V]", "remove a version, or all of a name",
		"All of several want NAME:all, or --yes. What no other version needs is removed once the store's grace time is over.",
		delete_tables, 1, 1, datastore_command_delete},
	{"purge", "--yes", "remove the whole store, at once and for good", NULL, purge_tables, 0, 0,
		datastore_command_purge},
	{"policy", "--role ARN", "print the bucket policy that lets somebody read", NULL,
		policy_tables, 0, 0, datastore_command_policy},
};

static const struct subcommand_list list = {
	.name = "datastore",
	.usage = "Usage: stagerun datastore SUBCOMMAND ...\n\n"
		 "Named, numbered, immutable datasets in a store: an S3 bucket, or a directory.\n",
	.more = "\nstagerun datastore SUBCOMMAND --help tells more.",
	.name_columns = 8,
	.word_columns = 20,
	.v = subcommands,
	.n = ARRAY_LEN(subcommands),
};

int command_datastore(int argc, char **argv, const struct inherited *in)
{
	return subcommand_dispatch(&list, argc, argv, in);
}
