/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_HOOKS_SHELL_H
#define STAGERUN_HOOKS_SHELL_H

#include "process.h"
#include "settings.h"

/* One try of one script. Loop thread. */

struct shell_options {
	uv_loop_t *loop;
	const struct settings *settings;
	const struct inherited *inherited;
	struct strings *environment; /* read now; added to when the script succeeded */
	const char *script;
	uint64_t timeout_ms; /* 0: none */
	const char
		*who; /* for warnings, as long as it runs: "on_experiment_start action 2 (...)" */
	const char *
		prefix; /* before each line of output, on stderr; NULL: output passes as it comes */
	/* Once, from the loop: 0, or -ERR_COMMAND and "exit status 3". */
	void (*on_done)(void *ctx, int code, const struct error *err);
	void *ctx;
};

struct shell;

int shell_start(const struct shell_options *opts, struct shell **ret, struct error *err);
void shell_kill(struct shell *s, int signal);
void shell_free(struct shell *s); /* in or after on_done; accepts NULL */

#endif
