/* SPDX-License-Identifier: MIT */
/* Which sources are known, what they are called, and the ones that are files of this machine. */
#include "defer.h"
#include "source.h"
#include "test.h"
#include "text.h"
#include "url.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void assert_check(int code, const char *url, const char *says)
{
	struct error err = {0};

	assert_int_equal(code, source_check(url, &err));
	if (strstr(err.msg, says) == NULL)
		fail_msg("'%s' does not say '%s'", err.msg, says);
}

TEST(source_check_accepts_the_known_schemes_in_any_case)
{
	assert_check(0, "https://host/x", "");
	assert_check(0, "HTTP://host:80/x?y=z", "");
	assert_check(0, "file:///x", "");
	assert_check(0, "file://localhost/x", "");
	assert_check(0, "datastore:cats:1", "");
	assert_check(0, "/a/path", "");
	assert_check(0, "relative/pa:th.tar", "");
}

TEST(source_check_says_what_is_wrong_with_others)
{
	assert_check(-ERR_USAGE, "ftp://u:pw@h/x",
		"the scheme 'ftp://' is not known; https://, http://");
	assert_check(-ERR_USAGE, "ftp://u:pw@h/x", "'ftp://h/x'");
	assert_check(-ERR_USAGE, "http://host/a b", "not a well-formed URL");
	assert_check(-ERR_USAGE, "http://", "not a well-formed URL");
	assert_check(-ERR_USAGE, "file://otherhost/x", "write file:///absolute/path");
	assert_check(-ERR_USAGE, "", "empty");
}

static void assert_text(char *is, const char *want)
{
	assert_string_equal(want, is);
	free(is);
}

TEST(source_display_shows_no_secret)
{
	assert_text(source_display("https://u:p@h:8/a/b?sig=x#f"), "https://h:8/a/b");
	assert_text(source_display("https://u:p@s@h/a@b"), "https://h/a@b");
	assert_text(source_display("https://h?token=x"), "https://h");
	assert_text(source_display("https://h/#?x"), "https://h/");
	assert_text(source_display("/a path/with?and#"), "/a path/with?and#");
}

TEST(source_expired_is_no_url_whose_time_is_longer_than_time)
{
	assert_null(url_expired("https://h/k?X-Amz-Date=20200101T000000Z&X-Amz-Expires="
				"9223372036854775807",
		1800000000));
	assert_text(
		url_expired("https://h/k?X-Amz-Date=20200101T000000Z&X-Amz-Expires=60", 1577836920),
		"the presigned URL expired 1 min 0 s ago, at 2020-01-01 00:01:00 UTC: get a new "
		"one");
}

TEST(source_key_drops_what_signs_and_keeps_what_selects)
{
	assert_text(source_key("https://h/k?X-Amz-Date=1&versionId=7&X-Amz-Signature=2"),
		"https://h/k?versionId=7");
	assert_text(source_key("https://h/k?sv=1&se=2&sig=3&blob=4"), "https://h/k?blob=4");
	assert_text(source_key("https://h/k?se=2"), "https://h/k?se=2");
	assert_text(source_key("https://h/k?Expires=1&Key-Pair-Id=2&Signature=3"), "https://h/k");
	assert_text(source_key("HTTPS://u:p@Host/K#f"), "https://host/K");
	assert_text(source_key("/Plain/path?x"), "/Plain/path?x");
}

TEST(source_file_name_is_the_last_component_or_data)
{
	assert_text(source_file_name("https://h/a/b.tar?x=/y"), "b.tar");
	assert_text(source_file_name("https://h/a%20b/c%2dd"), "c-d");
	assert_text(source_file_name("https://h/a/"), "a");
	assert_text(source_file_name("https://h/"), "data");
	assert_text(source_file_name("https://h"), "data");
	assert_text(source_file_name("https://h/%2e%2e"), "data");
	assert_text(source_file_name("https://h/..%2fx"), "data");
	assert_text(source_file_name("/x/y%20z.gz"), "y%20z.gz");
	assert_text(source_file_name("plain"), "plain");
	assert_text(source_file_name("/"), "data");
	assert_text(source_file_name(".."), "data");
}

