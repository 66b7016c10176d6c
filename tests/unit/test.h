/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_H
#define STAGERUN_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants the four above first. */
#include <cmocka.h>

/* TEST(a_sentence_about_one_behaviour) { ... } registers itself; `make unit T='*zip*'` runs some.
 */
#define TEST(name) \
	static void name(void **state); \
	__attribute__((constructor)) static void register_##name(void) \
	{ \
		test_register(#name, name); \
	} \
	static void name(void **state __attribute__((unused)))

void test_register(const char *name, CMUnitTestFunction f);

/* A fresh directory, removed with all in it when the program ends. */
char *test_directory(void);

#endif
