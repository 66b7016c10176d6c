/* SPDX-License-Identifier: MIT */
/* The environment contract. A new variable is a row of the table here, and an entry of the manual. */
#include "contract.h"
#include "defer.h"
#include "process.h"

struct told {
	const struct run_facts *facts;
	const char *point, *variables;
};

static char *get_point(const struct told *t)
{
	return copy_text(t->point);
}

static char *get_variables(const struct told *t)
{
	return copy_text(t->variables);
}

static char *get_config(const struct told *t)
{
	char *absolute;

	if (t->facts->config_path == NULL)
		return NULL;
	absolute = realpath(t->facts->config_path, NULL);
	return absolute != NULL ? absolute : copy_text(t->facts->config_path);
}

static char *get_staged(const struct told *t)
{
	const struct strings *staged = t->facts->staged;
	struct text lines = {0};

	if (staged == NULL)
		return NULL;
	for (size_t i = 0; i < staged->n; i++)
		text_addf(&lines, "%s%s", i > 0 ? "\n" : "", staged->v[i]);
	return text_take(&lines);
}

static char *get_exit_code(const struct told *t)
{
	return t->facts->ended ? format_text("%d", t->facts->exit_code) : NULL;
}

static char *get_exit_signal(const struct told *t)
{
	bool signaled = t->facts->ended && t->facts->exit_signal != 0;

	return signaled ? format_text("%d", t->facts->exit_signal) : NULL;
}

static char *get_exit_reason(const struct told *t)
{
	return t->facts->ended ? copy_text(t->facts->exit_reason) : NULL;
}

static char *get_failure_phase(const struct told *t)
{
	return copy_text(t->facts->failure_phase);
}

static char *get_failure_message(const struct told *t)
{
	return copy_text(t->facts->failure_message);
}

static const struct row {
	const char *name;
	char *(*get)(const struct told *t); /* heap, NULL: not set; no function: set elsewhere */
	const char *where, *meaning;
	const char *twin_of;
} rows[] = {
	{"STAGERUN_POINT", get_point, "Hooks and actions", "the point: on_stage_start"},
	{"STAGERUN_ENV", get_variables, "Hooks and actions",
		"a file: NAME=VALUE lines that are appended set variables for what comes later"},
	{"STAGERUN_RUN_CONFIG", get_config, "Hooks and actions",
		"the absolute path of config.yml, if there is one"},
	{"STAGERUN_STAGED", get_staged, "Hooks and actions, once all is staged",
		"the directories that were staged, one a line"},
	{"STAGERUN_EXIT_CODE", get_exit_code, "At the end",
		"the exit status of the run: the command's, 128+n, or 125"},
	{"STAGERUN_EXIT_SIGNAL", get_exit_signal, "At the end",
		"the number of the signal that ended it, if one did"},
	{"STAGERUN_EXIT_REASON", get_exit_reason, "At the end",
		"completed, failed, signaled, oom_killed, terminated or start_failed"},
	{"STAGERUN_FAILURE_PHASE", get_failure_phase, "At the end of what failed",
		"where it failed: config, stage, start, exec or command"},
	{"STAGERUN_FAILURE_MESSAGE", get_failure_message, "At the end of what failed",
		"the sentence that says why"},
	{"STAGERUN_DATASTORE_NAME", NULL, "Hooks, actions and the command",
		"for a datastore called name: its directory"},
	{"STAGERUN_DATASTORES", NULL, "Hooks, actions and the command",
		"which versions were staged, one a line: JSON of name, version, manifest_sha256, "
		"directory"},
	{"STAGERUN_EXPERIMENT_ID", NULL, "Hooks, actions and the command", "as $GRID_EXPERIMENT_ID",
		"GRID_EXPERIMENT_ID"},
	{"STAGERUN_EXPERIMENT_NAME", NULL, "Hooks, actions and the command",
		"as $GRID_EXPERIMENT_NAME", "GRID_EXPERIMENT_NAME"},
	{"STAGERUN_USER_ID", NULL, "Hooks, actions and the command", "as $GRID_USER_ID",
		"GRID_USER_ID"},
	{"STAGERUN_CLUSTER_ID", NULL, "Hooks, actions and the command", "as $GRID_CLUSTER_ID",
		"GRID_CLUSTER_ID"},
	{"STAGERUN_INSTANCE_TYPE", NULL, "Hooks, actions and the command", "as $GRID_INSTANCE_TYPE",
		"GRID_INSTANCE_TYPE"},
};

void contract_apply(const struct run_facts *f, const char *point, const char *variables,
	struct strings *environment)
{
	const struct told told = {.facts = f, .point = point, .variables = variables};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_free_ char *value = NULL;

		if (rows[i].get == NULL)
			continue;
		value = rows[i].get(&told);
		if (value != NULL)
			environment_set(environment, rows[i].name, value);
		else
			environment_unset(environment, rows[i].name);
	}
}

void contract_set_twins(struct strings *environment)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *value = rows[i].twin_of != NULL
					    ? environment_get(environment, rows[i].twin_of)
					    : NULL;

		if (value != NULL && environment_get(environment, rows[i].name) == NULL)
			environment_set(environment, rows[i].name, value);
	}
}

void contract_describe(
	void (*row)(void *ctx, const char *name, const char *where, const char *meaning), void *ctx)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		row(ctx, rows[i].name, rows[i].where, rows[i].meaning);
}