TEST(identity_is_the_same_only_when_both_are_pinned_the_same_way)
{
	struct identity etag = {.etag = "\"a\"", .last_modified = "d", .size = 1};
	struct identity date = {.last_modified = "d", .size = 1};
	struct identity none = {.size = 1};
	struct identity open_end = {.last_modified = "d", .size = SIZE_UNKNOWN};
	struct identity recent = {.last_modified = "d", .size = 1, .recent = true};

	assert_true(object_identity_same(&etag, &etag));
	assert_true(object_identity_same(&date, &date));
	assert_false(object_identity_same(&etag, &date));
	assert_false(object_identity_same(&none, &none));
	assert_false(object_identity_pins(&recent));
	assert_false(object_identity_same(&date, &recent));
	assert_false(object_identity_pins(&open_end));
	assert_false(object_identity_same(&open_end, &open_end));
}

struct file_case {
	struct cancel cancel;
	struct source_env env;
	struct source_request req;
	struct object *object;
	struct error err;
	char *path;
};

static void write_file(const char *path, size_t len, int flags)
{
	_close_ int fd = open(path, O_WRONLY | O_CREAT | flags, 0644);
	char buf[1000];

	assert_true(fd >= 0);
	for (size_t i = 0; i < len; i++) {
		buf[i % sizeof(buf)] = (char)(i * 7 + (i >> 9));
		if ((i + 1) % sizeof(buf) == 0 || i + 1 == len)
			assert_true(write(fd, buf, i % sizeof(buf) + 1) > 0);
	}
}

static void file_case_init(struct file_case *c, size_t len)
{
	_free_ char *dir = test_directory();

	*c = (struct file_case){.path = text_format("%s/a file", dir)};
	cancel_init(&c->cancel);
	c->env.cancel = &c->cancel;
	c->req.url = c->path;
	write_file(c->path, len, O_TRUNC);
}

static void file_case_done(struct file_case *c)
{
	if (c->object != NULL)
		reader_close(object_stream(c->object));
	object_close(c->object);
	cancel_done(&c->cancel);
	free(c->path);
}

static int64_t drain(struct file_case *c)
{
	struct slice s;
	int64_t at = 0;
	int got;

	while ((got = reader_next(object_stream(c->object), &s, &c->err)) > 0) {
		for (size_t i = 0; i < s.len; i++) {
			uint64_t offset = (uint64_t)at + i;

			assert_int_equal((uint8_t)(offset * 7 + (offset >> 9)), s.data[i]);
		}
		at += (int64_t)s.len;
		slice_drop(&s);
	}
	return got < 0 ? got : at;
}

TEST(source_reads_a_file_by_path_and_by_url)
{
	struct file_case c;
	_free_ char *dir = NULL;
	_free_ char *url = NULL;

	file_case_init(&c, 600000);
	assert_int_equal(0, source_open(&c.env, &c.req, &c.object, &c.err));
	assert_int_equal(600000, c.object->identity.size);
	assert_true(object_identity_pins(&c.object->identity));
	assert_int_equal(600000, drain(&c));
	object_close(c.object);
	dir = strndup(c.path, strlen(c.path) - strlen("a file"));
	url = text_format("file://localhost%sa%%20file", dir);
	c.req.url = url;
	assert_int_equal(0, source_open(&c.env, &c.req, &c.object, &c.err));
	assert_int_equal(600000, drain(&c));
	file_case_done(&c);
}

