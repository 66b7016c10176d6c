/* SPDX-License-Identifier: MIT */
/* The stream that archives are read from, the functions that the formats read by libarchive share,
 * and the extraction of libarchive's entries into the tree. Worker thread. Names and link targets
 * are passed on byte for byte; the tree decides which of them are safe. */
#include "defer.h"
#include "log.h"
#include "object.h"
#include "text.h"
#include "umask.h"
#include "unpack_private.h"
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define FIRST_BYTES 512

int archive_feed_next(struct archive_feed *feed)
{
	struct slice next = {0};
	int got;

	slice_drop(&feed->current);
	got = reader_next(feed->in, &next, &feed->why);
	feed->ended = got == 0;
	if (got < 0)
		feed->failed = got;
	if (got > 0) {
		feed->current = next;
		feed->given += next.len;
	}
	return got;
}

int archive_feed_skip(struct archive_feed *feed, uint64_t n)
{
	int code;

	slice_drop(&feed->current);
	code = reader_skip(feed->in, n, &feed->why);
	if (code < 0)
		feed->failed = code;
	else
		feed->given += n;
	return code;
}

void archive_feed_done(struct archive_feed *feed)
{
	slice_drop(&feed->current);
}

static bool is_zeros(const struct slice *s)
{
	return s->len == 0 || (s->data[0] == 0 && memcmp(s->data, s->data + 1, s->len - 1) == 0);
}

/* Skips to the first byte that is not zero: 1, 0 when there is none, or negative. */
static int skip_zeros(struct archive_feed *feed)
{
	while (is_zeros(&feed->current)) {
		int got = archive_feed_next(feed);

		if (got <= 0)
			return got;
	}
	while (feed->current.data[0] == 0)
		slice_advance(&feed->current, 1);
	return 1;
}

int archive_feed_next_archive(
	struct extraction *x, bool (*matches)(const uint8_t *first, size_t len), struct error *err)
{
	struct archive_feed *feed = x->feed;
	uint8_t first[FIRST_BYTES];
	int n = skip_zeros(feed); /* 1: some bytes follow */

	if (n > 0) {
		feed->given -= feed->current.len;
		feed->start = feed->given;
		reader_put_back(feed->in, feed->current);
		feed->current = (struct slice){0};
		n = reader_peek(feed->in, first, sizeof(first), &feed->why);
	}
	if (n < 0) {
		*err = feed->why;
		return n;
	}
	if (n == 0 || matches(first, (size_t)n))
		return n > 0;
	return error_set(err, -ERR_FORMAT,
		"what follows the end of the %s archive, at byte %" PRIu64
		", is neither zero padding nor another %s archive: it is damaged, or something was appended; build it again, or store it as it is (extract: false, --no-extract)",
		x->format, feed->start, x->format);
}

/* The functions that the formats read by libarchive share. */

static uint64_t position(const struct extraction *x)
{
	return x->feed->start + (uint64_t)archive_filter_bytes(x->archive, -1);
}

static bool contains(const char *why, const char *word)
{
	return strstr(why, word) != NULL;
}

static int fault_code(const struct extraction *x, const char *why)
{
	if (archive_errno(x->archive) == ENOMEM)
		return -ENOMEM;
	if (contains(why, "runcated") || (x->feed->ended && position(x) == x->feed->given))
		return -ERR_TRUNCATED;
	if (contains(why, "not supported") || contains(why, "nsupported"))
		return -ERR_UNSUPPORTED;
	return -ERR_FORMAT;
}

/* Sets err after a call on the archive failed. */
static int libarchive_fault(const struct extraction *x, struct error *err)
{
	const char *why = archive_error_string(x->archive);

	if (why == NULL)
		why = x->feed->ended ? "it is truncated" : "it cannot be read";
	return archive_extraction_fault(x, fault_code(x, why), position(x), why, err);
}

int archive_open_failed(const struct extraction *x, struct error *err)
{
	const char *why = archive_error_string(x->archive);

	return archive_extraction_fault(
		x, -ERR_FORMAT, x->feed->start, why != NULL ? why : "it cannot be read", err);
}

/* libarchive warns when a name has no equivalent in the locale's character set: it keeps the bytes,
 * which is all that is needed. ACLs are not applied. Any other warning means that a part of the
 * header was ignored, so the entry would be wrong. */
static bool is_harmless(const char *warning)
{
	return warning != NULL && (contains(warning, "converted") || contains(warning, "ACL"));
}

/* When only the pax header has a symbolic link's target, libarchive returns the entry as a hard
 * link. */
static void repair_symlink(struct archive_entry *e)
{
	_free_ char *target = NULL;

	if (archive_entry_filetype(e) != AE_IFLNK || archive_entry_hardlink(e) == NULL)
		return;
	target = text_copy(archive_entry_hardlink(e));
	archive_entry_set_hardlink(e, NULL);
	archive_entry_copy_symlink(e, target);
}

