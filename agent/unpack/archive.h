/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ARCHIVE_H
#define STAGERUN_ARCHIVE_H

#include "crew.h"
#include "unpack.h"

struct archive;

/* What libarchive reads from. It is handed the reader's own slices, uncopied: the latest one stays
 * held until libarchive asks for more. */
struct archive_feed {
	struct reader *in;
	struct slice current;
	uint64_t given; /* bytes handed out, current included */
	bool ended;     /* the stream has no more */
	int failed;     /* the reader's error, which says more than libarchive's */
	struct error why;
};

/* Lets go of the current slice and takes the next: 1 / 0 / negative, noted in failed and why. */
int archive_feed_next(struct archive_feed *feed);
/* Passes over n bytes of the stream behind the current slice. */
int archive_feed_skip(struct archive_feed *feed, uint64_t n);
void archive_feed_done(struct archive_feed *feed);

struct extraction {
	/* Set at creation. */
	const struct unpack_env *env;
	const struct unpack_input *input;
	const char *format;      /* "tar" */
	struct archive *archive; /* opened on feed */
	struct archive_feed *feed;
	bool has_end_marker;  /* the format ends with one; tars without are accepted */
	mode_t mode_if_unset; /* the format's readers say this of files without a mode; 0: none do
			       */

	/* While under way. */
	struct writer *writer; /* this thread's */
	struct crew *crew;
	char latest[128]; /* name of the latest entry, shortened, for messages */
};

/* Every entry of x->archive into the tree. */
int extract_entries(struct extraction *x, struct error *err);

/* The error of the call on the archive that just failed: the feed's when it was at fault. */
int extraction_error(const struct extraction *x, struct error *err);

#endif
