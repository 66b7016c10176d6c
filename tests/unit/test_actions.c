/* SPDX-License-Identifier: MIT */
/* The items of a lifecycle point: order, environment, failure, retries, time limits, cancelling. */
#include "../../agent/command/agent.h"
#include "actions.h"
#include "defer.h"
#include "log.h"
#include "progress.h"
#include "test.h"
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

/* One lifecycle point under test. Its items work in dir, which $D names, and its temporary files go to
 * tmp. */
struct point {
	uv_loop_t loop;
	struct settings settings;
	struct inherited inherited;
	struct strings environment;
	struct run_facts facts;
	struct action_env env;
	struct action items[8];
	struct actions actions;
	struct runner *run;
	char *dir, *tmp, *log_path;
	int log_fd;

	/* What it came to. */
	unsigned done;
	uint64_t cancelled_ns;
	int code;
	struct error err;

	/* The stage room's part. */
	unsigned stages;
	int stage_result;
	uv_timer_t stage_timer;
	void (*on_staged)(void *ctx, int code, const struct error *err);
	void *on_staged_ctx;
	struct text stage_seen; /* "URL -> DIR" */
};

static void on_stage_time(uv_timer_t *h)
{
	struct point *p = h->data;
	struct error err = {0};

	if (p->stage_result != 0)
		error_set(&err, p->stage_result, "the server answered 404");
	p->on_staged(p->on_staged_ctx, p->stage_result, &err);
}

static int stage(void *ctx, const struct action_stage *item,
	void (*on_done)(void *ctx, int code, const struct error *err), void *done_ctx,
	struct error *err)
{
	struct point *p = ctx;
	struct stage_spec spec;
	int code = agent_stage_spec(item, &p->environment, &spec, err);

	if (code < 0)
		return code;
	p->stages++;
	text_addf(&p->stage_seen, "%s -> %s|", spec.sources[0].url, spec.to);
	stage_spec_done(&spec);
	p->on_staged = on_done;
	p->on_staged_ctx = done_ctx;
	uv_timer_start(&p->stage_timer, on_stage_time, 20, 0);
	return 0;
}

static void note_done(void *ctx, int code, const struct error *err)
{
	struct point *p = ctx;

	p->done++;
	p->code = code;
	p->err = *err;
	runner_free(p->run);
	p->run = NULL;
	uv_close((uv_handle_t *)&p->stage_timer, NULL);
}

static void setup(struct point *p)
{
	memset(p, 0, sizeof(*p));
	assert_int_equal(0, uv_loop_init(&p->loop));
	uv_timer_init(&p->loop, &p->stage_timer);
	p->stage_timer.data = p;
	p->inherited.umask = 022;
	sigemptyset(&p->inherited.mask);
	p->dir = test_directory();
	p->tmp = test_directory();
	p->log_path = text_format("%s/log", p->dir);
	p->log_fd = open(p->log_path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	assert_true(p->log_fd >= 0);
	log_setup(LOG_INFO, LOG_TEXT, p->log_fd);
	environment_set(&p->environment, "PATH", "/usr/bin:/bin");
	environment_set(&p->environment, "D", p->dir);
	environment_set(&p->environment, "TMPDIR", p->tmp);
	p->env = (struct action_env){.items = {.loop = &p->loop,
					     .facts = &p->facts,
					     .settings = &p->settings,
					     .inherited = &p->inherited,
					     .environment = &p->environment,
					     .on_done = note_done,
					     .on_done_ctx = p},
		.config_path = "config.yml",
		.stage = stage,
		.stage_ctx = p};
	p->actions.v = p->items;
}

static struct action *add_item(struct point *p, enum action_kind kind)
{
	struct action *a = &p->items[p->actions.n++];

	a->kind = kind;
	a->number = (unsigned)p->actions.n;
	a->line = 10 + (unsigned)p->actions.n;
	return a;
}

static struct action *add_script(struct point *p, const char *script)
{
	struct action *a = add_item(p, ACTION_RUN);

	a->script = (char *)script;
	return a;
}

static void start(struct point *p)
{
	p->run = actions_start(&p->env, POINT_EXPERIMENT_START, &p->actions, 0);
	assert_int_equal(0, p->done);
}

static size_t files_in(const char *path)
{
	_closedir_ DIR *dir = opendir(path);
	size_t n = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL) /* NOLINT(concurrency-mt-unsafe): a DIR of our own */
		n++;
	return n - 2;
}

