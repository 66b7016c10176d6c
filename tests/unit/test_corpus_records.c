/* SPDX-License-Identifier: MIT */
#define LLVMFuzzerTestOneInput fuzz_records
#include "../fuzz/fuzz_records.c" /* NOLINT(bugprone-suspicious-include): a program has but one */
#include "corpus.h"
#include "test.h"

TEST(records_survive_the_fuzzers_corpus)
{
	corpus_replay("records", 8, fuzz_records);
}
