/* SPDX-License-Identifier: MIT */
/* cpio: the ASCII headers of SVR4, with or without checksums, the octal ones of POSIX, and the old
 * binary ones of either byte order. Worker thread. Joined archives, as those of an initramfs, are
 * read one after another, with any number of zeros between them.
 *
 * libarchive's reader is not used: it stores every name that has more than one link in a list that
 * it walks for each entry, and accepts names of any length. Here, such names are in a hash table,
 * whose memory is reserved from the budget. */
#include "defer.h"
#include "text.h"
#include "unpack_private.h"
#include <archive_entry.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LISTS        ((size_t)1 << 16)
#define RESERVE_STEP ((uint64_t)1 << 20)

/* The files of an archive that have several names: each with the first name that was read. A hash
 * table of fixed size: with a million files, each list has sixteen elements. */

struct cpio_file {
	uint64_t dev, ino;
};

struct cpio_link {
	struct cpio_link *next;
	struct cpio_file file;
	char name[];
};

struct cpio_links {
	struct budget *budget;
	struct cpio_link **lists; /* LISTS of them; NULL before the first link */
	uint64_t used, reserved;
};

static struct cpio_links *cpio_links_new(struct budget *budget)
{
	struct cpio_links *l = zalloc(sizeof(*l));

	l->budget = budget;
	return l;
}

static void cpio_links_free(struct cpio_links *l)
{
	if (l == NULL)
		return;
	for (size_t i = 0; l->lists != NULL && i < LISTS; i++) {
		struct cpio_link *at = l->lists[i];

		while (at != NULL) {
			struct cpio_link *next = at->next;

			free(at);
			at = next;
		}
	}
	if (l->reserved > 0)
		budget_release(l->budget, l->reserved);
	free(l->lists);
	free(l);
}

static size_t list_index(const struct cpio_file *f)
{
	return (f->ino * 0x9e3779b97f4a7c15u ^ f->dev * 0xc2b2ae3d27d4eb4fu) >> 48 & (LISTS - 1);
}

/* Returns the name that was added for the file; NULL: none. */
static const char *cpio_links_find(const struct cpio_links *l, const struct cpio_file *file)
{
	const struct cpio_link *at = l->lists != NULL ? l->lists[list_index(file)] : NULL;

	while (at != NULL && (at->file.dev != file->dev || at->file.ino != file->ino))
		at = at->next;
	return at != NULL ? at->name : NULL;
}

/* Reserves memory of the budget, and never waits for it: -ERR_LIMIT. */
static int reserve(struct cpio_links *l, uint64_t bytes, struct error *err)
{
	l->used += bytes; /* the callers include the overhead of malloc() */
	if (l->used <= l->reserved)
		return 0;
	if (!budget_try_reserve(l->budget, RESERVE_STEP))
		return error_set(err, -ERR_LIMIT,
			"the names of files with several names need more than %" PRIu64
			" MiB, more than memory_budget (%" PRIu64
			" MiB) has left; raise memory_budget, or pack it as tar",
			l->reserved >> 20, budget_total(l->budget) >> 20);
	l->reserved += RESERVE_STEP;
	return 0;
}

/* Stores name, which is copied, as the first name of the file. -ERR_LIMIT. */
static int cpio_links_add(
	struct cpio_links *l, const struct cpio_file *file, const char *name, struct error *err)
{
	size_t len = strlen(name) + 1;
	int code = reserve(l, sizeof(struct cpio_link) + len + 16, err);
	struct cpio_link *link, **list;

	if (code < 0)
		return code;
	if (l->lists == NULL)
		l->lists = zalloc(LISTS * sizeof(struct cpio_link *));
	link = zalloc(sizeof(*link) + len);
	link->file = *file;
	memcpy(link->name, name, len);
	list = &l->lists[list_index(file)];
	link->next = *list;
	*list = link;
	return 0;
}

/* Parsing of headers, and the entries. */

#define HEX         "0123456789abcdefABCDEF"
#define MAGIC_BYTES 6
#define NEWC_BYTES  110
#define ODC_BYTES   76
#define BIN_BYTES   26
#define RPM_BYTES   40 /* enough to detect rpm's and afio's headers */

/* The tree refuses much shorter names, and the error contains them. */
#define NAME_MAX_BYTES ((uint64_t)64 << 10)

struct cpio_header {
	size_t bytes; /* length of the header itself, in bytes */
	uint64_t dev, ino, mode, uid, gid, nlink, mtime, name_len, size, sum;
	bool has_sum;
	/* in bytes, of what follows the header and the name, and of what follows the content */
	unsigned align;
};

