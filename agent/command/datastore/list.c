/* SPDX-License-Identifier: MIT */
/* `stagerun datastore list` and `files`. Loop thread, except for list() and list_files(), which run
 * on a thread. */
#include "datastore_call.h"
#include "defer.h"
#include "index.h"
#include "json_bytes.h"
#include "log.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

struct version_listing {
	char *name; /* NULL: all */
	bool json;
	bool broken; /* a manifest could not be read */
	struct table table;
	struct text array; /* elements of a JSON array */
};

static void add_version_json(struct text *to, const struct manifest *m)
{
	char created[32];
	struct tm tm;

	strftime(created, sizeof(created), "%FT%TZ", units_date(m->created, &tm));
	text_add(to, to->len > 0 ? ",\n {" : "{");
	output_json_text(to, "name", m->name);
	output_json_number(to, "version", m->version);
	output_json_text(to, "created", created);
	output_json_text(to, "creator", m->creator);
	output_json_text(to, "source", m->source);
	output_json_number(to, "entries", m->entries);
	output_json_number(to, "files", m->files);
	output_json_number(to, "bytes", m->bytes);
	output_json_number(to, "stored_bytes", m->stored_bytes);
	output_json_text(to, "manifest_sha256", m->sha256);
	output_json_text(to, "reference", m->reference);
	text_add(to, "}");
}

static void add_row(struct table *t, const struct manifest *m)
{
	char size[32], created[32];
	struct tm tm;

	output_table_add(t, m->name);
	output_table_addf(t, "%u", m->version);
	output_table_addf(t, "%llu", (unsigned long long)m->files);
	output_table_add(t, units_print_size(m->bytes, size));
	output_table_add(
		t, m->reference != NULL ? "by reference" : units_print_size(m->stored_bytes, size));
	strftime(created, sizeof(created), "%F %R", units_date(m->created, &tm));
	output_table_add(t, created);
	output_table_add(t, m->source != NULL ? m->source : "");
}

static int add_version(void *ctx, const struct manifest *m, struct error *err)
{
	struct version_listing *l = ctx;

	if (m == NULL) {
		l->broken = true;
		log_warn("%s", err->msg);
		return 0;
	}
	if (l->json)
		add_version_json(&l->array, m);
	else
		add_row(&l->table, m);
	return 0;
}

static int list(void *ctx, struct store_conn *h, struct cancel *cancel, struct error *err)
{
	struct version_listing *l = ctx;

	(void)cancel;
	return datastore_each(h, l->name, add_version, l, err);
}

static void print(void *ctx, struct subcommand_call *c)
{
	const struct store *store = c->agent.resources.store;
	struct version_listing *l = ctx;

	c->incomplete = l->broken;
	if (!l->json && l->table.cells.n == 0 && !l->broken)
		log_info("there are no datastores in %s%s", store_name(store),
			store_is_absent(store)
				? ": its directory does not exist; is it mounted here? The first datastore create makes it"
				: "");
	if (!l->json) {
		output_table_print(&l->table, stdout);
		return;
	}
	printf("[%s]\n", l->array.s != NULL ? l->array.s : "");
}

static void listing_free(void *ctx)
{
	struct version_listing *l = ctx;

	text_done(&l->array);
	output_table_done(&l->table);
	free(l->name);
	free(l);
}

int datastore_command_list(struct subcommand_call *c, struct error *err)
{
	const struct datastore_work work = {.work = list, .print = print, .done = listing_free};
	struct version_listing *l;

	if (c->words.n > 0 && datastore_name_check(c->words.v[0], err) < 0)
		return -ERR_USAGE;
	l = zalloc(sizeof(*l));
	l->name = c->words.n > 0 ? text_copy(c->words.v[0]) : NULL;
	l->json = c->request.json;
	l->table.headings = "NAME >VERSION >FILES >SIZE >STORED CREATED SOURCE";
	return datastore_call_work(c, &work, l, err);
}

/* `stagerun datastore files`: prints the entries of a version from its index. There may be millions
 * of them, so the thread that reads the index prints them while it reads. */

/* The output is buffered up to this size. */
#define OUTPUT_BYTES ((size_t)256 << 10)

struct files {
	struct datastore_target target;
	struct strings globs;
	struct store *store;
	unsigned threads;
	bool json, terminal;
	struct text out;

	/* The minute that was last printed; entries that follow each other often have the same. */
	time_t minute;
	char shown_minute[32];
};

