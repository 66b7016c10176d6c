/* SPDX-License-Identifier: MIT */
/* The plan for programs: "stagerun.plan/1", which stagerun(1) describes. What is not known is left
 * out. It is built as text, as names need not be UTF-8. Loop thread. */
#include "datastore.h"
#include "defer.h"
#include "dry_run.h"
#include "json_bytes.h"
#include "redact.h"
#include "source.h"
#include <string.h>

#define SCHEMA "stagerun.plan/1"

/* A string in which secrets are hidden. */
static void add_string(struct text *t, const char *s)
{
	_free_ char *shown = redact_own(text_copy(s));

	json_add_text(t, shown);
}

static void add_member(struct text *t, const char *key, const char *value)
{
	_free_ char *shown = value != NULL ? redact_own(text_copy(value)) : NULL;

	if (shown != NULL && *shown != '\0')
		output_json_text(t, key, shown);
}

/* Begins the next element of a list. */
static void add_comma(struct text *t)
{
	text_add(t, t->s[t->len - 1] == '[' ? "" : ",");
}

static void add_strings(struct text *t, const char *key, const struct strings *all)
{
	text_addf(t, ",\"%s\":[", key);
	for (size_t i = 0; i < all->n; i++) {
		add_comma(t);
		add_string(t, all->v[i]);
	}
	text_add(t, "]");
}

struct settings_list {
	struct text *t;
	bool all;
};

static void add_setting(void *ctx, const char *key, const char *value, const char *origin)
{
	const struct settings_list *l = ctx;

	if (!l->all && strcmp(origin, "default") == 0)
		return;
	add_comma(l->t);
	text_add(l->t, "{");
	output_json_text(l->t, "key", key);
	text_add(l->t, ",\"value\":");
	add_string(l->t, value);
	output_json_text(l->t, "origin", origin);
	text_add(l->t, "}");
}

static void add_settings(struct text *t, const struct dry_run *d)
{
	struct settings_list list = {.t = t, .all = dry_run_is_verbose(d)};

	text_add(t, ",\"settings\":[");
	settings_describe(d->settings, add_setting, &list);
	text_add(t, "]");
}

static void add_origin(struct text *t, const struct dry_run *d, unsigned line)
{
	_free_ char *origin = text_format("%s:%u", d->plan->runfile->path, line);

	add_member(t, "origin", origin);
}

static void add_environment(struct text *t, const struct dry_run *d)
{
	const struct runfile *f = d->plan->runfile;

	text_add(t, ",\"environment\":[");
	for (size_t i = 0; f != NULL && i < f->environment.n; i++) {
		const char *e = f->environment.v[i], *value = strchr(e, '=') + 1;
		_free_ char *name = text_format("%.*s", (int)(value - e) - 1, e);

		add_comma(t);
		text_add(t, "{");
		output_json_text(t, "name", name);
		text_add(t, ",\"value\":");
		add_string(t, settings_is_secret_value(d->settings, name, value) ? "***" : value);
		add_origin(t, d, f->environment_lines[i]);
		text_add(t, "}");
	}
	text_add(t, "],\"scratch\":[");
	for (size_t i = 0; f != NULL && i < f->n_scratch; i++) {
		add_comma(t);
		text_add(t, "{");
		add_member(t, "path", f->scratch[i].mount_path);
		if (f->scratch[i].size_bytes > 0)
			output_json_number(t, "max_bytes", f->scratch[i].size_bytes);
		add_origin(t, d, f->scratch[i].line);
		text_add(t, "}");
	}
	text_add(t, "]");
}

static void add_hooks(struct text *t, const struct dry_run *d)
{
	text_add(t, ",\"hooks\":[");
	for (int point = 0; point < HOOK_POINT_COUNT; point++) {
		const struct hook_list *list = &d->hooks->at[point];

		if (d->plan->command.n == 0 && hook_point_needs_command((enum hook_point)point))
			continue;
		for (size_t i = 0; i < list->n; i++) {
			add_comma(t);
			text_add(t, "{");
			output_json_text(t, "point", hook_point_name((enum hook_point)point));
			add_member(t, "path", list->v[i].path);
			text_add(t, "}");
		}
	}
	text_add(t, "]");
}

static void add_manifest(struct text *t, const struct manifest *m)
{
	add_member(t, "datastore", m->name);
	output_json_number(t, "version", m->version);
	output_json_number(t, "bytes", m->bytes);
	output_json_number(t, "files", m->files);
	output_json_number(t, "stored_bytes", m->stored_bytes);
	add_member(t, "manifest_sha256", m->sha256);
}

/* For a local file, value contains more than the time. */
static void add_last_modified(struct text *t, const char *value)
{
	_free_ char *time = text_format("%.*s", (int)strcspn(value, ";"), value);

	add_member(t, "last_modified", time);
}

