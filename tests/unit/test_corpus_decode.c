/* SPDX-License-Identifier: MIT */
#define LLVMFuzzerTestOneInput fuzz_decode
#include "../fuzz/fuzz_decode.c" /* NOLINT(bugprone-suspicious-include): a program has but one */
#include "corpus.h"
#include "test.h"

TEST(decode_survives_the_fuzzers_corpus)
{
	corpus_replay("decode", 10, fuzz_decode);
}
