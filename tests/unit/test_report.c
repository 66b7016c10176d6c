/* SPDX-License-Identifier: MIT */
/* What people and machines are told. The display is drawn into a pseudo terminal, and what came out of
 * it goes through a small terminal of the test's own: what counts is what stands on the screen. */
#include "../../agent/report/report_private.h"
#include "config_fixture.h"
#include "defer.h"
#include "log.h"
#include "report.h"
#include "test.h"
#include "text.h"
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <pty.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

/* A terminal that knows what the display uses, and fails the test on anything else. */

enum { MAX_ROWS = 400, MAX_COLUMNS = 200 };

struct screen {
	unsigned columns, row, column, wraps;
	char cells[MAX_ROWS][MAX_COLUMNS + 1];
};

static void erase(struct screen *s, unsigned row, unsigned column)
{
	memset(s->cells[row] + column, ' ', s->columns - column);
}

static const char *escape(struct screen *s, const char *p)
{
	unsigned n = 0;

	assert_int_equal('[', *p++);
	while (*p >= '0' && *p <= '9')
		n = n * 10 + (unsigned)(*p++ - '0');
	switch (*p) {
	case 'A':
		assert_true(s->row >= n); /* else it would have scrolled away */
		s->row -= n;
		break;
	case 'J':
		for (unsigned row = s->row + 1; row < MAX_ROWS; row++)
			erase(s, row, 0);
		/* fall through */
	case 'K':
		erase(s, s->row, s->column);
		break;
	default:
		fail_msg("unknown escape sequence '%c'", *p);
	}
	return p + 1;
}

static void put(struct screen *s, char c)
{
	if (s->column == s->columns) {
		s->wraps++;
		s->row++;
		s->column = 0;
	}
	assert_true(s->row < MAX_ROWS);
	s->cells[s->row][s->column++] = c;
}

/* A character of three bytes is Chinese here: two columns wide. */
static const char *put_wide(struct screen *s, const char *p)
{
	put(s, 'w');
	put(s, 'w');
	assert_true(strlen(p) >= 2);
	return p + 2;
}

static void feed(struct screen *s, const char *p)
{
	while (*p != '\0') {
		char c = *p++;

		if (c == '\r')
			s->column = 0;
		else if (c == '\n')
			s->row++;
		else if (c == '\033')
			p = escape(s, p);
		else if (((unsigned char)c & 0xf0) == 0xe0)
			p = put_wide(s, p);
		else
			put(s, c);
	}
}

/* Row n without the blanks at its end. */
static char *line_of(const struct screen *s, unsigned n)
{
	size_t len = s->columns;

	while (len > 0 && s->cells[n][len - 1] == ' ')
		len--;
	return text_format("%.*s", (int)len, s->cells[n]);
}

static void assert_lines(const struct screen *s, const char *const *expected, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		_free_ char *line = line_of(s, i);

		assert_string_equal(expected[i], line);
	}
	for (unsigned i = n; i < MAX_ROWS; i++) {
		_free_ char *line = line_of(s, i);

		assert_string_equal("", line);
	}
	assert_int_equal(0, s->wraps);
}

/* A display on a pseudo terminal, which a thread empties as a terminal would. */

struct stage {
	uv_loop_t loop;
	struct monitor *monitor;
	int master, slave;
	pthread_t reader;
	pthread_mutex_t mutex; /* guards out */
	struct text out;
	struct screen screen;
};

static void *read_terminal(void *ctx)
{
	struct stage *t = ctx;
	char bytes[4096];
	ssize_t n;

	while ((n = read(t->master, bytes, sizeof(bytes))) > 0) {
		pthread_mutex_lock(&t->mutex);
		text_add_bytes(&t->out, bytes, (size_t)n);
		pthread_mutex_unlock(&t->mutex);
	}
	return NULL;
}

