/* SPDX-License-Identifier: MIT */
/* What hooks and actions are told. */
#include "../../hooks/hooks_private.h"
#include "contract.h"
#include "defer.h"
#include "process.h"
#include "test.h"
#include <string.h>

static void assert_told(const struct strings *env, const char *name, const char *expected)
{
	const char *value = environment_get(env, name);

	if (expected == NULL)
		assert_null(value);
	else if (value == NULL)
		fail_msg("%s is not set", name);
	else
		assert_string_equal(expected, value);
}

TEST(contract_names_the_point_and_the_file_for_variables)
{
	struct strings env = {0};

	contract_apply(&(struct run_facts){0}, "on_stage_start", "/tmp/x", &env);
	assert_told(&env, "STAGERUN_POINT", "on_stage_start");
	assert_told(&env, "STAGERUN_ENV", "/tmp/x");
	assert_int_equal(2, env.n);
	text_strings_done(&env);
}

TEST(contract_lists_what_was_staged_one_a_line)
{
	struct strings env = {0}, staged = {0};

	text_strings_add(&staged, "/datastores/a b");
	text_strings_add(&staged, "/tmp/scratch");
	contract_apply(&(struct run_facts){.staged = &staged}, "on_stage_end", "x", &env);
	assert_told(&env, "STAGERUN_STAGED", "/datastores/a b\n/tmp/scratch");
	text_strings_done(&env);
	text_strings_done(&staged);
}

TEST(contract_tells_nothing_staged_from_not_yet_staged)
{
	struct strings env = {0}, staged = {0};

	contract_apply(&(struct run_facts){.staged = &staged}, "on_stage_end", "x", &env);
	assert_told(&env, "STAGERUN_STAGED", "");
	contract_apply(&(struct run_facts){0}, "on_stage_start", "x", &env);
	assert_told(&env, "STAGERUN_STAGED", NULL);
	text_strings_done(&env);
}

TEST(contract_makes_the_path_of_config_yml_absolute)
{
	struct strings env = {0};

	contract_apply(&(struct run_facts){.config_path = "/usr/../bin/."}, "p", "x", &env);
	assert_int_equal('/', *environment_get(&env, "STAGERUN_RUN_CONFIG"));
	assert_null(strstr(environment_get(&env, "STAGERUN_RUN_CONFIG"), ".."));
	text_strings_done(&env);
}

TEST(contract_tells_the_end_of_a_command_that_was_killed)
{
	struct strings env = {0};
	const struct run_facts facts = {
		.ended = true, .exit_code = 137, .exit_signal = 9, .exit_reason = "signaled"};

	contract_apply(&facts, "on_experiment_end", "x", &env);
	assert_told(&env, "STAGERUN_EXIT_CODE", "137");
	assert_told(&env, "STAGERUN_EXIT_SIGNAL", "9");
	assert_told(&env, "STAGERUN_EXIT_REASON", "signaled");
	text_strings_done(&env);
}

TEST(contract_tells_why_a_start_failed)
{
	struct strings env = {0};
	const struct run_facts facts = {.ended = true,
		.exit_code = 125,
		.exit_reason = "start_failed",
		.failure_phase = "stage",
		.failure_message = "404"};

	contract_apply(&facts, "on_failure", "x", &env);
	assert_told(&env, "STAGERUN_EXIT_CODE", "125");
	assert_told(&env, "STAGERUN_EXIT_SIGNAL", NULL);
	assert_told(&env, "STAGERUN_FAILURE_PHASE", "stage");
	assert_told(&env, "STAGERUN_FAILURE_MESSAGE", "404");
	text_strings_done(&env);
}

TEST(contract_removes_what_another_agent_left)
{
	struct strings env = {0};

	environment_set(&env, "STAGERUN_EXIT_CODE", "1");
	environment_set(&env, "STAGERUN_STAGED", "/elsewhere");
	contract_apply(&(struct run_facts){0}, "on_stage_start", "x", &env);
	assert_told(&env, "STAGERUN_EXIT_CODE", NULL);
	assert_told(&env, "STAGERUN_STAGED", NULL);
	text_strings_done(&env);
}

TEST(contract_sets_the_twins_of_grids_variables_but_keeps_what_is_set)
{
	struct strings env = {0};

	environment_set(&env, "GRID_USER_ID", "u1");
	environment_set(&env, "GRID_EXPERIMENT_ID", "e1");
	environment_set(&env, "STAGERUN_EXPERIMENT_ID", "mine");
	contract_set_aliases(&env);
	assert_told(&env, "STAGERUN_USER_ID", "u1");
	assert_told(&env, "STAGERUN_EXPERIMENT_ID", "mine");
	assert_told(&env, "STAGERUN_CLUSTER_ID", NULL);
	text_strings_done(&env);
}
