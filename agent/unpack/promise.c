/* SPDX-License-Identifier: MIT */
/* Descriptions of content that is no container, for messages, so that a person sees at once what
 * arrived in place of the archive. Pure; any thread. Contains the table of magic numbers, and
 * extracts the message from what servers send in HTML, XML and JSON. */
#include "decode.h"
#include "defer.h"
#include "log.h"
#include "source.h"
#include "text.h"
#include "unpack_private.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define MAGIC(at, bytes, what) \
	{ \
		(at), sizeof(bytes) - 1, (bytes), (what) \
	}

struct magic {
	unsigned at, len;
	const char *bytes;
	const char *what;
};

/* Compressed data and archives of kinds that are not unpacked. */
static const struct magic packings[] = {
	MAGIC(0, "Rar!\x1a\x07", "a RAR archive"),
	MAGIC(0, "\x1f\x9d", "data compressed by compress (.Z)"),
	MAGIC(0, "\x1f\xa0", "data compressed by compress -H"),
	MAGIC(0, "\x1f\x1e", "data compressed by pack"),
	MAGIC(0, "LZIP", "data compressed by lzip (.lz)"),
	MAGIC(0, "\x89LZO\0\r\n\x1a\n", "data compressed by lzop (.lzo)"),
	MAGIC(0, "LRZI", "data compressed by lrzip"),
	MAGIC(0, "\xff\x06\0\0sNaPpY", "data compressed by snappy"),
	MAGIC(0, "\x5d\0\0", "data compressed by LZMA alone (.lzma)"),
	MAGIC(0, "PK\3\4", "a zip archive"),
	MAGIC(0, "7z\xbc\xaf\x27\x1c", "a 7z archive"),
	MAGIC(0, "MSCF\0\0\0\0", "a cabinet archive (.cab)"),
	MAGIC(0, "!<arch>\n", "an ar archive (.a, .deb)"),
	MAGIC(0, "\xed\xab\xee\xdb", "an RPM package"),
	MAGIC(0, "xar!", "a xar archive (.pkg)"),
	MAGIC(0, "\x60\xea", "an ARJ archive"),
	MAGIC(2, "-lh", "an LHA archive"),
	MAGIC(0, "hsqs", "a squashfs image"),
};