/* To its end; and whatever the end was, nothing is left behind. */
static void wait_for(struct point *p)
{
	assert_int_equal(0, uv_run(&p->loop, UV_RUN_DEFAULT));
	assert_int_equal(1, p->done);
	assert_int_equal(p->code, p->err.code);
	assert_int_equal(0, uv_loop_close(&p->loop));
	assert_int_equal(0, files_in(p->tmp));
}

static void run_all(struct point *p)
{
	start(p);
	wait_for(p);
}

static void teardown(struct point *p)
{
	log_setup(LOG_INFO, LOG_TEXT, STDERR_FILENO);
	close(p->log_fd);
	text_strings_done(&p->environment);
	text_done(&p->stage_seen);
	free(p->dir);
	free(p->tmp);
	free(p->log_path);
}

static char *read_file(const struct point *p, const char *name)
{
	_free_ char *path = text_format("%s/%s", p->dir, name);
	_fclose_ FILE *f = fopen(path, "re");
	struct text t = {0};
	char bytes[4096];
	size_t n;

	while (f != NULL && (n = fread(bytes, 1, sizeof(bytes), f)) > 0)
		text_add_bytes(&t, bytes, n);
	return text_take(&t);
}

static void assert_file(const struct point *p, const char *name, const char *expected)
{
	_free_ char *content = read_file(p, name);

	assert_string_equal(expected, content);
}

static void assert_logged(const struct point *p, const char *text)
{
	_free_ char *log = read_file(p, "log");

	if (strstr(log, text) == NULL)
		fail_msg("'%s' was not logged: %s", text, log);
}

TEST(point_without_items_is_done_from_the_loop)
{
	struct point p;

	setup(&p);
	run_all(&p);
	assert_int_equal(0, p.code);
	teardown(&p);
}

TEST(items_run_one_after_another_as_written)
{
	struct point p;

	setup(&p);
	add_script(&p, "sleep 0.1; echo one >> $D/out");
	add_script(&p, "echo two >> $D/out");
	add_script(&p, "cd /; echo three >> $D/out");
	run_all(&p);
	assert_int_equal(0, p.code);
	assert_file(&p, "out", "one\ntwo\nthree\n");
	assert_logged(&p, "on_experiment_start action 2 (config.yml:12): echo two");
	teardown(&p);
}

TEST(items_before_the_first_asked_for_are_left_out)
{
	struct point p;

	setup(&p);
	add_script(&p, "echo one >> $D/out");
	add_script(&p, "echo two >> $D/out");
	p.run = actions_start(&p.env, POINT_EXPERIMENT_START, &p.actions, 1);
	wait_for(&p);
	assert_file(&p, "out", "two\n");
	teardown(&p);
}

TEST(failing_item_is_named_with_line_status_and_script_and_ends_the_point)
{
	struct point p;

	setup(&p);
	add_script(&p, "true");
	add_script(&p, "\n  python prepare.py || exit 3\necho never");
	add_script(&p, "echo three >> $D/out");
	run_all(&p);
	assert_int_equal(-ERR_COMMAND, p.code);
	assert_string_equal(
		"on_experiment_start action 2 (config.yml:12) failed: exit status 3; it "
		"ran: python prepare.py || exit 3 ...",
		p.err.msg);
	assert_file(&p, "out", "");
	teardown(&p);
}

TEST(line_that_fails_in_the_middle_of_a_script_ends_it)
{
	struct point p;

	setup(&p);
	add_script(&p, "false\necho never >> $D/out");
	run_all(&p);
	assert_non_null(strstr(p.err.msg, "failed: exit status 1"));
	assert_file(&p, "out", "");
	teardown(&p);
}

