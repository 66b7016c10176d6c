/* SPDX-License-Identifier: MIT */
/* What the disk has to say: is there room, and why a call that writes failed. */
#include "text.h"
#include "tree_private.h"
#include <errno.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Root may use what is set aside for it. */
static uint64_t free_bytes(const struct statvfs *fs)
{
	return (uint64_t)(geteuid() == 0 ? fs->f_bfree : fs->f_bavail) * fs->f_frsize;
}

/* "12 MB and 3 of 1000 inodes are free"; without the inodes where they are made as needed. */
static const char *print_free(const struct statvfs *fs, char *buf, size_t cap)
{
	char size[32];

	print_size(free_bytes(fs), size);
	if (fs->f_files == 0)
		snprintf(buf, cap, "%s is free", size);
	else
		snprintf(buf, cap, "%s and %llu of %llu inodes are free", size,
			(unsigned long long)fs->f_favail, (unsigned long long)fs->f_files);
	return buf;
}

int tree_check_room(struct tree *t, uint64_t bytes, uint64_t entries, struct error *err)
{
	struct statvfs fs;
	char size[32], have[128];

	if (t->sink != NULL || t->continued || fstatvfs(t->root_fd, &fs) < 0)
		return 0; /* writing will tell */
	if (bytes <= free_bytes(&fs) && (fs.f_files == 0 || entries <= fs.f_favail))
		return 0;
	print_size(bytes, size);
	print_free(&fs, have, sizeof(have));
	if (entries == 0)
		return error_set(err, -ERR_SPACE,
			"%s are needed and only %s; free space or stage elsewhere", size, have);
	return error_set(err, -ERR_SPACE,
		"%s and %llu inodes are needed and only %s; free space or stage elsewhere", size,
		(unsigned long long)entries, have);
}

static const char *lack(int errnum)
{
	switch (errnum) {
	case ENOSPC:
		return "no space left";
	case EDQUOT:
		return "the disk quota is used up";
	case EROFS:
		return "the file system is read-only";
	default:
		return NULL;
	}
}

int disk_error(struct error *err, int errnum, int fd, const char *doing, const char *path)
{
	const char *why = lack(errnum);
	struct statvfs fs;
	char have[128];

	errno = errnum;
	if (why == NULL)
		return error_set(err, -errnum, "cannot %s '%.300s': %m", doing, path);
	if (errnum == EROFS)
		return error_set(err, -ERR_SPACE,
			"cannot %s '%.300s': %s; mount it writable or stage elsewhere", doing, path,
			why);
	if (fd < 0 || fstatvfs(fd, &fs) < 0)
		return error_set(err, -ERR_SPACE,
			"cannot %s '%.300s': %s; free space or stage elsewhere", doing, path, why);
	return error_set(err, -ERR_SPACE,
		"cannot %s '%.300s': %s: %s; free space or stage elsewhere", doing, path, why,
		print_free(&fs, have, sizeof(have)));
}
