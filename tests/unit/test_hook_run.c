/* SPDX-License-Identifier: MIT */
/* The hooks of one point at work: order, failure by policy, time limits, variables, cancelling. */
#include "defer.h"
#include "hooks_fixture.h"
#include "test.h"
#include <signal.h>
#include <string.h>
#include <uv.h>

struct reached {
	struct hooks_fixture f;
	uv_loop_t loop;
	struct inherited inherited;
	struct run_facts facts;
	struct strings environment;
	struct runner *run;
	uv_timer_t timer;
	unsigned done;
	int code;
	struct error err;
};

static void setup(struct reached *r)
{
	memset(r, 0, sizeof(*r));
	hooks_fixture_setup(&r->f);
	assert_int_equal(0, uv_loop_init(&r->loop));
	r->inherited.umask = 022;
	sigemptyset(&r->inherited.mask);
	environment_set(&r->environment, "PATH", "/usr/bin:/bin");
	environment_set(&r->environment, "OUT", r->f.out);
}

static void teardown(struct reached *r)
{
	text_strings_done(&r->environment);
	hooks_fixture_teardown(&r->f);
}

static void on_done(void *ctx, int code, const struct error *err)
{
	struct reached *r = ctx;

	r->done++;
	r->code = code;
	r->err = *err;
	runner_free(take_ptr(&r->run));
}

static void start(struct reached *r, enum hook_point point)
{
	struct runner_env env = {.loop = &r->loop,
		.settings = r->f.settings,
		.inherited = &r->inherited,
		.facts = &r->facts,
		.environment = &r->environment,
		.on_done = on_done,
		.on_done_ctx = r};

	if (hooks_fixture_find(&r->f) < 0)
		fail_msg("%s", r->f.err.msg);
	r->run = hooks_start(&env, r->f.hooks, point);
	assert_int_equal(0, r->done);
}

static void wait_for(struct reached *r)
{
	assert_int_equal(0, uv_run(&r->loop, UV_RUN_DEFAULT));
	assert_int_equal(1, r->done);
	assert_int_equal(0, uv_loop_close(&r->loop));
}

static void reach(struct reached *r, enum hook_point point)
{
	start(r, point);
	wait_for(r);
}

static char *seen(const struct reached *r)
{
	_free_ char *path = text_format("%s/seen", r->f.out);
	_fclose_ FILE *file = fopen(path, "re");
	char *text = zalloc(4096);

	if (file != NULL)
		text[fread(text, 1, 4095, file)] = '\0';
	return text;
}

static void assert_seen(const struct reached *r, const char *expected)
{
	_free_ char *text = seen(r);

	assert_string_equal(expected, text);
}

static void assert_logged(const struct reached *r, const char *expected)
{
	_free_ char *log = hooks_fixture_log(&r->f);

	if (strstr(log, expected) == NULL)
		fail_msg("'%s' does not say '%s'", log, expected);
}

#define SEE "printf '%s ' \"${0##*/}\" >> $OUT/seen"

TEST(hook_run_takes_one_after_another)
{
	struct reached r;

	setup(&r);
	hooks_fixture_put(r.f.dir, "on_stage_start/20-b", SEE);
	hooks_fixture_put(r.f.dir, "on_stage_start/10-a", "sleep 0.05; " SEE);
	reach(&r, HOOK_STAGE_START);
	assert_int_equal(0, r.code);
	assert_seen(&r, "10-a 20-b ");
	teardown(&r);
}

TEST(hook_run_of_an_end_goes_backwards)
{
	struct reached r;

	setup(&r);
	hooks_fixture_put(r.f.dir, "on_experiment_end/20-b", SEE);
	hooks_fixture_put(r.f.dir, "on_experiment_end/10-a", SEE);
	reach(&r, HOOK_EXPERIMENT_END);
	assert_seen(&r, "20-b 10-a ");
	teardown(&r);
}

TEST(hook_run_without_hooks_is_done_at_once)
{
	struct reached r;

	setup(&r);
	reach(&r, HOOK_FAILURE);
	assert_int_equal(0, r.code);
	teardown(&r);
}

TEST(hook_run_stops_at_a_failure_that_fails_the_run)
{
	struct reached r;

	setup(&r);
	hooks_fixture_put(r.f.dir, "on_experiment_start/10-a", "exit 3");
	hooks_fixture_put(r.f.dir, "on_experiment_start/20-b", SEE);
	reach(&r, HOOK_EXPERIMENT_START);
	assert_int_equal(-ERR_COMMAND, r.code);
	assert_non_null(strstr(r.err.msg, "on_experiment_start hook "));
	assert_non_null(strstr(r.err.msg, "/10-a failed: exit status 3"));
	assert_non_null(strstr(r.err.item, "/on_experiment_start/10-a"));
	assert_seen(&r, "");
	teardown(&r);
}

