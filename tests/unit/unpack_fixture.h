/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_UNPACK_FIXTURE_H
#define STAGERUN_TEST_UNPACK_FIXTURE_H

#include "text.h"
#include "unpack.h"
#include <sys/stat.h>

/* A tree in a fresh directory, and what unpacking into it needs. */
struct box {
	char *path;
	int root_fd, scratch_fd;
	struct tree *tree;
	struct budget *budget;
	struct cancel cancel;
	struct progress progress;
	struct selection selection;
	struct unpack_env env;

	/* How the bytes are presented; changed by tests before box_unpack(). */
	size_t slice_bytes;
	unsigned slices_in_block;
	bool seekable;
	bool has_object; /* false: they were compressed around it */
	bool extract;
	time_t mtime;

	/* What came of it. */
	const char *format;
	struct error err;
	bool drained;
};

void box_open(struct box *b);
void box_close(struct box *b); /* also checks that all memory was given back to the budget */

/* Unpacks and finishes the tree: 0 or the negative code. */
int box_unpack(struct box *b, const struct text *archive);

/* Opens the box; the archive must unpack, as this format, and its stream be read to its end. */
void box_unpack_ok(struct box *b, const struct text *archive, const char *format);

/* Asserts on what is in the box. */
void box_assert_content(const struct box *b, const char *name, const char *content);
void box_assert_bytes(const struct box *b, const char *name, const void *bytes, size_t len);
void box_assert_link(const struct box *b, const char *name, const char *target);
void box_assert_absent(const struct box *b, const char *name);
void box_assert_error(const struct box *b, int code, const char *part_of_message);
struct stat box_stat(const struct box *b, const char *name);
/* len bytes that deflate to about half, with no NUL among them. Heap string. */
char *make_text(size_t len);

#endif
