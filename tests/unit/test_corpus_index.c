/* SPDX-License-Identifier: MIT */
#define LLVMFuzzerTestOneInput fuzz_index
#include "../fuzz/fuzz_index.c" /* NOLINT(bugprone-suspicious-include): a program has but one */
#include "corpus.h"
#include "test.h"

TEST(index_survives_the_fuzzers_corpus)
{
	corpus_replay("index", 5, fuzz_index);
}
