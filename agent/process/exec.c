/* SPDX-License-Identifier: MIT */
/* The last step of a run: this process becomes the command. Loop thread; other threads end with the
 * exec. Descriptors are not touched: the agent's own are close-on-exec. */
#include "process.h"
#include "program.h"

int process_exec(
	const struct inherited *in, char *const argv[], char *const env[], struct error *err)
{
	struct program program;
	struct exec_failure failure;
	int exit_code;

	program_prepare(&program, argv, env, NULL);
	inherited_restore(in);
	failure = program_exec(&program);
	/* The reason still has to be told, perhaps to a reader that has gone. */
	sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
	exit_code = program_explain(&program, &failure, err);
	program_done(&program);
	return exit_code;
}
