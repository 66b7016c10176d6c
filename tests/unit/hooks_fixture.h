/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_HOOKS_FIXTURE_H
#define STAGERUN_TEST_HOOKS_FIXTURE_H

#include "hooks.h"

/* For the tests of hooks: two hooks directories, the first of which is in the settings; a
 * directory for the output of hooks; and a log file. */
struct hooks_fixture {
	struct settings *settings;
	char *dir, *later, *out, *log_path;
	int log_fd;
	struct hooks *hooks; /* NULL before hooks_fixture_find() */
	struct error err;
};

void hooks_fixture_setup(struct hooks_fixture *f);
void hooks_fixture_teardown(struct hooks_fixture *f);

void hooks_fixture_set(struct hooks_fixture *f, const char *key, const char *value);
/* Creates dir/name ("POINT/NAME"), with mode 0755, and its directory. script is the text after
 * "#!/bin/sh". Returns the path; heap. */
char *hooks_fixture_add(const char *dir, const char *name, const char *script);
/* As hooks_fixture_add(), without the path. */
void hooks_fixture_put(const char *dir, const char *name, const char *script);
int hooks_fixture_find(struct hooks_fixture *f);
/* The names of a point's hooks in their order, each followed by a space; heap. */
char *hooks_fixture_names(const struct hooks_fixture *f, enum hook_point point);
char *hooks_fixture_log(const struct hooks_fixture *f); /* the log so far; heap */

#endif
