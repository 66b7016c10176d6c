/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREATE_CREATE_PRIVATE_H
#define STAGERUN_CREATE_CREATE_PRIVATE_H

#include "datastore.h"
#include "datastore_create.h"
#include "index.h"
#include "s3.h"
#include "text.h"
#include <nettle/sha2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

/* How a version is made. One director (the thread that called) takes entries from the source in the index's
 * order, gathers them to works, and writes the index as works are done; hands (threads) do the works: read,
 * hash, compress and send. Which entries share a pack depends on the entries alone, never on time: so the
 * same tree makes the same packs, which the store then has already. */

#define FRAME_RAW ((size_t)4 << 20)                /* most raw bytes of one zstd frame */
#define PACK_RAW  (((size_t)32 << 20) - (1 << 18)) /* of a pack: stored, it is at most 32 MiB */
#define LARGE_MIN ((uint64_t)24 << 20)             /* files of this size are objects of their own */

/* Entries of a pack come from so many entries of the index at most: later ones wait for it. */
#define PACK_SPAN   50000
#define MAX_WAITING 100000

/* An object that the index points into. */
struct create_object {
	char key[96];
	char sha256[65]; /* of the stored bytes; "" when not known */
	uint64_t bytes, raw;
	uint64_t live;    /* director, once the object is done */
	bool hardly_used; /* by the earlier version that it is from: not to be pointed into again */
	struct index_frame *frames; /* of new ones */
	size_t n_frames;
	struct create_object *next; /* in the order of their appearance */
	bool listed;
};
void create_object_free(struct create_object *o); /* accepts NULL */

/* Where an earlier version has the content of a file with the same path and size. */
struct earlier {
	struct create_object *object;
	uint8_t sha256[SHA256_DIGEST_SIZE];
	uint32_t skip;
	size_t n_frames;
	struct index_frame frames[];
};

/* An entry on its way from the source to the index. */
struct item {
	struct item *next;
	uint64_t number; /* its place in the index */

	/* Set by the source. */
	enum index_type type;
	bool sparse;
	bool known;    /* an earlier version has an entry of this path and type */
	bool verify;   /* symbolic link of an archive: must not go up from what is no directory */
	bool existing; /* file of an archive: content for all names of the link before */
	bool linked;   /* of an archive: hard links to it follow */
	struct item *link_to; /* hard link of an archive */
	struct item *content; /* that came with this name of it */
	mode_t mode;
	struct timespec mtime, ctime;
	uint64_t size;
	const char *path, *target; /* in text; target may be NULL */
	const char *etag;          /* of S3's objects, else NULL */

	/* Director, and the hand that has the work. */
	struct earlier *earlier; /* NULL: there is none */
	bool changed;            /* it differs from what the earlier version has */
	struct work *batch;      /* compares it with the earlier one */
	struct work *work;       /* puts it into an object */
	uint64_t at;             /* its content begins at this byte of the object's tar */
	uint8_t sha256[SHA256_DIGEST_SIZE];

	char text[];
};

struct item *item_new(enum index_type type, const char *path, const char *target, const char *etag);
void item_free(struct item *i);              /* accepts NULL */
bool item_has_content(const struct item *i); /* bytes of its own: a file that is not empty */

/* What a hand does at one go. */
enum work_kind {
	WORK_PACK,
	WORK_HASH,
	WORK_LARGE,  /* frame after frame of a file */
	WORK_FRAME,  /* of what is streamed; frees itself */
	WORK_OBJECT, /* what its frames make: never in the queue */
};
struct large;
struct work {
	enum work_kind kind;
	struct work *next; /* in the queue */
	struct item **items;
	size_t n, cap;
	uint64_t raw; /* of the items' tar members; of WORK_HASH: content */
	size_t open;  /* director: items that still name this work */
	struct large *large;
	struct create_object *object; /* set when done; of objects once taken */
	bool taken;

	/* Of WORK_FRAME. */
	struct work *owner;
	uint8_t *bytes; /* raw ones, heap of FRAME_RAW */
	size_t len, number;
	bool is_last;
	atomic_bool done;
};

struct work *work_new(enum work_kind kind);
void work_add(struct work *w, struct item *i, uint64_t raw);
void work_free(struct work *w); /* accepts NULL */

/* Where items' content comes from. Any hand. */
struct creation;
struct hand;
struct content {
	struct hand *hand;
	const struct item *item;
	int fd;
};
struct contents {
	int (*open)(struct hand *h, const struct item *i, struct content *ret, struct error *err);
	/* Exactly len bytes at offset. */
	int (*read)(struct content *c, uint64_t offset, void *buf, size_t len, struct error *err);
	/* -ERR_CHANGED unless the item was all the while what the source said of it. */
	int (*check)(struct content *c, struct error *err);
	void (*close)(struct content *c);
};
extern const struct contents contents_of_files, contents_of_s3;

struct creation {
	/* Set before hands are there. */
	const struct create_options *opts;
	const struct contents *contents;
	int root_fd;           /* of contents_of_files */
	struct s3_place place; /* of contents_of_s3: what items are below */
	const char *where;     /* the source, for messages */
	bool streamed;         /* entries come from an archive, and are counted as they come */
	bool local; /* it is a directory or file: nothing comes through the transfer engine */

	/* Any thread. */
	atomic_ullong sent_bytes;
};

/* -ERR_CHANGED: "'path' changed while it was read". */
int item_changed(const struct creation *c, const struct item *i, struct error *err);

/* makers.c */
struct frames;
struct hand {
	struct hands *hands;
	struct creation *creation;
	struct store_hand *store;
	struct s3_client *s3;
	struct frames *frames;
	uint8_t *spare; /* a part of a large file, between two of them */
	pthread_t thread;
	bool started;
};

struct hands;
/* As many as the budget has room for. */
int makers_start(struct creation *c, struct hands **ret, struct error *err);
/* Director. Sleeps while the queue is long. The queue's from here on: done is set, or all hands fail. */
int makers_give(struct hands *s, struct work *w, struct error *err);
/* Director. Until the work is done; the first failure of any hand. */
int makers_await(struct hands *s, struct work *w, struct error *err);
/* Stops and frees all. */
void makers_stop(struct hands *s);
bool makers_failed(struct hands *s);
/* Hands. Sleeps until *turn is number; false when another one has failed or all is cancelled. */
bool makers_await_turn(struct hands *s, const size_t *turn, size_t number);
void makers_next_turn(struct hands *s, size_t *turn);

static inline bool work_is_done(struct work *w)
{
	return atomic_load_explicit(&w->done, memory_order_acquire);
}

/* Hands: one work, to its end. */
int pack_make(struct hand *h, struct work *w, struct error *err);
int hash_make(struct hand *h, struct work *w, struct error *err);
/* One frame of it; *ret_done: the work that is done with it, or NULL. */
int large_make_frame(
	struct hand *h, struct work *w, size_t number, struct work **ret_done, struct error *err);
int streamed_make_frame(struct hand *h, struct work *w, struct work **ret_done, struct error *err);

/* large.c */
struct large *large_new(struct item *i);
/* Of frames that are given. raw: of all of them, for a file of known size. */
struct large *large_new_streamed(uint64_t raw);
struct large *large_new_pack(void);
/* A file whose size shows at its end: its header is made before the last frame, and gets the room that was kept
 * for it. */
struct large *large_new_headless(void);
void large_set_header(struct large *l, struct item *i);
size_t large_frames(const struct large *l);
void large_free(struct large *l, struct store_hand *store); /* aborts what is under way */

#endif
