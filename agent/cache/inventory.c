/* SPDX-License-Identifier: MIT */
/* Reading inventorys. One thread for each that is open. */
#include "inventory.h"
#include "defer.h"
#include "text.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#define FIRST_LINE "stagerun cache inventory 1"

mode_t inventory_mode(mode_t mode)
{
	return (mode & 0555) | (S_ISDIR(mode) ? 0500 : 0400);
}

int inventory_head_print(const struct inventory_head *h, char *buf, size_t size)
{
	int n = snprintf(buf, size,
		FIRST_LINE "\nlength %" PRIu64 "\nbytes %" PRIu64 "\nentries %" PRIu64
			   "\ndisk %" PRIu64 "\nlinks %" PRIu64 "\nmade %" PRId64
			   "\nroot %o %" PRId64 ".%09ld %u %u\nwhat %s\n",
		h->length, h->bytes, h->entries, h->disk, h->links, h->made, h->root_mode,
		h->root_sec, h->root_nsec, h->root_uid, h->root_gid, h->what);

	return n > 0 && (size_t)n < size ? 0 : -ERR_LIMIT;
}

static bool head_parse(const char *text, struct inventory_head *h)
{
	const char *what;

	if (sscanf(text, /* NOLINT(cert-err34-c): what is not in range was not written by us */
		    FIRST_LINE " length %" SCNu64 " bytes %" SCNu64 " entries %" SCNu64
			       " disk %" SCNu64 " links %" SCNu64 " made %" SCNd64
			       " root %o %" SCNd64 ".%ld %u %u",
		    &h->length, &h->bytes, &h->entries, &h->disk, &h->links, &h->made,
		    &h->root_mode, &h->root_sec, &h->root_nsec, &h->root_uid, &h->root_gid) != 11)
		return false;
	what = strstr(text, "\nwhat ");
	if (what == NULL)
		return false;
	what += strlen("\nwhat ");
	snprintf(h->what, sizeof(h->what), "%.*s", (int)strcspn(what, "\n"), what);
	return true;
}

static int read_head(int fd, struct inventory_head *ret)
{
	char text[INVENTORY_HEAD + 1];
	ssize_t n = pread(fd, text, INVENTORY_HEAD, 0);
	struct stat st;

	if (n != INVENTORY_HEAD || fstat(fd, &st) != 0)
		return -ENOENT;
	text[n] = '\0';
	return head_parse(text, ret) && (uint64_t)st.st_size == ret->length ? 0 : -ENOENT;
}

int inventory_head_read(int key_fd, struct inventory_head *ret)
{
	_close_ int fd = openat(key_fd, INVENTORY_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -ENOENT : read_head(fd, ret);
}

int inventory_open(int key_fd, struct inventory **ret)
{
	_close_ int fd = openat(key_fd, INVENTORY_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct inventory *l = zalloc(sizeof(*l));

	if (fd < 0 || read_head(fd, &l->head) < 0 || (l->f = fdopen(fd, "r")) == NULL) {
		inventory_close(l);
		return -ENOENT;
	}
	take_fd(&fd);
	inventory_rewind(l);
	*ret = l;
	return 0;
}

void inventory_close(struct inventory *l)
{
	if (l == NULL)
		return;
	if (l->f != NULL)
		fclose(l->f);
	free(l->line);
	free(l->second);
	free(l);
}

void inventory_rewind(struct inventory *l)
{
	(void)fseeko(l->f, INVENTORY_HEAD, SEEK_SET);
}

static bool parse(char *line, struct inventory_entry *e)
{
	int at = 0;
	unsigned mode;

	*e = (struct inventory_entry){0};
	if (sscanf(line, /* NOLINT(cert-err34-c) */
		    "%c %o %" SCNu64 " %" SCNd64 ".%ld%n", &e->type, &mode, &e->size,
		    &e->mtime.tv_sec, &e->mtime.tv_nsec, &at) != 5 ||
		line[at] != ' ' || line[at + 1] == '\0' || strchr("fdlh", e->type) == NULL)
		return false;
	e->mode = mode;
	e->path = line + at + 1;
	return true;
}

static bool read_record(FILE *f, char **line, size_t *size)
{
	ssize_t n = getdelim(line, size, '\0', f);

	return n > 1 && (*line)[n - 1] == '\0';
}

int inventory_next(struct inventory *l, struct inventory_entry *ret)
{
	if (!read_record(l->f, &l->line, &l->line_size))
		return feof(l->f) ? 0 : -ESTALE;
	if (!parse(l->line, ret))
		return -ESTALE;
	if (ret->type != 'l' && ret->type != 'h')
		return 1;
	if (!read_record(l->f, &l->second, &l->second_size))
		return -ESTALE;
	ret->target = l->second;
	return 1;
}

/* What follows a position may be the target of a link: such a record is passed over. */
bool inventory_seek(struct inventory *l, double share)
{
	off_t at = INVENTORY_HEAD + (off_t)((double)(l->head.length - INVENTORY_HEAD) * share);
	struct inventory_entry e;

	if (fseeko(l->f, at > INVENTORY_HEAD ? at - 1 : at, SEEK_SET) != 0)
		return false;
	if (at > INVENTORY_HEAD && !read_record(l->f, &l->line, &l->line_size) && feof(l->f))
		return false;
	for (int i = 0; i < 2; i++) {
		off_t here = ftello(l->f);

		if (!read_record(l->f, &l->line, &l->line_size))
			return false;
		if (parse(l->line, &e))
			return fseeko(l->f, here, SEEK_SET) == 0;
	}
	return false;
}