static int write_out(struct files *f, struct error *err)
{
	bool written = f->out.len == 0 || fwrite(f->out.s, f->out.len, 1, stdout) == 1;

	f->out.len = 0;
	return written ? 0 : error_set(err, -EPIPE, "standard output cannot be written");
}

static const char *type_name(enum index_type t)
{
	return t == INDEX_DIR        ? "directory"
	       : t == INDEX_SYMLINK  ? "symlink"
	       : t == INDEX_HARDLINK ? "hardlink"
				     : "file";
}

static void add_json(struct text *out, const struct index_entry *e)
{
	const char *target = e->type == INDEX_REFERENCE ? NULL : e->target;

	text_add(out, "{\"path\":");
	json_add_text(out, e->path);
	text_addf(out, ",\"type\":\"%s\",\"mode\":\"%04o\",\"size\":%llu,\"mtime\":%lld.%09ld",
		type_name(e->type), (unsigned)e->mode, (unsigned long long)e->size,
		(long long)e->mtime.tv_sec, e->mtime.tv_nsec);
	output_json_text(out, "target", target);
	output_json_text(out, "sha256", e->sha256);
	output_json_text(out, "etag", e->etag);
	text_add(out, "}\n");
}

static const char *format_minute(struct files *f, time_t t)
{
	time_t minute = t - (t % 60);
	struct tm tm;

	if (f->shown_minute[0] == '\0' || minute != f->minute)
		strftime(
			f->shown_minute, sizeof(f->shown_minute), "%F %R", units_date(minute, &tm));
	f->minute = minute;
	return f->shown_minute;
}

/* A line like those of `ls -l`. */
static void add_line(struct files *f, const struct index_entry *e)
{
	char mode[11] = "?rwxrwxrwx", size[32] = "";

	mode[0] = e->type == INDEX_DIR ? 'd' : e->type == INDEX_SYMLINK ? 'l' : '-';
	for (unsigned bit = 0; bit < 9; bit++) {
		if ((e->mode & (0400U >> bit)) == 0)
			mode[bit + 1] = '-';
	}
	if (e->type != INDEX_DIR && e->type != INDEX_SYMLINK)
		units_print_size(e->size, size);
	text_addf(&f->out, "%s  %9s  %s  ", mode, size, format_minute(f, e->mtime.tv_sec));
	output_add_shown(&f->out, e->path, f->terminal);
	if (e->type == INDEX_SYMLINK || e->type == INDEX_HARDLINK) {
		text_add(&f->out, e->type == INDEX_SYMLINK ? " -> " : " link to ");
		output_add_shown(&f->out, e->target, f->terminal);
	}
	text_add(&f->out, "\n");
}

static int add_entry(void *ctx, const struct index_entry *e, struct error *err)
{
	struct files *f = ctx;

	if (strcmp(e->path, ".") == 0)
		return 0;
	if (f->json)
		add_json(&f->out, e);
	else
		add_line(f, e);
	return f->out.len < OUTPUT_BYTES ? 0 : write_out(f, err);
}

static int list_files(void *ctx, struct store_conn *h, struct cancel *cancel, struct error *err)
{
	struct files *f = ctx;
	const struct selection selection = {.include = (const char *const *)f->globs.v};
	const struct files_options opts = {.store = f->store,
		.cancel = cancel,
		.selection = f->globs.n > 0 ? &selection : NULL,
		.threads = f->threads};
	struct manifest *m = NULL;
	int code = datastore_find(h, f->target.name, f->target.version, &m, err);

	if (code == 0)
		code = datastore_files(&opts, m, add_entry, f, err);
	if (code == 0)
		code = write_out(f, err);
	manifest_free(m);
	return code;
}

static void files_free(void *ctx)
{
	struct files *f = ctx;

	free(f->target.name);
	text_strings_done(&f->globs);
	text_done(&f->out);
	free(f);
}

int datastore_command_files(struct subcommand_call *c, struct error *err)
{
	const struct datastore_work work = {.work = list_files, .done = files_free};
	struct files *f;
	struct datastore_target target;
	int code = datastore_target_parse(c->words.v[0], &target, err);

	if (code == 0)
		code = agent_need_store(&c->agent, err);
	if (code < 0)
		return code;
	f = zalloc(sizeof(*f));
	f->target = target;
	f->json = c->request.json;
	f->terminal = isatty(STDOUT_FILENO) != 0;
	f->store = c->agent.resources.store;
	f->threads = agent_threads(c->settings);
	for (size_t i = 1; i < c->words.n; i++)
		text_strings_add(&f->globs, c->words.v[i]);
	return datastore_call_work(c, &work, f, err);
}
