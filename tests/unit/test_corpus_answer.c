/* SPDX-License-Identifier: MIT */
#define LLVMFuzzerTestOneInput fuzz_answer
#include "../fuzz/fuzz_answer.c" /* NOLINT(bugprone-suspicious-include): a program has but one */
#include "corpus.h"
#include "test.h"

TEST(answer_survives_the_fuzzers_corpus)
{
	corpus_replay("answer", 5, fuzz_answer);
}
