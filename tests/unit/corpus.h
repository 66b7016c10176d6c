/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_CORPUS_H
#define STAGERUN_TEST_CORPUS_H

#include <stddef.h>
#include <stdint.h>

/* Gives every input that a fuzzer was started from or has found to the fuzzer's function: in every
 * build, with every sanitizer. Fails when there are fewer than at_least. */
void corpus_replay(const char *name, size_t at_least, int (*one)(const uint8_t *bytes, size_t len));

#endif
