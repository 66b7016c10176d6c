/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CONFIG_YAML_PROBLEM_H
#define STAGERUN_CONFIG_YAML_PROBLEM_H

#include "error.h"
#include <stddef.h>

typedef struct yaml_parser_s yaml_parser_t;

/* Sets err to what the parser stopped at, as "name:LINE:COLUMN: ...", and returns its code. A tab
 * in the indentation is called by its name. */
int yaml_problem(const char *name, const char *bytes, size_t len, const yaml_parser_t *parser,
	struct error *err);

#endif
