/* SPDX-License-Identifier: MIT */
/* From libarchive's entries to the tree. Worker thread. Names and link targets are passed on as the
 * bytes they are; what is safe is the tree's to say. */
#include "archive.h"
#include "containers.h"
#include "defer.h"
#include "log.h"
#include "object.h"
#include "text.h"
#include <archive.h>
#include <archive_entry.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

int extraction_error(const struct extraction *x, struct error *err)
{
	const char *why = archive_error_string(x->archive);
	uint64_t at = (uint64_t)archive_filter_bytes(x->archive, -1);
	int code = -ERR_FORMAT;

	if (x->feed->failed < 0) {
		*err = x->feed->why;
		return x->feed->failed;
	}
	if (why == NULL)
		why = x->feed->ended ? "Truncated" : "it cannot be read";
	if (archive_errno(x->archive) == ENOMEM)
		code = -ENOMEM;
	else if (strstr(why, "runcated") != NULL || (x->feed->ended && at == x->feed->given))
		code = -ERR_TRUNCATED;
	else if (archive_read_has_encrypted_entries(x->archive) > 0)
		code = -ERR_UNSUPPORTED;
	if (x->latest[0] == '\0')
		return error_set(
			err, code, "the %s archive is damaged at its start: %s", x->format, why);
	return error_set(err, code,
		"the %s archive is damaged or cut short near byte %" PRIu64
		", after the start of '%s': %s",
		x->format, at, x->latest, why);
}

/* libarchive warns when a name has no equivalent in the locale's characters: its bytes are kept,
 * and bytes are all we want. ACLs we do not apply. Behind any other warning is a header that was
 * ignored in part, so that the entry would be wrong. */
static bool is_harmless(const char *warning)
{
	return warning != NULL &&
	       (strstr(warning, "converted") != NULL || strstr(warning, "ACL") != NULL);
}

/* The rest of the latest entry's data. */
static int pass_data(struct extraction *x, struct error *err)
{
	if (archive_file_count(x->archive) > 0 && archive_read_data_skip(x->archive) < ARCHIVE_WARN)
		return extraction_error(x, err);
	return 0;
}

/* 1 / 0 at the end / negative. */
static int next_entry(struct extraction *x, struct archive_entry **ret, struct error *err)
{
	la_int64_t before;
	int r = pass_data(x, err);

	if (r < 0)
		return r;
	before = archive_filter_bytes(x->archive, -1);
	r = archive_read_next_header(x->archive, ret);
	if (r == ARCHIVE_EOF) {
		if (archive_filter_bytes(x->archive, -1) == before && x->has_end_marker)
			log_warn("%s: the %s archive has no end marker; it may be incomplete",
				x->input->source, x->format);
		return 0;
	}
	if (r == ARCHIVE_OK || (r == ARCHIVE_WARN && is_harmless(archive_error_string(x->archive))))
		return 1;
	return extraction_error(x, err);
}

static int read_block(
	struct extraction *x, struct slice *ret, uint64_t *ret_offset, struct error *err)
{
	const void *bytes = NULL;
	size_t len = 0;
	la_int64_t offset = 0;
	int r = archive_read_data_block(x->archive, &bytes, &len, &offset);

	if (r == ARCHIVE_EOF)
		return 0;
	if (r < ARCHIVE_WARN || (r == ARCHIVE_WARN && x->feed->failed < 0))
		return extraction_error(x, err);
	*ret = (struct slice){.data = bytes, .len = len};
	*ret_offset = (uint64_t)offset;
	return 1;
}

/* Whether the bytes lie in the block that the feed holds, so that it can be shared, not copied. */
static bool is_shareable(const struct archive_feed *feed, const struct slice *s)
{
	return s->data >= feed->current.data &&
	       s->data + s->len <= feed->current.data + feed->current.len;
}

/* A part of a file's content, or its end. */
struct part {
	struct slice bytes;
	uint64_t offset;
	bool is_end;
};

static int next_part(struct extraction *x, struct part *p, struct error *err)
{
	int r = read_block(x, &p->bytes, &p->offset, err);

	p->is_end = r == 0;
	return r < 0 ? r : 0;
}

