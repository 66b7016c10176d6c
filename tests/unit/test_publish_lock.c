/* SPDX-License-Identifier: MIT */
/* Two agents, one destination. */
#include "defer.h"
#include "log.h"
#include "publish_fixture.h"
#include "test.h"
#include "text.h"
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static struct staging cats(const char *dir)
{
	return (struct staging){
		.to = in(dir, "cats"), .key = "aaaa", .etag = "v1", .names = "a b/"};
}

static int hold(const char *to, struct destination **ret)
{
	static const struct destination_options opts = {0};

	return destination_open(to, &opts, ret, NULL);
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

struct waiting {
	const char *to;
	struct cancel cancel;
	atomic_bool done;
	int code;
	struct error err;
};

static void *wait_for_it(void *ctx)
{
	struct waiting *w = ctx;
	const struct destination_options opts = {.cancel = &w->cancel};
	struct destination *d = NULL;

	w->code = destination_open(w->to, &opts, &d, &w->err);
	destination_close(d, false);
	atomic_store(&w->done, true);
	return NULL;
}

TEST(lock_makes_the_second_wait_until_the_first_is_done)
{
	_free_ char *dir = test_directory();
	struct waiting w = {.to = in(dir, "cats"), .code = 1};
	struct destination *d;
	pthread_t thread;

	log_setup(LOG_WARN, LOG_TEXT, 2);
	cancel_init(&w.cancel);
	assert_int_equal(0, hold(w.to, &d));
	assert_int_equal(0, pthread_create(&thread, NULL, wait_for_it, &w));
	usleep(300 * 1000);
	assert_false(atomic_load(&w.done));
	destination_close(d, false);
	pthread_join(thread, NULL);
	cancel_done(&w.cancel);
	assert_int_equal(0, w.code);
	assert_false(exists(in(dir, ".stagerun")));
}

TEST(lock_waiting_ends_when_cancelled)
{
	_free_ char *dir = test_directory();
	struct waiting w = {.to = in(dir, "cats"), .code = 1};
	struct destination *d;
	pthread_t thread;
	uint64_t start;

	log_setup(LOG_WARN, LOG_TEXT, 2);
	cancel_init(&w.cancel);
	assert_int_equal(0, hold(w.to, &d));
	assert_int_equal(0, pthread_create(&thread, NULL, wait_for_it, &w));
	usleep(600 * 1000);
	start = now_ms();
	cancel_request(&w.cancel);
	pthread_join(thread, NULL);
	assert_true(now_ms() - start < 10000);
	assert_int_equal(-ECANCELED, w.code);
	assert_non_null(strstr(w.err.msg, "waiting for another agent that is staging"));
	destination_close(d, false);
	cancel_done(&w.cancel);
}

static void assert_says_us(const char *msg)
{
	_free_ char *us = text_format("(process %ld on ", (long)getpid());
	const char *who = strstr(msg, us);

	assert_non_null(who);
	assert_non_null(strstr(who, ", since 20"));
}

TEST(lock_is_waited_for_as_long_as_it_may_and_the_error_says_for_whom)
{
	const struct destination_options opts = {.lock_limit = {.limited = true, .ms = 99}};
	_free_ char *dir = test_directory();
	struct destination *first, *second = NULL;
	struct error err;

	log_setup(LOG_WARN, LOG_TEXT, 2);
	assert_int_equal(0, hold(in(dir, "cats"), &first));
	assert_int_equal(-EBUSY, destination_open(in(dir, "cats"), &opts, &second, &err));
	assert_null(second);
	assert_says_us(err.msg);
	assert_non_null(strstr(err.msg, "lock_timeout in agent.ini allows (99 ms)"));
	destination_close(first, false);
	assert_int_equal(0, destination_open(in(dir, "cats"), &opts, &second, &err));
	destination_close(second, false);
}

TEST(lock_that_is_waited_for_is_named_at_once_and_again)
{
	const struct destination_options opts = {
		.lock_limit = {.limited = true, .ms = 899}, .log_every_ms = 100};
	_free_ char *dir = test_directory();
	_close_ int log = open(in(dir, "log"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct destination *first, *second = NULL;
	char said[4096] = {0}, *again;
	struct error err;

	assert_int_equal(0, hold(in(dir, "cats"), &first));
	log_setup(LOG_INFO, LOG_TEXT, log);
	assert_int_equal(-EBUSY, destination_open(in(dir, "cats"), &opts, &second, &err));
	log_setup(LOG_WARN, LOG_TEXT, 2);
	assert_true(pread(log, said, sizeof(said) - 1, 0) > 0);
	assert_non_null(strstr(said, "waiting for another agent that is staging"));
	assert_says_us(said);
	again = strstr(said, "still waiting for another agent that is staging");
	assert_non_null(again);
	assert_says_us(again);
	assert_non_null(strstr(again + 1, "still waiting"));
	destination_close(first, false);
}

TEST(lock_is_not_inherited_by_the_command)
{
	_free_ char *dir = test_directory();
	struct destination *d;
	struct stat st;
	int found = 0;

	assert_int_equal(0, hold(in(dir, "cats"), &d));
	for (int fd = 3; fd < 256; fd++) {
		if (fstat(fd, &st) != 0)
			continue;
		_free_ char *link = text_format("/proc/self/fd/%d", fd);
		char target[512] = {0};

		if (readlink(link, target, sizeof(target) - 1) > 0 &&
			strncmp(target, dir, strlen(dir)) == 0) {
			assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
			found++;
		}
	}
	destination_close(d, false);
	assert_true(found >= 3);
}

static int race(void *ctx)
{
	return stage(ctx, NULL) == STAGED ? 10 : stage(ctx, NULL) == WARM ? 11 : 12;
}

TEST(lock_lets_exactly_one_of_many_stage_and_the_others_find_it_warm)
{
	enum { RACERS = 8 };
	_free_ char *dir = test_directory();

	log_setup(LOG_WARN, LOG_TEXT, 2);
	for (int round = 0; round < 5; round++) {
		_free_ char *name = text_format("%d", round);
		struct staging s = cats(in(dir, name));
		int staged = 0, warm = 0, status;
		pid_t pids[RACERS];

		for (int i = 0; i < RACERS; i++) {
			pids[i] = fork();
			if (pids[i] == 0)
				_exit(race(&s));
		}
		for (int i = 0; i < RACERS; i++) {
			assert_int_equal(pids[i], waitpid(pids[i], &status, 0));
			staged += WIFEXITED(status) && WEXITSTATUS(status) == 10;
			warm += WIFEXITED(status) && WEXITSTATUS(status) == 11;
		}
		assert_int_equal(1, staged);
		assert_int_equal(RACERS - 1, warm);
		assert_true(is_complete(&s));
	}
}

static int open_and_give_up(void *ctx)
{
	for (int i = 0; i < 100; i++) {
		struct destination *d = NULL;

		EXPECT(hold(ctx, &d) == 0);
		destination_close(d, false);
	}
	return 0;
}

TEST(lock_survives_that_the_state_directory_comes_and_goes)
{
	enum { RACERS = 4 };
	_free_ char *dir = test_directory();
	char *to = in(dir, "cats");
	pid_t pids[RACERS];
	int status;

	log_setup(LOG_WARN, LOG_TEXT, 2);
	for (int i = 0; i < RACERS; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(open_and_give_up(to));
	}
	for (int i = 0; i < RACERS; i++) {
		assert_int_equal(pids[i], waitpid(pids[i], &status, 0));
		assert_true(WIFEXITED(status));
		assert_int_equal(0, WEXITSTATUS(status));
	}
	assert_false(exists(in(dir, ".stagerun")));
}
