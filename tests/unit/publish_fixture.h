/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_PUBLISH_FIXTURE_H
#define STAGERUN_TEST_PUBLISH_FIXTURE_H

#include "error.h"
#include "publish.h"
#include <stdbool.h>
#include <sys/types.h>

/* A stage without network and archives: what a caller of publish.h does with a destination. */
struct staging {
	const char *to;
	const char *key;
	const char *etag;  /* becomes the content of every file; NULL: a source without a version */
	const char *names; /* "a b/ c": files, and directories with a file "inside" */
	bool replace;
	bool renew; /* and keep what is replaced */
	bool synced;
	mode_t root_mode; /* 0: the archive does not speak of the root */
	mode_t dir_mode;  /* of the directories; 0: 0755 */
	struct cancel *cancel;
};

enum { STAGED = 0, WARM = 1 };

/* STAGED, WARM, or a negative code. */
int stage(const struct staging *s, struct error *err);

/* Fills the tree as s says. 0 or -errno. */
int fill(int root_fd, const struct staging *s);

/* A record as stage() would write it; record_free(). */
struct record *record_for(const struct staging *s);

/* Whether to/NAME is there for all names of s, complete, with the content of s. */
bool is_complete(const struct staging *s);
bool exists(const char *path);
bool name_exists(const char *dir, const char *name);

/* The names in a directory, sorted, joined by blanks; "" when it is not there. The caller's. */
char *list(const char *dir);

/* dir/name, the test's until it ends. */
char *in(const char *dir, const char *name);
void put_text(const char *path, const char *content);

/* Runs f(ctx) in a child process as uid. 0 when it returned 0; else the line of the expectation
 * that failed (modulo 250), or -1 when it was killed. The test runner's own assertions would jump
 * back into the runner there, so f has EXPECT. */
int in_child(uid_t uid, int (*f)(void *ctx), void *ctx);
#define EXPECT(condition) expect(condition, __LINE__)
void expect(bool good, unsigned line);

/* Runs f(ctx) in a child process and kills it where it is about to make its nth system call that
 * could change anything. 1: killed; 0: it ended before; -1: processes cannot be traced here. */
int kill_at_change(unsigned n, int (*f)(void *ctx), void *ctx);

/* From now on this process gets errnum from system call number. 0 or -errno. */
int refuse_system_call(unsigned number, int errnum);

/* A test directory that every user may reach. */
char *shared_directory(void);

#endif
