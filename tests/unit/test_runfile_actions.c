/* SPDX-License-Identifier: MIT */
/* The lifecycle points of config.yml and their items. */
#include "../../agent/command/agent.h"
#include "defer.h"
#include "runfile.h"
#include "test.h"
#include <string.h>

#define START "compute:\n  train:\n    actions:\n      on_experiment_start:\n"
#define ITEM  "compute.train.actions.on_experiment_start[1]"

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct runfile *parse(const char *yaml)
{
	struct runfile *r = NULL;
	struct error err = {0};

	if (runfile_parse("config.yml", yaml, strlen(yaml), &r, &err) < 0)
		fail_msg("%s", err.msg);
	return r;
}

static const struct actions *start_of(const struct runfile *r)
{
	return &r->actions[POINT_EXPERIMENT_START];
}

static void assert_refused(const char *yaml, const char *sentence)
{
	struct runfile *r = NULL;
	struct error err = {0};

	assert_int_equal(-ERR_CONFIG, runfile_parse("config.yml", yaml, strlen(yaml), &r, &err));
	assert_null(r);
	assert_string_equal(sentence, err.msg);
}

TEST(lifecycle_points_have_two_names_and_one_meaning)
{
	enum lifecycle_point p;
	struct error err;

	assert_int_equal(0, runfile_point_parse("on_image_build", &p, &err));
	assert_int_equal(POINT_BUILD_START, p);
	assert_int_equal(0, runfile_point_parse("on_after_training_end", &p, &err));
	assert_int_equal(POINT_EXPERIMENT_END, p);
	assert_string_equal("on_experiment_end", runfile_point_name(p));
	assert_int_equal(-ERR_USAGE, runfile_point_parse("on_biuld", &p, &err));
	assert_string_equal(
		"there is no lifecycle point 'on_biuld'; did you mean on_build", err.msg);
	assert_int_equal(-ERR_USAGE, runfile_point_parse("never", &p, &err));
	assert_int_equal(POINT_EXPERIMENT_END, p);
}

TEST(actions_are_shell_text_as_written)
{
	struct runfile *r = parse(START "        - echo \"a\" && ls **/*.png || true # no comment\n"
					"        - |\n"
					"          for i in 1 2; do\n"
					"          \techo $i: ${HOME}\n"
					"          done\n"
					"        -\n"
					"        - \"echo 'x: y'\"\n");
	const struct actions *a = start_of(r);

	assert_int_equal(3, a->n);
	assert_string_equal("echo \"a\" && ls **/*.png || true", a->v[0].script);
	assert_string_equal("for i in 1 2; do\n\techo $i: ${HOME}\ndone\n", a->v[1].script);
	assert_int_equal(6, a->v[1].line);
	assert_string_equal("echo 'x: y'", a->v[2].script);
	assert_int_equal(3, a->v[2].number);
	runfile_free(r);
}

TEST(actions_may_be_one_text_instead_of_a_list)
{
	struct runfile *r = parse("compute: {train: {actions: {on_build: make}}}\n");

	assert_int_equal(1, r->actions[POINT_BUILD].n);
	assert_string_equal("make", r->actions[POINT_BUILD].v[0].script);
	runfile_free(r);
}

TEST(actions_under_both_names_of_a_point_are_refused_with_both_lines)
{
	struct runfile *r;

	assert_refused("compute:\n  train:\n    actions:\n      on_experiment_start: [a]\n"
		       "      on_before_training_start: [b]\n",
		"config.yml:5:7: compute.train.actions.on_before_training_start is also on line 4, "
		"under its other name; keep on_experiment_start alone");
	r = parse("compute: {train: {actions: {on_experiment_start: null, "
		  "on_before_training_start: [b]}}}");
	assert_int_equal(1, start_of(r)->n);
	runfile_free(r);
}

TEST(actions_of_another_kind_are_refused)
{
	assert_refused("compute: {train: {actions: {on_experiment_start: {run: x}}}}",
		"config.yml:1:50: compute.train.actions.on_experiment_start must be a list");
	assert_refused(START "        - [a, b]\n",
		"config.yml:5:11: " ITEM " must be a shell command, or a map with run or stage");
	assert_refused(START "        - echo note: done\n",
		"config.yml:5:11: " ITEM
		": a shell command that holds ': ' must be quoted or a '|' "
		"block");
}

