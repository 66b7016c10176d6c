/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_RUNFILE_READER_H
#define STAGERUN_RUNFILE_READER_H

#include "error.h"
#include "runfile.h"
#include <stdbool.h>
#include <stddef.h>

/* config.yml, internally: its text becomes a tree of YAML nodes, and tables of fields, one for
 * each kind of map, turn the tree into a struct runfile. A new key is a row in one of these
 * tables.
 *
 *   yaml_tree.c           text -> tree, by libyaml; does not know config.yml
 *   runfile_reader.c      walks over maps and lists by the tables; single values; "${NAME}"
 *   runfile.c             the outer maps, environment, scratch, parameters, actions with their
 *                         stage: maps
 *   runfile_datastores.c  the datastores to attach
 *
 * All of it runs on the loop thread, before any other thread starts. */

/* A YAML document as a tree whose nodes know their position in the file. An alias is a second
 * pointer to the same node; the limits on nodes and depth count it as a copy of that node. */

enum yaml_kind { YAML_SCALAR, YAML_LIST, YAML_MAP };

struct yaml_pair {
	struct yaml_node *key; /* a scalar */
	struct yaml_node *value;
};

struct yaml_node {
	enum yaml_kind kind;
	unsigned line, column; /* from 1 */
	char *text;            /* YAML_SCALAR: never NULL */
	bool quoted;           /* YAML_SCALAR: a string, even if it reads "null" or "5" */
	size_t n;
	size_t cap;
	union {
		struct yaml_node **items; /* YAML_LIST */
		struct yaml_pair *pairs; /* YAML_MAP: in the file's order, without duplicate keys */
	};

	/* Only used while the tree is loaded. */
	char *anchor;
	size_t weight;  /* number of nodes from here down, aliases counted as copies */
	unsigned depth; /* levels from here down */
	bool open;      /* its end was not read yet */

	struct yaml_node *older; /* the list of all nodes of the tree */
};

struct yaml_tree {
	struct yaml_node *root; /* NULL: there is no document, or it is empty */
	struct yaml_node *newest;
};

enum { YAML_MAX_NODES = 100000, YAML_MAX_DEPTH = 100, YAML_MAX_ANCHORS = 1000 };

/* name is for messages. -ERR_CONFIG with "name:LINE:COLUMN: ...". */
int yaml_tree_load(
	const char *name, const char *bytes, size_t len, struct yaml_tree *ret, struct error *err);
void yaml_tree_done(struct yaml_tree *tree);

/* Whether the node is an unquoted null, "~" or empty, or missing (NULL). */
bool yaml_is_null(const struct yaml_node *node);

struct runfile_reader {
	struct runfile *r;
	char key_path[256];               /* path of the present key: "compute.train.scratch" */
	const struct yaml_node *key;      /* the innermost key; valid when its reader starts */
	struct datastore_ref attached;    /* datastore_name, _version and _mount_dir */
	unsigned point_line[POINT_COUNT]; /* line of the key of a point's actions; 0: none yet */
	bool strict;                      /* an unknown key is always an error */
	struct error *err;
};

/* Reads the value of one key, or one item of a list, into *into. Returns 0, or the code of the
 * error that it set. All readers treat null like an absent key. */
typedef int (*runfile_read_fn)(struct runfile_reader *p, const struct yaml_node *node, void *into);

struct runfile_field {
	const char *name;     /* NULL: an unused row */
	runfile_read_fn read; /* NULL: the key is known and ignored */
	size_t offset;        /* added to the into of runfile_read_fields() for read() */
	const char *lost;     /* what will not happen without the key: "its actions are not run" */
};

enum unknown_keys { UNKNOWN_WARNS, UNKNOWN_FAILS };

/* --- runfile_reader.c --- */

/* Reads a map: calls the reader of each of its keys, or warns or fails for an unknown key. */
int runfile_read_fields(struct runfile_reader *p, const struct yaml_node *map,
	const struct runfile_field *fields, size_t n, enum unknown_keys unknown, void *into);

/* Calls read() for each item of a list that is not null, or for a node that is not a list. */
int runfile_read_items(
	struct runfile_reader *p, const struct yaml_node *node, runfile_read_fn read, void *into);

/* Sets p->err to "FILE:LINE:COLUMN: " and the sentence, and returns -ERR_CONFIG. */
int runfile_refuse(const struct runfile_reader *p, const struct yaml_node *node, const char *fmt,
	...) __attribute__((format(printf, 3, 4)));
/* As runfile_refuse(), with the sentence "<key_path> must be <kind>". */
int runfile_refuse_kind(
	const struct runfile_reader *p, const struct yaml_node *node, const char *kind);
/* Logs a warning with file and line. */
void runfile_warn(const struct runfile_reader *p, const struct yaml_node *node, const char *fmt,
	...) __attribute__((format(printf, 3, 4)));

/* Readers of single values. If the value is null, *into is unchanged. */

/* into: char ** (heap); frees the previous text. */
int runfile_read_text(struct runfile_reader *p, const struct yaml_node *node, void *into);
/* into: const char **; the text belongs to the tree, and is freed with it. */
int runfile_read_borrow(struct runfile_reader *p, const struct yaml_node *node, void *into);
/* into: struct strings *; appends one text, or each of a list. */
int runfile_read_texts(struct runfile_reader *p, const struct yaml_node *node, void *into);
/* into: bool *. */
int runfile_read_bool(struct runfile_reader *p, const struct yaml_node *node, void *into);
/* into: unsigned *; at most 65535. */
int runfile_read_count(struct runfile_reader *p, const struct yaml_node *node, void *into);
/* into: uint64_t *, in milliseconds. */
int runfile_read_duration(struct runfile_reader *p, const struct yaml_node *node, void *into);

/* --- runfile_datastores.c --- */

/* Readers of the keys that attach datastores; into is not used. The three keys of one datastore
 * are collected in p->attached, and the list datastores: is appended to p->r. */
int runfile_read_datastore_name(struct runfile_reader *p, const struct yaml_node *node, void *into);
int runfile_read_datastore_version(
	struct runfile_reader *p, const struct yaml_node *node, void *into);
int runfile_read_datastore_mount_dir(
	struct runfile_reader *p, const struct yaml_node *node, void *into);
int runfile_read_datastores(struct runfile_reader *p, const struct yaml_node *node, void *into);
/* To be called after the last key: appends p->attached to p->r, if it has a name. */
void runfile_finish_attached(struct runfile_reader *p);

#endif