struct cpio {
	struct extraction x;
	struct archive_feed feed;
	struct archive_entry *entry;
	struct cpio_links *links;
	bool in_archive; /* the next bytes are an archive's, not what precedes or follows one */
	uint64_t left;   /* bytes of the entry's content that were not returned yet */
	uint64_t offset; /* in the content */
	unsigned pad;    /* bytes of padding behind the content */
	/* bytes of the current slice that the latest call returned; the next call drops them */
	size_t returned;
	uint32_t sum;
	uint32_t want_sum;
	bool has_sum;
};

static bool all_digits(const uint8_t *bytes, size_t len, const char *digits)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i] == '\0' || strchr(digits, bytes[i]) == NULL)
			return false;
	return true;
}

/* The magic of the binary header is only two bytes, so the file type and the end of the name must
 * be right as well: it consists of words of 16 bits, the mode is at 6, the size of the name at 20,
 * the name at 26. */
static bool old_cpio_matches(const uint8_t *first, size_t len)
{
	bool little = len > 26 && first[0] == 0xc7 && first[1] == 0x71;
	bool big = len > 26 && first[0] == 0x71 && first[1] == 0xc7;
	unsigned mode, name_size;

	if (!little && !big)
		return false;
	mode = little ? first[6] | first[7] << 8 : first[6] << 8 | first[7];
	name_size = little ? first[20] | first[21] << 8 : first[20] << 8 | first[21];
	return mode >> 12 != 0 && name_size > 1 && 26 + name_size <= len &&
	       memchr(first + 26, '\0', name_size) == first + 26 + name_size - 1;
}

/* Kinds that are detected but not supported: afio's for large files, and the headers without names
 * that rpm writes. */
static bool is_other_kind(const uint8_t *first, size_t len)
{
	if (len >= 40 && memcmp(first, "070727", 6) == 0)
		return all_digits(first + 6, 24, HEX) && first[30] == 'm';
	return len >= 14 && memcmp(first, "07070X", 6) == 0 && all_digits(first + 6, 8, HEX);
}

static bool cpio_matches(const uint8_t *first, size_t len)
{
	if (len >= ODC_BYTES && memcmp(first, "070707", 6) == 0)
		return all_digits(first + 6, ODC_BYTES - 6, "01234567");
	if (len >= NEWC_BYTES &&
		(memcmp(first, "070701", 6) == 0 || memcmp(first, "070702", 6) == 0))
		return all_digits(first + 6, NEWC_BYTES - 6, HEX);
	return old_cpio_matches(first, len) || is_other_kind(first, len);
}

static uint64_t position(const struct cpio *c)
{
	return c->feed.given - c->feed.current.len;
}

static int damaged(const struct cpio *c, const char *why, struct error *err)
{
	return archive_extraction_fault(&c->x, -ERR_FORMAT, position(c), why, err);
}

/* Makes sure that the current slice has bytes: 0 or negative. */
static int refill(struct cpio *c, struct error *err)
{
	int got = c->feed.current.len > 0 ? 1 : archive_feed_next(&c->feed);

	if (got > 0)
		return 0;
	return archive_extraction_fault(&c->x, -ERR_TRUNCATED, position(c),
		c->left > 0 ? "in a file" : "before its last entry, TRAILER!!!", err);
}

static int read_bytes(struct cpio *c, void *to, size_t len, struct error *err)
{
	for (size_t have = 0; have < len;) {
		int code = refill(c, err);
		size_t n = len - have;

		if (code < 0)
			return code;
		if (n > c->feed.current.len)
			n = c->feed.current.len;
		memcpy((char *)to + have, c->feed.current.data, n);
		slice_advance(&c->feed.current, n);
		have += n;
	}
	return 0;
}

static int skip_bytes(struct cpio *c, uint64_t n, struct error *err)
{
	size_t here = c->feed.current.len < n ? c->feed.current.len : (size_t)n;

	slice_advance(&c->feed.current, here);
	if (n == here || archive_feed_skip(&c->feed, n - here) == 0)
		return 0;
	return archive_extraction_fault(&c->x, -ERR_TRUNCATED, position(c), "in a file", err);
}

/* Parses an ASCII number. false: it is not a number. */
static bool parse_number(const char *digits, size_t len, unsigned base, uint64_t *ret)
{
	*ret = 0;
	for (size_t i = 0; i < len; i++) {
		const char *all = HEX;
		const char *at = digits[i] != '\0' ? strchr(all, digits[i]) : NULL;
		unsigned value;

		if (at == NULL)
			return false;
		value = (unsigned)(at - all);
		if (value >= 16)
			value -= 6;
		if (value >= base)
			return false;
		*ret = *ret * base + value;
	}
	return true;
}

static bool parse_newc(const char *s, struct cpio_header *h)
{
	uint64_t v[13];

	for (size_t i = 0; i < 13; i++)
		if (!parse_number(s + 6 + 8 * i, 8, 16, &v[i]))
			return false;
	*h = (struct cpio_header){.ino = v[0],
		.mode = v[1],
		.uid = v[2],
		.gid = v[3],
		.nlink = v[4],
		.mtime = v[5],
		.size = v[6],
		.dev = v[7] << 32 | v[8],
		.name_len = v[11],
		.sum = v[12],
		.has_sum = s[5] == '2',
		.align = 4};
	return true;
}

