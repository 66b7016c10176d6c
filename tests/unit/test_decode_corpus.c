/* SPDX-License-Identifier: MIT */
/* Every input that the fuzzer was started from or has found, once, in every build. */
#include "../fuzz/fuzz_decode.c" /* NOLINT(bugprone-suspicious-include): a program has but one */
#include "test.h"
#include <glob.h>
#include <sys/stat.h>

static void replay_file(const char *path)
{
	_fclose_ FILE *f = fopen(path, "re");
	_free_ uint8_t *bytes = NULL;
	struct stat st;

	assert_non_null(f);
	assert_int_equal(0, fstat(fileno(f), &st));
	bytes = zalloc((size_t)st.st_size + 1);
	assert_int_equal(st.st_size, fread(bytes, 1, (size_t)st.st_size, f));
	LLVMFuzzerTestOneInput(bytes, (size_t)st.st_size);
}

TEST(decode_survives_the_fuzzers_corpus)
{
	glob_t files;
	int code =
		glob("tests/fuzz/corpus/decode/*", 0, NULL, &files); /* NOLINT: no other thread */

	assert_int_equal(0, code);
	assert_true(files.gl_pathc >= 10);
	for (size_t i = 0; i < files.gl_pathc; i++)
		replay_file(files.gl_pathv[i]);
	globfree(&files);
	log_setup(LOG_WARN, LOG_TEXT, STDERR_FILENO);
}