static void add_source(struct text *t, const struct dry_run *d, const struct outlook_source *q)
{
	add_comma(t);
	text_add(t, "{");
	add_member(t, "source", q->name);
	add_member(t, "origin", dry_run_spec(d, q)->origin);
	output_json_bool(t, "reachable", q->code == 0);
	if (q->code < 0) {
		add_member(t, "error", q->err.msg);
	} else if (q->manifest != NULL) {
		add_manifest(t, q->manifest);
	} else {
		if (q->identity.size != SIZE_UNKNOWN)
			output_json_number(t, "size_bytes", q->identity.size);
		add_member(t, "etag", q->identity.etag);
		add_last_modified(t, q->identity.last_modified);
	}
	text_add(t, "}");
}

static void add_room(struct text *t, const struct outlook_stage *s)
{
	if (s->bytes > 0)
		output_json_number(t, "needed_bytes", s->bytes);
	if (s->files > 0)
		output_json_number(t, "needed_inodes", s->files);
	if (s->knows_space)
		output_json_number(t, "free_bytes", s->space.free);
	if (s->knows_space && s->space.of_inodes > 0)
		output_json_number(t, "free_inodes", s->space.inodes);
}

static void add_stage(struct text *t, const struct dry_run *d, const struct outlook_stage *s)
{
	add_comma(t);
	text_add(t, "{");
	add_member(t, "to", s->spec->to);
	output_json_text(t, "result", dry_run_result_name(s->result));
	if (s->err.code < 0)
		add_member(t, "error", s->err.msg);
	output_json_bool(t, "replace", s->spec->replace);
	output_json_bool(t, "continues", s->continues);
	add_room(t, s);
	add_strings(t, "others", &s->names);
	output_json_number(t, "more_others", s->n_more);
	text_add(t, ",\"sources\":[");
	for (size_t k = 0; k < s->n_sources; k++)
		add_source(t, d, &s->sources[k]);
	text_add(t, "]}");
}

static void add_stages(struct text *t, const struct dry_run *d)
{
	size_t n = 0;
	const struct outlook_stage *v = d->outlook != NULL ? outlook_stages(d->outlook, &n) : NULL;

	add_member(t, "store", d->store);
	add_member(t, "s3", d->s3);
	add_member(t, "cache", d->cache);
	text_add(t, ",\"stages\":[");
	for (size_t i = 0; i < n; i++)
		add_stage(t, d, &v[i]);
	text_add(t, "]");
	if (d->dependencies == NULL)
		return;
	text_add(t, ",\"dependencies\":{");
	add_member(t, "command", d->dependencies);
	add_member(t, "origin", d->plan->dependencies->origin);
	if (d->dependencies_err.code < 0)
		add_member(t, "error", d->dependencies_err.msg);
	text_add(t, "}");
}

static void add_point(
	struct text *t, const struct dry_run *d, enum lifecycle_point point, size_t first)
{
	const struct actions *all = plan_actions(d->plan, point);

	for (size_t i = first; i < all->n; i++) {
		const struct action *a = &all->v[i];
		_free_ char *url = a->kind == ACTION_RUN ? NULL : agent_stage_url(&a->stage);
		_free_ char *name = url != NULL ? source_display(url) : NULL;

		add_comma(t);
		text_add(t, "{");
		output_json_text(t, "point", runfile_point_name(point));
		output_json_number(t, "number", a->number);
		add_origin(t, d, a->line);
		add_member(t, "run", a->kind == ACTION_RUN ? a->script : NULL);
		add_member(t, "source", name);
		add_member(t, "to", a->kind == ACTION_RUN ? NULL : a->stage.to);
		text_add(t, "}");
	}
}

static void add_command(struct text *t, const struct dry_run *d)
{
	const struct plan *p = d->plan;
	const char *why = NULL;

	if (p->command.n == 0)
		return;
	text_add(t, ",\"command\":{\"found\":");
	text_add(t, d->command_code == 0 ? "true" : "false");
	add_strings(t, "words", &p->command);
	add_member(t, "path", d->command);
	if (d->command_code != 0) {
		output_json_number(t, "exit_code", (uint64_t)d->command_code);
		add_member(t, "error", d->command_err.msg);
	}
	add_member(t, "may_come_from", d->bringer);
	if (supervise_decide(d->settings, p, d->hooks, &why, NULL) == 0)
		add_member(t, "stays_because", why);
	text_add(t, "}");
}

char *dry_run_json(const struct dry_run *d)
{
	struct text t = {0};

	text_add(&t, "{\"schema\":\"" SCHEMA "\"");
	output_json_text(&t, "stagerun", STAGERUN_VERSION);
	output_json_bool(&t, "ok", d->problems.n == 0);
	add_strings(&t, "problems", &d->problems);
	if (d->settings != NULL && d->hooks != NULL) {
		add_settings(&t, d);
		add_environment(&t, d);
		add_hooks(&t, d);
		add_stages(&t, d);
		text_add(&t, ",\"actions\":[");
		add_point(&t, d, POINT_EXPERIMENT_START, d->plan->first_action);
		add_point(&t, d, POINT_EXPERIMENT_END, 0);
		text_add(&t, "]");
		add_command(&t, d);
	}
	text_add(&t, "}");
	return text_take(&t);
}
