/* SPDX-License-Identifier: MIT */
/* The status of a run as a line of JSON, printed and parsed. A file may have been written by
 * anybody, so each member is checked, and no control character of its texts is kept. */
#include "defer.h"
#include "run_status.h"
#include "utf8.h"
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define SCHEMA "stagerun.status/1"

static const char *const state_names[] = {
	[PROGRESS_QUEUED] = "queued", [PROGRESS_ACTIVE] = "active", [PROGRESS_DONE] = "done"};

/* Printing: as text, since this is on the way of every run to its command. */

static void add_key(struct text *t, const char *key)
{
	text_addf(t, "%s\"%s\":", t->s[t->len - 1] == '{' ? "" : ",", key);
}

/* value NULL: adds nothing. */
static void add_text(struct text *t, const char *key, const char *value)
{
	struct text clean = {0};

	if (value == NULL)
		return;
	add_key(t, key);
	utf8_add_clean(&clean, value);
	text_add(t, "\"");
	for (const char *s = clean.len > 0 ? clean.s : ""; *s != '\0';) {
		size_t plain = strcspn(s, "\"\\");

		text_add_bytes(t, s, plain);
		s += plain;
		if (*s != '\0')
			text_addf(t, "\\%c", *s++);
	}
	text_add(t, "\"");
	text_done(&clean);
}

/* A number that other programs cannot hold becomes the largest that they can. */
static void add_number(struct text *t, const char *key, uint64_t n)
{
	add_key(t, key);
	text_addf(t, "%llu", (unsigned long long)(n > INT64_MAX ? INT64_MAX : n));
}

static void add_seconds(struct text *t, const char *key, double seconds)
{
	add_key(t, key);
	text_addf(t, "%.3f", seconds);
}

static void add_bool(struct text *t, const char *key, bool value)
{
	add_key(t, key);
	text_add(t, value ? "true" : "false");
}

static void add_source(struct text *t, const struct run_status_source *s)
{
	text_add(t, "{");
	add_text(t, "name", s->name);
	add_text(t, "to", s->to);
	add_text(t, "state", state_names[s->state]);
	add_number(t, "received_bytes", s->received);
	if (s->total > 0)
		add_number(t, "total_bytes", s->total);
	if (s->state == PROGRESS_ACTIVE) {
		add_number(t, "bytes_per_second", s->bytes_per_second);
		if (s->seconds_left >= 0)
			add_seconds(t, "seconds_left", s->seconds_left);
		add_text(t, "waits_for", report_bottleneck_name(s->waits_for));
	}
	text_add(t, "}");
}

static void add_sources(struct text *t, const struct run_status *s)
{
	add_key(t, "sources");
	text_add(t, "[");
	for (size_t i = 0; i < s->n_sources; i++) {
		text_add(t, i > 0 ? "," : "");
		add_source(t, &s->sources[i]);
	}
	text_add(t, "]");
	add_number(t, "sources_total", s->sources_total);
}

static void add_process(struct text *t, const struct run_status_process *p)
{
	add_number(t, "pid", (uint64_t)p->pid);
	add_number(t, "start_ticks", p->start_ticks);
	add_number(t, "pid_namespace", p->pid_namespace);
	add_text(t, "boot", p->boot);
}

static void add_time(struct text *t, const char *key, const char *time)
{
	if (*time != '\0')
		add_text(t, key, time);
}

static void add_end(struct text *t, const struct run_status *s)
{
	if (s->is_ready)
		add_seconds(t, "ready_seconds", (double)s->ready_ns / 1e9);
	if (s->exit_code != RUN_STATUS_EXIT_UNKNOWN)
		add_number(t, "exit_code", (uint64_t)s->exit_code);
	add_text(t, "failed_phase", s->failed_phase);
	add_text(t, "message", s->message);
	add_time(t, "last_round", s->last_round);
	if (s->last_round[0] != '\0')
		add_bool(t, "round_failed", s->round_failed);
	add_time(t, "next_look", s->next_look);
}

char *run_status_print(const struct run_status *s, enum run_alive alive)
{
	struct text t = {0};

	text_add(&t, "{");
	add_text(&t, "schema", SCHEMA);
	add_text(&t, "id", s->id);
	add_text(&t, "kind", s->is_prewarm ? "prewarm" : "run");
	add_text(&t, "phase", run_status_phase_name(s->phase));
	if (alive != RUN_ALIVE_UNKNOWN)
		add_bool(&t, "alive", alive == RUN_ALIVE);
	add_process(&t, &s->process);
	add_time(&t, "begun", s->begun);
	add_time(&t, "updated", s->updated);
	add_end(&t, s);
	add_sources(&t, s);
	text_add(&t, "}");
	return text_take(&t);
}

/* Parsing. */

/* A member's string, without control characters. Heap; NULL: there is none. */
static char *read_text(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));
	struct text clean = {0};

	if (value == NULL)
		return NULL;
	utf8_add_clean(&clean, value);
	return text_take(&clean);
}

static uint64_t read_number(const json_t *object, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(object, key));

	return n > 0 ? (uint64_t)n : 0;
}

/* Returns the index of the member's value in names, or n. */
static size_t read_word(
	const json_t *object, const char *key, const char *const *names, size_t n, size_t missing)
{
	const char *value = json_string_value(json_object_get(object, key));

	if (value == NULL)
		return missing;
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i], value) == 0)
			return i;
	return n;
}

/* What comparing as strings relies on. */
static bool is_time(const char *s)
{
	static const char form[] = "0000-00-00T00:00:00.000000000Z";

	for (size_t i = 0; i < sizeof(form) - 1; i++) {
		bool digit = s[i] >= '0' && s[i] <= '9';

		if (form[i] == '0' ? !digit : s[i] != form[i])
			return false;
	}
	return s[sizeof(form) - 1] == '\0';
}