static const struct magic magics[] = {
	MAGIC(0, "%PDF-", "a PDF document"),
	MAGIC(0, "%!PS", "a PostScript document"),
	MAGIC(0, "{\\rtf", "an RTF document"),
	MAGIC(0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Microsoft Office document"),
	MAGIC(0, "\x89PNG\r\n\x1a\n", "a PNG image"),
	MAGIC(0, "\xff\xd8\xff", "a JPEG image"),
	MAGIC(0, "GIF8", "a GIF image"),
	MAGIC(0, "II*\0", "a TIFF image"),
	MAGIC(0, "MM\0*", "a TIFF image"),
	MAGIC(8, "WEBP", "a WebP image"),
	MAGIC(8, "WAVE", "a WAV sound"),
	MAGIC(8, "AVI ", "an AVI video"),
	MAGIC(0, "OggS", "Ogg media"),
	MAGIC(0, "fLaC", "a FLAC sound"),
	MAGIC(0, "ID3", "an MP3 sound"),
	MAGIC(4, "ftyp", "an MP4 video or HEIF image"),
	MAGIC(0, "\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
	MAGIC(0,
		"\x7f"
		"ELF",
		"an ELF program"),
	MAGIC(0, "\xcf\xfa\xed\xfe", "a macOS program"),
	MAGIC(0, "\xca\xfe\xba\xbe", "a Java class or macOS program"),
	MAGIC(0, "#!", "a script"),
	MAGIC(0, "\x93NUMPY", "a NumPy array"),
	MAGIC(0, "\x89HDF\r\n\x1a\n", "an HDF5 file"),
	MAGIC(0, "CDF\1", "a NetCDF file"),
	MAGIC(0, "CDF\2", "a NetCDF file"),
	MAGIC(0, "PAR1", "a Parquet file"),
	MAGIC(0, "ARROW1", "an Arrow file"),
	MAGIC(0, "ORC", "an ORC file"),
	MAGIC(0, "Obj\1", "an Avro file"),
	MAGIC(0, "SQLite format 3\0", "a SQLite database"),
	MAGIC(0, "GGUF", "a GGUF model"),
	MAGIC(0, "\x80\2", "a Python pickle"),
	MAGIC(0, "\x80\3", "a Python pickle"),
	MAGIC(0, "\x80\4", "a Python pickle"),
	MAGIC(0, "\x80\5", "a Python pickle"),
	MAGIC(0, "wOFF", "a font"),
	MAGIC(0, "wOF2", "a font"),
	MAGIC(0, "-----BEGIN ", "a PEM certificate, key or signature"),
};

static bool begins_with(const struct promise_bytes *b, size_t at, const char *bytes, size_t len)
{
	return b->len >= at + len && memcmp(b->first + at, bytes, len) == 0;
}

/* A DOS stub, as opposed to a text that begins with these two letters. */
static bool is_dos_program(const struct promise_bytes *b)
{
	return begins_with(b, 0, "MZ", 2) && b->len > 64 && memchr(b->first, '\0', 64) != NULL;
}

static bool is_safetensors(const struct promise_bytes *b)
{
	return b->len > 10 && memcmp(b->first + 4, "\0\0\0\0{\"", 6) == 0;
}

static const char *table_lookup(const struct magic *table, size_t n, const struct promise_bytes *b)
{
	for (size_t i = 0; i < n; i++)
		if (begins_with(b, table[i].at, table[i].bytes, table[i].len))
			return table[i].what;
	return NULL;
}

static const char *find_packing(const struct promise_bytes *b)
{
	const struct decoder *d = decode_find(b->first, b->len);

	return d != NULL ? d->name : table_lookup(packings, ARRAY_LEN(packings), b);
}

static const char *find_magic(const struct promise_bytes *b)
{
	const char *what = find_packing(b);

	if (what == NULL)
		what = table_lookup(magics, ARRAY_LEN(magics), b);
	if (what != NULL)
		return what;
	if (is_dos_program(b))
		return "a Windows program";
	return is_safetensors(b) ? "a safetensors file" : NULL;
}

/* Whether the first 512 bytes are text. Encodings that are not supersets of ASCII do not count as
 * text. */
static bool is_text(const struct promise_bytes *b)
{
	size_t len = b->len < 512 ? b->len : 512;

	for (size_t i = 0; i < len; i++)
		if (b->first[i] < ' ' && strchr("\t\n\v\f\r\033", b->first[i]) == NULL)
			return false;
	return memchr(b->first, '\0', len) == NULL;
}

/* Returns the start of the text behind a byte order mark and white space. */
static const char *skip_to_text(const struct promise_bytes *b, size_t *ret_len)
{
	size_t at = begins_with(b, 0, "\xef\xbb\xbf", 3) ? 3 : 0;

	while (at < b->len && isspace(b->first[at]))
		at++;
	*ret_len = b->len - at;
	return (const char *)b->first + at;
}

static bool text_begins_with(const struct promise_bytes *b, const char *word)
{
	size_t len, n = strlen(word);
	const char *text = skip_to_text(b, &len);

	return len >= n && strncasecmp(text, word, n) == 0;
}

static const char *find_word(const char *text, size_t len, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i + n <= len; i++)
		if (strncasecmp(text + i, word, n) == 0)
			return text + i;
	return NULL;
}

static bool content_is_html(const struct promise_bytes *b)
{
	static const char *const beginnings[] = {"<!doctype html", "<html", "<head", "<title",
		"<body", "<meta", "<script", "<h1", "<center", "<div"};
	size_t len;
	const char *text = skip_to_text(b, &len);

	for (size_t i = 0; i < ARRAY_LEN(beginnings); i++)
		if (text_begins_with(b, beginnings[i]))
			return true;
	return (text_begins_with(b, "<?xml") || text_begins_with(b, "<!--")) && is_text(b) &&
	       find_word(text, len, "<html") != NULL;
}

static bool is_xml(const struct promise_bytes *b)
{
	return text_begins_with(b, "<?xml") || text_begins_with(b, "<Error>");
}

/* An object that begins with a name or is empty, or an array of objects. The bracket alone is not
 * enough, since a line of a log may begin with either of them. */
static bool is_json(const struct promise_bytes *b)
{
	size_t len, i = 1;
	const char *text = skip_to_text(b, &len);

	if (len < 2 || (text[0] != '{' && text[0] != '[') || !is_text(b))
		return false;
	while (i < len && isspace((unsigned char)text[i]))
		i++;
	return i < len && (text[0] == '{' ? strchr("\"}", text[i]) != NULL : text[i] == '{');
}

static bool content_is_lfs_pointer(const struct promise_bytes *b)
{
	static const char version[] = "version https://git-lfs.github.com/spec/v",
			  older[] = "version https://hawser.github.com/spec/v";

	return (begins_with(b, 0, version, sizeof(version) - 1) ||
		       begins_with(b, 0, older, sizeof(older) - 1)) &&
	       memmem(b->first, b->len, "\noid ", 5) != NULL;
}

bool promise_content_is_placeholder(const struct promise_bytes *b)
{
	return b->len == 0 || content_is_html(b) || is_xml(b) || is_json(b) ||
	       content_is_lfs_pointer(b);
}

bool promise_content_is_program(const struct promise_bytes *b)
{
	return begins_with(b, 0, "#!", 2) ||
	       begins_with(b, 0,
		       "\x7f"
		       "ELF",
		       4) ||
	       is_dos_program(b);
}

/* Whether the bytes are compressed data or an archive of any kind. */
static bool content_is_packed(const struct promise_bytes *b)
{
	return find_packing(b) != NULL;
}

bool promise_content_is_known(const struct promise_bytes *b)
{
	return find_magic(b) != NULL || is_text(b);
}

/* Copies as much of the text up to end as fits, each run of white space as one blank. */
static void copy_words(char *to, size_t size, const char *from, const char *end)
{
	size_t n = 0;

	for (; from < end && n + 1 < size; from++) {
		bool blank = isspace((unsigned char)*from);

		if (blank && (n == 0 || to[n - 1] == ' '))
			continue;
		to[n++] = blank ? ' ' : *from;
	}
	while (n > 0 && to[n - 1] == ' ')
		n--;
	to[n] = '\0';
}

/* Copies the text between <name ...> and </name>; "" when there is no such element or it has no
 * end. */
static void element_text(const char *text, size_t len, const char *name, char *ret, size_t size)
{
	char tag[24];
	const char *from, *end;

	ret[0] = '\0';
	snprintf(tag, sizeof(tag), "<%s", name);
	from = find_word(text, len, tag);
	from = from != NULL ? memchr(from, '>', len - (size_t)(from - text)) : NULL;
	if (from == NULL)
		return;
	from++;
	snprintf(tag, sizeof(tag), "</%s", name);
	end = find_word(from, len - (size_t)(from - text), tag);
	if (end != NULL)
		copy_words(ret, size, from, end);
}

/* Copies the first string that has one of these names, at any depth; "" when there is none. */
static void json_text(const char *text, size_t len, char *ret, size_t size)
{
	static const char *const names[] = {"\"message\"", "\"error_description\"", "\"detail\"",
		"\"error\"", "\"msg\"", "\"title\""};

	ret[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(names) && ret[0] == '\0'; i++) {
		const char *end = text + len, *from = find_word(text, len, names[i]), *to;

		if (from == NULL)
			continue;
		from += strlen(names[i]);
		while (from < end && (isspace((unsigned char)*from) || *from == ':'))
			from++;
		if (from == end || *from++ != '"')
			continue;
		for (to = from; to < end && *to != '"'; to++)
			to += *to == '\\' && to + 1 < end;
		copy_words(ret, size, from, to);
	}
}

static const char *describe_placeholder(const struct promise_bytes *b, char *buf, size_t size)
{
	char words[120], code[60];
	size_t len;
	const char *text = skip_to_text(b, &len);

	if (content_is_html(b)) {
		element_text(text, len, "title", words, sizeof(words));
		snprintf(buf, size, words[0] != '\0' ? "an HTML page ('%s')" : "an HTML page",
			words);
	} else if (is_xml(b)) {
		element_text(text, len, "Code", code, sizeof(code));
		element_text(text, len, "Message", words, sizeof(words));
		snprintf(buf, size, code[0] != '\0' ? "an XML error (%s: %s)" : "XML", code, words);
	} else {
		json_text(text, len, words, sizeof(words));
		snprintf(buf, size, words[0] != '\0' ? "JSON ('%s')" : "JSON", words);
	}
	return buf;
}

static const char *describe_text(const struct promise_bytes *b, char *buf, size_t size)
{
	char line[60];
	size_t len;
	const char *text = skip_to_text(b, &len);
	const char *end = memchr(text, '\n', len);

	copy_words(line, sizeof(line), text, end != NULL ? end : text + len);
	snprintf(buf, size, "text that begins with '%s'", line);
	return buf;
}

static bool is_zeros(const struct promise_bytes *b)
{
	for (size_t i = 0; i < b->len; i++)
		if (b->first[i] != 0)
			return false;
	return true;
}

/* Writes a description of the bytes to buf, and returns buf: "a PDF document", "an HTML page ('Sign
 * in')", the beginning of a text, "binary data of a kind that is not known". */
static const char *content_describe(const struct promise_bytes *b, char *buf, size_t size)
{
	const struct decoder *d = decode_find(b->first, b->len);
	const char *what = find_magic(b);

	if (b->len == 0)
		snprintf(buf, size, "empty");
	else if (content_is_lfs_pointer(b))
		snprintf(buf, size, "a Git LFS pointer");
	else if (promise_content_is_placeholder(b))
		describe_placeholder(b, buf, size);
	else if (d != NULL)
		snprintf(buf, size, "once more compressed, by %s", d->name);
	else if (what != NULL)
		snprintf(buf, size, "%s", what);
	else if (is_text(b))
		describe_text(b, buf, size);
	else
		snprintf(buf, size,
			is_zeros(b) ? "zeros" : "binary data of a kind that is not known");
	return buf;
}

/* Which endings of file names promise an archive or a compressed file, and the errors for content
 * that breaks the promise. Worker thread. The table of endings is here, the table of contents in
 * content.c. */

enum { IS_TAR = 1, IS_ZIP = 2, IS_PART = 4 };

struct name_ending {
	const char *text; /* in lower case */
	enum promise_kind kind;
	int flags;
};

/* Only of files that are meant as archives: ".jar", ".whl", ".npz" and ".docx" are zips, too, but
 * most people who use them mean one file. */
static const struct name_ending endings[] = {
	{".tar", PROMISE_ARCHIVE, IS_TAR},
	{".tgz", PROMISE_ARCHIVE, IS_TAR},
	{".taz", PROMISE_ARCHIVE, IS_TAR},
	{".tbz", PROMISE_ARCHIVE, IS_TAR},
	{".tbz2", PROMISE_ARCHIVE, IS_TAR},
	{".tb2", PROMISE_ARCHIVE, IS_TAR},
	{".tz2", PROMISE_ARCHIVE, IS_TAR},
	{".txz", PROMISE_ARCHIVE, IS_TAR},
	{".tlz", PROMISE_ARCHIVE, IS_TAR},
	{".tzst", PROMISE_ARCHIVE, IS_TAR},
	{".tzstd", PROMISE_ARCHIVE, IS_TAR},
	{".tlz4", PROMISE_ARCHIVE, IS_TAR},
	{".cpio", PROMISE_ARCHIVE, 0},
	{".zip", PROMISE_ARCHIVE, IS_ZIP},
	{".zipx", PROMISE_ARCHIVE, IS_ZIP},
	{".7z", PROMISE_ARCHIVE, 0},
	{".rar", PROMISE_ARCHIVE, 0},
};
static const char *const compressions[] = {".gz", ".gzip", ".bz2", ".bzip2", ".bz", ".xz", ".zst",
	".zstd", ".lz4", ".lzma", ".lz", ".lzo", ".z"};

/* Returns the length of the ending if name ends with it and has something in front of it, else 0.
 * Case is ignored. */
static size_t ends_with(const char *name, size_t len, const char *ending)
{
	size_t n = strlen(ending);

	return len > n && strncasecmp(name + len - n, ending, n) == 0 ? n : 0;
}

static size_t archive_ending(const char *name, size_t len, const struct name_ending **ret)
{
	for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
		size_t n = ends_with(name, len, endings[i].text);

		if (n > 0) {
			*ret = &endings[i];
			return n;
		}
	}
	return 0;
}

