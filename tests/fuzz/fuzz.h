/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_FUZZ_H
#define STAGERUN_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* The entry function of a fuzz target. It is called by libFuzzer, and with the files of a corpus
 * by replay.c and the unit tests. Returns 0, and aborts on a failed check. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

#endif
