/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ERROR_H
#define STAGERUN_ERROR_H

/* An error is a value that the caller owns: a code for the program and one sentence for people, in
 * which secrets are hidden (redact.h). There is nothing to free. Functions that can fail return 0
 * (or a positive result), or the negative code that they also stored in the error. All functions
 * here accept err == NULL. Any thread. */

/* Codes are -errno for errors of the system, or one of these, negated. */
enum {
	ERR_FORMAT = 1024, /* the bytes violate their format (damaged, bad CRC) */
	ERR_TRUNCATED,     /* the bytes end early */
	ERR_HTTP,          /* the server refused permanently (404, 403, bad certificate, ...) */
	ERR_CHANGED,       /* the object was replaced while it was read: redo the stage */
	ERR_RESTART,       /* a stream that cannot continue in the middle broke: redo the stage */
	ERR_DIGEST,        /* the bytes do not have the expected digest */
	ERR_REFUSED,       /* an archive entry that must not be created */
	ERR_LIMIT,         /* a configured limit was reached */
	ERR_SPACE,         /* the disk is full, out of inodes, over quota or read-only */
	ERR_CONFIG,        /* a configuration file or setting is wrong */
	ERR_USAGE,         /* the command line is wrong */
	ERR_COMMAND,       /* an action or a child process failed */
	ERR_UNSUPPORTED,   /* understood, but not supported */
	/* Existing files are not replaced, since they are not only what was staged. */
	ERR_KEPT,
};

struct error {
	int code; /* negative once set */
	char msg[1024];
	char item[256]; /* what failed, for programs; see error_item() */
	/* The cause, for programs; see error_cause(). 0: there is none, or it is not known. */
	int errnum;
	int http_status;
};

/* Sets code and sentence, and returns code. %m prints errno as it was at the call. */
int error_set(struct error *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Names what failed (a source's address, "on_experiment_start action 2 (config.yml:14)", a hook);
 * the termination message contains it beside the sentence. The first name is kept until the next
 * error_set(), since the innermost caller knows best. */
void error_item(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Stores the errno or the status of an HTTP answer that caused it; 0: none. error_set() stores the
 * errno of a code that is one. */
void error_cause(struct error *err, int errnum, long http_status);

/* Inserts "<text>: " before the sentence, and returns err->code (-EIO if err is NULL). */
int error_prefix(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
