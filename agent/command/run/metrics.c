/* SPDX-License-Identifier: MIT */
/* Counts the rounds of prewarm, and writes the counts in Prometheus' text format. The file is read
 * again at the start, line by line, by the text that the same series begins with. Loop thread. */
#include "metrics.h"
#include "defer.h"
#include "files.h"
#include "log.h"
#include "redact.h"
#include "umask.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PREFIX "stagerun_prewarm_"

enum { PREVIOUS_MAX = 1 << 20 }; /* bytes of the file that are read */

/* Why a destination, or a round as a whole, failed. */
#define REASONS(X) \
	X(HTTP, "http") \
	X(DIGEST, "digest") \
	X(FORMAT, "format") \
	X(SPACE, "space") \
	X(PERMISSION, "permission") \
	X(NOT_FOUND, "not_found") \
	X(OCCUPIED, "occupied") \
	X(REFUSED, "refused") \
	X(CONFIG, "config") \
	X(HOOK, "hook") \
	X(TIMEOUT, "timeout") \
	X(OTHER, "other")

enum series_id {
	ROUNDS_SUCCEEDED,
	ROUNDS_FAILED,
	LAST_SUCCESS,
	LAST_ROUND,
	LAST_SECONDS,
	SECONDS,
	RECEIVED,
	BYTES,
#define X(id, word) FAILED_##id,
	REASONS(X)
#undef X
		EVICTIONS,
	CACHE_BYTES,
	CACHE_ENTRIES,
	SERIES_COUNT
};

static const struct series {
	const char *name, *labels; /* without PREFIX */
	const char *type, *help;
	bool continues; /* from the value of an earlier process */
} all_series[SERIES_COUNT] = {
	[ROUNDS_SUCCEEDED] = {"rounds_total", "{result=\"success\"}", "counter",
		"Rounds of staging that have ended.", true},
	[ROUNDS_FAILED] = {"rounds_total", "{result=\"failure\"}", "counter",
		"Rounds of staging that have ended.", true},
	[LAST_SUCCESS] = {"last_success_timestamp_seconds", "", "gauge",
		"When the last round without a failure ended, 0 if there was none.", true},
	[LAST_ROUND] = {"last_round_timestamp_seconds", "", "gauge", "When the last round ended.",
		false},
	[LAST_SECONDS] = {"last_round_duration_seconds", "", "gauge",
		"How long the last round took.", false},
	[SECONDS] = {"duration_seconds_total", "", "counter", "How long all rounds took.", true},
	[RECEIVED] = {"received_bytes_total", "", "counter", "Bytes received, as compressed.",
		true},
	[BYTES] = {"staged_bytes_total", "", "counter",
		"Bytes of the directories that were staged anew.", true},
#define X(id, word) \
	[FAILED_##id] = {"failures_total", "{reason=\"" word "\"}", "counter", \
		"Destinations, or else rounds, that failed.", true},
	REASONS(X)
#undef X
		[EVICTIONS] = {"cache_evictions_total", "", "counter",
			"Entries that were evicted from the node cache to make room.", true},
	[CACHE_BYTES] = {"cache_bytes", "", "gauge", "Size of the node cache on the disk.", false},
	[CACHE_ENTRIES] = {"cache_entries", "", "gauge", "Entries of the node cache.", false},
};

_Static_assert(
	(int)SERIES_COUNT <= (int)METRICS_SERIES_MAX, "struct metrics has a value for each series");

static enum series_id reason_of(int code)
{
	static const struct {
		int code;
		enum series_id reason;
	} reasons[] = {{ERR_HTTP, FAILED_HTTP}, {ERR_DIGEST, FAILED_DIGEST},
		{ERR_FORMAT, FAILED_FORMAT}, {ERR_TRUNCATED, FAILED_FORMAT},
		{ERR_SPACE, FAILED_SPACE}, {ENOSPC, FAILED_SPACE}, {ERR_LIMIT, FAILED_SPACE},
		{EACCES, FAILED_PERMISSION}, {EPERM, FAILED_PERMISSION}, {EROFS, FAILED_PERMISSION},
		{ENOENT, FAILED_NOT_FOUND}, {EEXIST, FAILED_OCCUPIED}, {ERR_KEPT, FAILED_OCCUPIED},
		{ERR_REFUSED, FAILED_REFUSED}, {ERR_CONFIG, FAILED_CONFIG},
		{ERR_USAGE, FAILED_CONFIG}, {ERR_COMMAND, FAILED_HOOK},
		{ETIMEDOUT, FAILED_TIMEOUT}};

	for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
		if (reasons[i].code == -code)
			return reasons[i].reason;
	return FAILED_OTHER;
}

int metrics_check_path(const char *path, struct error *err)
{
	size_t len = path != NULL ? strlen(path) : 0;

	if (path == NULL || (len > 5 && strcmp(path + len - 5, ".prom") == 0))
		return 0;
	return error_set(err, -ERR_USAGE,
		"--metrics-file '%s' must end with .prom, since node_exporter reads no other files",
		path);
}

/* Earlier counts. */

static void read_line(struct metrics *m, const char *line)
{
	for (size_t i = 0; i < SERIES_COUNT; i++) {
		const struct series *s = &all_series[i];
		_free_ char *begin = text_format(PREFIX "%s%s ", s->name, s->labels);
		double value;

		if (!s->continues || !text_begins(line, begin))
			continue;
		value = strtod(line + strlen(begin), NULL);
		if (value >= 0 && value < 1e18)
			m->values[i] = value;
	}
}

