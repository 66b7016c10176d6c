/* SPDX-License-Identifier: MIT */
/* Sources by URL: the scheme table, which maps a URL to its implementation, and the parts of a
 * split file, which are one URL and one object. Functions on text are for any thread and do no
 * I/O.
 *
 * The joined object has one stream and one version, and can be read at any offset if all its parts
 * can. The versions of all parts are requested first, as the version of the whole is computed from
 * them; each part is opened for its bytes when they are needed. Names of parts are compared only
 * where they are numbered. */
#include "source.h"
#include "datastore_ref.h"
#include "defer.h"
#include "digest.h"
#include "source_private.h"
#include "text.h"
#include "url.h"
#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* One URL, which is not of several parts. */

static const struct source_scheme *const schemes[] = {
	&source_https, &source_http, &source_s3, &source_file};

static const char known[] = "https://, http://, s3://, file://, datastore: and plain paths are";

static bool begins(const char *url, const char *prefix)
{
	return strncasecmp(url, prefix, strlen(prefix)) == 0;
}

static const struct source_scheme *find_scheme(const char *url)
{
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
		if (begins(url, schemes[i]->prefix))
			return schemes[i];
	}
	return url_scheme_len(url) == 0 ? &source_path : NULL;
}

static int set_unknown_scheme(const char *url, struct error *err)
{
	_free_ char *shown = url_display(url);

	return error_set(err, -ERR_USAGE, "source '%s': the scheme '%.*s' is not known; %s", shown,
		(int)url_scheme_len(url), url, known);
}

/* A misspelt URL is not accepted as a path: hardly any file has such a name, and a password in it
 * would be displayed as part of the path. */
static int set_misspelt(const char *url, struct error *err)
{
	_free_ char *shown = url_display(url);
	size_t before = url_misspelt_len(url), blanks = strspn(url, " \t\r\n");
	size_t word = strcspn(url + blanks, ":;/\\");

	if (before == 0 || word == 0)
		return error_set(err, -ERR_USAGE,
			"source '%s' has a user and no scheme: write https://USER:PASSWORD@HOST/... for a URL, or ./... for a file",
			shown);
	if (blanks > 0)
		return error_set(
			err, -ERR_USAGE, "source '%s' begins with a blank: take it out", shown);
	return error_set(err, -ERR_USAGE,
		"source '%s' is no URL: after '%.*s' come a colon and two slashes, as in %.*s://HOST/...; a file of that name is written ./...",
		shown, (int)word, url, (int)word, url);
}

static int check_one(const char *url, struct error *err)
{
	const struct source_scheme *scheme = find_scheme(url);

	if (url[0] == '\0')
		return error_set(err, -ERR_USAGE, "the source is empty; %s sources", known);
	if (datastore_ref_is_written_source(url))
		return 0; /* the stage reads it from the store, and checks what follows the colon */
	if (url_scheme_len(url) == 0 && (url_misspelt_len(url) > 0 || url_has_bare_user(url)))
		return set_misspelt(url, err);
	if (scheme == NULL)
		return set_unknown_scheme(url, err);
	return scheme->check != NULL ? scheme->check(url, err) : 0;
}

static bool is_remote(const char *url)
{
	const struct source_scheme *scheme = find_scheme(url);

	return scheme != NULL && scheme->remote;
}

/* The URL was checked. */
static int open_one(const struct source_env *env, const struct source_request *req,
	struct object **ret, struct error *err)
{
	return find_scheme(req->url)->open(env, req, ret, err);
}

/* Several parts are one URL, which url.h does not know. */

#define MARK "join:\n" /* before the first part; a file name may contain a line feed, too */

static bool is_joined(const char *url)
{
	return strncmp(url, MARK, strlen(MARK)) == 0;
}

char *source_join(char *const *parts, size_t n)
{
	struct text all = {0};

	for (size_t i = 0; i < n; i++) {
		if (parts[i][0] == '\0' || strchr(parts[i], '\n') != NULL) {
			text_done(&all);
			return NULL;
		}
		text_addf(&all, "%s%s", i > 0 ? "\n" : MARK, parts[i]);
	}
	return text_take(&all);
}

static void split_parts(const char *url, struct strings *ret)
{
	_free_ char *copy = text_copy(url + strlen(MARK));
	char *at = copy, *part;

	while ((part = strsep(&at, "\n")) != NULL)
		text_strings_add(ret, part);
}

