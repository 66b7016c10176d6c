/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_INDEX_FRAMES_H
#define STAGERUN_INDEX_FRAMES_H

#include "index.h"

/* The numbers that objects and frames have in the part of an index that is being written. One thread at a
 * time. */
struct frame_numbers {
	struct strings objects;
	struct numbered_frame *frames;
	size_t n_frames, frames_cap;
	uint32_t *slots; /* hash table of numbers + 1; 0: free */
	size_t n_slots;  /* a power of two */
};

/* The number of the first of these frames, all in the one object; the others' follow it. What has no number
 * yet is added to text. */
uint32_t frame_numbers_get(struct frame_numbers *n, struct text *text, const char *object,
	const struct index_frame *frames, size_t n_frames);
void frame_numbers_done(struct frame_numbers *n); /* as zeroed; accepts a zeroed one */

#endif