TEST(run_actions_have_a_timeout_and_retries)
{
	struct runfile *r = parse(START "        - run: python prepare.py\n"
					"          timeout: 10m\n"
					"          retries: 2\n"
					"        - {run: ls, timeout: 90}\n");
	const struct actions *a = start_of(r);

	assert_int_equal(ACTION_RUN, a->v[0].kind);
	assert_string_equal("python prepare.py", a->v[0].script);
	assert_int_equal(600000, a->v[0].timeout_ms);
	assert_int_equal(2, a->v[0].retries);
	assert_int_equal(90000, a->v[1].timeout_ms);
	assert_int_equal(0, a->v[1].retries);
	runfile_free(r);
	assert_refused(START "        - {run: x, timeout: soon}\n",
		"config.yml:5:29: " ITEM ".timeout: 'soon' is not a duration (seconds, or with ms, "
		"s, m, h or d: 1h30m)");
	assert_refused(START "        - {run: x, retries: -1}\n",
		"config.yml:5:29: " ITEM ".retries: '-1' is not a whole number");
	assert_refused(START "        - {run: x, retires: 1}\n",
		"config.yml:5:20: unknown key 'retires' in " ITEM "; did you mean 'retries'? "
		"The keys are run, timeout, retries, stage");
	assert_refused(START "        - {run: x, stage: {source: a, to: b}}\n",
		"config.yml:5:11: " ITEM " needs one of run and stage");
	assert_refused(START "        - {timeout: 3}\n",
		"config.yml:5:11: " ITEM " needs one of run and stage");
	assert_refused(START "        - {timeout: 3, stage: {source: a, to: b}}\n",
		"config.yml:5:11: " ITEM ": timeout and retries are for run, not for stage");
}

TEST(stage_actions_carry_every_key)
{
	struct runfile *r = parse(START "        - stage:\n"
					"            source: https://h/${NAME}.zip?a=b\n"
					"            to: /tmp/scratch\n"
					"            sha256: 0123456789ABCDEF0123456789abcdef"
					"0123456789abcdef0123456789abcdef\n"
					"            include: [\"train/**\", a]\n"
					"            exclude: \"*.tmp\"\n"
					"            strip_components: 1\n"
					"            extract: no\n"
					"            replace: yes\n");
	const struct action *a = &start_of(r)->v[0];

	assert_int_equal(1, start_of(r)->n);
	assert_int_equal(ACTION_STAGE, a->kind);
	assert_int_equal(1, a->stage.sources.n);
	assert_string_equal("https://h/${NAME}.zip?a=b", a->stage.sources.v[0]);
	assert_string_equal(DIGEST, a->stage.sha256);
	assert_string_equal("/tmp/scratch", a->stage.to);
	assert_int_equal(2, a->stage.include.n);
	assert_string_equal("train/**", a->stage.include.v[0]);
	assert_int_equal(1, a->stage.exclude.n);
	assert_int_equal(1, a->stage.strip_components);
	assert_true(a->stage.no_extract);
	assert_true(a->stage.replace);
	assert_string_equal("config.yml:6", a->stage.origin);
	assert_int_equal(5, a->line);
	runfile_free(r);
}

TEST(stage_actions_extract_and_do_not_replace_unless_told)
{
	struct runfile *r = parse(START "        - stage: {source: a.zip, to: d, extract: null}\n");
	const struct action *a = &start_of(r)->v[0];

	assert_false(a->stage.no_extract);
	assert_false(a->stage.replace);
	assert_null(a->stage.sha256);
	runfile_free(r);
}

TEST(stage_actions_may_name_a_datastore)
{
	struct runfile *r =
		parse(START "        - stage: {datastore: \"cats:1\", to: /d, include: x}\n");
	const struct action *a = &start_of(r)->v[0];

	assert_int_equal(ACTION_STAGE, a->kind);
	assert_int_equal(1, a->stage.sources.n);
	assert_string_equal("datastore:cats:1", a->stage.sources.v[0]);
	assert_null(a->stage.shard_rank);
	assert_string_equal("/d", a->stage.to);
	assert_int_equal(1, a->stage.include.n);
	runfile_free(r);
	assert_refused(START "        - stage: {datastore: \"cats:0\", to: /d}\n",
		"config.yml:5:18: " ITEM ".stage: 'cats:0' is not NAME[:VERSION][=DIR], with a "
		"version from 1");
	assert_refused(START "        - stage: {datastore: cats=/x, to: /d}\n",
		"config.yml:5:18: " ITEM ".stage: 'cats=/x': the directory goes under to");
}

/* What the first start action stages, with RANK=2, WORLD_SIZE=4, USER_DATA=ann:cats:3. */
static int stage_first(const char *item, struct stage_spec *ret, struct error *err)
{
	char *variables[] = {"RANK=2", "WORLD_SIZE=4", "USER_DATA=ann:cats:3"};
	const struct strings environment = {.v = variables, .n = ARRAY_LEN(variables)};
	_free_ char *yaml = text_format(START "        - stage: {%s}\n", item);
	struct runfile *r = parse(yaml);
	int code = agent_stage_spec(&start_of(r)->v[0].stage, &environment, ret, err);

	runfile_free(r);
	return code;
}

