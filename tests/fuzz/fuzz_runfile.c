/* SPDX-License-Identifier: MIT */
/* Fuzzes the parser of config.yml. Checks that an input is read, or rejected with a message that
 * names the file, and that the result is valid: actions are numbered, and stages have a
 * destination. */
#include "log.h"
#include "runfile.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_actions(const struct actions *actions)
{
	for (size_t i = 0; i < actions->n; i++) {
		const struct action *a = &actions->v[i];

		if (a->number != i + 1 || a->line == 0)
			abort();
		if (a->kind == ACTION_RUN ? a->script == NULL : a->stage.to == NULL)
			abort();
		if ((a->stage.sources.n > 0) != (a->kind == ACTION_STAGE))
			abort();
	}
}

static void check(const struct runfile *r)
{
	for (int point = 0; point < POINT_COUNT; point++)
		check_actions(&r->actions[point]);
	for (size_t i = 0; i < r->n_datastores; i++) {
		if (r->datastores[i].name == NULL || r->datastores[i].line == 0)
			abort();
	}
	for (size_t i = 0; i < r->environment.n; i++) {
		if (strchr(r->environment.v[i], '=') == NULL)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct runfile *r = NULL;
	struct error err = {0};

	log_setup(LOG_ERROR, LOG_TEXT, STDERR_FILENO);
	if (runfile_parse("config.yml", (const char *)data, size, &r, &err) == 0)
		check(r);
	else if (err.code >= 0 || strncmp(err.msg, "config.yml:", 11) != 0 || r != NULL)
		abort();
	runfile_free(r);
	return 0;
}
