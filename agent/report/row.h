/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_REPORT_ROW_H
#define STAGERUN_REPORT_ROW_H

#include "report.h"
#include "text.h"

/* One line of the display: a source and how fast it was lately. Loop thread. */
struct row {
	const struct progress *progress;
	char *name; /* clean UTF-8 */

	/* As of the last sample. */
	uint64_t sampled_ns, received, network_ns, decode_ns, disk_ns;
	double bytes_per_second; /* smoothed */
	enum bottleneck waits_for;
};

void row_init(struct row *r, const struct progress *p, uint64_t at_ns);
void row_done(struct row *r);

/* Looks at what was done since the last sample. */
void row_sample(struct row *r, uint64_t at_ns);

/* Adds the row, without a newline, in at most this many columns; of what does not fit, the less
 * important is left out. name_columns is how wide all rows' names are. */
void row_draw(const struct row *r, size_t columns, size_t name_columns, struct text *to);

#endif
