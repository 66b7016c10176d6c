/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CONFIG_RUNFILE_READER_H
#define STAGERUN_CONFIG_RUNFILE_READER_H

#include "runfile.h"
#include "yaml_tree.h"

/* How config.yml's tree becomes a struct runfile: each map has a table of its fields, each field a
 * reader. Readers return 0 or the code of the error they set; null is "not said" for all of them.
 */

struct runfile_reader {
	struct runfile *r;
	char what[256];                   /* where we are: "compute.train.scratch"; for messages */
	const struct yaml_node *key;      /* the key whose value is being read, at its start */
	struct datastore_ref attached;    /* datastore_name, _version and _mount_dir */
	unsigned point_line[POINT_COUNT]; /* where a point's actions were seen; 0: not yet */
	struct error *err;
};

typedef int (*runfile_read_fn)(struct runfile_reader *p, const struct yaml_node *node, void *into);

struct runfile_field {
	const char *name;     /* NULL: no such field */
	runfile_read_fn read; /* NULL: known, and nothing we act on */
	size_t offset;        /* of what read() fills, inside read_fields()'s into */
};

enum unknown_keys { UNKNOWN_WARNS, UNKNOWN_FAILS };

/* Reads a map by its fields. */
int read_fields(struct runfile_reader *p, const struct yaml_node *map,
	const struct runfile_field *fields, size_t n, enum unknown_keys unknown, void *into);

/* Calls read() for each item of a list that is not null, or for the one value that is no list. */
int read_items(
	struct runfile_reader *p, const struct yaml_node *node, runfile_read_fn read, void *into);

/* Errors: "FILE:LINE:COLUMN: " and the sentence; "... <what> must be <kind>". */
int refuse_node(const struct runfile_reader *p, const struct yaml_node *node, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int refuse_kind(const struct runfile_reader *p, const struct yaml_node *node, const char *kind);
void warn_node(const struct runfile_reader *p, const struct yaml_node *node, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Readers of single values; what they fill stays as it was when the value is null. */
int read_text(struct runfile_reader *p, const struct yaml_node *node, void *into);  /* char ** */
int read_bool(struct runfile_reader *p, const struct yaml_node *node, void *into);  /* bool * */
int read_count(struct runfile_reader *p, const struct yaml_node *node, void *into); /* unsigned * */
/* uint64_t *, milliseconds */
int read_duration(struct runfile_reader *p, const struct yaml_node *node, void *into);
/* struct strings *, from one text or a list */
int read_texts(struct runfile_reader *p, const struct yaml_node *node, void *into);
/* const char **: the tree's, gone after the reading */
int read_borrow(struct runfile_reader *p, const struct yaml_node *node, void *into);

/* Readers of whole keys. They fill p->r or p->attached, but for those with an into. */
int read_environment(struct runfile_reader *p, const struct yaml_node *node, void *into);
int read_scratch(struct runfile_reader *p, const struct yaml_node *node, void *into);
int read_datastore_name(struct runfile_reader *p, const struct yaml_node *node, void *into);
int read_datastore_version(struct runfile_reader *p, const struct yaml_node *node, void *into);
int read_datastore_mount_dir(struct runfile_reader *p, const struct yaml_node *node, void *into);
int read_datastores(struct runfile_reader *p, const struct yaml_node *node, void *into);
void finish_attached(struct runfile_reader *p); /* after the last key: those three become one */
/* struct strings * */
int read_params(struct runfile_reader *p, const struct yaml_node *node, void *into);
/* struct actions *, one of p->r->actions */
int read_actions(struct runfile_reader *p, const struct yaml_node *node, void *into);
int read_stage(
	struct runfile_reader *p, const struct yaml_node *node, void *into); /* struct action * */

void actions_done(struct actions *actions);

#endif
