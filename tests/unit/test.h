/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_H
#define STAGERUN_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four headers above. */
#include <cmocka.h>

/* TEST(a_sentence_about_one_behaviour) { ... } registers a test. `make unit T='*zip*'` runs those
 * whose names match. */
#define TEST(name) \
	static void name(void **state); \
	__attribute__((constructor)) static void register_##name(void) \
	{ \
		test_register(#name, name); \
	} \
	static void name(void **state __attribute__((unused)))

void test_register(const char *name, CMUnitTestFunction f);

/* Creates a directory, which is removed with its contents when the program ends. Heap. */
char *test_directory(void);

#endif
