/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_CORPUS_H
#define STAGERUN_TEST_CORPUS_H

#include <stddef.h>
#include <stdint.h>

/* Calls one(), the entry function of a fuzz target, with each file of its corpus: the seeds, and
 * the inputs that the fuzzer has found. Fails the test if there are fewer than at_least files.
 * Unlike the fuzzer, this runs in every build and with every sanitizer. */
void corpus_replay(const char *name, size_t at_least, int (*one)(const uint8_t *bytes, size_t len));

#endif
