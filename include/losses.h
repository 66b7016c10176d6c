/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_LOSSES_H
#define STAGERUN_LOSSES_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>

/* Records which attributes of files a file system does not support. Object stores mounted as
 * directories, SMB, exFAT and many file systems in user space have no modes, owners, times or
 * extended attributes, or only those set by a mount option. The content is complete without them:
 * so each kind is recorded once, and one warning names them all. Any thread. */

enum loss {
	LOSS_MODE = 1,
	LOSS_OWNER = 2,
	LOSS_TIME = 4,
	LOSS_XATTR = 8,
};

struct losses {
	pthread_mutex_t mutex;
	unsigned what; /* set of enum loss */
	enum loss first;
	int errnum;     /* of the first; 0: the call succeeded without effect */
	char path[128]; /* of the first, truncated */
	unsigned
		checked; /* set of enum loss: the effect of the first successful call was checked */
};

void losses_init(struct losses *l);
void losses_done(struct losses *l);

/* An attribute of path could not be set. Records that and returns 0 if errnum means that the file
 * system does not support it, or that this user may not set it; else returns -errnum. */
int losses_record(struct losses *l, enum loss what, const char *path, int errnum);

/* A call that sets the mode of path to `want` succeeded, and st is the file's status after it.
 * Records a loss if the mode differs. */
void losses_mode(struct losses *l, const char *path, const struct stat *st, mode_t want);

/* Logs the warning, if anything was recorded, and clears the record. where: prefix of the message,
 * the owner of the files; fd: a descriptor on that file system. */
void losses_warn(struct losses *l, const char *where, int fd);

#endif