int archive_skip_data(struct extraction *x, struct error *err)
{
	if (archive_file_count(x->archive) > 0 && archive_read_data_skip(x->archive) < ARCHIVE_WARN)
		return libarchive_fault(x, err);
	return 0;
}

int archive_next_header(struct extraction *x, struct archive_entry **ret, struct error *err)
{
	int status = archive_read_next_header(x->archive, ret);

	if (status == ARCHIVE_EOF)
		return 0;
	if (status != ARCHIVE_OK &&
		(status != ARCHIVE_WARN || !is_harmless(archive_error_string(x->archive))))
		return libarchive_fault(x, err);
	repair_symlink(*ret);
	return 1;
}

/* A warning means a wrong checksum, so it fails as well. */
int archive_next_block(
	struct extraction *x, struct slice *ret, uint64_t *ret_offset, struct error *err)
{
	const void *bytes = NULL;
	size_t len = 0;
	la_int64_t offset = 0;
	int status = archive_read_data_block(x->archive, &bytes, &len, &offset);

	if (status == ARCHIVE_EOF)
		return 0;
	if (status != ARCHIVE_OK)
		return libarchive_fault(x, err);
	*ret = (struct slice){.data = bytes, .len = len};
	*ret_offset = (uint64_t)offset;
	return 1;
}

/* Extraction of the entries into the tree. */

int archive_extraction_fault(
	const struct extraction *x, int code, uint64_t at, const char *why, struct error *err)
{
	if (x->feed->failed < 0) {
		*err = x->feed->why;
		return x->feed->failed;
	}
	if (code == -ERR_TRUNCATED)
		return error_set(err, code,
			"the %s archive ends early, at byte %" PRIu64
			", after the start of '%s': it was cut off, or is the first of several volumes (%s)",
			x->format, at, x->latest, why);
	if (x->latest[0] == '\0')
		return error_set(
			err, code, "the %s archive is damaged at its start: %s", x->format, why);
	return error_set(err, code,
		"the %s archive is damaged near byte %" PRIu64 ", after the start of '%s': %s",
		x->format, at, x->latest, why);
}

/* Whether the bytes lie in the block that the feed references, so that they can be shared instead
 * of copied. */
static bool is_shareable(const struct archive_feed *feed, const struct slice *s)
{
	return s->data >= feed->current.data &&
	       s->data + s->len <= feed->current.data + feed->current.len;
}

/* A part of a file's content, or the end of the content. */
struct archive_part {
	struct slice bytes;
	uint64_t offset;
	bool is_end;
};

static int next_part(struct extraction *x, struct archive_part *p, struct error *err)
{
	int got = x->reader->block(x, &p->bytes, &p->offset, err);

	p->is_end = got == 0;
	return got < 0 ? got : 0;
}

/* Writes the parts from p on to the open file. */
static int write_parts(struct extraction *x, struct archive_part p, struct error *err)
{
	int code = 0;

	while (code == 0 && !p.is_end) {
		if (cancel_requested(x->env->cancel))
			return error_set(err, -ECANCELED, "cancelled");
		if (p.bytes.len > 0)
			code = writer_file_write(
				x->writer, p.offset, p.bytes.data, p.bytes.len, err);
		if (code == 0)
			code = next_part(x, &p, err);
	}
	return code;
}

struct archive_file {
	const char *name;
	const struct meta *meta;
	uint64_t size;     /* in bytes, from the header, or SIZE_UNKNOWN */
	bool existing;     /* as for writer_file_open() */
	struct slice head; /* content that precedes the first part, from offset 0 on */
};

static int stream_file(struct extraction *x, const struct archive_file *f,
	const struct archive_part *first, struct error *err)
{
	int code = crew_await(x->crew, f->name, err);

	if (code == 0)
		code = writer_file_open(x->writer, f->name, f->meta, f->size, f->existing, err);
	if (code == 0 && f->head.len > 0)
		code = writer_file_write(x->writer, 0, f->head.data, f->head.len, err);
	if (code == 0)
		code = write_parts(x, *first, err);
	return code < 0 ? code : writer_file_close(x->writer, err);
}

/* Collects the parts of a small file, so that another thread can write it. A file with holes, or
 * one whose size differs from the header's, is streamed from the part on where that shows. */
static int gather_file(
	struct extraction *x, struct archive_file *f, struct archive_part p, struct error *err)
{
	_free_ uint8_t *bytes = zalloc(f->size);
	size_t len = 0;
	int code = 0;

	while (code == 0 && !p.is_end && p.offset == len && p.bytes.len <= f->size - len) {
		if (p.bytes.len > 0)
			memcpy(bytes + len, p.bytes.data, p.bytes.len);
		len += p.bytes.len;
		code = next_part(x, &p, err);
	}
	if (code < 0)
		return code;
	f->head = (struct slice){.data = bytes, .len = len};
	if (p.is_end && len == f->size)
		return crew_file(x->crew, x->writer, f->name, f->meta, &f->head, err);
	return stream_file(x, f, &p, err);
}

