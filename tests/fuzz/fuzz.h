/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_FUZZ_H
#define STAGERUN_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* What libFuzzer calls, and replay.c and the unit tests with the files of a corpus. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

#endif
