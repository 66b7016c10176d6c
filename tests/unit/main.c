/* SPDX-License-Identifier: MIT */
/* Runs every TEST() that was linked in, or those whose name matches the glob in argv[1]. */
#include "test.h"
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct CMUnitTest tests[2048];
static size_t n_tests;
static char root[64];

void test_register(const char *name, CMUnitTestFunction f)
{
	if (n_tests == sizeof(tests) / sizeof(tests[0]))
		abort();
	tests[n_tests++] = (struct CMUnitTest){.name = name, .test_func = f};
}

char *test_directory(void)
{
	char *path = NULL;

	if (asprintf(&path, "%s/XXXXXX", root) < 0 || mkdtemp(path) == NULL)
		abort();
	return path;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

int main(int argc, char **argv)
{
	int failed;

	snprintf(root, sizeof(root), "/tmp/stagerun-unit-XXXXXX");
	if (mkdtemp(root) == NULL)
		return 1;
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	failed = _cmocka_run_group_tests("stagerun", tests, n_tests, NULL, NULL);
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return failed != 0;
}
