/* SPDX-License-Identifier: MIT */
#include "store_fixture.h"
#include "defer.h"
#include "test.h"
#include "text.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

void store_fixture_setup(struct store_fixture *f)
{
	struct store_env env = {0};

	*f = (struct store_fixture){.dir = test_directory()};
	env.url = f->dir;
	assert_int_equal(store_new(&env, &f->store, &f->err), 0);
	assert_int_equal(store_hand_open(f->store, NULL, &f->hand, &f->err), 0);
}

void store_fixture_teardown(struct store_fixture *f)
{
	store_hand_close(f->hand);
	store_free(f->store);
	free(f->dir);
}

void store_fixture_put(struct store_fixture *f, const char *key, const char *content)
{
	assert_int_equal(store_put(f->hand, key, content, strlen(content), &f->err), 0);
}

bool store_fixture_has(struct store_fixture *f, const char *key)
{
	int code = store_has(f->hand, key, NULL, &f->err);

	assert_true(code >= 0);
	return code > 0;
}

static int add_key(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err)
{
	(void)size;
	(void)modified;
	(void)err;
	text_addf(ctx, "%s ", key);
	return 0;
}

char *store_fixture_keys(struct store_fixture *f, const char *prefix)
{
	struct text t = {0};

	assert_int_equal(store_list(f->hand, prefix, add_key, &t, &f->err), 0);
	return text_take(&t);
}

void store_fixture_age(struct store_fixture *f, const char *key, unsigned seconds)
{
	_free_ char *path = format_text("%s/%s", f->dir, key);
	struct timespec times[2];

	clock_gettime(CLOCK_REALTIME, &times[0]);
	times[0].tv_sec -= seconds;
	times[1] = times[0];
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}