static void open_stage(struct stage *t, unsigned short columns, unsigned short rows)
{
	struct winsize size = {.ws_col = columns, .ws_row = rows};

	memset(t, 0, sizeof(*t));
	set_variable("TERM", "xterm");
	set_variable("NO_COLOR", NULL);
	assert_int_equal(0, uv_loop_init(&t->loop));
	assert_int_equal(0, openpty(&t->master, &t->slave, NULL, NULL, &size));
	pthread_mutex_init(&t->mutex, NULL);
	text_add(&t->out, "");
	assert_int_equal(0, pthread_create(&t->reader, NULL, read_terminal, t));
	log_setup(LOG_INFO, LOG_TEXT, t->slave);
	t->monitor = monitor_new(
		&t->loop, &(struct monitor_options){.interval_ms = 15000, .fd = t->slave});
	assert_non_null(t->monitor);
	t->screen.columns = columns;
	for (unsigned i = 0; i < MAX_ROWS; i++)
		erase(&t->screen, i, 0);
}

static void on_time(uv_timer_t *h)
{
	uv_close((uv_handle_t *)h, NULL);
}

static void let_time_pass(struct stage *t, uint64_t ms)
{
	uv_timer_t timer;

	uv_timer_init(&t->loop, &timer);
	uv_timer_start(&timer, on_time, ms, 0);
	assert_int_equal(0, uv_run(&t->loop, UV_RUN_DEFAULT));
}

/* Everything that was written before this byte has arrived when it has. */
#define MARK '\5'

static void await_all_locked(struct stage *t)
{
	const char mark = MARK;

	assert_int_equal(1, write(t->slave, &mark, 1));
	while (t->out.len == 0 || t->out.s[t->out.len - 1] != MARK) {
		pthread_mutex_unlock(&t->mutex);
		usleep(1000);
		pthread_mutex_lock(&t->mutex);
	}
	t->out.s[--t->out.len] = '\0';
}

/* What stands on the screen now. */
static const struct screen *look(struct stage *t)
{
	pthread_mutex_lock(&t->mutex);
	await_all_locked(t);
	feed(&t->screen, t->out.s);
	text_done(&t->out);
	text_add(&t->out, "");
	pthread_mutex_unlock(&t->mutex);
	return &t->screen;
}

static const struct screen *close_display(struct stage *t)
{
	monitor_close(t->monitor);
	t->monitor = NULL;
	assert_int_equal(0, uv_run(&t->loop, UV_RUN_DEFAULT));
	assert_int_equal(0, uv_loop_close(&t->loop));
	return look(t);
}

static void close_stage(struct stage *t)
{
	log_setup(LOG_INFO, LOG_TEXT, STDERR_FILENO);
	close(t->slave);
	pthread_join(t->reader, NULL);
	close(t->master);
	text_done(&t->out);
}

/* The display. */

static struct progress zip_at_42_percent(void)
{
	return (struct progress){.name = "cifar5.zip",
		.state = PROGRESS_ACTIVE,
		.total = 170000000,
		.received = 71400000,
		.entries = 25200,
		.expanded = 76500000};
}

TEST(display_on_a_wide_terminal_shows_each_source_in_columns)
{
	static const char *const expected[] = {
		"cifar5.zip                     42%      71.4 of 170 MB      0 B/s",
		"imagenet..part-00017.tar.zst                   1.50 GB      0 B/s",
		"0 of 2 done  1.57 GB  0 B/s",
	};
	struct progress zip = zip_at_42_percent();
	struct progress tar = {.name = "imagenet-2012-training-part-00017.tar.zst",
		.state = PROGRESS_ACTIVE,
		.received = 1500000000};
	struct stage t;

	open_stage(&t, 80, 24);
	monitor_add(t.monitor, &zip);
	monitor_add(t.monitor, &tar);
	let_time_pass(&t, 350);
	assert_lines(look(&t), expected, ARRAY_LEN(expected));
	assert_lines(close_display(&t), NULL, 0);
	close_stage(&t);
}

