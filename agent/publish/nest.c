/* SPDX-License-Identifier: MIT */
/* Mounts and destinations above and below a destination. The list of mounts is the kernel's; any
 * thread may read it. Without /proc it is empty; then a survey still notices mounts of other
 * devices. */
#include "defer.h"
#include "inode.h"
#include "journal.h"
#include "publish_private.h"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MOUNT_POINT_FIELD 4

static bool is_octal(const char *s)
{
	return s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
	       s[3] >= '0' && s[3] <= '7';
}

/* Replaces "\040" by a blank, and so on, in place. */
static void decode_octal(char *s)
{
	char *to = s;

	while (*s != '\0') {
		if (is_octal(s)) {
			*to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = '\0';
}

/* Returns the mount point, which points into line; NULL if the line has none. */
static char *mount_point(char *line)
{
	char *state = NULL, *field = strtok_r(line, " \n", &state);

	for (int i = 0; i < MOUNT_POINT_FIELD && field != NULL; i++)
		field = strtok_r(NULL, " \n", &state);
	if (field != NULL)
		decode_octal(field);
	return field;
}

static bool lies_in(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(path, dir, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

void nest_list_mounts(const char *path, struct strings *ret)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	_free_ char *line = NULL;
	size_t size = 0;

	while (f != NULL && getline(&line, &size, f) > 0) {
		const char *point = mount_point(line);

		if (point != NULL && lies_in(point, path))
			text_strings_add(ret, point);
	}
	if (f != NULL)
		fclose(f);
}

const char *nest_find_mount(const struct strings *mounts, const char *path)
{
	for (size_t i = 0; i < mounts->n; i++)
		if (lies_in(mounts->v[i], path))
			return mounts->v[i];
	return NULL;
}

/* Destinations within destinations. Worker threads. An entry that is staged below a read-only
 * version of a datastore would become a part of that version, and a version that is staged around
 * other destinations would be a mixture with them. */

static bool is_read_only(const char *dir)
{
	struct stat st;

	return lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 0222) == 0;
}

static int refuse_above(
	const char *path, const char *above, const struct record *record, struct error *err)
{
	struct text what = {0};

	publish_record_describe(record, &what);
	error_set(err, -ERR_KEPT,
		"cannot stage into %s: it lies in %s, which is to hold nothing but %s; stage it into another directory",
		path, above, what.s);
	text_done(&what);
	return -ERR_KEPT;
}

int nest_check_above(const char *dir, struct error *err)
{
	_free_ char *path = NULL;
	int code = resolve_path(dir, &path, err);

	for (char *slash = path != NULL ? path : ""; code == 0 && *slash != '\0';) {
		struct record *record = NULL;

		slash += strcspn(slash + 1, "/") + 1;
		if (*slash == '\0')
			break;
		*slash = '\0';
		if (is_read_only(path))
			record = destination_peek(path);
		if (record != NULL)
			code = refuse_above(dir, path, record, err);
		publish_record_free(record);
		*slash = '/';
	}
	return code;
}

/* Returns a name in the agent's directory dir_fd/base that is the state of another destination than
 * the directory around it; heap, or NULL. */
static char *find_nested_name(int dir_fd, const char *base)
{
	_closedir_ DIR *dir = publish_listing_open(dir_fd, base);
	const char *name;

	while (dir != NULL && (name = publish_listing_next(dir)) != NULL)
		if (!text_is_reserved_name(name))
			return text_copy(name);
	return NULL;
}

int nest_check_below(const struct destination *d, struct error *err)
{
	_closedir_ DIR *dir = publish_listing_open(d->place.parent_fd, d->place.name);
	_free_ char *other = NULL;
	const char *name;

	while (dir != NULL && other == NULL && (name = publish_listing_next(dir)) != NULL)
		if (text_is_reserved_name(name))
			other = find_nested_name(dirfd(dir), name);
	if (other == NULL)
		return 0;
	return error_set(err, -ERR_KEPT,
		"cannot stage into %s, which is to hold nothing else: %s/%s in it was staged by itself, and may be in use; give one of them another directory",
		d->place.path, d->place.path, other);
}
