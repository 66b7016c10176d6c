/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CONFIG_YAML_TREE_H
#define STAGERUN_CONFIG_YAML_TREE_H

#include "error.h"
#include <stdbool.h>
#include <stddef.h>

/* One YAML document as a tree that knows where each of its nodes stands. An alias is a second way
 * to the same node; what bounds a walk over the tree counts it as if it were written out. */

enum yaml_kind { YAML_SCALAR, YAML_LIST, YAML_MAP };

struct yaml_pair {
	struct yaml_node *key; /* a scalar */
	struct yaml_node *value;
};

struct yaml_node {
	enum yaml_kind kind;
	unsigned line, column; /* from 1 */
	char *text;            /* YAML_SCALAR: never NULL */
	bool quoted;           /* YAML_SCALAR: a string whatever it looks like: "null", "5" */
	size_t n;
	size_t cap;
	union {
		struct yaml_node **items; /* YAML_LIST */
		struct yaml_pair *pairs;  /* YAML_MAP: in order, keys differ */
	};

	/* While loading. */
	char *anchor;
	size_t weight;           /* nodes from here down, aliases written out */
	unsigned depth;          /* levels from here down */
	bool open;               /* its end has not been seen */
	struct yaml_node *older; /* all nodes of the tree in one chain */
};

struct yaml_tree {
	struct yaml_node *root; /* NULL: there is no document, or an empty one */
	struct yaml_node *newest;
};

enum { YAML_MAX_NODES = 100000, YAML_MAX_DEPTH = 100, YAML_MAX_ANCHORS = 1000 };

/* name is for messages. -ERR_CONFIG with "name:LINE:COLUMN: ...". */
int yaml_tree_load(
	const char *name, const char *bytes, size_t len, struct yaml_tree *ret, struct error *err);
void yaml_tree_done(struct yaml_tree *tree);

/* A plain null, ~ or nothing; also a missing node (NULL). */
bool yaml_is_null(const struct yaml_node *node);

#endif