static int extract_file(struct extraction *x, const char *name, const struct meta *meta,
	struct archive_entry *e, bool existing, struct error *err)
{
	uint64_t size =
		archive_entry_size_is_set(e) ? (uint64_t)archive_entry_size(e) : SIZE_UNKNOWN;
	struct archive_file f = {.name = name, .meta = meta, .size = size, .existing = existing};
	struct archive_part first = {0};
	int found = existing ? 0 : crew_has(x->crew, x->writer, name, meta, size, err);
	int code;

	if (found != 0)
		return found < 0 ? found : 0; /* next() skips its content */
	code = next_part(x, &first, err);
	if (code < 0)
		return code;
	if (first.is_end)
		first.bytes = (struct slice){0};
	if (!existing && size == first.bytes.len && first.offset == 0 &&
		(size == 0 || is_shareable(x->feed, &first.bytes))) {
		first.bytes.owner = x->feed->current.owner;
		return crew_file(x->crew, x->writer, name, meta, &first.bytes, err);
	}
	if (!existing && size <= CREW_FILE_MAX && crew_has_workers(x->crew))
		return gather_file(x, &f, first, err);
	return stream_file(x, &f, &first, err);
}

static int extract_hardlink(struct extraction *x, const char *name, const struct meta *meta,
	struct archive_entry *e, struct error *err)
{
	const char *target = archive_entry_hardlink(e);
	const char *kept = select_apply(x->env->selection, target);
	int code;

	if (kept == NULL)
		return error_set(err, -ERR_REFUSED,
			"'%s' is a hard link to '%s', which is left out: select both or neither",
			name, target);
	code = crew_hardlink(x->crew, x->writer, name, kept, err);
	/* cpio stores the content of linked files with the last of them, and pax may. */
	if (code == 0 && archive_entry_size_is_set(e) && archive_entry_size(e) > 0)
		code = extract_file(x, name, meta, e, true, err);
	return code;
}

static int refuse_type(const char *name, mode_t type, struct error *err)
{
	const char *what =
		type == S_IFCHR   ? "a character device"
		: type == S_IFBLK ? "a block device"
		: type == S_IFIFO ? "a named pipe"
		: type == S_IFSOCK
			? "a socket"
			: "of a type that is not known, or the rest of a file from another volume";

	return error_set(err, -ERR_REFUSED,
		"'%s' is %s, which is not created from an archive: exclude it to go on without",
		name, what);
}

static int extract_selected(struct extraction *x, const char *name, const struct meta *meta,
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
		return refuse_type(name, archive_entry_filetype(e), err);
	}
}

/* Returns an array that the caller frees; its names and values belong to the entry. */
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
		mode = umask_apply(mode & ~(mode_t)022);
	return mode;
}

/* libarchive returns pax's "-86400.5" as -86400 seconds plus half a second. Only pax has times with
 * fractions before 1970. */
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
		.mtime = unpack_input_mtime(x->input),
		.uid = (uid_t)archive_entry_uid(e),
		.gid = (gid_t)archive_entry_gid(e),
	};
	const char *name;
	int selected;

	if (full == NULL || *full == '\0')
		full = x->unnamed;
	if (full == NULL)
		return x->latest[0] != '\0'
			       ? error_set(err, -ERR_FORMAT, "an entry after '%s' has no name",
					 x->latest)
			       : error_set(err, -ERR_FORMAT, "the first entry has no name");
	snprintf(x->latest, sizeof(x->latest), "%s", full);
	selected = select_entry(x->env->selection, full, &name, err);
	if (selected <= 0)
		return selected;
	if (archive_entry_mtime_is_set(e))
		meta.mtime = entry_mtime(e);
	xattrs = list_xattrs(e, &meta.n_xattrs);
	meta.xattrs = xattrs;
	return extract_selected(x, name, &meta, e, err);
}

static int extract_all(struct extraction *x, struct error *err)
{
	struct archive_entry *e;
	int got;

	while ((got = x->reader->next(x, &e, err)) > 0) {
		int code = cancel_requested(x->env->cancel)
				   ? error_set(err, -ECANCELED, "cancelled")
				   : extract_entry(x, e, err);

		if (code < 0)
			return code;
	}
	return got;
}

int archive_extract_entries(struct extraction *x, struct error *err)
{
	const struct unpack_env *env = x->env;
	const struct crew_env crew = {.tree = env->tree,
		.source = x->input->source,
		.budget = env->budget,
		.cancel = env->cancel,
		.progress = env->progress};
	int code;

	x->writer = writer_new(env->tree, x->input->source, env->progress);
	x->crew = crew_new(&crew);
	code = extract_all(x, err);
	writer_close(x->writer);
	return crew_finish(x->crew, code, err);
}
