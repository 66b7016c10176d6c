/* SPDX-License-Identifier: MIT */
/* The checks on the header of a 7z archive: which methods it uses, and how much memory libarchive
 * will need. Worker thread. The header consists of numbers, counts and lists without an index. Only
 * sums and maxima are kept; lists that belong together, such as folders and their sizes, are walked
 * in parallel. Every count is either bounded by the number of bytes left, or adds to the memory
 * that is requested. */
#include "defer.h"
#include "text.h"
#include "unpack_private.h"
#include <inttypes.h>
#include <lzma.h>
#include <string.h>

enum id {
	ID_END = 0,
	ID_HEADER = 1,
	ID_STREAMS = 4,
	ID_FILES = 5,
	ID_PACK_INFO = 6,
	ID_UNPACK_INFO = 7,
	ID_SUBSTREAMS = 8,
	ID_SIZE = 9,
	ID_CRC = 10,
	ID_FOLDER = 11,
	ID_UNPACK_SIZES = 12,
	ID_STREAM_COUNTS = 13,
	ID_NAMES = 17,
	ID_ENCODED = 23,
};

enum { CODERS_MAX = 4, STREAMS_MAX = 8 }; /* the most of one folder that libarchive supports */

/* Bytes that libarchive allocates for each, including the overhead of malloc(). */
#define FOLDER_BYTES 400
#define STREAM_BYTES 32
#define FILE_BYTES   128
#define BASE_BYTES   ((uint64_t)1 << 20)

/* Far beyond any archive, and sums of products of it do not overflow. */
#define COUNT_MAX ((uint64_t)1 << 40)

struct cursor {
	const uint8_t *at;
	size_t left;
	bool is_bad; /* the header ended early or is invalid; every value read is 0 from here on */
};

static const uint8_t *read_bytes(struct cursor *c, uint64_t n)
{
	const uint8_t *at = c->at;

	if (c->is_bad || n > c->left) {
		c->is_bad = true;
		return NULL;
	}
	c->at += n;
	c->left -= n;
	return at;
}

static unsigned read_byte(struct cursor *c)
{
	const uint8_t *at = read_bytes(c, 1);

	return at != NULL ? *at : 0;
}

/* A number has as many leading ones in its first byte as bytes follow; the lowest byte is first. */
static uint64_t read_number(struct cursor *c)
{
	unsigned first = read_byte(c), mask = 0x80;
	uint64_t value = 0;

	for (int i = 0; i < 8; i++, mask >>= 1) {
		if ((first & mask) == 0)
			return value | (uint64_t)(first & (mask - 1)) << (8 * i);
		value |= (uint64_t)read_byte(c) << (8 * i);
	}
	return value;
}

static uint64_t read_count(struct cursor *c)
{
	uint64_t n = read_number(c);

	c->is_bad |= n > COUNT_MAX;
	return c->is_bad ? 0 : n;
}

/* A count of items that take at least one byte each. */
static uint64_t read_list_count(struct cursor *c)
{
	uint64_t n = read_count(c);

	c->is_bad |= n > c->left;
	return c->is_bad ? 0 : n;
}

static void expect(struct cursor *c, enum id id)
{
	c->is_bad |= read_byte(c) != (unsigned)id;
}

static void skip_numbers(struct cursor *c, uint64_t n)
{
	while (n-- > 0 && !c->is_bad)
		read_number(c);
}

/* Which of n items have a digest; NULL: all of them. */
struct defined {
	const uint8_t *bits;
};

static bool is_defined(const struct defined *d, uint64_t i)
{
	return d->bits == NULL || (d->bits[i / 8] >> (7 - i % 8) & 1) != 0;
}

static struct defined skip_digests(struct cursor *c, uint64_t n)
{
	struct defined d = {.bits = read_byte(c) != 0 ? NULL : read_bytes(c, (n + 7) / 8)};
	uint64_t defined = 0;

