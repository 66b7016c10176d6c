/* SPDX-License-Identifier: MIT */
/* Helpers for the tests of settings and config.yml: files, variables and logged warnings. */
#include "config_fixture.h"
#include "defer.h"
#include "log.h"
#include "test.h"
#include "text.h"
#include <string.h>
#include <sys/mman.h>

static int kept_fd = -1;

char *config_file(const char *name, const char *content)
{
	_free_ char *dir = test_directory();
	char *path = text_format("%s/%s", dir, name);
	_fclose_ FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_int_equal(strlen(content), fwrite(content, 1, strlen(content), f));
	return path;
}

void set_variable(const char *name, const char *value)
{
	if (value != NULL)
		assert_int_equal(0, setenv(name, value, 1)); /* NOLINT(concurrency-mt-unsafe) */
	else
		assert_int_equal(0, unsetenv(name)); /* NOLINT(concurrency-mt-unsafe) */
}

void keep_warnings(void)
{
	kept_fd = memfd_create("warnings", MFD_CLOEXEC);
	assert_true(kept_fd >= 0);
	log_setup(LOG_WARN, LOG_TEXT, kept_fd);
}

char *kept_warnings(void)
{
	struct text t = {0};
	char buf[4096];
	ssize_t n;

	log_setup(LOG_WARN, LOG_TEXT, STDERR_FILENO);
	lseek(kept_fd, 0, SEEK_SET);
	while ((n = read(kept_fd, buf, sizeof(buf))) > 0)
		text_add_bytes(&t, buf, (size_t)n);
	close(kept_fd);
	kept_fd = -1;
	return text_take(&t);
}