TEST(display_with_room_shows_entries_and_what_is_waited_for)
{
	static const char *const expected[] = {
		"cifar5.zip   42%      71.4 of 170 MB      0 B/s               "
		"25200 entries of 76.5 MB     disk"};
	struct progress zip = zip_at_42_percent();
	struct stage t;

	open_stage(&t, 120, 24);
	monitor_add(t.monitor, &zip);
	let_time_pass(&t, 150);
	for (int i = 0; i < 8; i++) {
		count(&zip.disk_ns, 80000000);
		let_time_pass(&t, 50);
	}
	assert_lines(look(&t), expected, 1);
	assert_lines(close_display(&t), NULL, 0);
	close_stage(&t);
}

TEST(display_on_a_narrow_terminal_keeps_the_name_and_the_percentage)
{
	static const char *const expected[] = {
		"ci..5.zip   42%", "im..r.zst", "0 of 2 done  0 B/s"};
	struct progress zip = zip_at_42_percent();
	struct progress tar = {.name = "imagenet.tar.zst", .state = PROGRESS_ACTIVE};
	struct stage t;

	open_stage(&t, 20, 24);
	zip.name = "cifar5-cifar5.zip";
	monitor_add(t.monitor, &zip);
	monitor_add(t.monitor, &tar);
	let_time_pass(&t, 350);
	assert_lines(look(&t), expected, ARRAY_LEN(expected));
	assert_lines(close_display(&t), NULL, 0);
	close_stage(&t);
}

TEST(display_never_wraps_however_narrow_the_terminal)
{
	struct progress zip = zip_at_42_percent();

	zip.name = "数据集数据集数据集\x1b[31m\xff.zip";
	for (unsigned short columns = 2; columns < 60; columns += columns < 12 ? 1 : 7) {
		struct stage t;

		open_stage(&t, columns, 5);
		monitor_add(t.monitor, &zip);
		let_time_pass(&t, 120);
		assert_int_equal(0, look(&t)->wraps);
		assert_lines(close_display(&t), NULL, 0);
		close_stage(&t);
	}
}

TEST(display_with_more_sources_than_lines_has_a_line_for_all)
{
	static const char *const expected[] = {"a.zip                       0 B",
		"a.zip                       0 B", "1 of 10 done  0 B  0 B/s"};
	struct progress sources[10];
	struct stage t;

	open_stage(&t, 40, 4);
	for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
		sources[i] = (struct progress){
			.name = "a.zip", .state = i == 0 ? PROGRESS_DONE : PROGRESS_ACTIVE};
		monitor_add(t.monitor, &sources[i]);
	}
	let_time_pass(&t, 350);
	assert_lines(look(&t), expected, ARRAY_LEN(expected));
	assert_lines(close_display(&t), NULL, 0);
	close_stage(&t);
}

TEST(display_makes_way_for_log_lines_and_comes_back_below_them)
{
	static const char *const during[] = {
		"stagerun: one", "stagerun: two", "b.zip                       0 B"};
	struct progress a = {.name = "a.zip", .state = PROGRESS_ACTIVE};
	struct progress b = {.name = "b.zip", .state = PROGRESS_ACTIVE};
	struct stage t;

	open_stage(&t, 40, 10);
	monitor_add(t.monitor, &a);
	monitor_add(t.monitor, &b);
	let_time_pass(&t, 150);
	log_info("one");
	monitor_remove(t.monitor, &a);
	log_info("two");
	assert_lines(look(&t), during, ARRAY_LEN(during));
	assert_lines(close_display(&t), during, 2);
	close_stage(&t);
}

static void *log_much(void *ctx)
{
	(void)ctx;
	for (int i = 0; i < 60; i++) {
		log_info("line %d", i);
		usleep(5000);
	}
	return NULL;
}

TEST(display_and_log_lines_of_other_threads_never_mix)
{
	struct progress zip = zip_at_42_percent();
	char *expected[60];
	pthread_t logger;
	struct stage t;

	open_stage(&t, 80, 24);
	monitor_add(t.monitor, &zip);
	assert_int_equal(0, pthread_create(&logger, NULL, log_much, NULL));
	let_time_pass(&t, 500);
	pthread_join(logger, NULL);
	for (int i = 0; i < 60; i++)
		expected[i] = text_format("stagerun: line %d", i);
	assert_lines(close_display(&t), (const char *const *)expected, 60);
	for (int i = 0; i < 60; i++)
		free(expected[i]);
	close_stage(&t);
}

