/* SPDX-License-Identifier: MIT */
#define LLVMFuzzerTestOneInput fuzz_unpack
#include "../fuzz/fuzz_unpack.c" /* NOLINT(bugprone-suspicious-include): a program has but one */
#include "corpus.h"
#include "test.h"

TEST(unpack_survives_the_fuzzers_corpus)
{
	corpus_replay("unpack", 10, fuzz_unpack);
}