static size_t compression_ending(const char *name, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(compressions); i++) {
		size_t n = ends_with(name, len, compressions[i]);

		/* A lower-case .z alone is used for many things. */
		if (n > 0 && (strcmp(compressions[i], ".z") != 0 || name[len - 1] == 'Z' ||
				     ends_with(name, len - n, ".tar") > 0))
			return n;
	}
	return 0;
}

static void set_promise(struct promise *p, enum promise_kind kind, int flags, const char *name,
	size_t len, size_t ending)
{
	if (kind <= p->kind)
		return;
	p->kind = kind;
	p->is_tar = (flags & IS_TAR) != 0;
	p->is_zip = (flags & IS_ZIP) != 0;
	p->is_part = (flags & IS_PART) != 0;
	snprintf(p->ending, sizeof(p->ending), "%.*s", (int)ending, name + len - ending);
}

/* Adds what name promises without its last `beyond` bytes, which say that it is one part. */
static void add_whole_name(struct promise *p, const char *name, size_t beyond)
{
	size_t len = strlen(name) - beyond;
	size_t compression = compression_ending(name, len);
	const struct name_ending *e = NULL;
	size_t archive = archive_ending(name, len - compression, &e);
	int flags = beyond > 0 ? IS_PART : 0;

	/* A compressed zip is a compressed file: it could not be read at random. */
	if (archive > 0 &&
		(compression == 0 || (e->flags & IS_TAR) != 0 || strcmp(e->text, ".cpio") == 0))
		set_promise(p, e->kind, e->flags | flags, name, strlen(name),
			archive + compression + beyond);
	else if (compression > 0)
		set_promise(
			p, PROMISE_COMPRESSION, flags, name, strlen(name), compression + beyond);
}

