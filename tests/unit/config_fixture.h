/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_CONFIG_FIXTURE_H
#define STAGERUN_TEST_CONFIG_FIXTURE_H

/* What the tests of the configuration share. */

/* A file of a fresh directory with this content; its path is the caller's to free. */
char *config_file(const char *name, const char *content);

/* From here on, log lines are kept; the second gives them (heap) and lets new ones out again. */
void keep_warnings(void);
char *kept_warnings(void);

/* One variable of this process; value NULL: without it. */
void set_variable(const char *name, const char *value);

#endif