static void read_time(const json_t *object, const char *key, char ret[static RUN_STATUS_TIME])
{
	const char *value = json_string_value(json_object_get(object, key));

	if (value != NULL && is_time(value))
		snprintf(ret, RUN_STATUS_TIME, "%s", value);
}

static bool read_source(const json_t *object, struct run_status_source *ret)
{
	const char *names[] = {report_bottleneck_name(WAITED_LITTLE),
		report_bottleneck_name(WAITED_FOR_NETWORK),
		report_bottleneck_name(WAITED_FOR_DECODING),
		report_bottleneck_name(WAITED_FOR_DISK)};
	const json_t *left = json_object_get(object, "seconds_left");
	size_t waits = read_word(object, "waits_for", names, ARRAY_LEN(names), WAITED_LITTLE);
	size_t state = read_word(
		object, "state", state_names, ARRAY_LEN(state_names), ARRAY_LEN(state_names));

	if (!json_is_string(json_object_get(object, "name")) || state == ARRAY_LEN(state_names) ||
		waits == ARRAY_LEN(names))
		return false;
	*ret = (struct run_status_source){.name = read_text(object, "name"),
		.to = read_text(object, "to"),
		.state = (enum progress_state)state,
		.received = read_number(object, "received_bytes"),
		.total = read_number(object, "total_bytes"),
		.bytes_per_second = read_number(object, "bytes_per_second"),
		.seconds_left = json_is_number(left) ? json_number_value(left) : -1,
		.waits_for = (enum bottleneck)waits};
	return true;
}

static bool read_sources(const json_t *object, struct run_status *ret)
{
	const json_t *list = json_object_get(object, "sources");
	size_t n = json_array_size(list);

	if (!json_is_array(list) || n > RUN_STATUS_SOURCES_MAX)
		return false;
	ret->sources = zalloc((n > 0 ? n : 1) * sizeof(*ret->sources));
	ret->sources_total = read_number(object, "sources_total");
	for (size_t i = 0; i < n; i++) {
		if (!read_source(json_array_get(list, i), &ret->sources[i]))
			return false;
		ret->n_sources++;
	}
	return true;
}

static bool read_process(const json_t *object, struct run_status_process *ret)
{
	_free_ char *boot = read_text(object, "boot");
	uint64_t pid = read_number(object, "pid");

	if (pid == 0 || pid > INT32_MAX)
		return false;
	*ret = (struct run_status_process){.pid = (pid_t)pid,
		.start_ticks = read_number(object, "start_ticks"),
		.pid_namespace = read_number(object, "pid_namespace")};
	snprintf(ret->boot, sizeof(ret->boot), "%s", boot != NULL ? boot : "");
	return true;
}

static bool read_phase(const json_t *object, struct run_status *ret)
{
	static const char *const names[] = {
#define X(id, name) [id] = (name),
		RUN_PHASES(X)
#undef X
	};
	static const char *const kinds[] = {"run", "prewarm"};
	size_t phase = read_word(object, "phase", names, ARRAY_LEN(names), ARRAY_LEN(names));
	size_t kind = read_word(object, "kind", kinds, ARRAY_LEN(kinds), ARRAY_LEN(kinds));

	ret->phase = (enum run_phase)phase;
	ret->is_prewarm = kind == 1;
	return phase < ARRAY_LEN(names) && kind < ARRAY_LEN(kinds);
}

static void read_end(const json_t *object, struct run_status *ret)
{
	const json_t *exit_code = json_object_get(object, "exit_code");
	double ready = json_number_value(json_object_get(object, "ready_seconds"));

	ret->exit_code = RUN_STATUS_EXIT_UNKNOWN;
	if (json_is_integer(exit_code))
		ret->exit_code = (int)(json_integer_value(exit_code) & 0xff);
	ret->is_ready = ready > 0 && ready < 1e9;
	ret->ready_ns = ret->is_ready ? (uint64_t)(ready * 1e3 + 0.5) * 1000000 : 0;
	ret->failed_phase = read_text(object, "failed_phase");
	ret->message = read_text(object, "message");
	read_time(object, "last_round", ret->last_round);
	read_time(object, "next_look", ret->next_look);
	ret->round_failed = json_is_true(json_object_get(object, "round_failed"));
}

static bool read_all(const json_t *object, struct run_status *ret)
{
	const char *schema = json_string_value(json_object_get(object, "schema"));
	const char *id = json_string_value(json_object_get(object, "id"));

	if (schema == NULL || strcmp(schema, SCHEMA) != 0 || id == NULL ||
		strspn(id, "0123456789-") != strlen(id) || strlen(id) >= sizeof(ret->id))
		return false;
	snprintf(ret->id, sizeof(ret->id), "%s", id);
	read_time(object, "begun", ret->begun);
	read_time(object, "updated", ret->updated);
	read_end(object, ret);
	return ret->begun[0] != '\0' && read_process(object, &ret->process) &&
	       read_phase(object, ret) && read_sources(object, ret);
}

int run_status_parse(const char *bytes, size_t len, struct run_status *ret, struct error *err)
{
	struct run_status s = {0};
	json_t *object = json_loadb(bytes, len, JSON_REJECT_DUPLICATES, NULL);
	bool read = object != NULL && read_all(object, &s);

	json_decref(object);
	if (read) {
		*ret = s;
		return 0;
	}
	run_status_done(&s);
	return error_set(err, -ERR_FORMAT, "this is no status of a run of this version");
}
