/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_FILE_SUM_H
#define STAGERUN_FILE_SUM_H

#include <stdbool.h>
#include <stdint.h>

/* A checksum of a tree, over the names and sizes of its regular files in any order: a file that was
 * truncated by a crash of the machine changes it. All sums are modulo 2^64. */
struct file_sum {
	bool known;
	uint64_t dense;  /* sum of file_sum_mark() of the files without holes */
	uint64_t sparse; /* of the others */
	/* Over all files with their modification times: this distinguishes other content with the
	 * same names and sizes, such as two checkpoints of one model. */
	bool has_times; /* every file's time was set successfully */
	uint64_t times; /* sum of file_sum_dated() */
};

/* The summand of one file. path is relative to the tree, normalized. Any thread. */
uint64_t file_sum_mark(const char *path, uint64_t size);

/* The summand of the same file (mark) with its time in seconds, rounded as every file system stores
 * it: FAT has even seconds only. */
uint64_t file_sum_dated(uint64_t mark, int64_t seconds);

#endif