/* ".z01", ".r00" */
static bool is_numbered_volume(const char *name, size_t len)
{
	return len > 4 && name[len - 4] == '.' && strchr("zZrR", name[len - 3]) != NULL &&
	       isdigit((unsigned char)name[len - 2]) && isdigit((unsigned char)name[len - 1]);
}

/* Two letters as split(1) appends them, or three, that are not another file name ending. */
static bool is_lettered(const char *s, size_t n)
{
	static const char *const others[] = {"md", "py", "js", "ts", "sh", "id", "db", "gz", "xz"};

	for (size_t i = 0; i < n; i++)
		if (!islower((unsigned char)s[i]))
			return false;
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		if (n == 2 && strncmp(s, others[i], 2) == 0)
			return false;
	return n == 2 || (n == 3 && s[0] == 'a' && (s[1] == 'a' || s[1] == 'b'));
}

static size_t digits_at(const char *name, size_t len)
{
	size_t at = len;

	while (at > 0 && len - at < 4 && isdigit((unsigned char)name[at - 1]))
		at--;
	return at;
}

/* Returns the offset of the number or the letters that end the name of a part ("1of3" is one
 * number), or len when there are none. */
static size_t part_number_at(const char *name, size_t len)
{
	size_t at = digits_at(name, len), first;

	if (at < len && at > 2 && strncmp(name + at - 2, "of", 2) == 0 &&
		(first = digits_at(name, at - 2)) < at - 2)
		at = first;
	for (size_t n = 3; n >= 2 && at == len; n--)
		if (len > n && !isalpha((unsigned char)name[len - n - 1]) &&
			is_lettered(name + len - n, n))
			at = len - n;
	if (at == len && len > 2 && is_lettered(name + len - 2, 2)) /* "partaa" */
		at = len - 2;
	return at;
}

