/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PUBLISH_LISTING_H
#define STAGERUN_PUBLISH_LISTING_H

#include <dirent.h>

/* dir_fd/name, not through a link; "." for dir_fd itself. NULL with errno. closedir() it. */
DIR *listing_open(int dir_fd, const char *name);

/* The next name but "." and "..", good until the next call; NULL at the end (errno 0) or on
 * failure. */
const char *listing_next(DIR *dir);

#endif