TEST(signal_that_ends_an_item_is_named)
{
	struct point p;

	setup(&p);
	add_script(&p, "kill -KILL $$");
	run_all(&p);
	assert_non_null(strstr(p.err.msg, "failed: signal 9 (Killed)"));
	teardown(&p);
}

TEST(shell_that_is_not_there_is_a_failure_of_the_item)
{
	struct point p;

	setup(&p);
	p.settings.shell = "/no/such/shell";
	add_script(&p, "true")->retries = 3;
	run_all(&p);
	assert_int_equal(-ENOENT, p.code);
	assert_non_null(strstr(p.err.msg,
		"action 1 (config.yml:11) failed: cannot run '/no/such/shell': no such file"));
	teardown(&p);
}

TEST(shell_is_bash_where_there_is_one_and_sh_elsewhere)
{
	struct point p;

	setup(&p);
	add_script(&p, "echo ${BASH_VERSION:+bash} >> $D/out");
	add_script(&p, "echo PATH=/nowhere >> $STAGERUN_ENV");
	add_script(&p, "echo $0 >> $D/out");
	run_all(&p);
	assert_file(&p, "out", "bash\n/bin/sh\n");
	teardown(&p);
}

TEST(variables_of_an_item_reach_later_items_and_the_command)
{
	struct point p;

	setup(&p);
	add_script(&p, "echo 'GREETING=hello  \"world\"=1' >> $STAGERUN_ENV; printf 'LAST=x' >> "
		       "$STAGERUN_ENV; ls -l $STAGERUN_ENV | cut -c1-10 >> $D/out");
	add_script(&p, "echo \"$GREETING\" >> $D/out; echo GREETING=bye >> $STAGERUN_ENV");
	run_all(&p);
	assert_int_equal(0, p.code);
	assert_file(&p, "out", "-rw-------\nhello  \"world\"=1\n");
	assert_string_equal("bye", environment_get(&p.environment, "GREETING"));
	assert_string_equal("x", environment_get(&p.environment, "LAST"));
	assert_null(environment_get(&p.environment, "STAGERUN_ENV"));
	teardown(&p);
}

TEST(invalid_lines_of_the_variables_are_warned_of_by_number_and_left_out)
{
	struct point p;

	setup(&p);
	add_script(&p,
		"printf 'A=1\\n\\nexport B=2\\nnonsense-s3cret\\n9C=3\\nD2=4\\nE\\0=5\\n' >> "
		"$STAGERUN_ENV");
	run_all(&p);
	assert_int_equal(0, p.code);
	assert_string_equal("1", environment_get(&p.environment, "A"));
	assert_string_equal("4", environment_get(&p.environment, "D2"));
	assert_int_equal(5, p.environment.n);
	assert_logged(
		&p, "action 1 (config.yml:11): line 3 of $STAGERUN_ENV is ignored: what is before");
	assert_logged(&p, "line 4 of $STAGERUN_ENV is ignored: expected NAME=VALUE");
	assert_logged(&p, "line 5 of $STAGERUN_ENV is ignored");
	assert_logged(&p, "line 7 of $STAGERUN_ENV is ignored: a variable cannot hold a NUL byte");
	{
		_free_ char *log = read_file(&p, "log");

		assert_null(strstr(log, "s3cret\n"));
		assert_null(strstr(log, "line 2 "));
	}
	teardown(&p);
}

TEST(variables_of_an_item_that_failed_are_not_set)
{
	struct point p;

	setup(&p);
	add_script(&p, "echo A=1 >> $STAGERUN_ENV; exit 1");
	run_all(&p);
	assert_null(environment_get(&p.environment, "A"));
	teardown(&p);
}