/* Returns the length of the first len bytes of name without a trailing word for parts and its
 * separators. */
static size_t before_part_word(const char *name, size_t len)
{
	static const char *const words[] = {"part", "pt", "split", "vol", ""};
	size_t word = 0;

	while (len > 0 && strchr("._-", name[len - 1]) != NULL)
		len--;
	for (size_t i = 0; word == 0 && i < ARRAY_LEN(words); i++)
		word = ends_with(name, len, words[i]);
	len -= word;
	while (len > 0 && strchr("._-", name[len - 1]) != NULL)
		len--;
	return len;
}

/* Returns how many bytes at the end of name say that it is one part of a file: ".aa", ".001",
 * ".part2", "-part-ab". */
static size_t part_ending(const char *name)
{
	size_t len = strlen(name), number = part_number_at(name, len);
	size_t at = number < len ? before_part_word(name, number) : len;

	return at < len && strchr("._-", name[at]) != NULL ? len - at : 0;
}

void promise_add_name(struct promise *p, const char *name)
{
	size_t beyond = part_ending(name);

	add_whole_name(p, name, 0);
	if (beyond > 0 && p->kind == PROMISE_NOTHING)
		add_whole_name(p, name, beyond);
	if (is_numbered_volume(name, strlen(name)))
		set_promise(p, PROMISE_ARCHIVE, IS_PART, name, strlen(name), 4);
}

