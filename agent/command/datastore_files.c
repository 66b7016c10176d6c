/* SPDX-License-Identifier: MIT */
/* `stagerun datastore files`: what is in a version, from its index. There may be millions, so each is printed as
 * it comes, on the thread that reads the index. */
#include "datastore_call.h"
#include "defer.h"
#include "index.h"
#include "table.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Written when there is so much of it. */
#define OUTPUT_BYTES ((size_t)256 << 10)

struct files {
	struct datastore_target target;
	struct strings globs;
	struct store *store;
	unsigned threads;
	bool json, terminal;
	struct text out;

	/* The minute that was last printed: neighbours share it. */
	time_t minute;
	char shown_minute[32];
};

static int write_out(struct files *f, struct error *err)
{
	bool written = f->out.len == 0 || fwrite(f->out.s, f->out.len, 1, stdout) == 1;
	int code = errno;

	f->out.len = 0;
	if (written)
		return 0;
	return error_set(err, -code, "cannot write the output: %s", strerrordesc_np(code));
}

static const char *type_name(enum index_type t)
{
	return t == INDEX_DIR        ? "directory"
	       : t == INDEX_SYMLINK  ? "symlink"
	       : t == INDEX_HARDLINK ? "hardlink"
				     : "file";
}

static void add_member(struct text *out, const char *key, const char *value)
{
	if (value == NULL)
		return;
	text_addf(out, ",\"%s\":", key);
	add_json_string(out, value);
}

static void add_json(struct text *out, const struct index_entry *e)
{
	const char *target = e->type == INDEX_REFERENCE ? NULL : e->target;

	text_add(out, "{\"path\":");
	add_json_string(out, e->path);
	text_addf(out, ",\"type\":\"%s\",\"mode\":\"%04o\",\"size\":%llu,\"mtime\":%lld.%09ld",
		type_name(e->type), (unsigned)e->mode, (unsigned long long)e->size,
		(long long)e->mtime.tv_sec, e->mtime.tv_nsec);
	add_member(out, "target", target);
	add_member(out, "sha256", e->sha256);
	add_member(out, "etag", e->etag);
	text_add(out, "}\n");
}

static const char *minute_of(struct files *f, time_t t)
{
	time_t minute = t - (t % 60);
	struct tm tm;

	if (f->shown_minute[0] == '\0' || minute != f->minute)
		strftime(f->shown_minute, sizeof(f->shown_minute), "%F %R", gmtime_r(&minute, &tm));
	f->minute = minute;
	return f->shown_minute;
}

/* As `ls -l` has it. */
static void add_line(struct files *f, const struct index_entry *e)
{
	char mode[11] = "?rwxrwxrwx", size[32] = "";

	mode[0] = e->type == INDEX_DIR ? 'd' : e->type == INDEX_SYMLINK ? 'l' : '-';
	for (unsigned bit = 0; bit < 9; bit++) {
		if ((e->mode & (0400U >> bit)) == 0)
			mode[bit + 1] = '-';
	}
	if (e->type != INDEX_DIR && e->type != INDEX_SYMLINK)
		print_size(e->size, size);
	text_addf(&f->out, "%s  %9s  %s  ", mode, size, minute_of(f, e->mtime.tv_sec));
	add_shown(&f->out, e->path, f->terminal);
	if (e->type == INDEX_SYMLINK || e->type == INDEX_HARDLINK) {
		text_add(&f->out, e->type == INDEX_SYMLINK ? " -> " : " link to ");
		add_shown(&f->out, e->target, f->terminal);
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

static int list_files(void *ctx, struct store_hand *h, struct cancel *cancel, struct error *err)
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
	strings_done(&f->globs);
	text_done(&f->out);
	free(f);
}

int datastore_command_files(struct datastore_call *c, struct error *err)
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
	f->store = c->agent.store;
	f->threads = agent_threads(c->settings);
	for (size_t i = 1; i < c->words.n; i++)
		strings_add(&f->globs, c->words.v[i]);
	return datastore_call_work(c, &work, f, err);
}