TEST(variables_file_may_be_removed_but_not_be_made_something_else)
{
	struct point p;

	setup(&p);
	add_script(&p, "rm $STAGERUN_ENV");
	add_script(&p, "rm $STAGERUN_ENV; mkfifo $STAGERUN_ENV");
	run_all(&p);
	assert_int_equal(-ERR_COMMAND, p.code);
	assert_non_null(strstr(
		p.err.msg, "action 2 (config.yml:12) failed: $STAGERUN_ENV is not a regular file"));
	teardown(&p);
}

TEST(variables_need_no_directory_that_tmpdir_names)
{
	struct point p;

	setup(&p);
	environment_set(&p.environment, "TMPDIR", "/no/such/directory");
	add_script(&p, "echo CAT=tabby >> $STAGERUN_ENV");
	add_script(&p, "echo $CAT > $D/out");
	run_all(&p);
	assert_int_equal(0, p.code);
	assert_file(&p, "out", "tabby\n");
	teardown(&p);
}

TEST(item_is_tried_again_after_a_pause)
{
	uint64_t began = now_ns();
	struct point p;

	setup(&p);
	add_script(&p, "echo try >> $D/out; test $(wc -l < $D/out) = 2")->retries = 2;
	run_all(&p);
	assert_int_equal(0, p.code);
	assert_file(&p, "out", "try\ntry\n");
	assert_true(now_ns() - began >= 1000000000);
	assert_logged(&p, "failed: exit status 1; trying again in 1 s (1 of 2)");
	teardown(&p);
}

TEST(last_try_decides)
{
	struct point p;

	setup(&p);
	add_script(&p, "echo try >> $D/out; exit 4")->retries = 1;
	run_all(&p);
	assert_file(&p, "out", "try\ntry\n");
	assert_non_null(strstr(p.err.msg, "failed: exit status 4"));
	teardown(&p);
}

TEST(items_own_time_limit_comes_before_the_settings)
{
	struct point p;

	setup(&p);
	p.settings.action_timeout_ms = 100000;
	add_script(&p, "sleep 100 & sleep 100")->timeout_ms = 200;
	run_all(&p);
	assert_int_equal(-ERR_COMMAND, p.code);
	assert_non_null(strstr(p.err.msg, "failed: it took longer than its timeout of 200 ms"));
	teardown(&p);
}

TEST(time_limit_of_the_settings_holds_for_items_without_one)
{
	struct point p;

	setup(&p);
	p.settings.action_timeout_ms = 100;
	add_script(&p, "sleep 100");
	run_all(&p);
	assert_non_null(strstr(p.err.msg, "its timeout of 100 ms"));
	teardown(&p);
}

TEST(process_an_item_leaves_behind_is_ended_and_warned_of)
{
	struct point p;

	setup(&p);
	add_script(&p, "sleep 100 & echo $! > $D/pid");
	run_all(&p);
	assert_int_equal(0, p.code);
	assert_logged(&p, "action 1 (config.yml:11) left processes in the background");
	{
		_free_ char *pid = read_file(&p, "pid");
		_free_ char *proc = text_format("/proc/%d/cmdline", atoi(pid));
		_fclose_ FILE *f = fopen(proc, "re");

		assert_true(f == NULL || fgetc(f) == EOF); /* gone, or a zombie */
	}
	teardown(&p);
}

/* Cancelling. */

static void cancel_now(uv_timer_t *h)
{
	struct point *p = h->data;

	runner_cancel(p->run, false);
	runner_cancel(p->run, false);
	p->cancelled_ns = now_ns();
	uv_close((uv_handle_t *)h, NULL);
}

/* How long the point takes to end, in ms, when it is cancelled ms after its start. */
static uint64_t cancel_after(struct point *p, uint64_t ms)
{
	uv_timer_t timer;

	start(p);
	uv_timer_init(&p->loop, &timer);
	timer.data = p;
	uv_timer_start(&timer, cancel_now, ms, 0);
	wait_for(p);
	assert_int_equal(-ECANCELED, p->code);
	assert_file(p, "out", "");
	return (now_ns() - p->cancelled_ns) / 1000000;
}

