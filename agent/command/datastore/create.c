/* SPDX-License-Identifier: MIT */
/* `stagerun datastore create`. Loop thread, except for create(), which runs on a thread. */
#include "datastore_call.h"
#include "defer.h"
#include "source.h"
#include <ctype.h>
#include <limits.h>
#include <string.h>

struct create_call {
	struct create_options opts;
	struct selection selection;
	char *name, *shown; /* shown: the source, for the progress line */
	struct progress progress;
	struct manifest *manifest;
	struct create_result result;
	uint64_t elapsed_ns;
};

/* Returns the last part of a path, a URL or a bucket's prefix. Heap. */
static char *last_part(const char *source)
{
	_free_ char *copy = text_copy(source);
	char real[PATH_MAX];
	size_t len = strlen(copy);
	const char *slash;

	if (strstr(source, "://") == NULL && realpath(source, real) != NULL) {
		free(copy);
		copy = text_copy(real); /* so that "." has a name */
		len = strlen(copy);
	} else if (strncasecmp(source, "http", 4) == 0) {
		return source_file_name(source);
	}
	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	slash = strrchr(copy, '/');
	return text_copy(slash != NULL ? slash + 1 : copy);
}

char *datastore_default_name(const char *source)
{
	char *name = last_part(source);

	name[strcspn(name, ".")] = '\0';
	for (char *c = name; *c != '\0'; c++)
		*c = (char)tolower((unsigned char)*c);
	return name;
}

static int create(void *ctx, struct store_conn *h, struct cancel *cancel, struct error *err)
{
	struct create_call *c = ctx;
	uint64_t began = now_ns();
	int code;

	(void)h;
	c->opts.cancel = cancel;
	code = datastore_create(&c->opts, &c->manifest, &c->result, err);
	c->elapsed_ns = now_ns() - began;
	return code;
}

static double rate(const struct create_call *c)
{
	return c->elapsed_ns > 0 ? (double)c->manifest->bytes * 1e9 / (double)c->elapsed_ns : 0;
}

static void print_json(const struct create_call *c, const struct subcommand_call *call)
{
	const struct manifest *m = c->manifest;
	struct text t = {0};

	text_add(&t, "{");
	output_json_text(&t, "name", m->name);
	output_json_number(&t, "version", m->version);
	output_json_text(&t, "store", store_name(call->agent.resources.store));
	output_json_text(&t, "manifest_sha256", m->sha256);
	output_json_number(&t, "entries", m->entries);
	output_json_number(&t, "files", m->files);
	output_json_number(&t, "bytes", m->bytes);
	output_json_number(&t, "stored_bytes", m->stored_bytes);
	output_json_number(&t, "sent_bytes", c->result.sent_bytes);
	output_json_number(&t, "reused_files", c->result.reused_files);
	printf("%s,\"seconds\":%.6f,\"bytes_per_second\":%.0f}\n", t.s, (double)c->elapsed_ns / 1e9,
		rate(c));
	text_done(&t);
}

static void log_created(const struct create_call *c)
{
	const struct manifest *m = c->manifest;
	const struct log_field fields[] = {log_field_text("datastore", m->name),
		log_field_integer("version", m->version),
		log_field_word("manifest_sha256", m->sha256), log_field_text("source", c->shown),
		log_field_integer("files", m->files), log_field_integer("bytes", m->bytes),
		log_field_integer("sent_bytes", c->result.sent_bytes),
		log_field_ns("seconds", c->elapsed_ns)};

	log_event(log_level_of_detail(), EVENT_DATASTORE_CREATED, fields, ARRAY_LEN(fields),
		"created %s version %u", m->name, m->version);
}

static void print_created(void *ctx, struct subcommand_call *call)
{
	const struct create_call *c = ctx;
	const struct manifest *m = c->manifest;
	char bytes[32], per_second[32], sent[32], time[32];

	log_created(c);
	if (call->request.json) {
		print_json(c, call);
		return;
	}
	printf("%s version %u: %llu files, %s, in %s (%s/s); sent %s", m->name, m->version,
		(unsigned long long)m->files, units_print_size(m->bytes, bytes),
		units_print_duration(c->elapsed_ns, time),
		units_print_size((uint64_t)rate(c), per_second),
		units_print_size(c->result.sent_bytes, sent));
	if (c->result.reused_files > 0)
		printf(", %llu files were there", (unsigned long long)c->result.reused_files);
	putchar('\n');
}

static void create_call_free(void *ctx)
{
	struct create_call *c = ctx;

	manifest_free(c->manifest);
	free(c->name);
	free(c->shown);
	free(c);
}

static int check_options(const struct request *r, const char *source, struct error *err)
{
	if (r->extract && r->fetch.no_extract)
		return error_set(err, -ERR_USAGE, "--extract and --no-extract exclude each other");
	if (r->no_copy && strncasecmp(source, "s3://", 5) != 0)
		return error_set(err, -ERR_USAGE,
			"--no-copy is for s3://bucket/prefix/: only that can be read from where it is");
	return 0;
}

static int choose_name(const struct request *r, const char *source, char **ret, struct error *err)
{
	char *name = r->name != NULL ? text_copy(r->name) : datastore_default_name(source);

	if (datastore_name_check(name, err) == 0) {
		*ret = name;
		return 0;
	}
	free(name);
	if (r->name == NULL)
		error_prefix(err, "the name that SOURCE would give it; say --name NAME");
	return -ERR_USAGE;
}

static void fill_options(struct create_call *w, struct subcommand_call *c)
{
	const struct request *r = &c->request;
	const struct settings *s = c->settings;

	w->selection = (struct selection){.include = (const char *const *)r->fetch.include.v,
		.exclude = (const char *const *)r->fetch.exclude.v};
	w->opts = (struct create_options){.store = c->agent.resources.store,
		.budget = c->agent.resources.budget,
		.transfer = c->agent.resources.transfer,
		.s3 = c->agent.resources.s3,
		.progress = &w->progress,
		.threads = agent_threads(s),
		.name = w->name,
		.source = c->words.v[0],
		.extract = r->extract,
		.no_extract = r->fetch.no_extract,
		.no_copy = r->no_copy,
		.dereference = r->dereference,
		.selection = r->fetch.include.n + r->fetch.exclude.n > 0 ? &w->selection : NULL,
		.max_datastores = s->max_datastores,
		.grace_ms = s->store_grace_ms,
		.lock_limit = agent_lock_limit(s)};
}

int datastore_command_create(struct subcommand_call *c, struct error *err)
{
	struct datastore_work work = {
		.work = create, .print = print_created, .done = create_call_free};
	const char *source = c->words.v[0];
	struct create_call *w;
	char *name = NULL;
	int code = check_options(&c->request, source, err);

	if (code == 0)
		code = choose_name(&c->request, source, &name, err);
	if (code == 0)
		code = agent_need_transfer(&c->agent, err);
	if (code == 0)
		code = agent_need_store(&c->agent, err);
	if (code < 0) {
		free(name);
		return code;
	}
	w = zalloc(sizeof(*w));
	w->name = name;
	w->shown = source_display(source);
	w->progress.name = w->shown;
	fill_options(w, c);
	work.progress = &w->progress;
	return datastore_call_work(c, &work, w, err);
}