/* The part number in a file name. */
struct numbered {
	enum { NOT_NUMBERED, BY_DIGITS, BY_LETTERS } how;
	size_t stem;            /* bytes before the number */
	size_t width;           /* of the number */
	uint64_t number, total; /* total 0: not in the name */
};

static size_t digits_before(const char *name, size_t end)
{
	size_t n = 0;

	while (n < end && n < 9 && isdigit((unsigned char)name[end - n - 1]))
		n++;
	return n;
}

static uint64_t value_of(const char *name, size_t at, size_t n)
{
	uint64_t value = 0;

	for (size_t i = 0; i < n; i++)
		value = value * 10 + (uint64_t)(name[at + i] - '0');
	return value;
}

/* "aa" is 0. split(1) writes two letters, or as many as -a says: three or four letters count as a
 * number only if they begin with an a, and as a word otherwise. The prefix of the output names
 * comes before; by default it is an x. */
static struct numbered parse_letters(const char *name, size_t len)
{
	struct numbered n = {.how = BY_LETTERS};
	size_t letters = 0;

	while (letters < len && islower((unsigned char)name[len - letters - 1]))
		letters++;
	if (letters < 2)
		return (struct numbered){0};
	n.width = letters <= 4 && !(len == 3 && name[0] == 'x') ? letters : 2;
	n.stem = len - n.width;
	if (n.width > 2 && name[n.stem] != 'a')
		return (struct numbered){0};
	for (size_t i = n.stem; i < len; i++)
		n.number = n.number * 26 + (uint64_t)(name[i] - 'a');
	return n;
}

/* "x.001", "x.part2", "x.part1of3", "x.aa" */
static struct numbered parse_name(const char *name)
{
	size_t len = strlen(name), last = digits_before(name, len), first;
	struct numbered n = {.how = BY_DIGITS, .stem = len - last, .width = last};

	if (last == 0)
		return parse_letters(name, len);
	n.number = value_of(name, n.stem, last);
	if (n.stem < 3 || strncmp(name + n.stem - 2, "of", 2) != 0)
		return n;
	first = digits_before(name, n.stem - 2);
	if (first == 0)
		return n;
	n.total = n.number;
	n.stem -= 2 + first;
	n.width = first;
	n.number = value_of(name, n.stem, first);
	return n;
}

/* Whether two names are numbered in the same series. */
static bool is_same_series(
	const char *a, const struct numbered *na, const char *b, const struct numbered *nb)
{
	return na->how != NOT_NUMBERED && na->how == nb->how && na->stem == nb->stem &&
	       na->total == nb->total && strncmp(a, b, na->stem) == 0 &&
	       (na->how == BY_DIGITS || na->width == nb->width);
}

/* "x.001", which is not a name of a whole file */
static bool is_volume(const char *name, const struct numbered *n)
{
	return n->how == BY_DIGITS && n->width == 3 && n->stem > 1 && name[n->stem - 1] == '.';
}

static int check_pair(const char *a, const char *b, struct error *err)
{
	const struct numbered na = parse_name(a), nb = parse_name(b);

	if (is_volume(a, &na) && is_volume(b, &nb) &&
		(na.stem != nb.stem || strncmp(a, b, na.stem) != 0))
		return error_set(
			err, -ERR_USAGE, "join: '%s' and '%s' are parts of different files", a, b);
	if (!is_same_series(a, &na, b, &nb) || nb.number == na.number + 1)
		return 0;
	if (nb.number > na.number)
		return error_set(
			err, -ERR_USAGE, "join: a part between '%s' and '%s' is missing", a, b);
	return error_set(
		err, -ERR_USAGE, "join: '%s' follows '%s': name the parts in their order", b, a);
}

static int check_ends(const struct strings *names, struct error *err)
{
	const char *first, *last;
	struct numbered a, b;

	assert(names->v != NULL); /* a list has at least two */
	first = names->v[0];
	last = names->v[names->n - 1];
	a = parse_name(first);
	b = parse_name(last);
	if (!is_same_series(first, &a, last, &b))
		return 0;
	if (a.number > (a.how == BY_DIGITS ? 1U : 0U))
		return error_set(err, -ERR_USAGE,
			"join: the first part is missing: the list begins with '%s'", first);
	if (a.total > 0 && b.number + (a.number == 0) != a.total)
		return error_set(err, -ERR_USAGE,
			"join: the last part is missing: the list ends with '%s'", last);
	return 0;
}