/* The shortest of a few times: a busy machine can make any one of them long. */
static uint64_t fastest_cancel(const char *script, unsigned retries, uint64_t ms)
{
	uint64_t fastest = UINT64_MAX;

	for (int i = 0; i < 5 && fastest >= 100; i++) {
		struct point p;
		uint64_t took;

		setup(&p);
		add_script(&p, script)->retries = retries;
		add_script(&p, "echo never >> $D/out");
		took = cancel_after(&p, ms);
		fastest = took < fastest ? took : fastest;
		teardown(&p);
	}
	return fastest;
}

TEST(cancelled_item_ends_at_once)
{
	assert_true(fastest_cancel("sleep 100; echo never >> $D/out", 0, 200) < 100);
}

TEST(cancelled_pause_before_a_retry_ends_at_once)
{
	assert_true(fastest_cancel("exit 1", 5, 400) < 100);
}

TEST(cancelled_before_the_first_item_nothing_runs)
{
	struct point p;

	setup(&p);
	add_script(&p, "echo never >> $D/out");
	start(&p);
	runner_cancel(p.run, false);
	wait_for(&p);
	assert_int_equal(-ECANCELED, p.code);
	assert_file(&p, "out", "");
	teardown(&p);
}

TEST(cancelled_hard_an_item_that_ignores_sigterm_is_killed)
{
	uint64_t began;
	struct point p;

	setup(&p);
	add_script(&p, "trap '' TERM; echo ready > $D/ready; sleep 30");
	start(&p);
	for (;;) {
		_free_ char *ready = read_file(&p, "ready");

		if (*ready != '\0')
			break;
		uv_run(&p.loop, UV_RUN_NOWAIT);
	}
	runner_cancel(p.run, false);
	began = now_ns();
	runner_cancel(p.run, true);
	wait_for(&p);
	assert_int_equal(-ECANCELED, p.code);
	assert_true(now_ns() - began < 10000000000);
	teardown(&p);
}

TEST(cancelled_during_a_stage_item_its_end_is_waited_for)
{
	char *source[] = {"https://host/x.tar"};
	struct point p;
	struct action *a;

	setup(&p);
	a = add_item(&p, ACTION_STAGE);
	a->stage = (struct action_stage){.sources = {.v = source, .n = 1}, .to = "/data"};
	add_script(&p, "echo never >> $D/out");
	start(&p);
	while (p.stages == 0)
		uv_run(&p.loop, UV_RUN_NOWAIT);
	runner_cancel(p.run, false);
	assert_true(uv_is_active((uv_handle_t *)&p.stage_timer));
	wait_for(&p);
	assert_int_equal(-ECANCELED, p.code);
	assert_file(&p, "out", "");
	teardown(&p);
}

/* Skipping. */

static void skip_once_it_pauses(uv_timer_t *h)
{
	struct point *p = h->data;
	_free_ char *log = read_file(p, "log");

	if (strstr(log, "trying again in 1 s") == NULL)
		return;
	runner_skip(p->run, false);
	uv_close((uv_handle_t *)h, NULL);
}

static void skip_in_pause(struct point *p)
{
	uv_timer_t timer;

	add_script(p, "exit 3")->retries = 5;
	add_script(p, "echo after >> $D/out");
	start(p);
	uv_timer_init(&p->loop, &timer);
	timer.data = p;
	uv_timer_start(&timer, skip_once_it_pauses, 0, 10);
	wait_for(p);
}

TEST(skipped_in_the_pause_before_a_retry_an_item_has_failed)
{
	struct point p;

	setup(&p);
	skip_in_pause(&p);
	assert_int_equal(-ERR_COMMAND, p.code);
	assert_string_equal(
		"on_experiment_start action 1 (config.yml:11) failed: exit status 3; it ran: exit 3",
		p.err.msg);
	assert_file(&p, "out", "");
	teardown(&p);
	setup(&p);
	p.env.keep_going = true;
	skip_in_pause(&p);
	assert_int_equal(0, p.code);
	assert_logged(&p, "action 1 (config.yml:11) failed: exit status 3; it ran: exit 3\n");
	assert_file(&p, "out", "after\n");
	teardown(&p);
}