static bool has_ending(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot != NULL && dot != name && dot[1] != '\0' && strchr(dot, ' ') == NULL;
}

static bool has_html_ending(const char *name)
{
	static const char *const html[] = {".html", ".htm", ".xhtml", ".shtml", ".xht", ".mhtml"};

	for (size_t i = 0; i < ARRAY_LEN(html); i++)
		if (ends_with(name, strlen(name), html[i]) > 0)
			return true;
	return false;
}

/* Adds the names in a value such as: attachment; filename="x.zip"; filename*=UTF-8''x.zip */
static void add_disposition(struct promise *p, const char *value)
{
	for (const char *at = value; (at = strcasestr(at, "filename")) != NULL;) {
		_free_ char *name = NULL;

		at += strlen("filename");
		at += strspn(at, "* \t");
		if (*at != '=')
			continue;
		at += 1 + strspn(at + 1, " \t\"");
		name = text_format("%.*s", (int)strcspn(at, "\";"), at);
		promise_add_name(p, name);
	}
}

struct promise promise_of(const struct unpack_input *input)
{
	struct promise p = {0};
	struct strings names = {0};

	if (input->url != NULL)
		source_names(input->url, &names);
	for (size_t i = 0; i < names.n; i++) {
		promise_add_name(&p, names.v[i]);
		add_disposition(&p, names.v[i]); /* a query parameter may set Content-Disposition */
	}
	p.has_ending = names.n > 0 && has_ending(names.v[0]);
	p.is_html = names.n > 0 && has_html_ending(names.v[0]);
	text_strings_done(&names);
	if (input->said == NULL)
		return p;
	add_disposition(&p, input->said->disposition);
	p.served_html = strncasecmp(input->said->media_type, "text/html", 9) == 0 ||
			strncasecmp(input->said->media_type, "application/xhtml+xml", 21) == 0;
	return p;
}

