/* SPDX-License-Identifier: MIT */
/* The environment variables that hooks and actions get. A new variable is a row of the table in
 * this file, and an entry in stagerun-hooks(5). Loop thread. */
#include "contract.h"
#include "defer.h"
#include "hooks_private.h"
#include "process.h"

struct contract_values {
	const struct run_facts *facts;
	const char *point, *variables;
};

static char *get_point(const struct contract_values *v)
{
	return text_copy(v->point);
}

static char *get_variables(const struct contract_values *v)
{
	return text_copy(v->variables);
}

static char *get_config(const struct contract_values *v)
{
	char *absolute;

	if (v->facts->config_path == NULL)
		return NULL;
	absolute = realpath(v->facts->config_path, NULL);
	return absolute != NULL ? absolute : text_copy(v->facts->config_path);
}

static char *get_staged(const struct contract_values *v)
{
	const struct strings *staged = v->facts->staged;
	struct text lines = {0};

	if (staged == NULL)
		return NULL;
	for (size_t i = 0; i < staged->n; i++)
		text_addf(&lines, "%s%s", i > 0 ? "\n" : "", staged->v[i]);
	return text_take(&lines);
}

static char *get_exit_code(const struct contract_values *v)
{
	return v->facts->ended ? text_format("%d", v->facts->exit_code) : NULL;
}

static char *get_exit_signal(const struct contract_values *v)
{
	bool signaled = v->facts->ended && v->facts->exit_signal != 0;

	return signaled ? text_format("%d", v->facts->exit_signal) : NULL;
}

static char *get_exit_reason(const struct contract_values *v)
{
	return v->facts->ended ? text_copy(v->facts->exit_reason) : NULL;
}

static char *get_failure_phase(const struct contract_values *v)
{
	return text_copy(v->facts->failure_phase);
}

static char *get_failure_message(const struct contract_values *v)
{
	return text_copy(v->facts->failure_message);
}

static const struct contract_row {
	const char *name;
	/* Returns the value (heap), or NULL to unset the variable. No function: this file does
	 * not set the variable. */
	char *(*get)(const struct contract_values *v);
	const char *where, *meaning;
	const char *alias_of; /* the variable of Grid with the same value, or NULL */
} contract_rows[] = {
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
		"which versions were staged, one a line: JSON of name, version, manifest_sha256, directory"},
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
	const struct contract_values values = {.facts = f, .point = point, .variables = variables};

	for (size_t i = 0; i < ARRAY_LEN(contract_rows); i++) {
		_free_ char *value = NULL;

		if (contract_rows[i].get == NULL)
			continue;
		value = contract_rows[i].get(&values);
		if (value != NULL)
			environment_set(environment, contract_rows[i].name, value);
		else
			environment_unset(environment, contract_rows[i].name);
	}
}

void contract_set_aliases(struct strings *environment)
{
	for (size_t i = 0; i < ARRAY_LEN(contract_rows); i++) {
		const char *value =
			contract_rows[i].alias_of != NULL
				? environment_get(environment, contract_rows[i].alias_of)
				: NULL;

		if (value != NULL && environment_get(environment, contract_rows[i].name) == NULL)
			environment_set(environment, contract_rows[i].name, value);
	}
}

void contract_describe(
	void (*row)(void *ctx, const char *name, const char *where, const char *meaning), void *ctx)
{
	for (size_t i = 0; i < ARRAY_LEN(contract_rows); i++)
		row(ctx, contract_rows[i].name, contract_rows[i].where, contract_rows[i].meaning);
}