static bool parse_odc(const char *s, struct cpio_header *h)
{
	static const uint8_t widths[] = {6, 6, 6, 6, 6, 6, 6, 11, 6, 11};
	uint64_t v[10];

	s += 6;
	for (int i = 0; i < 10; i++) {
		if (!parse_number(s, widths[i], 8, &v[i]))
			return false;
		s += widths[i];
	}
	*h = (struct cpio_header){.dev = v[0],
		.ino = v[1],
		.mode = v[2],
		.uid = v[3],
		.gid = v[4],
		.nlink = v[5],
		.mtime = v[7],
		.name_len = v[8],
		.size = v[9],
		.align = 1};
	return true;
}

static void parse_binary(const uint8_t *s, struct cpio_header *h)
{
	bool little = s[0] == 0xc7;
	uint64_t v[13];

	for (size_t i = 0; i < 13; i++)
		v[i] = little ? s[2 * i] | s[2 * i + 1] << 8 : s[2 * i] << 8 | s[2 * i + 1];
	*h = (struct cpio_header){.dev = v[1],
		.ino = v[2],
		.mode = v[3],
		.uid = v[4],
		.gid = v[5],
		.nlink = v[6],
		.mtime = v[8] << 16 | v[9],
		.name_len = v[10],
		.size = v[11] << 16 | v[12],
		.align = 2};
}

static size_t padding(uint64_t len, unsigned align)
{
	return align > 1 ? (size_t)((align - len % align) % align) : 0;
}

/* Returns the length of the header with this magic; 0: the magic is unknown. */
static size_t header_bytes(const char *magic)
{
	if (memcmp(magic, "\xc7\x71", 2) == 0 || memcmp(magic, "\x71\xc7", 2) == 0)
		return BIN_BYTES;
	if (memcmp(magic, "070707", 6) == 0)
		return ODC_BYTES;
	return memcmp(magic, "070701", 6) == 0 || memcmp(magic, "070702", 6) == 0 ? NEWC_BYTES : 0;
}

static bool parse_header(const char *s, size_t len, struct cpio_header *h)
{
	bool ok = true;

	if (len == BIN_BYTES)
		parse_binary((const uint8_t *)s, h);
	else
		ok = len == ODC_BYTES ? parse_odc(s, h) : parse_newc(s, h);
	h->bytes = len;
	return ok;
}

static int read_header(struct cpio *c, struct cpio_header *h, struct error *err)
{
	char s[NEWC_BYTES];
	size_t len;
	int code = read_bytes(c, s, MAGIC_BYTES, err);

	if (code < 0)
		return code;
	len = header_bytes(s);
	if (len == 0)
		return damaged(c, "there is no header where the next entry should begin", err);
	code = read_bytes(c, s + MAGIC_BYTES, len - MAGIC_BYTES, err);
	if (code < 0)
		return code;
	if (!parse_header(s, len, h))
		return damaged(c, "a number in the next entry's header is none", err);
	if (h->name_len == 0 || h->name_len > NAME_MAX_BYTES)
		return damaged(c, "the next entry's name has an impossible length", err);
	return 0;
}

/* Reads the target of a symbolic link, which is its content. */
static int read_target(struct cpio *c, const struct cpio_header *h, struct error *err)
{
	_free_ char *target = NULL;
	int code;

	if (h->size > NAME_MAX_BYTES)
		return damaged(c, "a symbolic link's target has an impossible length", err);
	target = zalloc(h->size + 1);
	code = read_bytes(c, target, h->size, err);
	if (code == 0)
		code = skip_bytes(c, c->pad, err);
	archive_entry_copy_symlink(c->entry, target);
	c->pad = 0;
	return code;
}

/* Of the names of one file, all but the first are returned as hard links to it; each of them may
 * have the content. */
static int set_hardlink(
	struct cpio *c, const struct cpio_header *h, const char *name, struct error *err)
{
	const struct cpio_file file = {h->dev, h->ino};
	const char *first;

	if (h->nlink < 2 || S_ISDIR(h->mode))
		return 0;
	first = cpio_links_find(c->links, &file);
	if (first == NULL)
		return cpio_links_add(c->links, &file, name, err);
	archive_entry_set_hardlink(c->entry, first);
	return 0;
}

static int fill_entry(
	struct cpio *c, const struct cpio_header *h, const char *name, struct error *err)
{
	struct archive_entry *e = c->entry;
	int code;

