/* SPDX-License-Identifier: MIT */
/* Parses one part of an index, from its stored bytes to entries. The bytes are not trusted: their
 * decoded size is known and bounded before they are decoded, and every field is checked. Any
 * thread. */
#include "index.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

/* Decodes the stored bytes of a part. *ret is on the heap, and has a NUL at its end and none before
 * it. -ERR_FORMAT. */
static int index_decompress(
	const void *bytes, size_t len, char **ret, size_t *ret_len, struct error *err)
{
	unsigned long long size = ZSTD_getFrameContentSize(bytes, len);
	char *text;
	size_t got;

	if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN)
		return error_set(err, -ERR_FORMAT, "the index is no zstd frame of known size");
	if (size > INDEX_TEXT_MAX)
		return error_set(err, -ERR_FORMAT,
			"the index would have %llu bytes, and %zu is the limit", size,
			INDEX_TEXT_MAX);
	text = malloc((size_t)size + 1);
	if (text == NULL)
		return error_set(err, -ENOMEM, "no memory for an index of %llu bytes", size);
	got = ZSTD_decompress(text, (size_t)size, bytes, len);
	if (ZSTD_isError(got) || got != size) {
		free(text);
		return error_set(err, -ERR_FORMAT, "the index is damaged: %s",
			ZSTD_isError(got) ? ZSTD_getErrorName(got) : "too short");
	}
	text[got] = '\0';
	if (strlen(text) != got) {
		free(text);
		return error_set(err, -ERR_FORMAT, "the index has a NUL in it");
	}
	*ret = text;
	*ret_len = got;
	return 0;
}

/* The fields of a line. A field that does not match the format exactly is refused: two readers that
 * understand an index differently would stage two different trees. */

/* Cuts the NUL-terminated line at its tabs. Returns the number of fields, or max + 1 if there are
 * more than max. */
static size_t line_split(char *line, char **fields, size_t max)
{
	size_t n = 0;

	for (char *next = line; next != NULL; n++) {
		char *tab = strchr(next, '\t');

		if (n == max)
			return max + 1;
		fields[n] = next;
		if (tab != NULL)
			*tab++ = '\0';
		next = tab;
	}
	return n;
}

static bool parse_digits(const char **s, unsigned base, uint64_t max, uint64_t *ret)
{
	const char *p = *s;
	uint64_t n = 0;

	for (; *p >= '0' && (unsigned)(*p - '0') < base; p++) {
		uint64_t digit = (uint64_t)(*p - '0');

		if (digit > max || n > (max - digit) / base)
			return false;
		n = n * base + digit;
	}
	if (p == *s)
		return false;
	*s = p;
	*ret = n;
	return true;
}

static bool field_number(const char *s, uint64_t max, uint64_t *ret)
{
	return parse_digits(&s, 10, max, ret) && *s == '\0';
}

static bool field_mode(const char *s, mode_t *ret)
{
	uint64_t mode;

	if (!parse_digits(&s, 8, 07777, &mode) || *s != '\0')
		return false;
	*ret = (mode_t)mode;
	return true;
}

static bool field_time(const char *s, struct timespec *ret)
{
	bool negative = *s == '-';
	uint64_t seconds, nanoseconds;
	const char *fraction;

	s += negative;
	if (!parse_digits(&s, 10, INT64_MAX, &seconds) || *s != '.')
		return false;
	fraction = ++s;
	if (!parse_digits(&s, 10, 999999999, &nanoseconds) || *s != '\0' || s - fraction != 9)
		return false;
	ret->tv_sec = negative ? -(time_t)seconds : (time_t)seconds;
	ret->tv_nsec = (long)nanoseconds;
	return true;
}

static char unescape_char(char escaped)
{
	switch (escaped) {
	case 't':
		return '\t';
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case '\\':
		return '\\';
	default:
		return '\0';
	}
}

static bool field_unescape(char *s)
{
	char *to = strchr(s, '\\');

	if (to == NULL)
		return true;
	for (const char *from = to; *from != '\0'; from++) {
		*to = *from == '\\' ? unescape_char(*++from) : *from;
		if (*to++ == '\0')
			return false;
	}
	*to = '\0';
	return true;
}

static bool field_sha256(const char *s)
{
	return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

static bool component_is_plain(const char *s, size_t len)
{
	if (len == 0 || len > NAME_MAX)
		return false;
	return s[0] != '.' || !(len == 1 || (len == 2 && s[1] == '.'));
}

bool index_path_is_plain(const char *path)
{
	const char *s = path;

	if (strcmp(path, ".") == 0)
		return true;
	if (strlen(path) >= PATH_MAX)
		return false;
	for (;;) {
		const char *end = strchrnul(s, '/');

		if (!component_is_plain(s, (size_t)(end - s)))
			return false;
		if (*end == '\0')
			return true;
		s = end + 1;
	}
}

/* Whether the key is one that a store of ours can have. */
static bool key_is_plain(const char *key)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-";

	return key[strspn(key, allowed)] == '\0' && index_path_is_plain(key) &&
	       strcmp(key, ".") != 0;
}

