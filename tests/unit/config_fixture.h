/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_CONFIG_FIXTURE_H
#define STAGERUN_TEST_CONFIG_FIXTURE_H

/* Helpers for the tests of settings and config.yml. */

/* Creates a file with this content in a new directory. Returns its path; heap. */
char *config_file(const char *name, const char *content);

/* keep_warnings() redirects the log to memory. kept_warnings() ends that, and returns the lines;
 * heap. */
void keep_warnings(void);
char *kept_warnings(void);

/* Sets a variable of this process; value NULL: unsets it. */
void set_variable(const char *name, const char *value);

#endif