	for (uint64_t i = 0; i < n && !c->is_bad && (d.bits != NULL || n <= c->left / 4); i++)
		defined += is_defined(&d, i);
	c->is_bad |= d.bits == NULL && n > c->left / 4;
	read_bytes(c, defined * 4);
	return d;
}

struct coder {
	uint64_t id;
	const uint8_t *props;
	uint64_t n_props;
};

struct folder {
	struct coder coders[CODERS_MAX];
	uint64_t n_coders, n_in, n_out;
};

static struct coder read_coder(struct cursor *c, struct folder *f)
{
	unsigned flags = read_byte(c);
	const uint8_t *id = read_bytes(c, flags & 15);
	struct coder coder = {0};
	bool is_complex = (flags & 0x10) != 0;

	for (unsigned i = 0; id != NULL && i < (flags & 15); i++)
		coder.id = coder.id << 8 | id[i];
	f->n_in += is_complex ? read_list_count(c) : 1;
	f->n_out += is_complex ? read_list_count(c) : 1;
	if ((flags & 0x20) != 0) {
		coder.n_props = read_number(c);
		coder.props = read_bytes(c, coder.n_props);
	}
	c->is_bad |= (flags & 0xc0) != 0 || (flags & 15) > 8;
	return coder;
}

static struct folder read_folder(struct cursor *c)
{
	struct folder f = {.n_coders = read_number(c)};
	uint64_t packed;

	c->is_bad |= f.n_coders == 0 || f.n_coders > 32;
	for (uint64_t i = 0; i < f.n_coders && !c->is_bad; i++) {
		struct coder coder = read_coder(c, &f);

		if (i < CODERS_MAX)
			f.coders[i] = coder;
	}
	c->is_bad |= f.n_out == 0 || f.n_in < f.n_out - 1 || f.n_in > 64;
	if (c->is_bad)
		return (struct folder){0};
	/* Skips which streams are bound to each other, and which are packed if there are several.
	 * One call, because GCC 12 optimized two calls away when the first one had nothing to
	 * skip. */
	packed = f.n_in - (f.n_out - 1);
	skip_numbers(c, 2 * (f.n_out - 1) + (packed > 1 ? packed : 0));
	return f;
}

/* The methods with their names, and whether libarchive reads them. */
static const struct sevenzip_method {
	uint64_t id;
	const char *name;
	bool is_read;
} methods[] = {
	{0, "copy", true},
	{0x03, "Delta", true},
	{0x21, "LZMA2", true},
	{0x030101, "LZMA", true},
	{0x03030103, "BCJ", true},
	{0x0303011b, "BCJ2", true},
	{0x03030205, "PPC", true},
	{0x03030401, "IA64", true},
	{0x03030501, "ARM", true},
	{0x03030701, "ARMT", true},
	{0x03030805, "SPARC", true},
	{0x030401, "PPMd", true},
	{0x040108, "Deflate", true},
	{0x040202, "BZip2", true},
	{0x04, "BCJ (new)", false},
	{0x05, "PPC (new)", false},
	{0x06, "IA64 (new)", false},
	{0x07, "ARM (new)", false},
	{0x08, "ARMT (new)", false},
	{0x09, "SPARC (new)", false},
	{0x0a, "ARM64", false},
	{0x0b, "RISCV", false},
	{0x040109, "Deflate64", false},
	{0x04f71101, "Zstandard", false},
	{0x04f71102, "Brotli", false},
	{0x04f71104, "LZ4", false},
	{0x04f71105, "LZ5", false},
	{0x04f71106, "Lizard", false},
};

#define IS_CIPHER(id) ((id) >> 16 == 0x06f1)
#define ID_DELTA      0x03
#define ID_LZMA2      0x21
#define ID_LZMA       0x030101
#define ID_PPMD       0x030401
#define ID_BCJ        0x03030103
#define ID_BCJ2       0x0303011b

static int unsupported(const struct object *o, uint64_t id, const char *name, struct error *err)
{
	char by_number[32];

	snprintf(by_number, sizeof(by_number), "method 0x%" PRIx64, id);
	return error_set(err, -ERR_UNSUPPORTED,
		"%s: the 7z archive uses %s, which is not supported; pack it anew with 7z a -m0=LZMA2, or as tar",
		o->name, name != NULL ? name : by_number);
}