/* The parts from p on, into the open file. */
static int write_parts(struct extraction *x, struct part p, struct error *err)
{
	int r = 0;

	while (r >= 0 && !p.is_end) {
		if (cancel_requested(x->env->cancel))
			return error_set(err, -ECANCELED, "cancelled");
		if (p.bytes.len > 0)
			r = writer_file_write(x->writer, p.offset, p.bytes.data, p.bytes.len, err);
		if (r >= 0)
			r = next_part(x, &p, err);
	}
	return r;
}

struct file {
	const char *name;
	const struct meta *meta;
	uint64_t size;      /* promised, or SIZE_UNKNOWN */
	bool existing;      /* as for writer_file_open() */
	struct slice begun; /* content before the first part, from offset 0 on */
};

static int stream_file(
	struct extraction *x, const struct file *f, const struct part *first, struct error *err)
{
	int r = crew_await(x->crew, f->name, err);

	if (r >= 0)
		r = writer_file_open(x->writer, f->name, f->meta, f->size, f->existing, err);
	if (r >= 0 && f->begun.len > 0)
		r = writer_file_write(x->writer, 0, f->begun.data, f->begun.len, err);
	if (r >= 0)
		r = write_parts(x, *first, err);
	return r < 0 ? r : writer_file_close(x->writer, err);
}

/* Brings the parts of a small file together, for somebody else to write. One with holes, or of
 * another size than it should be, is streamed from where that shows. */
static int gather_file(struct extraction *x, struct file *f, struct part p, struct error *err)
{
	_free_ uint8_t *bytes = zalloc(f->size);
	size_t len = 0;
	int r = 0;

	while (r >= 0 && !p.is_end && p.offset == len && p.bytes.len <= f->size - len) {
		if (p.bytes.len > 0)
			memcpy(bytes + len, p.bytes.data, p.bytes.len);
		len += p.bytes.len;
		r = next_part(x, &p, err);
	}
	if (r < 0)
		return r;
	f->begun = (struct slice){.data = bytes, .len = len};
	if (p.is_end && len == f->size)
		return crew_file(x->crew, x->writer, f->name, f->meta, &f->begun, err);
	return stream_file(x, f, &p, err);
}

static int extract_file(struct extraction *x, const char *name, const struct meta *meta,
	struct archive_entry *e, bool existing, struct error *err)
{
	uint64_t size =
		archive_entry_size_is_set(e) ? (uint64_t)archive_entry_size(e) : SIZE_UNKNOWN;
	struct file f = {.name = name, .meta = meta, .size = size, .existing = existing};
	struct part first = {0};
	int r = existing ? 0 : crew_has(x->crew, x->writer, name, meta, size, err);

	if (r != 0)
		return r < 0 ? r : 0; /* next_entry() passes over its content */
	r = next_part(x, &first, err);
	if (r < 0)
		return r;
	if (first.is_end)
		first.bytes = (struct slice){0};
	if (!existing && size == first.bytes.len && first.offset == 0 &&
		(size == 0 || is_shareable(x->feed, &first.bytes))) {
		first.bytes.owner = x->feed->current.owner;
		return crew_file(x->crew, x->writer, name, meta, &first.bytes, err);
	}
	if (!existing && size <= CREW_FILE_MAX && crew_has_hands(x->crew))
		return gather_file(x, &f, first, err);
	return stream_file(x, &f, &first, err);
}

static int extract_hardlink(struct extraction *x, const char *name, const struct meta *meta,
	struct archive_entry *e, struct error *err)
{
	const char *target = archive_entry_hardlink(e);
	const char *kept = selection_apply(x->env->selection, target);
	int r;

	if (kept == NULL)
		return error_set(err, -ERR_REFUSED,
			"'%s' is a hard link to '%s', which is left out: select both or neither",
			name, target);
	r = crew_hardlink(x->crew, x->writer, name, kept, err);
	/* cpio gives the content of linked files to the last of them, and pax may. */
	if (r >= 0 && archive_entry_size_is_set(e) && archive_entry_size(e) > 0)
		r = extract_file(x, name, meta, e, true, err);
	return r;
}