TEST(display_shows_a_rate_while_bytes_arrive)
{
	struct progress zip = {.name = "a.zip", .state = PROGRESS_ACTIVE};
	struct stage t;

	open_stage(&t, 80, 24);
	monitor_add(t.monitor, &zip);
	for (int i = 0; i < 40; i++) {
		count(&zip.received, 1000000);
		let_time_pass(&t, 10);
	}
	{
		_free_ char *line = line_of(look(&t), 0);
		double mb_per_second = 0;

		assert_non_null(strstr(line, " MB/s"));
		assert_int_equal(1, sscanf(strstr(line, " MB ") + 4, "%lf MB/s", &mb_per_second));
		assert_true(mb_per_second > 20 && mb_per_second < 110);
	}
	close_display(&t);
	close_stage(&t);
}

TEST(display_is_live_only_where_the_cursor_can_be_moved)
{
	struct stage t;
	int pipe_ends[2];

	open_stage(&t, 80, 24);
	assert_true(display_is_possible(t.slave));
	assert_int_equal(0, pipe(pipe_ends));
	assert_false(display_is_possible(pipe_ends[1]));
	set_variable("TERM", "dumb");
	assert_false(display_is_possible(t.slave));
	set_variable("TERM", "xterm");
	set_variable("NO_COLOR", "1");
	assert_false(display_is_possible(t.slave));
	set_variable("NO_COLOR", NULL);
	close(pipe_ends[0]);
	close(pipe_ends[1]);
	close_display(&t);
	close_stage(&t);
}

TEST(monitor_of_nothing_is_none)
{
	assert_null(monitor_new(NULL, &(struct monitor_options){.mode = PROGRESS_NONE}));
	monitor_add(NULL, &(struct progress){.name = "a"});
	monitor_remove(NULL, NULL);
	monitor_close(NULL);
}

/* Progress as lines. */

/* What is logged of the sources at this moment. */
static char *heartbeat_of(struct progress *const *sources, size_t n, uint64_t seconds)
{
	struct meter meters[4];
	char bytes[4096];
	int fds[2];
	ssize_t len;

	assert_int_equal(0, pipe(fds));
	log_setup(LOG_INFO, LOG_TEXT, fds[1]);
	for (size_t i = 0; i < n; i++) {
		meter_init(&meters[i], sources[i]);
		meter_sample(&meters[i], 1);
		count(&sources[i]->received, 100000000 * seconds);
		count(&sources[i]->disk_ns, seconds * 900000000);
		meter_sample(&meters[i], 1 + seconds * 1000000000);
	}
	progress_lines_heartbeat(meters, n, false);
	log_setup(LOG_INFO, LOG_TEXT, STDERR_FILENO);
	for (size_t i = 0; i < n; i++)
		meter_done(&meters[i]);
	len = read(fds[0], bytes, sizeof(bytes));
	close(fds[0]);
	close(fds[1]);
	assert_true(len > 0);
	return text_format("%.*s", (int)len, bytes);
}

TEST(progress_line_of_one_source_has_amounts_rate_end_and_what_it_waits_for)
{
	struct progress p = {.name = "https://host/cifar5.tar",
		.state = PROGRESS_ACTIVE,
		.total = 16000000000,
		.received = 6400000000,
		.entries = 3,
		.entries_total = 9};
	struct progress *one = &p;
	_free_ char *line = heartbeat_of(&one, 1, 2);

	assert_string_equal(
		"stagerun: cifar5.tar 41% (6.60 of 16.0 GB, 3 of 9 files), 100 MB/s, 2 min left, waits for the disk\n",
		line);
}

