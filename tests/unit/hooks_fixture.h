/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_HOOKS_FIXTURE_H
#define STAGERUN_TEST_HOOKS_FIXTURE_H

#include "hooks.h"

/* Two hooks directories, of which the settings know the first; a directory for what hooks leave; and
 * the log in a file. */
struct hooks_fixture {
	struct settings *settings;
	char *dir, *later, *out, *log_path;
	int log_fd;
	struct hooks *hooks; /* NULL until hooks_fixture_find() */
	struct error err;
};

void hooks_fixture_setup(struct hooks_fixture *f);
void hooks_fixture_teardown(struct hooks_fixture *f);

void hooks_fixture_set(struct hooks_fixture *f, const char *key, const char *value);
/* Beneath dir, with its directories; mode 0755. script is what follows "#!/bin/sh". Heap: its path. */
char *hooks_fixture_add(const char *dir, const char *name, const char *script);
/* The same, for who needs no path. */
void hooks_fixture_put(const char *dir, const char *name, const char *script);
int hooks_fixture_find(struct hooks_fixture *f);
/* The names of a point in their order, with a space behind each. Heap. */
char *hooks_fixture_names(const struct hooks_fixture *f, enum hook_point point);
char *hooks_fixture_log(const struct hooks_fixture *f);

#endif
