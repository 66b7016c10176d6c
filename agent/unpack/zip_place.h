/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ZIP_PLACE_H
#define STAGERUN_ZIP_PLACE_H

#include <stdint.h>

/* Where a record is, by where its data is. */
struct zip_place {
	uint64_t header_at;
	uint64_t record_at;
};

/* By header_at, then by record_at. */
void zip_places_sort(struct zip_place *places, uint64_t n);

#endif
