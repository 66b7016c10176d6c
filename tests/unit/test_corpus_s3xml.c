/* SPDX-License-Identifier: MIT */
#define LLVMFuzzerTestOneInput fuzz_s3xml
#include "../fuzz/fuzz_s3xml.c" /* NOLINT(bugprone-suspicious-include): a program has but one */
#include "corpus.h"
#include "test.h"

TEST(s3xml_survives_the_fuzzers_corpus)
{
	corpus_replay("s3xml", 15, fuzz_s3xml);
}