TEST(hook_run_goes_on_after_a_failure_that_is_warned_of)
{
	struct reached r;

	setup(&r);
	hooks_fixture_set(&r.f, "hooks.on_experiment_start", "warn");
	hooks_fixture_put(r.f.dir, "on_experiment_start/10-a", "exit 3");
	hooks_fixture_put(r.f.dir, "on_experiment_start/20-b", SEE);
	reach(&r, HOOK_EXPERIMENT_START);
	assert_int_equal(0, r.code);
	assert_seen(&r, "20-b ");
	assert_logged(&r, "/10-a failed: exit status 3");
	teardown(&r);
}

TEST(hook_run_of_an_end_only_warns)
{
	struct reached r;

	setup(&r);
	hooks_fixture_put(r.f.dir, "on_experiment_end/20-b", "exit 3");
	hooks_fixture_put(r.f.dir, "on_experiment_end/10-a", SEE);
	reach(&r, HOOK_EXPERIMENT_END);
	assert_int_equal(0, r.code);
	assert_seen(&r, "10-a ");
	teardown(&r);
}

TEST(hook_run_of_stage_end_can_be_told_to_fail_the_run)
{
	struct reached r;

	setup(&r);
	hooks_fixture_set(&r.f, "hooks.on_stage_end", "fail");
	hooks_fixture_put(r.f.dir, "on_stage_end/10-a", "exit 3");
	reach(&r, HOOK_STAGE_END);
	assert_int_equal(-ERR_COMMAND, r.code);
	teardown(&r);
}

TEST(hook_run_fails_with_a_hook_that_cannot_be_executed)
{
	struct reached r;
	_free_ char *path = NULL;
	FILE *file;

	setup(&r);
	path = hooks_fixture_add(r.f.dir, "on_stage_start/10-a", ":");
	file = fopen(path, "we");
	fprintf(file, "#!/nowhere/interpreter\n");
	fclose(file);
	reach(&r, HOOK_STAGE_START);
	assert_true(r.code < 0);
	assert_non_null(strstr(r.err.msg, "/nowhere/interpreter"));
	teardown(&r);
}

TEST(hook_run_ends_a_hook_that_takes_too_long)
{
	struct reached r;

	setup(&r);
	hooks_fixture_set(&r.f, "hooks.timeout", "100ms");
	hooks_fixture_put(r.f.dir, "on_stage_start/10-a", "sleep 60");
	reach(&r, HOOK_STAGE_START);
	assert_int_equal(-ERR_COMMAND, r.code);
	assert_non_null(strstr(r.err.msg, "timeout of 100 ms"));
	teardown(&r);
}

TEST(hook_run_carries_variables_on)
{
	struct reached r;

	setup(&r);
	hooks_fixture_put(r.f.dir, "on_stage_start/10-a", "echo NAME=two words >> $STAGERUN_ENV");
	hooks_fixture_put(r.f.dir, "on_stage_start/20-b", "printf '%s' \"$NAME\" > $OUT/seen");
	reach(&r, HOOK_STAGE_START);
	assert_seen(&r, "two words");
	assert_string_equal("two words", environment_get(&r.environment, "NAME"));
	assert_null(environment_get(&r.environment, "STAGERUN_ENV"));
	assert_null(environment_get(&r.environment, "STAGERUN_POINT"));
	teardown(&r);
}

static void on_skip_time(uv_timer_t *h)
{
	struct reached *r = h->data;

	uv_close((uv_handle_t *)h, NULL);
	runner_skip(r->run, false);
}

static void on_cancel_time(uv_timer_t *h)
{
	struct reached *r = h->data;

	uv_close((uv_handle_t *)h, NULL);
	runner_cancel(r->run, true);
	runner_cancel(r->run, true);
}

static void soon(struct reached *r, uv_timer_cb do_this)
{
	uv_timer_init(&r->loop, &r->timer);
	r->timer.data = r;
	uv_timer_start(&r->timer, do_this, 50, 0);
}

TEST(hook_run_goes_on_after_a_hook_that_is_skipped)
{
	struct reached r;

	setup(&r);
	hooks_fixture_put(r.f.dir, "on_failure/10-a", "sleep 60; " SEE);
	hooks_fixture_put(r.f.dir, "on_failure/20-b", SEE);
	start(&r, HOOK_FAILURE);
	soon(&r, on_skip_time);
	wait_for(&r);
	assert_int_equal(0, r.code);
	assert_seen(&r, "20-b ");
	teardown(&r);
}

TEST(hook_run_is_cancelled_with_the_hook_under_way)
{
	struct reached r;

	setup(&r);
	hooks_fixture_put(r.f.dir, "on_stage_start/10-a", "sleep 60");
	hooks_fixture_put(r.f.dir, "on_stage_start/20-b", SEE);
	start(&r, HOOK_STAGE_START);
	soon(&r, on_cancel_time);
	wait_for(&r);
	assert_int_equal(-ECANCELED, r.code);
	assert_seen(&r, "");
	teardown(&r);
}

TEST(hook_run_is_cancelled_before_its_first_hook)
{
	struct reached r;

	setup(&r);
	hooks_fixture_put(r.f.dir, "on_stage_start/10-a", SEE);
	start(&r, HOOK_STAGE_START);
	runner_cancel(r.run, false);
	wait_for(&r);
	assert_int_equal(-ECANCELED, r.code);
	assert_seen(&r, "");
	teardown(&r);
}
