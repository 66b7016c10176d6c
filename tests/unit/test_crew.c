/* SPDX-License-Identifier: MIT */
/* Entries that are written by hands: nothing may differ from what one thread would have made. */
#include "../../agent/write/crew_private.h"
#include "text.h"
#include "tree_fixture.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct crewed {
	struct fixture *f;
	struct budget *budget;
	struct crew *crew;
};

static struct crewed crew_over(struct fixture *f, bool with_hands)
{
	struct crewed c = {.f = f, .budget = budget_new(0)};
	const struct crew_env env = {.tree = f->tree,
		.source = "test.tar",
		.budget = c.budget,
		.cancel = &f->cancel,
		.progress = &f->progress};

	c.crew = crew_new(&env);
	if (with_hands)
		assert_true(crew_start_workers(c.crew));
	assert_int_equal(with_hands, crew_has_workers(c.crew));
	return c;
}

static int finish(struct crewed *c, int code)
{
	code = crew_finish(c->crew, code, &c->f->err);
	budget_free(c->budget);
	return code;
}

static int give_file(struct crewed *c, const char *name, const char *content)
{
	struct slice s = {.data = (const uint8_t *)content, .len = strlen(content)};
	struct meta m = meta_of(0640);

	return crew_file(c->crew, c->f->w, name, &m, &s, &c->f->err);
}

static int give_dir(struct crewed *c, const char *name)
{
	struct meta m = meta_of(0750);

	return crew_dir(c->crew, c->f->w, name, &m, &c->f->err);
}

static int give_symlink(struct crewed *c, const char *name, const char *target)
{
	struct meta m = meta_of(0777);

	return crew_symlink(c->crew, c->f->w, name, target, &m, &c->f->err);
}

static int give_hardlink(struct crewed *c, const char *name, const char *target)
{
	return crew_hardlink(c->crew, c->f->w, name, target, &c->f->err);
}

TREE_TEST(crew_without_hands_has_written_when_it_returns)
{
	struct crewed c = crew_over(f, false);

	assert_ok(f, give_file(&c, "a/b", "content"));
	assert_content(f, "a/b", "content");
	assert_ok(f, finish(&c, 0));
}

TREE_TEST(hands_make_the_tree_that_one_thread_would_have_made)
{
	struct crewed c = crew_over(f, true);
	char name[64], content[64];

	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "d%d/e%d", i % 7, i % 50);
		assert_ok(f, give_dir(&c, name));
		snprintf(name, sizeof(name), "d%d/e%d/f%d", i % 7, i % 50, i);
		snprintf(content, sizeof(content), "content %d", i);
		assert_ok(f, give_file(&c, name, content));
	}
	assert_ok(f, give_symlink(&c, "d0/link", "e0"));
	assert_ok(f, finish(&c, 0));
	assert_ok(f, fixture_finish(f, NULL));
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "d%d/e%d/f%d", i % 7, i % 50, i);
		snprintf(content, sizeof(content), "content %d", i);
		assert_content(f, name, content);
	}
	assert_target(f, "d0/link", "e0");
	assert_int_equal(stat_of(f, "d1/e1/f1").st_mode & 07777, 0640);
	assert_int_equal(stat_of(f, "d1/e1/f1").st_mtim.tv_nsec, 123456789);
	assert_int_equal(stat_of(f, "d1/e1").st_mode & 07777, 0750);
	assert_int_equal(stat_of(f, "d1/e1").st_mtim.tv_nsec, 123456789);
	assert_int_equal(counted(&f->progress.entries), 6001);
}

TREE_TEST(hands_let_the_later_entry_of_a_name_win)
{
	static const char *const spellings[] = {"same/", "./same/", "same//"};
	struct crewed c = crew_over(f, true);
	char name[64], content[64];

	for (int i = 0; i < 100; i++) {
		for (int round = 0; round < 20; round++) {
			snprintf(name, sizeof(name), "%s%d", spellings[round % 3], i);
			snprintf(content, sizeof(content), "round %d", round);
			assert_ok(f, give_file(&c, name, content));
		}
	}
	assert_ok(f, finish(&c, 0));
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "same/%d", i);
		assert_content(f, name, "round 19");
	}
}

