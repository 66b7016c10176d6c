/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_VERSION_FIXTURE_H
#define STAGERUN_TEST_VERSION_FIXTURE_H

#include "datastore.h"
#include "datastore_fetch.h"
#include "index.h"
#include "unpack_fixture.h"

/* A version of a datastore, built step by step in a store in a new directory, and a box to fetch
 * it into. Content is appended to the current pack, which is divided into frames. */
struct version {
	char *store_path;
	struct store *store;
	struct store_conn *hand;
	struct manifest *manifest;
	struct index_writer *index;

	/* The current pack. */
	char pack[64];
	unsigned n_packs;
	struct text stored, raw;
	uint64_t raw_begin; /* offset in the raw bytes; from here on they are in no frame */
	struct index_frame frames[512];
	size_t n_frames;

	/* Entries whose content is in the current pack. */
	struct version_entry {
		struct index_entry e;
		char *path, *target, *sha256;
		uint64_t at; /* offset in the pack's raw bytes */
	} * entries;
	size_t n_entries;

	struct box box;
	struct selection selection;
	struct fetch_options options;
};

void version_open(struct version *v);
void version_close(struct version *v);

/* Add entries, which must be in order. Paths and content are copied. */
void version_dir(struct version *v, const char *path, mode_t mode);
void version_symlink(struct version *v, const char *path, const char *target);
void version_file(struct version *v, const char *path, const void *bytes, size_t len);
void version_text(struct version *v, const char *path, const char *content);
/* Its content is that of the last file. */
void version_hardlink(struct version *v, const char *path, const char *target);
struct index_entry *version_last(struct version *v); /* may be changed before the pack is stored */

void version_cut(struct version *v);   /* ends the frame */
void version_pack(struct version *v);  /* ends the pack and stores it */
void version_store(struct version *v); /* also stores the index: the version is complete */

/* Fetches the version, and finishes the tree. Returns 0 or a negative code. */
int version_fetch(struct version *v);
void version_fetch_ok(struct version *v);

/* Damage a stored object: the first inverts one bit of a byte, the second truncates it. */
void version_damage(struct version *v, const char *key, size_t at);
void version_truncate(struct version *v, const char *key, size_t len);

#endif
