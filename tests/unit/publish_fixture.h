/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_PUBLISH_FIXTURE_H
#define STAGERUN_TEST_PUBLISH_FIXTURE_H

#include "destination.h"
#include "error.h"
#include <stdbool.h>
#include <sys/types.h>

/* A stage without network and archives, which calls publish.h like a real one. */
struct staging {
	const char *to;
	const char *key;
	const char *lineage; /* NULL: not known */
	const char *etag;    /* also the content of each file; NULL: the source has no version */
	const char *names;   /* "a b/ c": files, and directories with a file "inside" */
	bool replace;
	bool renew; /* also keeps the replaced files */
	bool synced;
	bool summed;      /* the record contains the sum of its files */
	mode_t root_mode; /* 0: the archive has no entry for the root */
	mode_t dir_mode;  /* of the directories; 0: 0755 */
	struct cancel *cancel;
};

enum { STAGED = 0, WARM = 1 };

/* Stages s. Returns STAGED, WARM (s was already there), or a negative code. */
int stage(const struct staging *s, struct error *err);

/* Creates the names of s below root_fd. Returns 0 or -errno. */
int fill(int root_fd, const struct staging *s);

/* The record that stage() would write. The caller frees it with publish_record_free(). */
struct record *record_for(const struct staging *s);

/* Whether all names of s exist below to, with the content of s. */
bool is_complete(const struct staging *s);
bool exists(const char *path);
bool name_exists(const char *dir, const char *name);

/* The names in a directory, sorted and separated by spaces; heap. If the directory does not exist
 * or is empty, the result is empty. */
char *list(const char *dir);

/* dir/name; valid until the process ends. */
char *in(const char *dir, const char *name);
void put_text(const char *path, const char *content);

/* Runs f(ctx) in a child process as uid. Returns 0 if f returned 0, a number derived from the
 * line of the EXPECT that failed (line modulo 250, plus 1), or -1 if the child was killed. f must
 * use EXPECT, because the assertions of cmocka would jump back into the test runner. */
int in_child(uid_t uid, int (*f)(void *ctx), void *ctx);
#define EXPECT(condition) expect(condition, __LINE__)
void expect(bool good, unsigned line);

/* Runs f(ctx) in a child process, and kills the child immediately before its nth system call that
 * may change something. Returns 1 if it was killed, 0 if it ended before, and -1 if processes
 * cannot be traced here. */
int kill_at_change(unsigned n, int (*f)(void *ctx), void *ctx);

/* As kill_at_change(), before the nth rename. */
int kill_at_rename(unsigned n, int (*f)(void *ctx), void *ctx);

/* From now on, this system call fails with errnum in this thread. Returns 0 or -errno. */
int refuse_system_call(unsigned number, int errnum);

/* Changes the boot id in a state file, but not its modification time. Does nothing if the file
 * does not exist. */
void publish_age(const char *path);

/* A test directory that every user can access; heap. */
char *shared_directory(void);

#endif
