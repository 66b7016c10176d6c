/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ZIP_JOB_H
#define STAGERUN_ZIP_JOB_H

#include "crew.h"
#include "unpack.h"

struct libdeflate_decompressor;

/* An entry whose compressed bytes are at hand. */
struct zip_job {
	const char *name; /* borrowed; where it goes, below the tree */
	mode_t type;
	struct meta meta;
	uint16_t method;
	uint32_t crc;
	size_t size; /* unpacked */
	/* In order; a reference to each is the job's. Only a stored file may come in two. */
	struct slice packed[2];
};

/* What a worker works with. */
struct zip_hands {
	struct crew *crew;
	struct writer *writer;
	struct libdeflate_decompressor *inflater;
	struct block_pool *outputs; /* blocks that hold any job's content; one for each worker */
	struct block *output;       /* from outputs, once it was needed */
	struct cancel *cancel;
};

/* Writes the entry. The job stays the caller's. */
int zip_job_run(const struct zip_job *job, struct zip_hands *hands, struct error *err);
void zip_job_done(struct zip_job *job);

#endif