/* The lines of a part, which are parsed in place. */

enum { FIELDS_MAX = 10, FIRST_ARRAY = 64, REFERENCE_KEY_MAX = 1024, ETAG_MAX = 127 };

struct parser {
	struct index_part *part;
	size_t entries_cap, frames_cap, objects_cap;
	uint64_t raw; /* decoded bytes of the frames so far */
	char *fields[FIELDS_MAX];
};

/* Returns what is wrong with the line, or NULL. */
typedef const char *line_parse(struct parser *p);

/* Makes room for one more item at the end of an array. */
static void *grow(void *array, size_t n, size_t *cap, size_t item)
{
	if (n < *cap)
		return array;
	*cap = *cap > 0 ? 2 * *cap : FIRST_ARRAY;
	array = realloc(array, *cap * item);
	if (array == NULL)
		abort();
	return array;
}

static const char *parse_object(struct parser *p)
{
	struct index_part *part = p->part;

	if (!key_is_plain(p->fields[1]))
		return "a key that no store has";
	part->objects =
		grow(part->objects, part->n_objects, &p->objects_cap, sizeof(*part->objects));
	part->objects[part->n_objects++] = p->fields[1];
	return NULL;
}

static const char *parse_frame(struct parser *p)
{
	struct index_part *part = p->part;
	uint64_t object, offset, length, raw;

	if (!field_number(p->fields[1], UINT32_MAX, &object) || object >= part->n_objects)
		return "a frame in an object that was not named";
	if (!field_number(p->fields[2], INT64_MAX, &offset) ||
		!field_number(p->fields[3], INDEX_FRAME_MAX + (INDEX_FRAME_MAX >> 7), &length) ||
		!field_number(p->fields[4], INDEX_FRAME_MAX, &raw) || length == 0 || raw == 0 ||
		offset > (uint64_t)INT64_MAX - length)
		return "a frame that cannot be";
	part->frames = grow(part->frames, part->n_frames, &p->frames_cap, sizeof(*part->frames));
	part->frames[part->n_frames++] = (struct index_frame){.object = (uint32_t)object,
		.offset = offset,
		.length = (uint32_t)length,
		.raw = (uint32_t)raw,
		.raw_before = p->raw};
	p->raw += raw;
	return NULL;
}

static const char *parse_common(struct parser *p, struct index_entry *e, char *path)
{
	e->frame = INDEX_NO_FRAME;
	if (!field_mode(p->fields[1], &e->mode))
		return "a bad mode";
	if (!field_time(p->fields[2], &e->mtime))
		return "a bad time";
	if (!field_unescape(path) || !index_path_is_plain(path))
		return "a path that leaves the tree or is none";
	e->path = path;
	return NULL;
}

static const char *add_entry(struct parser *p, const struct index_entry *e)
{
	struct index_part *part = p->part;

	if (part->n_entries == INDEX_PART_ENTRIES)
		return "more entries than a part has";
	if (e->type != INDEX_DIR && strcmp(e->path, ".") == 0)
		return "a root that is no directory";
	part->entries =
		grow(part->entries, part->n_entries, &p->entries_cap, sizeof(*part->entries));
	part->entries[part->n_entries++] = *e;
	return NULL;
}

static const char *parse_dir(struct parser *p)
{
	struct index_entry e = {.type = INDEX_DIR};
	const char *wrong = parse_common(p, &e, p->fields[3]);

	return wrong != NULL ? wrong : add_entry(p, &e);
}

static const char *parse_symlink(struct parser *p)
{
	struct index_entry e = {.type = INDEX_SYMLINK, .target = p->fields[4]};
	const char *wrong = parse_common(p, &e, p->fields[3]);

	if (wrong != NULL)
		return wrong;
	if (!field_unescape(p->fields[4]) || *p->fields[4] == '\0')
		return "a link to nothing";
	return add_entry(p, &e);
}

/* The content must lie in frames that the part has. */
static const char *parse_content(struct parser *p, struct index_entry *e)
{
	const struct index_frame *f;
	uint64_t frame, skip;

	if (e->size == 0)
		return strcmp(p->fields[5], "-") == 0 && strcmp(p->fields[6], "0") == 0
			       ? NULL
			       : "an empty file with content";
	if (!field_number(p->fields[5], UINT32_MAX, &frame) || frame >= p->part->n_frames)
		return "content in a frame that was not named";
	f = &p->part->frames[frame];
	if (!field_number(p->fields[6], f->raw - 1, &skip) ||
		e->size > p->raw - f->raw_before - skip)
		return "content beyond its frames";
	e->frame = (uint32_t)frame;
	e->skip = (uint32_t)skip;
	return NULL;
}

