/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_FILE_SUM_H
#define STAGERUN_FILE_SUM_H

#include <stdbool.h>
#include <stdint.h>

/* What a tree holds, told by the names and sizes of its regular files, in any order: a file that a crash of the
 * machine has cut short makes another sum. Both are of file_sum_mark(), modulo 2^64. */
struct file_sum {
	bool known;
	uint64_t dense;  /* of the files without holes */
	uint64_t sparse; /* of the others */
};

/* Of one file; path is relative to the tree, normalised. Any thread. */
uint64_t file_sum_mark(const char *path, uint64_t size);

#endif
