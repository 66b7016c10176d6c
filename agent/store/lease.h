/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_LEASE_H
#define STAGERUN_LEASE_H

#include "datastore.h"

/* Creators and the one collector keep out of each other's way with one object each: whoever comes first
 * writes its own, then looks for the other's. Both see it, or one does: then the collector steps back and the
 * creator waits, so that never both work.
 *
 * A lease that is not renewed for a lifetime is dead. Its age is told by the store's own clock, as the
 * difference to an object written just before: the clocks of machines differ. */

#define LEASE_LIFE_MS ((uint64_t)5 * 60 * 1000)

enum lease_kind {
	LEASE_CREATE,  /* a creation under way */
	LEASE_COLLECT, /* a collection under way */
	LEASE_CLOCK,   /* nothing: asks the store for its time */
	LEASE_PROBE    /* nothing: a probe of the store that was killed */
};

struct lease_entry {
	char *key;
	enum lease_kind kind;
	time_t modified; /* by the store's clock */
	bool live;
};

struct leases {
	time_t now; /* the store's */
	struct lease_entry *v;
	size_t n, cap;
};

char *lease_new_key(enum lease_kind kind); /* heap */
int lease_write(struct store_hand *h, const char *key, const char *name, uint64_t life_ms,
	struct error *err);
void lease_remove(struct store_hand *h, const char *key); /* best effort */

/* Those of others; own_key was written just before. */
int leases_list(struct store_hand *h, const char *own_key, uint64_t life_ms, struct leases *ret,
	struct error *err);
bool leases_have(const struct leases *all, enum lease_kind kind); /* a live one */
void leases_done(struct leases *all);

/* What a creation's lease says, for messages: its datastore (NULL: it is gone, or unreadable), and
 * "HOST (process 12)". Both heap. */
void lease_describe(struct store_hand *h, const char *key, char **ret_name, char **ret_who);

/* Goes on while the machine sleeps. */
uint64_t lease_clock_ms(void);

/* lease_take() with another lifetime. */
int lease_take_for(struct store *s, const char *name, uint64_t life_ms, struct cancel *cancel,
	struct lease **ret, struct error *err);

#endif