static const char *method_name(uint64_t id)
{
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		if (methods[i].id == id)
			return methods[i].name;
	return "another method";
}

static int check_coder(const struct object *o, uint64_t id, struct error *err)
{
	if (IS_CIPHER(id))
		return error_set(err, -ERR_UNSUPPORTED,
			"%s: the 7z archive is encrypted, which is not supported; unpack it with 7z x and pack it anew without a password",
			o->name);
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		if (methods[i].id == id)
			return methods[i].is_read ? 0 : unsupported(o, id, methods[i].name, err);
	return unsupported(o, id, NULL, err);
}

/* Whether this is one of liblzma's own filters, which return their last bytes only where the data
 * marks its end: LZMA does not, LZMA2 does. */
static bool is_liblzma_filter(uint64_t id)
{
	return id >> 16 == 0x0303 && id != ID_BCJ && id != ID_BCJ2;
}

static bool is_filter(uint64_t id)
{
	return id == ID_DELTA || id >> 16 == 0x0303;
}

/* Whether libarchive reads this filter on this method. It reads no filter alone; BCJ on everything
 * but PPMd; BCJ2 with its four streams; the others, which are liblzma's own, on LZMA and LZMA2. */
static bool is_filter_read(uint64_t id, uint64_t filter)
{
	if (filter == ID_BCJ)
		return id != ID_PPMD;
	return filter == ID_BCJ2 || id == ID_LZMA2 || (id == ID_LZMA && !is_liblzma_filter(filter));
}

static int check_filter(const struct object *o, const struct folder *f, struct error *err)
{
	const uint64_t first = f->coders[0].id, second = f->coders[1].id;
	const uint64_t filter = is_filter(first) ? first : second;
	const uint64_t other = is_filter(first) ? second : first;
	char what[64];

	if (f->n_coders > 2 || !is_filter(filter))
		return 0;
	if (f->n_coders == 2 && is_filter_read(other, filter))
		return 0;
	if (f->n_coders == 1)
		snprintf(what, sizeof(what), "the filter %s alone", method_name(filter));
	else
		snprintf(what, sizeof(what), "the filter %s on %s", method_name(filter),
			method_name(other));
	return unsupported(o, 0, what, err);
}

static int check_folder(const struct object *o, const struct folder *f, struct error *err)
{
	bool has_bcj2 = false;
	int code = 0;

	for (uint64_t i = 0; i < f->n_coders && i < CODERS_MAX && code == 0; i++) {
		code = check_coder(o, f->coders[i].id, err);
		has_bcj2 |= f->coders[i].id == ID_BCJ2;
	}
	if (code == 0)
		code = check_filter(o, f, err);
	if (code == 0 && (f->n_coders > CODERS_MAX || (f->n_coders > 2 && !has_bcj2)))
		code = unsupported(o, 0, "more than one filter", err);
	return code;
}

static uint64_t little_endian(const uint8_t *at, int n)
{
	uint64_t value = 0;

	while (n-- > 0)
		value = value << 8 | at[n];
	return value;
}

static uint64_t coder_memory(const struct coder *c)
{
	if (c->id == ID_LZMA2 && c->n_props == 1)
		return c->props[0] >= 40
			       ? UINT32_MAX
			       : (uint64_t)(2 | (c->props[0] & 1)) << (c->props[0] / 2 + 11);
	if ((c->id == ID_LZMA || c->id == ID_PPMD) && c->n_props == 5)
		return little_endian(c->props + 1, 4);
	return c->id == 0x040202 ? (uint64_t)4 << 20 : 0;
}