TEST(progress_line_of_several_sources_names_the_slowest)
{
	struct progress a = {.name = "a.tar", .state = PROGRESS_ACTIVE, .total = 2000000000};
	struct progress b = {.name = "b.tar", .state = PROGRESS_ACTIVE, .total = 8000000000};
	struct progress c = {.name = "c.tar",
		.state = PROGRESS_DONE,
		.total = 1000000000,
		.received = 1000000000};
	struct progress *all[] = {&a, &b, &c};
	_free_ char *line = heartbeat_of(all, 3, 5);

	assert_string_equal(
		"stagerun: 3 sources 21% (2.50 of 11.5 GB, 1 of 3 done), 200 MB/s, 45 s left; slowest: b.tar 6%, waits for the disk\n",
		line);
}

TEST(progress_line_of_unknown_size_has_neither_percentage_nor_end)
{
	struct progress p = {.name = "-", .state = PROGRESS_ACTIVE};
	struct progress *one = &p;
	_free_ char *line = heartbeat_of(&one, 1, 2);

	assert_string_equal("stagerun: - (200 MB), 100 MB/s, waits for the disk\n", line);
}

TEST(progress_rate_is_an_average_of_some_seconds)
{
	struct progress p = {.name = "a", .state = PROGRESS_ACTIVE, .total = 1000000000};
	struct meter m;

	meter_init(&m, &p);
	meter_sample(&m, 1);
	for (uint64_t tenth = 1; tenth <= 100; tenth++) {
		count(&p.received, tenth % 2 == 0 ? 2000000 : 0); /* in bursts */
		meter_sample(&m, 1 + tenth * 100000000);
	}
	assert_true(m.bytes_per_second > 9500000 && m.bytes_per_second < 10500000);
	assert_true(meter_seconds_left(&m) > 80 && meter_seconds_left(&m) < 100);
	for (uint64_t tenth = 101; tenth <= 400; tenth++)
		meter_sample(&m, 1 + tenth * 100000000);
	assert_true(m.bytes_per_second < 100000);
	meter_done(&m);
}

/* The summary. */

TEST(bottleneck_is_what_took_the_time)
{
	assert_int_equal(WAITED_FOR_NETWORK, report_bottleneck(60, 30, 10, 100));
	assert_int_equal(WAITED_FOR_DECODING, report_bottleneck(20, 50, 30, 100));
	assert_int_equal(WAITED_FOR_DISK, report_bottleneck(20, 30, 70, 100));
	assert_int_equal(WAITED_FOR_NETWORK, report_bottleneck(40, 5, 5, 100));
	assert_int_equal(WAITED_LITTLE, report_bottleneck(5, 5, 5, 100));
	assert_int_equal(WAITED_LITTLE, report_bottleneck(0, 0, 0, 0));
	assert_int_equal(WAITED_FOR_DISK, report_bottleneck(0, 0, 900, 100)); /* of many threads */
}

/* What report_source_done() logs. */
static char *said(enum log_format form, const struct progress *p, uint64_t elapsed_ns, bool warm)
{
	char bytes[4096];
	int fds[2];
	ssize_t n;

	assert_int_equal(0, pipe(fds));
	log_setup(LOG_INFO, form, fds[1]);
	report_source_done(p, "/datastores/cifar5", "zip", elapsed_ns, warm);
	log_setup(LOG_INFO, LOG_TEXT, STDERR_FILENO);
	n = read(fds[0], bytes, sizeof(bytes));
	close(fds[0]);
	close(fds[1]);
	assert_true(n > 0);
	return text_format("%.*s", (int)n, bytes);
}

TEST(summary_says_size_time_rate_entries_and_the_bottleneck)
{
	struct progress zip = zip_at_42_percent();
	_free_ char *line = NULL;

	zip.received = 170000000;
	zip.network_ns = 1500000000;
	line = said(LOG_TEXT, &zip, 2000000000, false);
	assert_string_equal(
		"stagerun: cifar5.zip -> /datastores/cifar5: 170 MB in 2.00 s (85.0 MB/s), "
		"25200 entries of 76.5 MB, waited for the network\n",
		line);
}

TEST(summary_names_decoding_and_the_disk_too)
{
	struct progress zip = zip_at_42_percent();
	_free_ char *decode = NULL, *disk = NULL;

	zip.decode_ns = 900000000;
	decode = said(LOG_TEXT, &zip, 2000000000, false);
	assert_non_null(strstr(decode, ", waited for decoding\n"));
	zip.disk_ns = 1000000000;
	disk = said(LOG_TEXT, &zip, 2000000000, false);
	assert_non_null(strstr(disk, ", waited for the disk\n"));
}