	archive_entry_clear(e);
	archive_entry_copy_pathname(e, name);
	archive_entry_set_mode(e, (mode_t)h->mode);
	archive_entry_set_uid(e, (la_int64_t)h->uid);
	archive_entry_set_gid(e, (la_int64_t)h->gid);
	archive_entry_set_mtime(e, (time_t)h->mtime, 0);
	c->pad = (unsigned)padding(h->size, h->align);
	c->offset = c->sum = 0;
	c->has_sum = h->has_sum && h->size > 0;
	c->want_sum = (uint32_t)h->sum;
	c->left = S_ISLNK(h->mode) ? 0 : h->size;
	archive_entry_set_size(e, (la_int64_t)c->left);
	code = S_ISLNK(h->mode) ? read_target(c, h, err) : 0;
	return code < 0 ? code : set_hardlink(c, h, name, err);
}

/* 1, 0 at the archive's end, or negative. */
static int read_entry(struct cpio *c, struct error *err)
{
	_free_ char *name = NULL;
	struct cpio_header h = {0};
	int code = read_header(c, &h, err);

	if (code < 0)
		return code;
	name = zalloc(h.name_len + 1);
	code = read_bytes(c, name, h.name_len, err);
	if (code < 0 || strcmp(name, "TRAILER!!!") == 0)
		return code;
	code = skip_bytes(c, padding(h.bytes + h.name_len, h.align), err);
	if (code == 0)
		code = fill_entry(c, &h, name, err);
	return code < 0 ? code : 1;
}

static int skip_content(struct cpio *c, struct error *err)
{
	uint64_t left = c->left + c->pad;

	slice_advance(&c->feed.current, c->returned);
	c->returned = c->left = c->pad = 0;
	return skip_bytes(c, left, err);
}

/* Device and inode numbers are only valid inside one archive, so the table of links starts anew. */
static int begin_archive(struct cpio *c, struct error *err)
{
	uint8_t first[RPM_BYTES];
	int found = archive_feed_next_archive(&c->x, cpio_matches, err), len;

	if (found <= 0)
		return found;
	len = reader_peek(c->feed.in, first, sizeof(first), err);
	if (len < 0)
		return len;
	if (is_other_kind(first, (size_t)len))
		return error_set(err, -ERR_UNSUPPORTED,
			"it is a cpio archive of a kind that is not supported (%s): convert it, with %s",
			first[4] == '2' ? "afio's for large files" : "rpm's without names",
			first[4] == '2' ? "afio" : "rpm2archive");
	cpio_links_free(c->links);
	c->links = cpio_links_new(c->x.env->budget);
	return 1;
}

static int cpio_next(struct extraction *x, struct archive_entry **ret, struct error *err)
{
	struct cpio *c = container_of(x, struct cpio, x);
	int found = skip_content(c, err);

	while (found >= 0) {
		if (!c->in_archive) {
			found = begin_archive(c, err);
			if (found <= 0)
				return found;
		}
		found = read_entry(c, err);
		c->in_archive = found > 0;
		if (found > 0)
			break;
	}
	*ret = c->entry;
	return found;
}

static int end_of_content(struct cpio *c, struct error *err)
{
	int code = skip_bytes(c, c->pad, err);

	c->pad = 0;
	if (code == 0 && c->has_sum && c->sum != c->want_sum)
		return damaged(c, "the content's checksum is wrong", err);
	return code;
}

static int cpio_block(
	struct extraction *x, struct slice *ret, uint64_t *ret_offset, struct error *err)
{
	struct cpio *c = container_of(x, struct cpio, x);
	int code;

	slice_advance(&c->feed.current, c->returned);
	c->returned = 0;
	if (c->left == 0)
		return end_of_content(c, err);
	code = refill(c, err);
	if (code < 0)
		return code;
	c->returned = c->feed.current.len < c->left ? c->feed.current.len : (size_t)c->left;
	*ret = (struct slice){.data = c->feed.current.data, .len = c->returned};
	*ret_offset = c->offset;
	c->left -= c->returned;
	c->offset += c->returned;
	for (size_t i = 0; c->has_sum && i < c->returned; i++)
		c->sum += ret->data[i];
	return 1;
}

static int cpio_unpack(
	const struct unpack_env *env, const struct unpack_input *input, struct error *err)
{
	static const struct entry_reader reader = {.next = cpio_next, .block = cpio_block};
	struct cpio c = {
		.x = {.env = env, .input = input, .format = "cpio", .reader = &reader},
		.feed = {.in = input->in},
		.entry = archive_entry_new(),
	};
	int code;

	c.x.feed = &c.feed;
	code = archive_extract_entries(&c.x, err);
	archive_entry_free(c.entry);
	cpio_links_free(c.links);
	archive_feed_done(&c.feed);
	return code;
}

const struct unpacker unpack_cpio = {
	.name = "cpio", .matches = cpio_matches, .unpack = cpio_unpack};