void metrics_open(struct metrics *m, const char *path)
{
	_free_ char *bytes = NULL;
	_close_ int fd = -1;
	ssize_t len;
	char *rest, *line;

	*m = (struct metrics){.path = path};
	fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
	if (fd < 0)
		return;
	bytes = zalloc(PREVIOUS_MAX + 1);
	len = read(fd, bytes, PREVIOUS_MAX);
	if (len <= 0)
		return;
	for (line = strtok_r(bytes, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
		read_line(m, line);
}

void metrics_close(struct metrics *m)
{
	text_done(&m->destinations);
}

/* A round. */

void metrics_begin_round(struct metrics *m)
{
	text_done(&m->destinations);
	m->any_failed = false;
	m->began_ns = now_ns();
}

static bool is_utf8(const char *s)
{
	json_t *j = json_string(s);

	json_decref(j);
	return j != NULL;
}

/* A label's value: the format is UTF-8, so other bytes become \xNN. */
static void add_label_value(struct text *t, const char *s)
{
	bool valid = is_utf8(s);

	for (; *s != '\0'; s++) {
		if (*s == '\\')
			text_add(t, "\\\\");
		else if (*s == '"')
			text_add(t, "\\\"");
		else if (*s == '\n')
			text_add(t, "\\n");
		else if (!valid && (unsigned char)*s >= 0x80)
			text_addf(t, "\\\\x%02x", (unsigned char)*s);
		else
			text_add_bytes(t, s, 1);
	}
}

void metrics_add(struct metrics *m, const struct stage_result *r)
{
	_free_ char *to = NULL;

	if (m->path == NULL || r->end == STAGE_CANCELLED)
		return;
	to = redact_own(text_copy(r->to));
	text_add(&m->destinations, PREFIX "destination_up{to=\"");
	add_label_value(&m->destinations, to);
	text_addf(&m->destinations, "\"} %d\n", r->end != STAGE_FAILED);
	for (size_t i = 0; i < r->n_sources; i++)
		m->values[RECEIVED] += (double)r->sources[i].received;
	if (r->end == STAGE_FETCHED || r->end == STAGE_CACHED)
		m->values[BYTES] += (double)r->bytes;
	if (r->end != STAGE_FAILED)
		return;
	m->any_failed = true;
	m->values[reason_of(r->err->code)]++;
}

static int add_entry(void *metrics, const struct cache_info *info, struct error *err)
{
	struct metrics *m = metrics;

	(void)err;
	m->values[CACHE_BYTES] += (double)info->disk;
	m->values[CACHE_ENTRIES]++;
	return 0;
}

static void look_at_cache(struct metrics *m, const struct cache *c)
{
	uint64_t evicted;

	m->has_cache = c != NULL;
	m->values[CACHE_BYTES] = m->values[CACHE_ENTRIES] = 0;
	if (c == NULL)
		return;
	(void)cache_each(c, add_entry, m, NULL);
	evicted = cache_evicted(c);
	m->values[EVICTIONS] += (double)(evicted - m->evicted);
	m->evicted = evicted;
}

static void end_time(struct metrics *m, bool failed)
{
	double seconds = (double)(now_ns() - m->began_ns) / 1e9;

	m->values[LAST_ROUND] = (double)time(NULL);
	if (!failed)
		m->values[LAST_SUCCESS] = m->values[LAST_ROUND];
	m->values[LAST_SECONDS] = seconds;
	m->values[SECONDS] += seconds;
}

/* The file. */

static void print_head(struct text *t, const char *name, const char *type, const char *help)
{
	text_addf(t, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", name, help, name, type);
}

static void print_all(const struct metrics *m, struct text *t)
{
	for (size_t i = 0; i < SERIES_COUNT; i++) {
		const struct series *s = &all_series[i];

		if (!m->has_cache && (i == CACHE_BYTES || i == CACHE_ENTRIES))
			continue;
		if (i == 0 || strcmp(s->name, all_series[i - 1].name) != 0)
			print_head(t, s->name, s->type, s->help);
		text_addf(t, PREFIX "%s%s %.15g\n", s->name, s->labels, m->values[i]);
	}
	if (m->destinations.len == 0)
		return;
	print_head(t, "destination_up", "gauge", "Whether the last round could stage it.");
	text_add(t, m->destinations.s);
}

/* The temporary name does not end in ".prom", so that nobody reads it. Returns 0 or -errno. */
static int write_whole(const char *path, const struct text *t)
{
	_free_ char *temporary = text_format("%s.XXXXXX", path);
	_close_ int fd = mkostemp(temporary, O_CLOEXEC);
	int code;

	if (fd < 0)
		return -errno;
	code = files_write_all(fd, t->s, t->len, FILES_POSITION);
	if (code == 0 && (fchmod(fd, umask_apply(0644)) < 0 || rename(temporary, path) < 0))
		code = -errno;
	if (code < 0)
		unlink(temporary);
	return code;
}

void metrics_end_round(struct metrics *m, int code, const struct cache *c)
{
	struct text t = {0};

	if (m->path == NULL)
		return;
	if (code < 0 && !m->any_failed)
		m->values[reason_of(code)]++;
	m->values[code < 0 ? ROUNDS_FAILED : ROUNDS_SUCCEEDED]++;
	end_time(m, code < 0);
	look_at_cache(m, c);
	print_all(m, &t);
	errno = -write_whole(m->path, &t);
	if (errno != 0)
		log_warn("cannot write the metrics '%s': %m", m->path);
	text_done(&t);
}