static int check_twice(const struct strings *urls, struct error *err)
{
	struct strings keys = {0};
	int code = 0;

	for (size_t i = 0; i < urls->n; i++) {
		_free_ char *key = url_key(urls->v[i]);

		text_strings_add(&keys, key);
	}
	for (size_t i = 0; i < keys.n && code == 0; i++)
		for (size_t k = i + 1; k < keys.n && code == 0; k++)
			if (strcmp(keys.v[i], keys.v[k]) == 0) {
				_free_ char *shown = url_display(urls->v[i]);

				code = error_set(
					err, -ERR_USAGE, "join: '%s' is named twice", shown);
			}
	text_strings_done(&keys);
	return code;
}

static int check_part(const char *url, struct error *err)
{
	size_t len = strlen(url);
	_free_ char *shown = NULL;

	if (len > 0 && url[len - 1] != '/' && !datastore_ref_is_written_source(url))
		return check_one(url, err);
	shown = url_display(url);
	return error_set(err, -ERR_USAGE,
		"join: '%s' cannot be a part: a part is one file or object", shown);
}

static int check_parts(const char *url, struct error *err)
{
	struct strings urls = {0}, names = {0};
	int code = 0;

	split_parts(url, &urls);
	for (size_t i = 0; i < urls.n && code == 0; i++) {
		_free_ char *name = url_file_name(urls.v[i]);

		text_strings_add(&names, name);
		code = check_part(urls.v[i], err);
	}
	if (code == 0)
		code = check_twice(&urls, err);
	for (size_t i = 1; i < names.n && code == 0; i++)
		code = check_pair(names.v[i - 1], names.v[i], err);
	if (code == 0)
		code = check_ends(&names, err);
	text_strings_done(&urls);
	text_strings_done(&names);
	return code;
}

static char *display_parts(const char *url)
{
	struct strings urls = {0};
	_free_ char *first = NULL;
	size_t n;

	split_parts(url, &urls);
	assert(urls.v != NULL); /* never less than one */
	first = url_display(urls.v[0]);
	n = urls.n - 1;
	text_strings_done(&urls);
	return text_format("%s (and %zu more part%s)", first, n, n == 1 ? "" : "s");
}

static char *key_of_parts(const char *url)
{
	struct strings urls = {0};
	struct text key = {0};

	split_parts(url, &urls);
	for (size_t i = 0; i < urls.n; i++) {
		_free_ char *part = url_key(urls.v[i]);

		text_addf(&key, "%s%s", i > 0 ? "\n" : MARK, part);
	}
	text_strings_done(&urls);
	return text_take(&key);
}

/* Strips a word for "part", and its separator, from before the number. */
static size_t without_part_word(const char *name, size_t len)
{
	static const char *const words[] = {"part", "split", "vol", "pt"};
	size_t end = len;

	for (size_t i = 0; i < ARRAY_LEN(words) && end == len; i++) {
		size_t n = strlen(words[i]);

		if (len > n && strncasecmp(name + len - n, words[i], n) == 0)
			end = len - n;
	}
	while (end > 0 && strchr("._-", name[end - 1]) != NULL)
		end--;
	return end > 0 ? end : len;
}

/* Without the number of the part. */
static char *name_of_parts(const char *url)
{
	struct strings urls = {0};
	_free_ char *name = NULL, *next = NULL;
	struct numbered first, second;
	bool numbered;

	split_parts(url, &urls);
	name = url_file_name(urls.v[0]);
	next = url_file_name(urls.v[1]);
	text_strings_done(&urls);
	first = parse_name(name);
	second = parse_name(next);
	numbered = is_same_series(name, &first, next, &second) && first.stem > 0;
	if (numbered)
		name[without_part_word(name, first.stem)] = '\0';
	return take_ptr(&name);
}

/* Any URL. */

int source_check(const char *url, struct error *err)
{
	return is_joined(url) ? check_parts(url, err) : check_one(url, err);
}

/* Sets *ret to the URL, or to its parts. */
static void list_urls(const char *url, struct strings *ret)
{
	if (is_joined(url))
		split_parts(url, ret);
	else
		text_strings_add(ret, url);
}

bool source_begins(const char *url, const char *prefix)
{
	struct strings urls = {0};
	bool any = false;

	list_urls(url, &urls);
	for (size_t i = 0; i < urls.n; i++)
		any |= begins(urls.v[i], prefix);
	text_strings_done(&urls);
	return any;
}

bool source_is_remote(const char *url)
{
	struct strings urls = {0};
	bool any = false;

	list_urls(url, &urls);
	for (size_t i = 0; i < urls.n; i++)
		any |= is_remote(urls.v[i]);
	text_strings_done(&urls);
	return any;
}

