/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_UNPACK_FIXTURE_H
#define STAGERUN_TEST_UNPACK_FIXTURE_H

#include "text.h"
#include "unpack.h"
#include <sys/stat.h>

/* A tree in a new directory, with everything that is needed to unpack into it. */
struct box {
	char *path;
	int root_fd, scratch_fd;
	struct tree *tree;
	struct budget *budget;
	struct cancel cancel;
	struct progress progress;
	struct selection selection;
	struct unpack_env env;

	/* Properties of the input; a test may change them before box_unpack(). */
	size_t slice_bytes;
	unsigned slices_in_block;
	bool seekable;
	bool has_object; /* false: the archive is compressed as a whole */
	bool extract;
	time_t mtime;
	const char *url, *compression, *media_type, *disposition; /* as in the input; NULL: none */
	const char *file_name;

	/* The result. */
	const char *format;
	struct error err;
	bool drained;
};

void box_open(struct box *b);
void box_open_limited(struct box *b, uint64_t max_bytes, uint64_t max_entries);
void box_close(struct box *b); /* also asserts that all memory was released to the budget */

/* Unpacks and finishes the tree. Returns 0 or a negative code. */
int box_unpack(struct box *b, const struct text *archive);

/* Opens the box, unpacks, and asserts success, this format, and that the stream was read to its
 * end. */
void box_unpack_ok(struct box *b, const struct text *archive, const char *format);

/* Assertions about the contents of the box, or its error. */
void box_assert_content(const struct box *b, const char *name, const char *content);
void box_assert_bytes(const struct box *b, const char *name, const void *bytes, size_t len);
void box_assert_link(const struct box *b, const char *name, const char *target);
void box_assert_absent(const struct box *b, const char *name);
void box_assert_error(const struct box *b, int code, const char *part_of_message);
struct stat box_stat(const struct box *b, const char *name);
/* A string of len bytes that deflate to about half; heap. */
char *make_text(size_t len);

#endif
