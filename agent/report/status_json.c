/* SPDX-License-Identifier: MIT */
/* The status of a run as a line of JSON, printed and parsed. A file may have been written by
 * anybody, so each member is checked, and no control character of its texts is kept. */
#include "defer.h"
#include "report_values.h"
#include "run_status.h"
#include "utf8.h"
#include <stdio.h>
#include <string.h>

#define SCHEMA "stagerun.status/1"

static const char *const state_names[] = {
	[PROGRESS_QUEUED] = "queued", [PROGRESS_ACTIVE] = "active", [PROGRESS_DONE] = "done"};

/* Printing. */

static json_t *print_source(const struct run_status_source *s)
{
	json_t *object = json_object();
	bool active = s->state == PROGRESS_ACTIVE;

	report_value_set_text(object, "name", s->name);
	report_value_set_text(object, "to", s->to);
	report_value_set_text(object, "state", state_names[s->state]);
	report_value_set_number(object, "received_bytes", s->received);
	if (s->total > 0)
		report_value_set_number(object, "total_bytes", s->total);
	if (!active)
		return object;
	report_value_set_number(object, "bytes_per_second", s->bytes_per_second);
	if (s->seconds_left >= 0)
		json_object_set_new(object, "seconds_left", json_real(s->seconds_left));
	report_value_set_text(object, "waits_for", report_bottleneck_name(s->waits_for));
	return object;
}

static void set_sources(json_t *object, const struct run_status *s)
{
	json_t *list = json_array();

	for (size_t i = 0; i < s->n_sources; i++)
		json_array_append_new(list, print_source(&s->sources[i]));
	json_object_set_new(object, "sources", list);
	report_value_set_number(object, "sources_total", s->sources_total);
}

static void set_process(json_t *object, const struct run_status_process *p)
{
	report_value_set_number(object, "pid", (uint64_t)p->pid);
	report_value_set_number(object, "start_ticks", p->start_ticks);
	report_value_set_number(object, "pid_namespace", p->pid_namespace);
	report_value_set_text(object, "boot", p->boot);
}

static void set_time(json_t *object, const char *key, const char *time)
{
	if (*time != '\0')
		report_value_set_text(object, key, time);
}

static void set_end(json_t *object, const struct run_status *s)
{
	if (s->is_ready)
		report_value_set_seconds(object, "ready_seconds", s->ready_ns);
	if (s->exit_code != RUN_STATUS_EXIT_UNKNOWN)
		json_object_set_new(object, "exit_code", json_integer(s->exit_code));
	report_value_set_text(object, "failed_phase", s->failed_phase);
	report_value_set_text(object, "message", s->message);
	set_time(object, "last_round", s->last_round);
	if (s->last_round[0] != '\0')
		json_object_set_new(object, "round_failed", json_boolean(s->round_failed));
	set_time(object, "next_look", s->next_look);
}

char *run_status_print(const struct run_status *s, enum run_alive alive)
{
	json_t *object = json_object();
	char *line;

	report_value_set_text(object, "schema", SCHEMA);
	report_value_set_text(object, "id", s->id);
	report_value_set_text(object, "kind", s->is_prewarm ? "prewarm" : "run");
	report_value_set_text(object, "phase", run_status_phase_name(s->phase));
	if (alive != RUN_ALIVE_UNKNOWN)
		json_object_set_new(object, "alive", json_boolean(alive == RUN_ALIVE));
	set_process(object, &s->process);
	set_time(object, "begun", s->begun);
	set_time(object, "updated", s->updated);
	set_end(object, s);
	set_sources(object, s);
	line = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(12));
	json_decref(object);
	return line;
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
	ret->ready_ns = ret->is_ready ? (uint64_t)(ready * 1e9) : 0;
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
