/* SPDX-License-Identifier: MIT */
#define LLVMFuzzerTestOneInput fuzz_runfile
#include "../fuzz/fuzz_runfile.c" /* NOLINT(bugprone-suspicious-include): a program has but one */
#include "corpus.h"
#include "test.h"

TEST(runfile_survives_the_fuzzers_corpus)
{
	corpus_replay("runfile", 10, fuzz_runfile);
}
