/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_VERSION_FIXTURE_H
#define STAGERUN_TEST_VERSION_FIXTURE_H

#include "datastore.h"
#include "datastore_fetch.h"
#include "index.h"
#include "unpack_fixture.h"

/* A version of a datastore, built by hand in a store in a fresh directory, and a box to fetch it into. Content
 * goes into one pack as it comes, cut into frames. */
struct version {
	char *store_path;
	struct store *store;
	struct store_hand *hand;
	struct manifest *manifest;
	struct index_writer *index;

	/* The pack that grows. */
	char pack[64];
	unsigned n_packs;
	struct text stored, raw;
	uint64_t raw_begin; /* of what is in no frame yet, in the pack's raw bytes */
	struct index_frame frames[512];
	size_t n_frames;

	/* Entries whose content is in the pack that grows. */
	struct version_entry {
		struct index_entry e;
		char *path, *target, *sha256;
		uint64_t at; /* in the pack's raw bytes */
	} * entries;
	size_t n_entries;

	struct box box;
	struct selection selection;
	struct fetch_options options;
};

void version_open(struct version *v);
void version_close(struct version *v);

/* Entries, in order. Paths and content are copied. */
void version_dir(struct version *v, const char *path, mode_t mode);
void version_symlink(struct version *v, const char *path, const char *target);
void version_file(struct version *v, const char *path, const void *bytes, size_t len);
void version_text(struct version *v, const char *path, const char *content);
/* Its content is that of the latest file. */
void version_hardlink(struct version *v, const char *path, const char *target);
struct index_entry *version_last(struct version *v); /* to be changed before the pack is stored */

void version_cut(struct version *v);   /* ends the frame */
void version_pack(struct version *v);  /* ends the pack, and stores it */
void version_store(struct version *v); /* and the index: the version is complete */

/* What comes of it: 0 or the negative code; the tree is finished. */
int version_fetch(struct version *v);
void version_fetch_ok(struct version *v);

/* Changes a stored object: xors a byte; cuts it off. */
void version_damage(struct version *v, const char *key, size_t at);
void version_truncate(struct version *v, const char *key, size_t len);

#endif
