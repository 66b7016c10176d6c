/* SPDX-License-Identifier: MIT */
/* `stagerun datastore list`. */
#include "datastore_call.h"
#include "defer.h"
#include "log.h"
#include "table.h"
#include <jansson.h>

struct listing {
	char *name; /* NULL: all */
	bool json;
	struct table table;
	json_t *array;
};

static json_t *describe(const struct manifest *m)
{
	char created[32];
	struct tm tm;

	strftime(created, sizeof(created), "%FT%TZ", gmtime_r(&m->created, &tm));
	return json_pack("{s:s, s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:s*}", "name",
		m->name, "version", (json_int_t)m->version, "created", created, "creator",
		m->creator, "source", m->source, "entries", (json_int_t)m->entries, "files",
		(json_int_t)m->files, "bytes", (json_int_t)m->bytes, "stored_bytes",
		(json_int_t)m->stored_bytes, "manifest_sha256", m->sha256, "reference",
		m->reference);
}

static void add_row(struct table *t, const struct manifest *m)
{
	char size[32], created[32];
	struct tm tm;

	table_add(t, m->name);
	table_addf(t, "%u", m->version);
	table_addf(t, "%llu", (unsigned long long)m->files);
	table_add(t, print_size(m->bytes, size));
	table_add(t, m->reference != NULL ? "by reference" : print_size(m->stored_bytes, size));
	strftime(created, sizeof(created), "%F %R", gmtime_r(&m->created, &tm));
	table_add(t, created);
	table_add(t, m->source != NULL ? m->source : "");
}

static int add_version(void *ctx, const struct manifest *m, struct error *err)
{
	struct listing *l = ctx;

	(void)err;
	if (l->json)
		json_array_append_new(l->array, describe(m));
	else
		add_row(&l->table, m);
	return 0;
}

static int list(void *ctx, struct store_hand *h, struct cancel *cancel, struct error *err)
{
	struct listing *l = ctx;

	(void)cancel;
	return datastore_each(h, l->name, add_version, l, err);
}

static void print(void *ctx, const struct datastore_call *c)
{
	struct listing *l = ctx;

	if (!l->json && l->table.cells.n == 0)
		log_info("there are no datastores in %s", store_name(c->agent.store));
	if (!l->json) {
		table_print(&l->table, stdout);
		return;
	}
	json_dumpf(l->array, stdout, JSON_INDENT(2));
	putchar('\n');
}

static void listing_free(void *ctx)
{
	struct listing *l = ctx;

	json_decref(l->array);
	table_done(&l->table);
	free(l->name);
	free(l);
}

int datastore_command_list(struct datastore_call *c, struct error *err)
{
	const struct datastore_work work = {.work = list, .print = print, .done = listing_free};
	struct listing *l;

	if (c->words.n > 0 && datastore_name_check(c->words.v[0], err) < 0)
		return -ERR_USAGE;
	l = zalloc(sizeof(*l));
	l->name = c->words.n > 0 ? copy_text(c->words.v[0]) : NULL;
	l->json = c->request.json;
	l->table.headings = "NAME >VERSION >FILES >SIZE >STORED CREATED SOURCE";
	l->array = json_array();
	return datastore_call_work(c, &work, l, err);
}