static int refuse(const char *name, mode_t type, struct error *err)
{
	const char *what = type == S_IFCHR    ? "a character device"
			   : type == S_IFBLK  ? "a block device"
			   : type == S_IFIFO  ? "a named pipe"
			   : type == S_IFSOCK ? "a socket"
					      : "of a type that is not known";

	return error_set(err, -ERR_REFUSED,
		"'%s' is %s, which is not created from an archive: exclude it to go on without",
		name, what);
}

static int extract_as(struct extraction *x, const char *name, const struct meta *meta,
	struct archive_entry *e, struct error *err)
{
	const char *target;

	if (archive_entry_hardlink(e) != NULL)
		return extract_hardlink(x, name, meta, e, err);
	switch (archive_entry_filetype(e)) {
	case AE_IFREG:
		return extract_file(x, name, meta, e, false, err);
	case AE_IFDIR:
		return crew_dir(x->crew, x->writer, name, meta, err);
	case AE_IFLNK:
		target = archive_entry_symlink(e);
		return crew_symlink(
			x->crew, x->writer, name, target != NULL ? target : "", meta, err);
	default:
		return refuse(name, archive_entry_filetype(e), err);
	}
}

/* Returns an array for the caller to free; names and values stay the entry's. */
static struct xattr *list_xattrs(struct archive_entry *e, size_t *ret_n)
{
	size_t n = (size_t)archive_entry_xattr_reset(e);
	struct xattr *all = n > 0 ? zalloc(n * sizeof(*all)) : NULL;

	for (size_t i = 0; i < n; i++)
		archive_entry_xattr_next(e, &all[i].name, &all[i].value, &all[i].len);
	*ret_n = n;
	return all;
}

static mode_t entry_mode(const struct extraction *x, struct archive_entry *e)
{
	mode_t mode = archive_entry_perm(e);

	if (x->mode_if_unset != 0 && (mode & 0666) == x->mode_if_unset)
		mode &= ~(mode_t)022;
	return mode;
}

/* libarchive reads pax's "-86400.5" as -86400 seconds and half a second on top. Only pax has times
 * with fractions before 1970. */
static struct timespec entry_mtime(struct archive_entry *e)
{
	time_t seconds = archive_entry_mtime(e);
	long ns = archive_entry_mtime_nsec(e);

	if (seconds < 0 && ns > 0)
		return (struct timespec){.tv_sec = seconds - 1, .tv_nsec = 1000000000 - ns};
	return (struct timespec){.tv_sec = seconds, .tv_nsec = ns};
}

static int extract_entry(struct extraction *x, struct archive_entry *e, struct error *err)
{
	const char *full = archive_entry_pathname(e);
	_free_ struct xattr *xattrs = NULL;
	struct meta meta = {
		.mode = entry_mode(x, e),
		.mtime = input_mtime(x->input),
		.uid = (uid_t)archive_entry_uid(e),
		.gid = (gid_t)archive_entry_gid(e),
	};
	const char *name;

	if (full == NULL)
		return error_set(err, -ERR_FORMAT, "an entry after '%s' has no name", x->latest);
	snprintf(x->latest, sizeof(x->latest), "%s", full);
	name = selection_apply(x->env->selection, full);
	if (name == NULL)
		return 0;
	if (archive_entry_mtime_is_set(e))
		meta.mtime = entry_mtime(e);
	xattrs = list_xattrs(e, &meta.n_xattrs);
	meta.xattrs = xattrs;
	return extract_as(x, name, &meta, e, err);
}

static int extract_all(struct extraction *x, struct error *err)
{
	struct archive_entry *e;
	int r;

	while ((r = next_entry(x, &e, err)) > 0) {
		r = cancel_requested(x->env->cancel) ? error_set(err, -ECANCELED, "cancelled")
						     : extract_entry(x, e, err);
		if (r < 0)
			break;
	}
	return r;
}

int extract_entries(struct extraction *x, struct error *err)
{
	const struct unpack_env *env = x->env;
	const struct crew_env crew = {.tree = env->tree,
		.source = x->input->source,
		.budget = env->budget,
		.cancel = env->cancel,
		.progress = env->progress};
	int r;

	x->writer = writer_new(env->tree, x->input->source, env->progress);
	x->crew = crew_new(&crew);
	r = extract_all(x, err);
	writer_close(x->writer);
	return crew_finish(x->crew, r, err);
}
