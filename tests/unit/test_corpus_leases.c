/* SPDX-License-Identifier: MIT */
#define LLVMFuzzerTestOneInput fuzz_leases
#include "../fuzz/fuzz_leases.c" /* NOLINT(bugprone-suspicious-include): a program has but one */
#include "corpus.h"
#include "test.h"

TEST(leases_survive_the_fuzzers_corpus)
{
	corpus_replay("leases", 8, fuzz_leases);
}
