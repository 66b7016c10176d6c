/* SPDX-License-Identifier: MIT */
#include "corpus.h"
#include "defer.h"
#include "log.h"
#include "test.h"
#include "text.h"
#include <glob.h>
#include <sys/stat.h>

static void replay_file(const char *path, int (*one)(const uint8_t *bytes, size_t len))
{
	_fclose_ FILE *f = fopen(path, "re");
	_free_ uint8_t *bytes = NULL;
	struct stat st;

	assert_non_null(f);
	assert_int_equal(0, fstat(fileno(f), &st));
	bytes = zalloc((size_t)st.st_size + 1);
	assert_int_equal(st.st_size, fread(bytes, 1, (size_t)st.st_size, f));
	one(bytes, (size_t)st.st_size);
}

void corpus_replay(const char *name, size_t at_least, int (*one)(const uint8_t *bytes, size_t len))
{
	_free_ char *pattern = text_format("tests/fuzz/corpus/%s/*", name);
	glob_t files;
	int code = glob(pattern, 0, NULL, &files); /* NOLINT: no other thread */

	assert_int_equal(0, code);
	assert_true(files.gl_pathc >= at_least);
	for (size_t i = 0; i < files.gl_pathc; i++)
		replay_file(files.gl_pathv[i], one);
	globfree(&files);
	log_setup(LOG_WARN, LOG_TEXT, STDERR_FILENO);
}