static const char *parse_file_fields(struct parser *p, struct index_entry *e)
{
	const char *flags = p->fields[7];
	const char *wrong = parse_common(p, e, p->fields[8]);

	if (wrong != NULL)
		return wrong;
	if (!field_number(p->fields[3], INT64_MAX, &e->size))
		return "a bad size";
	if (strcmp(p->fields[4], "-") != 0) {
		if (!field_sha256(p->fields[4]))
			return "a bad digest";
		e->sha256 = p->fields[4];
	}
	e->sparse = strcmp(flags, "s") == 0;
	if (!e->sparse && strcmp(flags, "-") != 0)
		return "flags of a later format";
	return parse_content(p, e);
}

static const char *parse_file(struct parser *p)
{
	struct index_entry e = {.type = INDEX_FILE};
	const char *wrong = parse_file_fields(p, &e);

	return wrong != NULL ? wrong : add_entry(p, &e);
}

static const char *parse_hardlink(struct parser *p)
{
	struct index_entry e = {.type = INDEX_HARDLINK, .target = p->fields[9]};
	const char *wrong = parse_file_fields(p, &e);

	if (wrong != NULL)
		return wrong;
	if (!field_unescape(p->fields[9]) || !index_path_is_plain(e.target) ||
		strcmp(e.target, ".") == 0)
		return "a hard link that leaves the tree";
	return add_entry(p, &e);
}

static const char *parse_reference(struct parser *p)
{
	struct index_entry e = {.type = INDEX_REFERENCE, .target = p->fields[6]};
	const char *wrong = parse_common(p, &e, p->fields[5]);

	if (wrong != NULL)
		return wrong;
	if (!field_number(p->fields[3], INT64_MAX, &e.size))
		return "a bad size";
	if (strcmp(p->fields[4], "-") != 0)
		e.etag = p->fields[4];
	if (!field_unescape(p->fields[4]) || strlen(p->fields[4]) > ETAG_MAX)
		return "a bad ETag";
	if (!field_unescape(p->fields[6]) || *e.target == '\0' ||
		strlen(e.target) > REFERENCE_KEY_MAX)
		return "a bad key";
	return add_entry(p, &e);
}

static const struct line_type {
	char letter;
	unsigned char fields;
	line_parse *parse;
} line_types[] = {
	{'f', 9, parse_file},
	{'d', 4, parse_dir},
	{'l', 5, parse_symlink},
	{'h', 10, parse_hardlink},
	{'x', 7, parse_reference},
	{'k', 5, parse_frame},
	{'p', 2, parse_object},
};

static const char *parse_line(struct parser *p, char *line)
{
	size_t n = line_split(line, p->fields, FIELDS_MAX);

	if (line[0] == '\0' || line[1] != '\0')
		return "an entry without a type";
	for (size_t i = 0; i < sizeof(line_types) / sizeof(*line_types); i++) {
		if (line_types[i].letter == line[0])
			return line_types[i].fields == n ? line_types[i].parse(p)
							 : "a wrong number of fields";
	}
	return "an entry of a later format";
}

static int parse_lines(struct parser *p, char *text, const char *end, struct error *err)
{
	size_t number = 1;

	for (char *line = text; line < end; number++) {
		char *next = memchr(line, '\n', (size_t)(end - line));
		const char *wrong = "it has no end";

		if (next != NULL) {
			*next = '\0';
			wrong = number == 1 ? (strcmp(line, "stagerun-index\t1") == 0
							      ? NULL
							      : "this is no index of format 1")
					    : parse_line(p, line);
		}
		if (wrong != NULL)
			return error_set(
				err, -ERR_FORMAT, "line %zu of the index: %s", number, wrong);
		line = next + 1;
	}
	return number > 1 ? 0 : error_set(err, -ERR_FORMAT, "the index is empty");
}

int index_part_decode(const void *bytes, size_t len, struct index_part *ret, struct error *err)
{
	struct index_part part = {0};
	struct parser p = {.part = &part};
	size_t text_len = 0;
	int code = index_decompress(bytes, len, &part.text, &text_len, err);

	if (code >= 0)
		code = parse_lines(&p, part.text, part.text + text_len, err);
	if (code < 0)
		index_part_done(&part);
	else
		*ret = part;
	return code;
}

void index_part_done(struct index_part *p)
{
	free(p->text);
	free(p->entries);
	free(p->frames);
	free(p->objects);
	*p = (struct index_part){0};
}
