/* SPDX-License-Identifier: MIT */
#include "../../agent/command/run/run.h"
#include "test.h"

TEST(grace_that_does_not_run_never_ends)
{
	const struct grace g = {.period_ms = 25000};

	assert_true(supervise_grace_command_ends(&g) == UINT64_MAX);
	assert_true(supervise_grace_actions_end(&g) == UINT64_MAX);
	assert_true(supervise_grace_over(&g) == UINT64_MAX);
}

TEST(grace_gives_the_command_seventy_percent_and_keeps_two_seconds_for_the_last_words)
{
	struct grace g = {.period_ms = 25000};

	supervise_grace_begin(&g, 1000);
	assert_int_equal(1000 + 17500, supervise_grace_command_ends(&g));
	assert_int_equal(1000 + 23000, supervise_grace_actions_end(&g));
	assert_int_equal(1000 + 24000, supervise_grace_actions_killed(&g));
	assert_int_equal(1000 + 25000, supervise_grace_over(&g));
}

TEST(grace_keeps_only_a_tenth_of_a_short_period)
{
	struct grace g = {.period_ms = 2000};

	supervise_grace_begin(&g, 0);
	assert_int_equal(1400, supervise_grace_command_ends(&g));
	assert_int_equal(1800, supervise_grace_actions_end(&g));
	assert_int_equal(1900, supervise_grace_actions_killed(&g));
}

TEST(grace_begins_once)
{
	struct grace g = {.period_ms = 1000};

	supervise_grace_begin(&g, 5);
	supervise_grace_begin(&g, 500);
	assert_int_equal(1005, supervise_grace_over(&g));
}
