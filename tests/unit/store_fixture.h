/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_STORE_FIXTURE_H
#define STAGERUN_TEST_STORE_FIXTURE_H

#include "manifest.h"
#include "store.h"

/* An empty store in a new directory, and a connection to it. */
struct store_fixture {
	char *dir; /* contains only the store */
	struct store *store;
	struct store_conn *hand;
	struct error err;
};

void store_fixture_setup(struct store_fixture *f);
/* As store_fixture_setup(), and marks the store as the first creation does. */
void store_fixture_claim(struct store_fixture *f);
void store_fixture_teardown(struct store_fixture *f);

void store_fixture_put(struct store_fixture *f, const char *key, const char *content);
bool store_fixture_has(struct store_fixture *f, const char *key);
/* All keys with this prefix in the store's order, each followed by a space; heap. */
char *store_fixture_keys(struct store_fixture *f, const char *prefix);
/* A manifest with one object and one part of the index; manifest_free(). */
struct manifest *store_fixture_manifest(const char *name, const char *nonce, const char *object);
/* Stores the object, and publishes a version that contains it. Returns the version's number. */
unsigned store_fixture_publish(struct store_fixture *f, const char *name, const char *object);
/* Creates a symbolic link in the place of an object or of a directory of objects. */
void store_fixture_link(struct store_fixture *f, const char *key, const char *target);
/* Sets the time of an object to this many seconds before now. */
void store_fixture_age(struct store_fixture *f, const char *key, unsigned seconds);

/* The path of any temporary file, relative to dir; heap. NULL: there is none. */
char *store_fixture_temporary(struct store_fixture *f);

#endif