TEST(summary_of_a_warm_source_says_that_nothing_was_fetched)
{
	struct progress zip = {.name = "cifar5.zip"};
	_free_ char *line = said(LOG_TEXT, &zip, 12000000, true);

	assert_string_equal(
		"stagerun: cifar5.zip -> /datastores/cifar5: already there, nothing to fetch\n",
		line);
}

TEST(summary_for_machines_has_numbers)
{
	struct progress zip = zip_at_42_percent();
	_free_ char *line = NULL;
	json_t *object;

	zip.disk_ns = 1000000000;
	line = said(LOG_JSON, &zip, 2000000000, false);
	object = json_loads(line, 0, NULL);
	assert_non_null(object);
	assert_string_equal("stage_done", json_string_value(json_object_get(object, "event")));
	assert_string_equal("zip", json_string_value(json_object_get(object, "format")));
	assert_string_equal("disk", json_string_value(json_object_get(object, "waited_for")));
	assert_int_equal(71400000, json_integer_value(json_object_get(object, "bytes")));
	assert_int_equal(35700000, json_integer_value(json_object_get(object, "bytes_per_second")));
	assert_true(json_number_value(json_object_get(object, "seconds")) == 2);
	assert_true(json_number_value(json_object_get(object, "disk_seconds")) == 1);
	json_decref(object);
}

/* The termination message. */

static void write_text(const char *path, const char *s)
{
	_fclose_ FILE *f = fopen(path, "we");

	assert_non_null(f);
	fputs(s, f);
}

/* What was written over the old content of a file; NULL when the file is not there. */
static char *terminate(const struct termination *t, bool exists, bool create)
{
	_free_ char *dir = test_directory();
	_free_ char *path = text_format("%s/termination-log", dir);
	_fclose_ FILE *f = exists ? fopen(path, "we") : NULL;
	char bytes[8192] = "";
	size_t n;

	if (exists) {
		fputs("what an earlier run of this pod said, which is longer than most reasons", f);
		assert_int_equal(0, fflush(f));
	}
	termination_message(path, create, t);
	if (f != NULL)
		fclose(f);
	f = fopen(path, "re");
	if (f == NULL)
		return NULL;
	n = fread(bytes, 1, sizeof(bytes), f);
	return text_format("%.*s", (int)n, bytes);
}

TEST(termination_message_is_one_line_of_json)
{
	const struct termination t = {.phase = "stage",
		.item = "https://host/x.tar",
		.exit_code = 125,
		.reason = END_START_FAILED,
		.message = "the server said \"404\"\nfor \xff it"};
	_free_ char *line = terminate(&t, true, false);

	assert_string_equal(
		"{\"phase\":\"stage\",\"item\":\"https://host/x.tar\",\"exit_code\":125,"
		"\"reason\":\"start_failed\","
		"\"message\":\"the server said \\\"404\\\"\\\\x0afor \\\\xff it\"}\n",
		line);
}

TEST(termination_message_escapes_what_only_looks_like_utf8)
{
	/* Overlong, half of a surrogate pair, beyond Unicode, cut short; then a real character. */
	const struct termination t = {.message = "\xc0\xaf \xe0\x80\xaf \xed\xa0\x80 "
						 "\xf4\x90\x80\x80 \xe6\x95 \xe6\x95\xb0"};
	_free_ char *line = terminate(&t, true, false);

	assert_string_equal("{\"exit_code\":0,\"reason\":\"completed\",\"message\":"
			    "\"\\\\xc0\\\\xaf \\\\xe0\\\\x80\\\\xaf "
			    "\\\\xed\\\\xa0\\\\x80 \\\\xf4\\\\x90\\\\x80\\\\x80 \\\\xe6\\\\x95 "
			    "\xe6\x95\xb0\"}\n",
		line);
}