static uint64_t saturating(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* The largest memory of the folder's coders, in bytes. */
static uint64_t coders_memory(const struct folder *f, bool *ret_has_bcj2)
{
	uint64_t most = 0;

	*ret_has_bcj2 = false;
	for (uint64_t i = 0; i < f->n_coders && i < CODERS_MAX; i++) {
		uint64_t memory = coder_memory(&f->coders[i]);

		most = memory > most ? memory : most;
		*ret_has_bcj2 |= f->coders[i].id == ID_BCJ2;
	}
	return most;
}

/* The memory for decoding a folder, in bytes. A dictionary is never filled beyond what is decoded.
 * libarchive decodes all streams of BCJ2 but the main one before it starts: each of them is packed,
 * or has an unpacked size of its own. */
static uint64_t folder_memory(const struct folder *f, struct cursor *sizes, struct cursor *packed)
{
	bool has_bcj2;
	uint64_t largest = 0, dictionary = coders_memory(f, &has_bcj2), aside = 0;

	for (uint64_t i = 0; i < f->n_out; i++) {
		uint64_t size = read_number(sizes);

		aside = saturating(aside, i < 2 && f->n_out > 2 ? size : 0);
		largest = size > largest ? size : largest;
	}
	for (uint64_t i = 0; i < f->n_in - (f->n_out - 1); i++) {
		uint64_t size = read_number(packed);

		aside = saturating(aside, i > 0 ? size : 0);
	}
	/* PPMd's model uses all of its memory from the start. */
	if (dictionary > largest && f->coders[0].id != ID_PPMD)
		dictionary = largest;
	return has_bcj2 ? saturating(dictionary, aside) : dictionary;
}

/* Sums and maxima of a header, or of the encoded header that describes where the header is
 * packed. */
struct sevenzip_summary {
	const struct object *object;
	/* offset behind the start header, and length, of the first packed stream */
	uint64_t pack_at, pack_size;
	uint64_t unpack_size; /* of the first folder, in bytes */
	struct folder first;
	uint64_t n_packed, n_folders, n_streams, n_files;
	uint64_t decoding; /* bytes; the most of any folder */
	bool has_digests, has_names;
};

static struct cursor skip_pack_info(struct cursor *c, struct sevenzip_summary *s)
{
	struct cursor sizes;

	s->pack_at = read_number(c);
	s->n_packed = read_list_count(c);
	expect(c, ID_SIZE);
	sizes = *c;
	for (uint64_t i = 0; i < s->n_packed && !c->is_bad; i++) {
		uint64_t size = read_number(c);

		s->pack_size = i == 0 ? size : s->pack_size;
	}
	if (c->left > 0 && *c->at == ID_CRC) {
		read_byte(c);
		skip_digests(c, s->n_packed);
	}
	expect(c, ID_END);
	return sizes;
}

static int check_folders(struct sevenzip_summary *s, struct cursor folders, struct cursor *c,
	struct cursor packed, struct error *err)
{
	for (uint64_t i = 0; i < s->n_folders && !c->is_bad; i++) {
		struct cursor sizes = *c;
		struct folder f = read_folder(&folders);
		uint64_t memory;
		int code = check_folder(s->object, &f, err);

		if (code < 0)
			return code;
		if (i == 0) {
			s->first = f;
			s->unpack_size = read_number(&sizes);
		}
		memory = folder_memory(&f, c, &packed);
		s->decoding = memory > s->decoding ? memory : s->decoding;
	}
	c->is_bad |= packed.is_bad;
	return 0;
}

static int skip_unpack_info(struct cursor *c, struct sevenzip_summary *s, struct cursor packed,
	struct defined *ret_digests, struct error *err)
{
	static const uint8_t none[1];
	struct cursor folders;
	int code;

	expect(c, ID_FOLDER);
	s->n_folders = s->n_streams = read_list_count(c);
	c->is_bad |= read_byte(c) != 0; /* folders in another place: no program writes that */
	folders = *c;
	for (uint64_t i = 0; i < s->n_folders && !c->is_bad; i++)
		read_folder(c);
	expect(c, ID_UNPACK_SIZES);
	if (c->is_bad)
		return 0;
	code = check_folders(s, folders, c, packed, err);
	*ret_digests = (struct defined){.bits = none};
	s->has_digests = c->left > 0 && *c->at == ID_CRC;
	if (s->has_digests) {
		read_byte(c);
		*ret_digests = skip_digests(c, s->n_folders);
	}
	expect(c, ID_END);
	return code;
}

/* Skips the number of streams of each folder. Returns the next id. */
static unsigned skip_counts(struct cursor *c, struct sevenzip_summary *s)
{
	s->n_streams = 0;
	for (uint64_t i = 0; i < s->n_folders && !c->is_bad; i++)
		s->n_streams += read_count(c);
	return read_byte(c);
}

/* Skips the sizes of all streams but the last of each folder, and the digests of the streams that
 * no folder's digest covers. */
static void skip_substreams(
	struct cursor *c, struct sevenzip_summary *s, const struct defined *digests)
{
	struct cursor counts = {.is_bad = true};
	uint64_t without = 0;
	unsigned id = read_byte(c);
	bool has_sizes;

	if (id == ID_STREAM_COUNTS) {
		counts = *c;
		id = skip_counts(c, s);
	}
	has_sizes = id == ID_SIZE;
	for (uint64_t i = 0; i < s->n_folders && !c->is_bad; i++) {
		uint64_t n = counts.is_bad ? 1 : read_number(&counts);

		if (has_sizes && n > 1)
			skip_numbers(c, n - 1);
		if (n != 1 || !s->has_digests || !is_defined(digests, i))
			without += n;
	}
	if (has_sizes)
		id = read_byte(c);
	if (id == ID_CRC) {
		skip_digests(c, without);
		id = read_byte(c);
	}
	c->is_bad |= id != ID_END;
}

static int skip_streams(struct cursor *c, struct sevenzip_summary *s, struct error *err)
{
	struct cursor packed = {.is_bad = true};
	struct defined digests = {0};
	unsigned id = read_byte(c);
	int code = 0;

	if (id == ID_PACK_INFO) {
		packed = skip_pack_info(c, s);
		id = read_byte(c);
	}
	if (id == ID_UNPACK_INFO) {
		code = skip_unpack_info(c, s, packed, &digests, err);
		id = read_byte(c);
	}
	if (code == 0 && id == ID_SUBSTREAMS) {
		skip_substreams(c, s, &digests);
		id = read_byte(c);
	}
	c->is_bad |= id != ID_END;
	return code;
}

static void skip_files(struct cursor *c, struct sevenzip_summary *s)
{
	unsigned id;

	s->n_files = read_count(c);
	while ((id = read_byte(c)) != ID_END && !c->is_bad) {
		uint64_t size = read_number(c);

		s->has_names |= id == ID_NAMES && size > 1;
		read_bytes(c, size);
	}
}

static int skip_header(struct cursor *c, struct sevenzip_summary *s, struct error *err)
{
	unsigned id;
	int code = 0;

	expect(c, ID_HEADER);
	id = read_byte(c);
	if (id == ID_STREAMS) {
		code = skip_streams(c, s, err);
		id = read_byte(c);
	}
	if (code == 0 && id == ID_FILES) {
		skip_files(c, s);
		id = read_byte(c);
	}
	c->is_bad |= id != ID_END;
	return code;
}

int sevenzip_parse_start(const uint8_t *start, struct sevenzip_facts *ret, struct error *err)
{
	uint64_t offset = little_endian(start + 12, 8), size = little_endian(start + 20, 8);

	if (lzma_crc32(start + 12, 20, 0) != little_endian(start + 8, 4) ||
		offset > INT64_MAX / 4 || size > INT64_MAX / 4)
		return error_set(err, -ERR_FORMAT, "the 7z archive is damaged at its start");
	*ret = (struct sevenzip_facts){
		.packed_end = SEVENZIP_START_BYTES + offset,
		.end = SEVENZIP_START_BYTES + offset + size,
	};
	return 0;
}

static int damaged(const struct object *o, struct error *err)
{
	return error_set(
		err, -ERR_FORMAT, "%s: the 7z archive is damaged in its list of files", o->name);
}

/* Bytes in memory that is reserved from the budget. */
struct sevenzip_buffer {
	struct budget *budget;
	uint8_t *bytes;
	uint64_t len, reserved;
};

static void buffer_done(struct sevenzip_buffer *h)
{
	free(h->bytes);
	if (h->reserved > 0)
		budget_release(h->budget, h->reserved);
	*h = (struct sevenzip_buffer){.budget = h->budget};
}

/* Reserves len + beside bytes and allocates len of them. Waits for the budget, so nothing else may
 * be held. beside: memory that is used meanwhile, in bytes. */
static int reserve_buffer(const struct unpack_env *env, struct sevenzip_buffer *h, uint64_t len,
	uint64_t beside, struct error *err)
{
	uint64_t need = saturating(saturating(len, beside), 1);
	int code = budget_reserve_counted(env->budget, need, env->cancel,
		env->progress != NULL ? &env->progress->budget_ns : NULL, err);

	h->budget = env->budget;
	if (code < 0) {
		error_prefix(err, "the 7z archive's list of files");
		return code;
	}
	h->reserved = need;
	h->bytes = malloc(saturating(len, 1));
	h->len = len;
	return h->bytes != NULL ? 0 : error_set(err, -ENOMEM, "out of memory");
}

static int read_header(const struct unpack_env *env, struct object *o, uint64_t at, uint64_t len,
	struct sevenzip_buffer *h, struct error *err)
{
	int code = reserve_buffer(env, h, len, 0, err);

	return code < 0 || len == 0 ? code : object_read_at(o, at, h->bytes, len, err);
}

static lzma_ret decode(
	const struct coder *coder, const struct sevenzip_buffer *in, struct sevenzip_buffer *out)
{
	lzma_filter filters[2] = {
		{.id = coder->id == ID_LZMA2 ? LZMA_FILTER_LZMA2 : LZMA_FILTER_LZMA1},
		{.id = LZMA_VLI_UNKNOWN}};
	lzma_stream z = LZMA_STREAM_INIT;
	lzma_ret code = lzma_properties_decode(&filters[0], NULL, coder->props, coder->n_props);

	if (code != LZMA_OK)
		return code;
	code = lzma_raw_decoder(&z, filters);
	z.next_in = in->bytes;
	z.avail_in = in->len;
	z.next_out = out->bytes;
	z.avail_out = out->len;
	while (code == LZMA_OK && z.avail_out > 0)
		code = lzma_code(&z, LZMA_RUN);
	if (z.avail_out == 0)
		code = LZMA_OK;
	lzma_end(&z);
	free(filters[0].options);
	return code;
}

/* Reads the packed header. Its memory is already reserved (reserve_buffer()). */
static int read_packed(struct object *o, const struct sevenzip_summary *s,
	struct sevenzip_buffer *packed, struct error *err)
{
	packed->bytes = malloc((size_t)s->pack_size + 1);
	packed->len = s->pack_size;
	if (packed->bytes == NULL)
		return error_set(err, -ENOMEM, "out of memory");
	if (packed->len == 0)
		return 0;
	return object_read_at(
		o, SEVENZIP_START_BYTES + s->pack_at, packed->bytes, packed->len, err);
}

static int decode_header(struct object *o, const struct coder *coder,
	const struct sevenzip_buffer *packed, struct sevenzip_buffer *whole, struct error *err)
{
	if (coder->id == 0 && packed->len == whole->len) {
		if (packed->bytes != NULL && whole->bytes != NULL)
			memcpy(whole->bytes, packed->bytes, packed->len);
		return 0;
	}
	if (coder->id != ID_LZMA2 && coder->id != ID_LZMA)
		return unsupported(o, coder->id, "a rare method for its list of files", err);
	return decode(coder, packed, whole) == LZMA_OK ? 0 : damaged(o, err);
}

/* Replaces the header in *h, which s summarizes, by the one that it describes, unpacked. */
static int unpack_header(const struct unpack_env *env, struct object *o,
	const struct sevenzip_summary *s, struct sevenzip_buffer *h, struct error *err)
{
	struct coder coder = s->first.coders[0];
	struct sevenzip_buffer packed = {0}, whole = {0};
	uint8_t props[8];
	int code;

	if (s->first.n_coders != 1 || coder.n_props > sizeof(props) ||
		s->pack_at > o->identity.size || s->pack_size > o->identity.size)
		return damaged(o, err);
	if (coder.n_props > 0)
		memcpy(props, coder.props, coder.n_props);
	coder.props = props;
	buffer_done(h);
	code = reserve_buffer(env, &whole, s->unpack_size, s->pack_size + s->decoding, err);
	if (code == 0)
		code = read_packed(o, s, &packed, err);
	if (code == 0)
		code = decode_header(o, &coder, &packed, &whole, err);
	free(packed.bytes);
	*h = whole;
	return code;
}

/* Checks the header in *h. An encoded header is replaced by the one it describes. */
static int check_header(const struct unpack_env *env, struct object *o, struct sevenzip_buffer *h,
	struct sevenzip_summary *s, struct error *err)
{
	struct cursor c = {.at = h->bytes, .left = h->len};
	uint64_t packed_header = 0;
	int code;

	if (c.at != NULL && c.left > 0 && *c.at == ID_ENCODED) {
		read_byte(&c);
		code = skip_streams(&c, s, err);
		if (code == 0 && (c.is_bad || s->n_folders == 0))
			code = damaged(o, err);
		if (code == 0)
			code = unpack_header(env, o, s, h, err);
		if (code < 0)
			return code;
		packed_header = s->decoding;
		*s = (struct sevenzip_summary){.object = o};
		c = (struct cursor){.at = h->bytes, .left = h->len};
	}
	code = skip_header(&c, s, err);
	if (packed_header > s->decoding)
		s->decoding = packed_header;
	return code < 0 ? code : c.is_bad ? damaged(o, err) : 0;
}

static int set_facts(const struct object *o, const struct sevenzip_summary *s, uint64_t header_len,
	struct sevenzip_facts *ret, struct error *err)
{
	if (!s->has_names && s->n_files > 1)
		return error_set(err, -ERR_UNSUPPORTED,
			"%s: the 7z archive has %" PRIu64 " files without names", o->name,
			s->n_files);
	ret->unnamed = !s->has_names;
	ret->memory = saturating(BASE_BYTES + s->n_folders * FOLDER_BYTES +
					 (s->n_streams + s->n_packed) * STREAM_BYTES +
					 s->n_files * FILE_BYTES + 2 * header_len,
		s->decoding);
	return 0;
}

int sevenzip_read_facts(const struct unpack_env *env, struct object *o, struct sevenzip_facts *ret,
	struct error *err)
{
	uint8_t start[SEVENZIP_START_BYTES];
	struct sevenzip_summary s = {.object = o};
	struct sevenzip_buffer header = {0};
	int code = object_read_at(o, 0, start, sizeof(start), err);

	if (code == 0)
		code = sevenzip_parse_start(start, ret, err);
	if (code < 0)
		return code;
	if (ret->end > o->identity.size)
		return error_set(err, -ERR_TRUNCATED,
			"%s: the 7z archive has %" PRIu64 " of its %" PRIu64
			" bytes: it was cut off, or is the first of several volumes, which belong together",
			o->name, o->identity.size, ret->end);
	ret->memory = BASE_BYTES;
	if (ret->end == ret->packed_end)
		return 0; /* an empty archive */
	code = read_header(env, o, ret->packed_end, ret->end - ret->packed_end, &header, err);
	if (code == 0 && lzma_crc32(header.bytes, header.len, 0) != little_endian(start + 28, 4))
		code = damaged(o, err);
	if (code == 0)
		code = check_header(env, o, &header, &s, err);
	if (code == 0)
		code = set_facts(o, &s, header.len, ret, err);
	buffer_done(&header);
	return code;
}
