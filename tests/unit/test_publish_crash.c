/* SPDX-License-Identifier: MIT */
/* The machine goes down between the renames of an exchange, on a file system that has no exchange in one step. */
#include "../../agent/publish/journal.h"
#include "../../agent/publish/publish_private.h"
#include "defer.h"
#include "log.h"
#include "publish_fixture.h"
#include "test.h"
#include "text.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum lost { JOURNAL_STAYS, JOURNAL_IS_EMPTY };

static int stage_without_exchange(void *s)
{
	if (refuse_system_call(SYS_renameat2, EINVAL) != 0)
		return 2;
	return stage(s, NULL) < 0 ? 1 : 0;
}

/* As another kernel finds it. */
static void restart(const char *state, enum lost loss)
{
	char *journal = in(state, JOURNAL_FILE);

	publish_age(journal);
	publish_age(in(state, WHOLE_FILE));
	publish_age(in(state, MERGED_DIR "/aaaa.json"));
	if (loss == JOURNAL_IS_EMPTY && exists(journal))
		put_text(journal, "");
}

static bool is_one_version(const struct staging *old, const char *name)
{
	struct staging one = *old;

	one.names = name;
	if (is_complete(&one))
		return true;
	one.etag = "v2";
	return is_complete(&one);
}

static int open_it(void *to)
{
	const struct destination_options opts = {0};
	struct destination *d;

	if (refuse_system_call(SYS_renameat2, EINVAL) != 0 ||
		destination_open(to, &opts, &d, NULL) < 0)
		return 1;
	destination_close(d, false);
	return 0;
}

/* again: who takes it back is killed, too, at that rename; 0: he is not. *ret_seen: the old version came back from
 * where nobody sees it. */
static int crash_at(
	unsigned n, unsigned again, const char *dir, bool merge, enum lost loss, bool *ret_seen)
{
	_free_ char *name = text_format("%u-%u", n, again);
	char *parent = in(dir, name);
	struct staging s = {.to = in(parent, "cats"),
		.key = "aaaa",
		.etag = "v1",
		.names = "a b/ c",
		.summed = true};
	int killed, code;

	assert_int_equal(0, mkdir(parent, 0755));
	if (merge) {
		assert_int_equal(0, mkdir(s.to, 0755));
		put_text(in(s.to, "users"), "data");
	}
	assert_int_equal(STAGED, stage(&s, NULL));
	s.etag = "v2";
	s.renew = true;
	killed = kill_at_rename(n, stage_without_exchange, &s);
	if (killed < 0)
		skip();
	*ret_seen |= merge ? !exists(in(s.to, "b")) : !exists(s.to);
	restart(in(parent, ".stagerun/cats"), loss);
	s.etag = "v1";
	if (again > 0)
		killed = kill_at_rename(again, open_it, (void *)s.to);
	code = in_child(geteuid(), open_it, (void *)s.to);
	assert_int_equal(0, code);
	assert_true(is_one_version(&s, "a"));
	assert_true(is_one_version(&s, "b/"));
	assert_true(is_one_version(&s, "c"));
	return killed;
}

static void crash_everywhere(bool merge, enum lost loss)
{
	_free_ char *dir = test_directory();
	bool seen = false;

	log_setup(LOG_WARN, LOG_TEXT, 2);
	for (unsigned n = 1; crash_at(n, 0, dir, merge, loss, &seen) == 1; n++)
		;
	assert_true(seen);
}

/* The first moment in which nobody sees a version, and whatever may happen to who finds it so. */
static void crash_twice(bool merge)
{
	_free_ char *dir = test_directory();
	bool seen = false;
	unsigned n = 1;

	log_setup(LOG_WARN, LOG_TEXT, 2);
	while (crash_at(n, 0, dir, merge, JOURNAL_STAYS, &seen) == 1 && !seen)
		n++;
	assert_true(seen);
	for (unsigned again = 1; crash_at(n, again, dir, merge, JOURNAL_STAYS, &seen) == 1; again++)
		;
}

TEST(crash_while_an_exchange_is_taken_back_loses_neither_version)
{
	crash_twice(false);
	crash_twice(true);
}

TEST(crash_within_an_exchange_of_a_whole_loses_neither_version)
{
	crash_everywhere(false, JOURNAL_STAYS);
}

TEST(crash_within_an_exchange_of_a_whole_that_loses_the_journal_loses_neither_version)
{
	crash_everywhere(false, JOURNAL_IS_EMPTY);
}

TEST(crash_leaves_the_replaced_where_it_is_when_somebody_has_taken_its_place)
{
	_free_ char *dir = test_directory();
	struct staging s = {.to = in(dir, "cats"), .key = "aaaa", .etag = "v1", .names = "a"};
	struct staging left = s;

	assert_int_equal(STAGED, stage(&s, NULL));
	left.to = in(dir, ".stagerun/cats/" SLOT_SPARE);
	assert_int_equal(0, rename(s.to, left.to));
	assert_int_equal(0, mkdir(s.to, 0755));
	put_text(in(s.to, "mine"), "mine");
	log_setup(LOG_ERROR, LOG_TEXT, 2);
	assert_int_equal(0, in_child(geteuid(), open_it, (void *)s.to));
	assert_true(is_complete(&left));
	assert_true(exists(in(s.to, "mine")));
}

TEST(crash_within_an_exchange_of_a_merge_loses_neither_version)
{
	crash_everywhere(true, JOURNAL_STAYS);
}
