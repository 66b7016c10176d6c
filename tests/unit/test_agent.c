/* SPDX-License-Identifier: MIT */
#include "../../agent/command/agent.h"
#include "test.h"
#include <signal.h>
#include <unistd.h>

static void unblock(void)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_UNBLOCK, &all, NULL);
}

TEST(agent_hears_a_signal_that_came_while_nobody_ran_the_loop)
{
	static const struct inherited in;
	struct settings *settings = settings_new();
	struct agent agent;

	assert_int_equal(0, agent_open(&agent, settings, &in, NULL));
	kill(getpid(), SIGTERM);
	agent_close(&agent);
	unblock();
	assert_int_equal(SIGTERM, agent.signal);
	assert_int_equal(143, agent_leave(&agent, 128 + agent.signal));
	settings_free(settings);
}

TEST(agent_leaves_later_signals_to_the_command)
{
	static const struct inherited in;
	struct settings *settings = settings_new();
	struct agent agent;
	sigset_t pending;

	assert_int_equal(0, agent_open(&agent, settings, &in, NULL));
	agent_close(&agent);
	kill(getpid(), SIGTERM);
	sigpending(&pending);
	signal(SIGTERM, SIG_IGN); /* discards it */
	signal(SIGTERM, SIG_DFL);
	unblock();
	assert_int_equal(0, agent.signal);
	assert_true(sigismember(&pending, SIGTERM));
	settings_free(settings);
}