TREE_TEST(hands_link_to_the_target_as_it_was_in_the_archive)
{
	struct crewed c = crew_over(f, true);
	char name[64], target[64];

	for (int i = 0; i < 300; i++) {
		snprintf(target, sizeof(target), "t/%d", i);
		snprintf(name, sizeof(name), "l/%d", i);
		assert_ok(f, give_file(&c, target, "first"));
		assert_ok(f, give_hardlink(&c, name, target));
		assert_ok(f, give_file(&c, target, "second"));
	}
	assert_ok(f, finish(&c, 0));
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "l/%d", i);
		assert_content(f, name, "first");
		snprintf(target, sizeof(target), "t/%d", i);
		assert_content(f, target, "second");
	}
}

TREE_TEST(crew_awaits_a_file_that_is_then_written_in_parts)
{
	struct crewed c = crew_over(f, true);
	struct meta m = meta_of(0644);
	char name[64];

	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		assert_ok(f, give_file(&c, name, "small"));
		assert_ok(f, crew_await(c.crew, name, &f->err));
		assert_ok(f, writer_file_open(f->w, name, &m, 5, false, &f->err));
		assert_ok(f, writer_file_write(f->w, 0, "parts", 5, &f->err));
		assert_ok(f, writer_file_close(f->w, &f->err));
	}
	assert_ok(f, finish(&c, 0));
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		assert_content(f, name, "parts");
	}
}

TREE_TEST(failure_of_a_hand_ends_the_crew_and_names_the_entry)
{
	struct crewed c = crew_over(f, true);
	char name[64];
	int r = 0;

	assert_ok(f, give_symlink(&c, "a", "elsewhere"));
	assert_ok(f, give_file(&c, "a/b", "content"));
	for (int i = 0; i < 100000 && r == 0; i++) {
		snprintf(name, sizeof(name), "more/%d", i);
		r = give_file(&c, name, "content");
	}
	assert_failed(f, r, -ERR_REFUSED, "'a");
	assert_failed(f, finish(&c, r), -ERR_REFUSED, "'a");
}

TREE_TEST(failure_of_the_last_entry_is_told_at_the_end)
{
	struct crewed c = crew_over(f, true);

	assert_ok(f, give_hardlink(&c, "link", "not-there"));
	assert_failed(f, finish(&c, 0), -ERR_REFUSED, "'link'");
}

TREE_TEST(failure_of_the_caller_is_the_crews_when_it_was_first)
{
	struct crewed c = crew_over(f, true);

	assert_ok(f, give_file(&c, "a", "content"));
	error_set(&f->err, -ERR_FORMAT, "the archive is damaged");
	assert_failed(f, finish(&c, -ERR_FORMAT), -ERR_FORMAT, "damaged");
}

TREE_TEST(refused_name_is_refused_by_a_crew_with_hands_too)
{
	struct crewed c = crew_over(f, true);
	int r = give_file(&c, "../outside", "content");

	assert_failed(f, r, -ERR_REFUSED, "'../outside'");
	assert_failed(f, finish(&c, r), -ERR_REFUSED, "'../outside'");
}

TREE_TEST(cancelled_crew_takes_nothing_more)
{
	struct crewed c = crew_over(f, true);

	assert_ok(f, give_file(&c, "a", "content"));
	cancel_request(&f->cancel);
	assert_failed(f, give_file(&c, "b", "content"), -ECANCELED, "cancelled");
	assert_failed(f, finish(&c, 0), -ECANCELED, "cancelled");
	assert_false(is_there(f, "b"));
}

TREE_TEST(crew_holds_no_more_content_than_it_reserved)
{
	struct crewed c = crew_over(f, true);
	size_t len = CREW_FILE_MAX;
	char *content = zalloc(len), name[64];
	struct slice s = {.data = (const uint8_t *)content, .len = len};
	struct meta m = meta_of(0644);

	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "d%d/large", i);
		assert_ok(f, crew_file(c.crew, f->w, name, &m, &s, &f->err));
		pthread_mutex_lock(&c.crew->pool.mutex);
		assert_true(c.crew->content_bytes <= c.crew->allowance);
		pthread_mutex_unlock(&c.crew->pool.mutex);
	}
	assert_false(budget_try_reserve(c.budget, budget_stage_half(c.budget)));
	assert_ok(f, finish(&c, 0));
	assert_int_equal(stat_of(f, "d39/large").st_size, len);
	free(content);
}

TREE_TEST(crew_stays_without_hands_when_there_is_no_memory_for_them)
{
	struct crewed c = crew_over(f, false);
	uint64_t half = budget_stage_half(c.budget);

	assert_true(budget_try_reserve(c.budget, half));
	assert_false(crew_start_workers(c.crew));
	assert_ok(f, give_file(&c, "a", "content"));
	assert_content(f, "a", "content");
	budget_release(c.budget, half);
	assert_ok(f, finish(&c, 0));
}