TEST(termination_message_names_the_signal)
{
	const struct termination t = {.exit_code = 143, .signal = 15, .reason = END_TERMINATED};
	_free_ char *line = terminate(&t, true, false);

	assert_string_equal("{\"exit_code\":143,\"signal\":15,\"reason\":\"terminated\"}\n", line);
}

TEST(termination_message_that_is_too_long_is_cut_to_what_is_kept)
{
	static const char *const pieces[] = {"x", "\"", "\n", "\xff", "数", "😀"};

	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		struct text message = {0};
		struct termination t = {.phase = "stage", .exit_code = 125};
		_free_ char *line = NULL;
		json_t *object;

		for (int n = 0; n < 5000; n++)
			text_add(&message, pieces[i]);
		t.item = t.message = message.s;
		line = terminate(&t, true, false);
		assert_in_range(strlen(line), 2048, 4096);
		object = json_loads(line, 0, NULL); /* which refuses what is not UTF-8 */
		assert_non_null(object);
		assert_int_equal(125, json_integer_value(json_object_get(object, "exit_code")));
		assert_non_null(
			strstr(json_string_value(json_object_get(object, "message")), "..."));
		json_decref(object);
		text_done(&message);
	}
}

TEST(termination_message_goes_only_where_a_file_is_or_was_asked_for)
{
	const struct termination t = {.exit_code = 125, .reason = END_START_FAILED};
	_free_ char *absent = terminate(&t, false, false);
	_free_ char *created = terminate(&t, false, true);

	assert_null(absent);
	assert_string_equal("{\"exit_code\":125,\"reason\":\"start_failed\"}\n", created);
	termination_message(NULL, true, &t);
	termination_message("", true, &t);
}

TEST(termination_message_that_cannot_be_written_is_only_a_warning)
{
	const struct termination t = {.exit_code = 125};
	char bytes[1024] = "";
	int fds[2];

	assert_int_equal(0, pipe(fds));
	log_setup(LOG_INFO, LOG_TEXT, fds[1]);
	termination_message("/dev/full", false, &t);
	log_setup(LOG_INFO, LOG_TEXT, STDERR_FILENO);
	assert_true(read(fds[0], bytes, sizeof(bytes) - 1) > 0);
	assert_non_null(strstr(bytes, "cannot write the reason to '/dev/full': No space left"));
	close(fds[0]);
	close(fds[1]);
}

/* Whether a file that holds before is found written after what change() did to it. */
static bool is_written_after(const char *before, void (*change)(const char *path))
{
	_free_ char *dir = test_directory();
	_free_ char *path = text_format("%s/termination-log", dir);
	struct termination_mark mark;

	if (before != NULL)
		write_text(path, before);
	termination_remember(path, &mark);
	change(path);
	return termination_was_written(path, &mark);
}

static void change_nothing(const char *path)
{
	(void)path;
}

static void write_a_reason(const char *path)
{
	write_text(path, "loss is NaN");
}

static void replace_with_an_equal(const char *path)
{
	_free_ char *other = text_format("%s.new", path);

	write_text(other, "old");
	assert_int_equal(0, rename(other, path));
}

static void empty_it(const char *path)
{
	write_text(path, "");
}

TEST(termination_file_that_the_command_wrote_is_recognised)
{
	assert_true(is_written_after("", write_a_reason));
	assert_true(is_written_after("old", write_a_reason));
	assert_true(is_written_after("old", replace_with_an_equal));
	assert_true(is_written_after(NULL, write_a_reason));
}

TEST(termination_file_that_the_command_left_alone_or_empty_is_the_agents)
{
	assert_false(is_written_after("", change_nothing));
	assert_false(is_written_after("old", change_nothing));
	assert_false(is_written_after(NULL, change_nothing));
	assert_false(is_written_after("old", empty_it));
}

TEST(termination_path_that_is_none_or_a_device_was_not_written)
{
	struct termination_mark mark;

	termination_remember(NULL, &mark);
	assert_false(termination_was_written(NULL, &mark));
	termination_remember("/dev/null", &mark);
	assert_false(termination_was_written("/dev/null", &mark));
}
