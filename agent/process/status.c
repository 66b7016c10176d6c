/* SPDX-License-Identifier: MIT */
/* How a process ended, in words and as an exit code. Any thread. */
#include "process.h"
#include <string.h>
#include <sys/wait.h>

char *describe_wait_status(int wait_status)
{
	const char *name;
	int signal;

	if (!WIFSIGNALED(wait_status))
		return format_text("exit status %d", WEXITSTATUS(wait_status));
	signal = WTERMSIG(wait_status);
	name = sigdescr_np(signal);
	return name == NULL ? format_text("signal %d", signal)
			    : format_text("signal %d (%s)", signal, name);
}

int wait_status_code(int wait_status)
{
	return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}