TEST(a_shard_is_that_of_the_launcher_unless_it_is_said)
{
	struct stage_spec spec;

	assert_int_equal(0, stage_first("datastore: cats, to: d, shard: {}", &spec, NULL));
	assert_int_equal(2, spec.shard_rank);
	assert_int_equal(4, spec.shard_world);
	stage_spec_done(&spec);
	assert_int_equal(
		0, stage_first("datastore: cats, to: d, shard: {rank: 0, world: 1}", &spec, NULL));
	assert_int_equal(0, spec.shard_rank);
	assert_int_equal(1, spec.shard_world);
	stage_spec_done(&spec);
	assert_int_equal(0, stage_first("datastore: cats, to: d", &spec, NULL));
	assert_int_equal(0, spec.shard_world);
	stage_spec_done(&spec);
}

static void assert_not_staged(const char *item, int code, const char *sentence)
{
	struct stage_spec spec;
	struct error err = {0};

	assert_int_equal(code, stage_first(item, &spec, &err));
	assert_string_equal(sentence, err.msg);
}

TEST(a_shard_that_cannot_be_is_refused)
{
	assert_not_staged("datastore: cats, to: d, shard: {rank: '${NONE}'}", -ERR_CONFIG,
		"shard: rank: ${NONE}: the environment has no NONE; set it for the container, or "
		"under environment in config.yml");
	assert_not_staged("datastore: cats, to: d, shard: {rank: 4}", -ERR_CONFIG,
		"shard: there is no rank 4 in a world of 4; ranks count from 0");
	assert_refused(START "        - stage: {datastore: cats, to: d, shard: {rank: first}}\n",
		"config.yml:5:57: " ITEM
		".stage.shard.rank must be a whole number, or ${VARIABLE}");
	assert_refused(START "        - stage: {datastore: cats, to: d, shard: {rnk: 1}}\n",
		"config.yml:5:51: unknown key 'rnk' in " ITEM ".stage.shard; did you mean 'rank'? "
		"The keys are rank, world");
}

TEST(a_datastore_may_come_from_variables_and_its_user_is_left_out)
{
	struct stage_spec spec;

	assert_int_equal(0, stage_first("datastore: '${USER_DATA}', to: d", &spec, NULL));
	assert_string_equal("datastore:cats:3", spec.sources[0].url);
	stage_spec_done(&spec);
	assert_not_staged("source: 'datastore:${USER_DATA}:4', to: d", -ERR_USAGE,
		"'ann:cats:3:4' is not NAME[:VERSION][=DIR], with a version from 1");
}

TEST(stage_actions_refuse_what_they_cannot_keep)
{
	assert_refused(START "        - stage: {to: d}\n",
		"config.yml:5:18: " ITEM ".stage needs one of source and datastore");
	assert_refused(START "        - stage: {source: a, datastore: b, to: d}\n",
		"config.yml:5:18: " ITEM ".stage needs one of source and datastore");
	assert_refused(START "        - stage: {source: a, to: null}\n",
		"config.yml:5:18: " ITEM ".stage needs to, the directory to stage into");
	assert_refused(START "        - stage: {source: a, to: d, sha265: x}\n",
		"config.yml:5:37: unknown key 'sha265' in " ITEM ".stage; did you mean 'sha256'? "
		"The keys are source, join, datastore, to, sha256, include, exclude, "
		"strip_components, zip_names, extract, replace, shard");
	assert_refused(START "        - stage: {source: a, destination: d}\n",
		"config.yml:5:30: unknown key 'destination' in " ITEM
		".stage; the keys are source, "
		"join, datastore, to, sha256, include, exclude, strip_components, zip_names, "
		"extract, replace, shard");
	assert_refused(START "        - stage: {source: a, to: d, sha256: abc}\n",
		"config.yml:5:45: " ITEM ".stage.sha256 must be 64 hexadecimal digits");
	assert_refused(START "        - stage: {datastore: a, to: d, sha256: " DIGEST "}\n",
		"config.yml:5:18: " ITEM ".stage: sha256 is for a source; a datastore's version "
		"says what it holds");
	assert_refused(START "        - stage: {datastore: a, to: d, shard: 1/2}\n",
		"config.yml:5:47: " ITEM ".stage.shard must be a map of keys and values");
	assert_refused(START "        - stage: {source: a, to: d, shard: {}}\n",
		"config.yml:5:44: " ITEM ".stage: shard needs a datastore, not a source");
	assert_refused(START "        - stage: {source: a, to: d, extract: perhaps}\n",
		"config.yml:5:46: " ITEM ".stage.extract: 'perhaps' is neither yes nor no");
	assert_refused(START "        - stage: {source: a, to: d, strip_components: two}\n",
		"config.yml:5:55: " ITEM ".stage.strip_components: 'two' is not a whole number");
	assert_refused(START "        - stage: {source: a, to: d, include: [{x: y}]}\n",
		"config.yml:5:47: " ITEM ".stage.include[1] must be a single value");
	assert_refused(START "        - stage: https://h/a.zip\n",
		"config.yml:5:18: " ITEM ".stage must be a map of keys and values");
}
