/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_STORE_FIXTURE_H
#define STAGERUN_TEST_STORE_FIXTURE_H

#include "manifest.h"
#include "store.h"

/* An empty store in a fresh directory, and one hand. */
struct store_fixture {
	char *dir; /* what it is in, and nothing else */
	struct store *store;
	struct store_hand *hand;
	struct error err;
};

void store_fixture_setup(struct store_fixture *f);
void store_fixture_teardown(struct store_fixture *f);

void store_fixture_put(struct store_fixture *f, const char *key, const char *content);
bool store_fixture_has(struct store_fixture *f, const char *key);
/* All keys in the order they are listed, with a space behind each. Heap. */
char *store_fixture_keys(struct store_fixture *f, const char *prefix);
/* A manifest that names one object and one part of an index. The caller's. */
struct manifest *store_fixture_manifest(const char *name, const char *nonce, const char *object);
/* Puts both, and publishes: the version's number. */
unsigned store_fixture_publish(struct store_fixture *f, const char *name, const char *object);
/* Makes an object look as old as that. */
void store_fixture_age(struct store_fixture *f, const char *key, unsigned seconds);

/* Some temporary file, relative to the directory. Heap. */
char *store_fixture_temporary(struct store_fixture *f);

#endif
