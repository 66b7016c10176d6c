/* SPDX-License-Identifier: MIT */
/* Values of JSON documents. Any thread. */
#include "report_private.h"
#include "utf8.h"

json_t *report_value_text(const char *s)
{
	struct text clean = {0};
	json_t *value;

	utf8_add_clean(&clean, s);
	value = json_string(clean.len > 0 ? clean.s : "");
	text_done(&clean);
	return value;
}

json_t *report_value_number(uint64_t n)
{
	return json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n);
}

json_t *report_value_seconds(uint64_t ns)
{
	return json_real((double)ns / 1e9);
}

void report_value_set_text(json_t *object, const char *key, const char *s)
{
	if (s != NULL)
		json_object_set_new(object, key, report_value_text(s));
}

void report_value_set_number(json_t *object, const char *key, uint64_t n)
{
	json_object_set_new(object, key, report_value_number(n));
}

void report_value_set_seconds(json_t *object, const char *key, uint64_t ns)
{
	json_object_set_new(object, key, report_value_seconds(ns));
}
