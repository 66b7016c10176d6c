/* SPDX-License-Identifier: MIT */
#include "hooks_fixture.h"
#include "defer.h"
#include "log.h"
#include "test.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum { LOG_BYTES = 65536 };

void hooks_fixture_setup(struct hooks_fixture *f)
{
	*f = (struct hooks_fixture){.settings = settings_new(),
		.dir = test_directory(),
		.later = test_directory(),
		.out = test_directory()};
	f->log_path = text_format("%s/log", f->out);
	f->log_fd = open(f->log_path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	assert_true(f->log_fd >= 0);
	log_setup(LOG_INFO, LOG_TEXT, f->log_fd);
	hooks_fixture_set(f, "hooks.dir", f->dir);
}

void hooks_fixture_teardown(struct hooks_fixture *f)
{
	log_setup(LOG_INFO, LOG_TEXT, STDERR_FILENO);
	close(f->log_fd);
	settings_free(f->settings);
	hooks_free(f->hooks);
	free(f->dir);
	free(f->later);
	free(f->out);
	free(f->log_path);
}

void hooks_fixture_set(struct hooks_fixture *f, const char *key, const char *value)
{
	assert_int_equal(
		0, settings_set(f->settings, key, value, ORIGIN_OPTION, "--test", &f->err));
}

char *hooks_fixture_add(const char *dir, const char *name, const char *script)
{
	_free_ char *path = text_format("%s/%s", dir, name);
	_free_ char *point = text_format("%.*s", (int)(strrchr(path, '/') - path), path);
	FILE *file;

	assert_true(mkdir(point, 0755) == 0 || errno == EEXIST);
	file = fopen(path, "we");
	assert_non_null(file);
	fprintf(file, "#!/bin/sh\n%s\n", script);
	fclose(file);
	assert_int_equal(0, chmod(path, 0755));
	return take_ptr(&path);
}

void hooks_fixture_put(const char *dir, const char *name, const char *script)
{
	free(hooks_fixture_add(dir, name, script));
}

int hooks_fixture_find(struct hooks_fixture *f)
{
	return hooks_find(f->settings, &f->hooks, &f->err);
}

char *hooks_fixture_names(const struct hooks_fixture *f, enum hook_point point)
{
	struct text names = {0};

	for (size_t i = 0; i < f->hooks->at[point].n; i++)
		text_addf(&names, "%s ", f->hooks->at[point].v[i].name);
	return text_take(&names);
}

char *hooks_fixture_log(const struct hooks_fixture *f)
{
	char *log = zalloc(LOG_BYTES);

	assert_true(pread(f->log_fd, log, LOG_BYTES - 1, 0) >= 0);
	return log;
}