char *source_display(const char *url)
{
	return is_joined(url) ? display_parts(url) : url_display(url);
}

char *source_key(const char *url)
{
	return is_joined(url) ? key_of_parts(url) : url_key(url);
}

char *source_file_name(const char *url)
{
	return is_joined(url) ? name_of_parts(url) : url_file_name(url);
}

void source_names(const char *url, struct strings *ret)
{
	_free_ char *name = NULL;

	if (!is_joined(url)) {
		url_names(url, ret);
		return;
	}
	name = name_of_parts(url);
	text_strings_add(ret, name);
}

/* The object of several parts. */

struct joined_part {
	char *url;
	struct identity id;
	uint64_t at;           /* offset in the whole, if that is known */
	struct object *random; /* for read_at(); NULL: not opened yet */
};

struct joined {
	struct object base;
	struct source_env env;
	struct progress *progress;
	char *shown;
	struct joined_part *parts;
	size_t n;

	/* The stream. */
	struct reader reader;
	size_t i;               /* index of the current part */
	struct object *current; /* the current part; NULL: not opened yet */
	struct reader *in;      /* current's */
	uint64_t at;            /* offset in the part */
};

static int open_part(
	struct joined *j, size_t i, enum object_want want, struct object **ret, struct error *err)
{
	struct joined_part *p = &j->parts[i];
	const struct source_request req = {
		.url = p->url, .want = want, .progress = want == WANT_ALL ? j->progress : NULL};
	struct object *o;
	int code = open_one(&j->env, &req, &o, err);

	if (code < 0)
		return code;
	if (o->identity.size != p->id.size ||
		(object_identity_pins(&p->id) && !object_identity_same(&o->identity, &p->id))) {
		code = error_set(err, -ERR_CHANGED, "%s changed while it was read", o->name);
		object_close(o);
		return code;
	}
	if (j->progress != NULL && j->base.identity.size != SIZE_UNKNOWN)
		atomic_store(&j->progress->total, j->base.identity.size);
	*ret = o;
	return 0;
}

static void leave_part(struct joined *j)
{
	reader_close(take_ptr(&j->in));
	object_close(take_ptr(&j->current));
	j->i++;
	j->at = 0;
}

static int joined_next(struct reader *r, struct slice *ret, struct error *err)
{
	struct joined *j = container_of(r, struct joined, reader);

	while (j->i < j->n) {
		int code = j->current == NULL ? open_part(j, j->i, WANT_ALL, &j->current, err) : 0;

		if (code < 0)
			return code;
		if (j->in == NULL)
			j->in = object_stream(j->current);
		code = reader_next(j->in, ret, err);
		if (code > 0)
			j->at += ret->len;
		if (code != 0)
			return code;
		leave_part(j);
	}
	return 0;
}

/* A part that is skipped entirely is not opened. */
static int64_t joined_skip(struct reader *r, uint64_t n, struct error *err)
{
	struct joined *j = container_of(r, struct joined, reader);
	uint64_t skipped = 0;

	while (j->i < j->n && skipped < n && j->parts[j->i].id.size != SIZE_UNKNOWN) {
		uint64_t left = j->parts[j->i].id.size - j->at, step = n - skipped;
		int code = 0;

		if (step >= left) {
			leave_part(j);
			skipped += left;
			continue;
		}
		if (j->current == NULL)
			code = open_part(j, j->i, WANT_ALL, &j->current, err);
		if (code == 0 && j->in == NULL)
			j->in = object_stream(j->current);
		if (code == 0)
			code = reader_skip(j->in, step, err);
		if (code < 0)
			return code;
		j->at += step;
		skipped = n;
	}
	return (int64_t)skipped;
}

static void joined_reader_close(struct reader *r)
{
	struct joined *j = container_of(r, struct joined, reader);

	reader_close(take_ptr(&j->in));
}

static struct reader *joined_stream(struct object *o)
{
	static const struct reader_ops ops = {
		.next = joined_next, .skip = joined_skip, .close = joined_reader_close};
	struct joined *j = container_of(o, struct joined, base);

	reader_init(&j->reader, &ops, j->base.name);
	return &j->reader;
}

static int joined_read_at(
	struct object *o, uint64_t offset, void *buf, size_t len, struct error *err)
{
	struct joined *j = container_of(o, struct joined, base);
	uint8_t *to = buf;

