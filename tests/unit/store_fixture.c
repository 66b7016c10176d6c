/* SPDX-License-Identifier: MIT */
#include "store_fixture.h"
#include "../../agent/store/store_private.h"
#include "datastore.h"
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
	assert_int_equal(store_conn_open(f->store, NULL, &f->hand, &f->err), 0);
}

void store_fixture_claim(struct store_fixture *f)
{
	store_fixture_setup(f);
	assert_int_equal(store_claim(f->hand, &f->err), 0);
}

void store_fixture_teardown(struct store_fixture *f)
{
	store_conn_close(f->hand);
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

void store_fixture_link(struct store_fixture *f, const char *key, const char *target)
{
	_free_ char *path = text_format("%s/%s", f->dir, key);

	assert_int_equal(symlink(target, path), 0);
}

void store_fixture_age(struct store_fixture *f, const char *key, unsigned seconds)
{
	_free_ char *path = text_format("%s/%s", f->dir, key);
	struct timespec times[2];

	clock_gettime(CLOCK_REALTIME, &times[0]);
	times[0].tv_sec -= seconds;
	times[1] = times[0];
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

struct manifest *store_fixture_manifest(const char *name, const char *nonce, const char *object)
{
	struct manifest *m = manifest_new();

	m->name = text_copy(name);
	m->creator = text_copy("stagerun test");
	m->source = text_copy("/data/cats");
	m->nonce = text_copy(nonce);
	m->entries = 2;
	m->files = 1;
	m->bytes = 4;
	m->stored_bytes = 4;
	m->n_parts = m->n_objects = 1;
	m->parts = zalloc(sizeof(*m->parts));
	memset(m->parts[0].sha256, 'a', 64);
	m->parts[0].first = text_copy(".");
	m->parts[0].last = text_copy("z");
	m->objects = zalloc(sizeof(*m->objects));
	m->objects[0].key = text_copy(object);
	m->objects[0].bytes = m->objects[0].live = 4;
	return m;
}

unsigned store_fixture_publish(struct store_fixture *f, const char *name, const char *object)
{
	struct manifest *m = store_fixture_manifest(name, object, object);
	unsigned version;

	store_fixture_put(f, object, "data");
	assert_int_equal(datastore_publish(f->hand, m, &f->err), 0);
	version = m->version;
	manifest_free(m);
	return version;
}

char *store_fixture_temporary(struct store_fixture *f)
{
	_free_ char *path = text_format("%s/.tmp", f->dir);
	_closedir_ DIR *dir = opendir(path);
	const struct dirent *e;

	assert_non_null(dir);
	while ((e = readdir(dir)) != NULL) {
		if (e->d_name[0] != '.')
			return text_format(".tmp/%s", e->d_name);
	}
	return NULL;
}
