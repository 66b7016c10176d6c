/* SPDX-License-Identifier: MIT */
#define LLVMFuzzerTestOneInput fuzz_config
#include "../fuzz/fuzz_config.c" /* NOLINT(bugprone-suspicious-include): a program has but one */
#include "corpus.h"
#include "test.h"

TEST(config_survive_the_fuzzers_corpus)
{
	corpus_replay("config", 6, fuzz_config);
}