	for (size_t i = 0; i < j->n && len > 0; i++) {
		struct joined_part *p = &j->parts[i];
		uint64_t end = p->at + p->id.size;
		size_t step;
		int code = 0;

		if (offset >= end)
			continue;
		step = len < end - offset ? len : (size_t)(end - offset);
		if (p->random == NULL)
			code = open_part(j, i, WANT_PARTS, &p->random, err);
		if (code == 0)
			code = object_read_at(p->random, offset - p->at, to, step, err);
		if (code < 0)
			return code;
		offset += step;
		to += step;
		len -= step;
	}
	return len == 0 ? 0 : error_set(err, -ERR_TRUNCATED, "%s ends early", j->base.name);
}

static void joined_close(struct object *o)
{
	struct joined *j = container_of(o, struct joined, base);

	object_close(j->current);
	for (size_t i = 0; i < j->n; i++) {
		object_close(j->parts[i].random);
		free(j->parts[i].url);
	}
	free(j->parts);
	free(j->shown);
	free(j);
}

static void append_part(struct joined *j, size_t i, const struct object *o, bool *etags, bool *pins)
{
	struct identity *whole = &j->base.identity;
	struct joined_part *p = &j->parts[i];

	p->id = o->identity;
	p->at = whole->size;
	if (whole->size != SIZE_UNKNOWN)
		whole->size = p->id.size != SIZE_UNKNOWN ? whole->size + p->id.size : SIZE_UNKNOWN;
	*etags &= p->id.etag[0] != '\0';
	*pins &= object_identity_pins(&p->id);
	j->base.seekable &= o->seekable && p->id.size != SIZE_UNKNOWN;
}

/* The whole has strong ETags only if all its parts have, and is pinned only if all its parts
 * are. */
static void set_whole_version(struct joined *j, bool etags, bool pins)
{
	struct identity *whole = &j->base.identity;
	struct text all = {0};
	char hex[65];

	for (size_t i = 0; i < j->n; i++) {
		const struct identity *id = &j->parts[i].id;

		text_addf(&all, "%s %s %llu\n", id->etag, etags ? "" : id->last_modified,
			(unsigned long long)id->size);
	}
	digest_hex(all.s, all.len, hex);
	text_done(&all);
	if (pins && etags)
		snprintf(whole->etag, sizeof(whole->etag), "\"joined-%s\"", hex);
	else if (pins) /* a date, for lack of another, and then a hash of the parts' versions */
		snprintf(whole->last_modified, sizeof(whole->last_modified), "%.29s; %.16s",
			j->parts[0].id.last_modified[0] != '\0' ? j->parts[0].id.last_modified
								: "joined",
			hex);
}

static int identify_parts(struct joined *j, struct error *err)
{
	bool etags = true, pins = true;

	for (size_t i = 0; i < j->n; i++) {
		const struct source_request req = {.url = j->parts[i].url, .want = WANT_IDENTITY};
		struct object *o;
		int code = open_one(&j->env, &req, &o, err);

		if (code < 0)
			return code;
		append_part(j, i, o, &etags, &pins);
		object_close(o);
	}
	set_whole_version(j, etags, pins);
	return 0;
}

static int open_parts(const struct source_env *env, const struct source_request *req,
	struct object **ret, struct error *err)
{
	static const struct object_ops ops = {
		.stream = joined_stream, .read_at = joined_read_at, .close = joined_close};
	struct joined *j = zalloc(sizeof(*j));
	struct strings urls = {0};
	int code;

	split_parts(req->url, &urls);
	j->env = *env;
	j->progress = req->progress;
	j->shown = display_parts(req->url);
	j->base.ops = &ops;
	j->base.name = j->shown;
	j->base.seekable = true;
	j->n = urls.n;
	j->parts = zalloc(urls.n * sizeof(*j->parts));
	for (size_t i = 0; i < urls.n; i++)
		j->parts[i].url = text_copy(urls.v[i]);
	text_strings_done(&urls);
	code = identify_parts(j, err);
	if (code < 0) {
		joined_close(&j->base);
		return code;
	}
	j->base.not_modified =
		req->have != NULL && object_identity_same(&j->base.identity, req->have);
	*ret = &j->base;
	return 0;
}

int source_open(const struct source_env *env, const struct source_request *req, struct object **ret,
	struct error *err)
{
	int code = source_check(req->url, err);

	if (code < 0)
		return code;
	if (datastore_ref_is_written_source(req->url))
		return error_set(err, -ERR_UNSUPPORTED, "%s is no stream of bytes", req->url);
	return is_joined(req->url) ? open_parts(env, req, ret, err) : open_one(env, req, ret, err);
}
