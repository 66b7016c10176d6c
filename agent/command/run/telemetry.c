/* SPDX-License-Identifier: MIT */
/* The spans of a run itself and of its command, its warnings, and the reports. Loop thread; but
 * warnings come from any thread. */
#include "telemetry.h"
#include "../agent.h"
#include "../plan.h"
#include "defer.h"
#include "log.h"
#include "progress.h"
#include "run_report.h"
#include "settings.h"
#include <string.h>

enum { WARNINGS_MAX_BYTES = 64 * 1024, COMMAND_MAX_BYTES = 4096 };

static void on_warning(void *ctx, const char *message)
{
	struct telemetry *t = ctx;

	pthread_mutex_lock(&t->mutex);
	if (t->warnings.len < WARNINGS_MAX_BYTES) {
		size_t begin = t->warnings.len;

		text_addf(&t->warnings, "%s\n", message);
		for (size_t i = begin; i + 1 < t->warnings.len; i++)
			if (t->warnings.s[i] == '\n')
				t->warnings.s[i] = ' '; /* a warning is a line */
	}
	pthread_mutex_unlock(&t->mutex);
}

static int add_report(struct telemetry *t, const char *path, struct error *err)
{
	if (report_check_path(path, err) < 0)
		return error_prefix(err, "$STAGERUN_REPORT");
	text_strings_add(&t->reports, path);
	return 0;
}

/* Several are separated by ':'. */
static int add_reports_of_variable(struct telemetry *t, struct error *err)
{
	_free_ char *variable = NULL;
	int code = settings_variable_read("STAGERUN_REPORT", "", &variable, err);

	for (char *at = variable; code == 0 && at != NULL;) {
		char *path = strsep(&at, ":");

		if (*path != '\0')
			code = add_report(t, path, err);
	}
	return code;
}

int telemetry_open(struct telemetry *t, const struct strings *reports, struct error *err)
{
	int code = 0;

	pthread_mutex_init(&t->mutex, NULL);
	for (size_t i = 0; i < reports->n; i++)
		text_strings_add(&t->reports, reports->v[i]);
	if (reports->n == 0)
		code = add_reports_of_variable(t, err);
	otlp_from_environment(environ, &t->collector);
	if (t->reports.n == 0 && !t->collector.enabled)
		return code;
	t->timeline = timeline_new();
	t->begin_ns = now_ns();
	t->run = timeline_begin_at(t->timeline, 0, SPAN_RUN, "stagerun", t->begin_ns);
	timeline_set_text(t->timeline, t->run, "version", STAGERUN_VERSION);
	if (t->collector.enabled)
		trace_context_begin(&t->trace, environ);
	log_set_observer(on_warning, t);
	return code;
}

void telemetry_close(struct telemetry *t)
{
	if (t->timeline != NULL)
		log_set_observer(NULL, NULL);
	timeline_free(take_ptr(&t->timeline));
	text_strings_done(&t->reports);
	otlp_options_done(&t->collector);
	text_done(&t->warnings);
	free(take_ptr(&t->why));
}

static char *join_words(const struct strings *words)
{
	struct text line = {0};

	for (size_t i = 0; i < words->n && line.len < COMMAND_MAX_BYTES; i++)
		text_addf(&line, "%s%s", i > 0 ? " " : "", words->v[i]);
	return text_take(&line);
}

static void pass_trace(struct telemetry *t, unsigned span, struct strings *environment)
{
	char parent[TRACE_PARENT_SIZE];

	if (t->collector.enabled)
		environment_set(
			environment, "TRACEPARENT", trace_context_child(&t->trace, span, parent));
}

void telemetry_note_plan(struct telemetry *t, struct plan *p)
{
	_free_ char *command = NULL;

	if (t->timeline == NULL)
		return;
	command = join_words(&p->command);
	timeline_set_text(t->timeline, t->run, "command", command);
	pass_trace(t, t->run, &p->environment);
}

void telemetry_record(struct telemetry *t, struct agent *a)
{
	a->policy.recorder = (struct run_recorder){.timeline = t->timeline,
		.parent = t->run,
		.trace = t->collector.enabled ? &t->trace : NULL};
}

static void set_warnings(struct telemetry *t)
{
	pthread_mutex_lock(&t->mutex);
	timeline_set_text(t->timeline, t->run, "warnings", t->warnings.s);
	pthread_mutex_unlock(&t->mutex);
}

static void write_reports(struct telemetry *t)
{
	set_warnings(t);
	for (size_t i = 0; i < t->reports.n; i++)
		report_write(t->reports.v[i], t->timeline);
}

/* A collector never gets to know the span of a command that replaces us, as nobody can end it. */
void telemetry_begin_command(struct telemetry *t, struct plan *p, bool as_child)
{
	if (t->timeline == NULL)
		return;
	timeline_set_number(t->timeline, t->run, "ready_ns", now_ns() - t->begin_ns);
	t->command = timeline_begin(t->timeline, t->run, SPAN_COMMAND, p->command.v[0]);
	if (as_child)
		pass_trace(t, t->command, &p->environment);
	else
		write_reports(t);
}

static enum span_end end_of(const struct termination *end)
{
	if (end->exit_code == 0)
		return SPAN_OK;
	return end->reason == END_TERMINATED ? SPAN_CANCELLED : SPAN_FAILED;
}

static void set_end_facts(const struct telemetry *t, unsigned span)
{
	timeline_set_number(t->timeline, span, "exit_code", (uint64_t)t->exit_code);
	if (t->signal != 0)
		timeline_set_number(t->timeline, span, "signal", (uint64_t)t->signal);
}

void telemetry_note_end(struct telemetry *t, const struct termination *end)
{
	if (t->timeline == NULL || t->ended)
		return;
	t->end = end_of(end);
	t->exit_code = end->exit_code;
	t->signal = end->signal;
	free(t->why);
	t->why = end->exit_code != 0 ? text_copy(end->message) : NULL;
	set_end_facts(t, t->run);
	timeline_set_text(t->timeline, t->run, "reason", report_reason_name(end->reason));
	if (end->exit_code != 0)
		timeline_set_text(t->timeline, t->run, "phase", end->phase);
}

void telemetry_end_command(struct telemetry *t)
{
	set_end_facts(t, t->command);
	timeline_end(t->timeline, t->command, t->end, t->why);
}

void telemetry_end(struct telemetry *t)
{
	if (t->timeline == NULL || t->ended)
		return;
	t->ended = true;
	timeline_end(t->timeline, t->run, t->end, t->why);
	write_reports(t);
}
