/* SPDX-License-Identifier: MIT */
/* The names in a directory. One thread for each open directory. */
#include "listing.h"
#include "defer.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>

DIR *listing_open(int dir_fd, const char *name)
{
	_close_ int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (dir != NULL)
		take_fd(&fd);
	return dir;
}

const char *listing_next(DIR *dir)
{
	const struct dirent *entry;

	do {
		errno = 0;
		/* Safe: nobody else has this stream. */
		entry = readdir(dir); /* NOLINT(concurrency-mt-unsafe) */
	} while (entry != NULL &&
		 (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
	return entry != NULL ? entry->d_name : NULL;
}