/* Stage items. */

TEST(stage_item_is_expanded_when_its_turn_comes)
{
	char *source[] = {"https://host/${NAME}.tar"};
	struct point p;
	struct action *a;

	setup(&p);
	add_script(&p, "echo NAME=cats >> $STAGERUN_ENV");
	a = add_item(&p, ACTION_STAGE);
	a->stage = (struct action_stage){.sources = {.v = source, .n = 1}, .to = "/data/${NAME}"};
	add_script(&p, "echo after >> $D/out");
	run_all(&p);
	assert_int_equal(0, p.code);
	assert_string_equal("https://host/cats.tar -> /data/cats|", p.stage_seen.s);
	assert_file(&p, "out", "after\n");
	teardown(&p);
}

TEST(stage_item_with_an_undefined_variable_is_refused_by_line)
{
	char *source[] = {"https://host/${NO_SUCH}.tar"};
	struct point p;
	struct action *a;

	setup(&p);
	a = add_item(&p, ACTION_STAGE);
	a->stage = (struct action_stage){.sources = {.v = source, .n = 1}, .to = "/data"};
	run_all(&p);
	assert_int_equal(-ERR_CONFIG, p.code);
	assert_non_null(strstr(p.err.msg, "action 1 (config.yml:11) failed"));
	assert_non_null(strstr(p.err.msg, "NO_SUCH"));
	assert_int_equal(0, p.stages);
	teardown(&p);
}

TEST(stage_item_that_fails_ends_the_point_with_its_code)
{
	char *source[] = {"https://host/x.tar"};
	struct point p;
	struct action *a;

	setup(&p);
	p.stage_result = -ERR_HTTP;
	a = add_item(&p, ACTION_STAGE);
	a->stage = (struct action_stage){.sources = {.v = source, .n = 1}, .to = "/data"};
	add_script(&p, "echo never >> $D/out");
	run_all(&p);
	assert_int_equal(-ERR_HTTP, p.code);
	assert_string_equal(
		"on_experiment_start action 1 (config.yml:11) failed: the server answered 404",
		p.err.msg);
	assert_file(&p, "out", "");
	teardown(&p);
}

/* Output. */

/* Runs the point with both standard streams going to files. */
static void run_redirected(struct point *p)
{
	_free_ char *out = text_format("%s/stdout", p->dir);
	_free_ char *err = text_format("%s/stderr", p->dir);
	int saved_out = dup(STDOUT_FILENO), saved_err = dup(STDERR_FILENO);

	fflush(stdout);
	assert_non_null(freopen(out, "we", stdout));
	assert_non_null(freopen(err, "we", stderr));
	fcntl(STDOUT_FILENO, F_SETFD, 0);
	fcntl(STDERR_FILENO, F_SETFD, 0);
	run_all(p);
	dup2(saved_out, STDOUT_FILENO);
	dup2(saved_err, STDERR_FILENO);
	close(saved_out);
	close(saved_err);
}

TEST(output_of_items_passes_as_it_is)
{
	struct point p;

	setup(&p);
	add_script(&p, "printf 'a\\nb'; printf error >&2");
	run_redirected(&p);
	assert_file(&p, "stdout", "a\nb");
	assert_file(&p, "stderr", "error");
	teardown(&p);
}

TEST(lines_of_items_are_prefixed_on_request)
{
	struct point p;

	setup(&p);
	p.settings.prefix_output = true;
	add_script(&p, "true");
	add_script(&p, "printf 'a\\n\\nb'; echo c >&2");
	run_redirected(&p);
	assert_file(&p, "stdout", "");
	assert_file(&p, "stderr", "");
	assert_logged(&p, "\n[on_experiment_start 2] a\n[on_experiment_start 2] \n"
			  "[on_experiment_start 2] bc\n");
	teardown(&p);
}