TEST(source_reads_a_file_anywhere_and_skips_in_it)
{
	struct file_case c;
	uint8_t buf[100];

	file_case_init(&c, 5000);
	assert_int_equal(0, source_open(&c.env, &c.req, &c.object, &c.err));
	assert_int_equal(0, object_read_at(c.object, 4900, buf, 100, &c.err));
	assert_int_equal((uint8_t)(4999 * 7 + (4999 >> 9)), buf[99]);
	assert_int_equal(-ERR_TRUNCATED, object_read_at(c.object, 4901, buf, 100, &c.err));
	assert_int_equal(0, reader_skip(object_stream(c.object), 3000, &c.err));
	assert_int_equal(0, reader_read(object_stream(c.object), buf, 1, &c.err));
	assert_int_equal((uint8_t)(3000 * 7 + (3000 >> 9)), buf[0]);
	file_case_done(&c);
}

TEST(source_knows_a_file_that_was_not_modified)
{
	struct file_case c;
	struct identity have;
	struct timespec later[2] = {{.tv_sec = 1, .tv_nsec = 1}, {.tv_sec = 1, .tv_nsec = 1}};

	file_case_init(&c, 10);
	assert_int_equal(0, source_open(&c.env, &c.req, &c.object, &c.err));
	have = c.object->identity;
	object_close(c.object);
	c.req.have = &have;
	assert_int_equal(0, source_open(&c.env, &c.req, &c.object, &c.err));
	assert_true(c.object->not_modified);
	object_close(c.object);
	assert_int_equal(0, utimensat(AT_FDCWD, c.path, later, 0));
	assert_int_equal(0, source_open(&c.env, &c.req, &c.object, &c.err));
	assert_false(c.object->not_modified);
	file_case_done(&c);
}

TEST(source_sees_a_file_grow_or_shrink_while_it_is_read)
{
	for (int shrink = 0; shrink < 2; shrink++) {
		struct file_case c;

		file_case_init(&c, 1000);
		assert_int_equal(0, source_open(&c.env, &c.req, &c.object, &c.err));
		assert_int_equal(0, truncate(c.path, shrink ? 500 : 2000));
		assert_int_equal(-ERR_CHANGED, drain(&c));
		file_case_done(&c);
	}
}

TEST(source_says_that_a_directory_is_no_source)
{
	struct source_env env = {0};
	struct source_request req = {.url = "/tmp"};
	struct object *o = NULL;
	struct error err;

	assert_int_equal(-EISDIR, source_open(&env, &req, &o, &err));
	assert_non_null(strstr(err.msg, "/tmp is a directory"));
	req.url = "/nowhere/at/all";
	assert_int_equal(-ENOENT, source_open(&env, &req, &o, &err));
	assert_non_null(strstr(err.msg, "/nowhere/at/all"));
}

static void *feed_pipe(void *ctx)
{
	usleep(50000);
	write_file(ctx, 100000, 0);
	return NULL;
}

TEST(source_streams_a_pipe_whose_writer_comes_later)
{
	struct file_case c;
	pthread_t writer;

	file_case_init(&c, 0);
	assert_int_equal(0, unlink(c.path));
	assert_int_equal(0, mkfifo(c.path, 0600));
	assert_int_equal(0, source_open(&c.env, &c.req, &c.object, &c.err));
	assert_false(c.object->seekable);
	assert_true(c.object->identity.size == SIZE_UNKNOWN);
	pthread_create(&writer, NULL, feed_pipe, c.path);
	assert_int_equal(100000, drain(&c));
	pthread_join(writer, NULL);
	file_case_done(&c);
}

static void *cancel_soon(void *ctx)
{
	usleep(50000);
	cancel_request(ctx);
	return NULL;
}

TEST(source_wakes_from_a_silent_pipe_when_it_is_cancelled)
{
	struct file_case c;
	pthread_t canceller;

	file_case_init(&c, 0);
	assert_int_equal(0, unlink(c.path));
	assert_int_equal(0, mkfifo(c.path, 0600));
	assert_int_equal(0, source_open(&c.env, &c.req, &c.object, &c.err));
	pthread_create(&canceller, NULL, cancel_soon, &c.cancel);
	assert_int_equal(-ECANCELED, drain(&c));
	pthread_join(canceller, NULL);
	file_case_done(&c);
}
