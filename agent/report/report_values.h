/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_REPORT_VALUES_H
#define STAGERUN_REPORT_VALUES_H

#include <jansson.h>
#include <stdint.h>

/* Members of JSON objects from names of any bytes and from unsigned numbers. Any thread. */

/* A string of valid UTF-8; other bytes and control characters become \xNN. */
json_t *report_value_text(const char *s);
/* An integer; what JSON readers cannot hold becomes the largest they can. */
json_t *report_value_number(uint64_t n);
json_t *report_value_seconds(uint64_t ns);

/* NULL adds nothing. */
void report_value_set_text(json_t *object, const char *key, const char *s);
void report_value_set_number(json_t *object, const char *key, uint64_t n);
void report_value_set_seconds(json_t *object, const char *key, uint64_t ns);

#endif