static const char store_it[] = "--no-extract, or extract: false, stores it as it is";

/* The number in the line "size 12345", in bytes; 0 when there is none. */
static uint64_t lfs_size(const struct promise_bytes *b)
{
	const char *at = memmem(b->first, b->len, "\nsize ", 6);
	uint64_t size = 0;

	if (at == NULL)
		return 0;
	for (at += 6; at < (const char *)b->first + b->len && isdigit((unsigned char)*at); at++)
		size = size * 10 + (uint64_t)(*at - '0');
	return size;
}

static int refuse_lfs_pointer(const struct promise_bytes *b, struct error *err)
{
	char size[32];

	return error_set(err, -ERR_FORMAT,
		"its content is a Git LFS pointer, not the file of %s that it stands for: fetch that with 'git lfs pull', or from an address that serves LFS files (%s)",
		units_print_size(lfs_size(b), size), store_it);
}

/* A guess at what happened, for content that does not explain itself. */
static const char *guess_cause(
	const struct promise *p, const struct unpack_input *input, const struct promise_bytes *b)
{
	if (promise_content_is_placeholder(b))
		return b->len > 0 && input->said != NULL
			       ? "is the address right, and is a login needed?"
			       : "is it the right file?";
	if (content_is_packed(b))
		return input->compression != NULL
			       ? "only one layer is unpacked: pack it anew;"
			       : "that kind is not unpacked here: pack it anew, as .tar.zst or .zip;";
	if (p->kind == PROMISE_COMPRESSION && input->compression == NULL &&
		promise_content_is_known(b))
		return "perhaps a server or a proxy has decompressed it already, or its name is wrong;";
	return "is it the right file, and whole?";
}

static int broken_promise(const struct promise *p, const struct unpack_input *input,
	const struct promise_bytes *b, struct error *err)
{
	char what[256];

	if (p->is_part)
		return error_set(err, -ERR_FORMAT,
			"it is one part of a split file, by its name's ending '%s', and cannot be unpacked alone: name all parts in their order, as a list with join: true (--join); %s",
			p->ending, store_it);
	content_describe(b, what, sizeof(what));
	return error_set(err, -ERR_FORMAT, "a name with '%s' promises %s, but %s is %s: %s %s",
		p->ending, p->kind == PROMISE_ARCHIVE ? "an archive" : "a compressed file",
		input->compression != NULL ? "what is compressed in it" : "its content", what,
		guess_cause(p, input, b), store_it);
}

int promise_check(const struct promise *p, const struct unpack_input *input,
	const struct promise_bytes *bytes, struct error *err)
{
	bool kept = p->kind == PROMISE_NOTHING ||
		    (p->kind == PROMISE_COMPRESSION && input->compression != NULL);
	char what[256];

	if (content_is_lfs_pointer(bytes))
		return refuse_lfs_pointer(bytes, err);
	if (!kept)
		return broken_promise(p, input, bytes, err);
	if (p->served_html && !p->is_html && (!p->has_ending || content_is_html(bytes)))
		log_warn(
			"%s: the server says that this is a web page, and its content is %s: is the address right?",
			input->source, content_describe(bytes, what, sizeof(what)));
	return 0;
}

void promise_explain(const struct promise *p, struct error *err)
{
	char old[sizeof(err->msg)];

	if (err == NULL || !p->is_part)
		return;
	memcpy(old, err->msg, sizeof(old));
	error_set(err, err->code,
		"%s (by its name's ending '%s' it is one part of a split file: name all parts in their order, as a list with join: true, or --join)",
		old, p->ending);
}
