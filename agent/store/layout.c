/* SPDX-License-Identifier: MIT */
/* Parses keys: the exact form of every key that a store writes. A key that does not parse is
 * foreign; foreign keys are only counted, never read or removed. Also sets of keys. Any thread;
 * only layout_list() does I/O. */
#include "datastore.h"
#include "defer.h"
#include "log.h"
#include "store_private.h"
#include "text.h"
#include <limits.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>

/* The last second of the year 9999, the latest time that can be printed. */
#define LAST_SECOND 253402300799ull

/* Each of these advances *s past the expected text, or returns false. */

static bool take_word(const char **s, const char *word)
{
	size_t len = strlen(word);

	if (strncmp(*s, word, len) != 0)
		return false;
	*s += len;
	return true;
}

static bool take_hex(const char **s, size_t digits)
{
	if (strspn(*s, "0123456789abcdef") != digits)
		return false;
	*s += digits;
	return true;
}

/* A decimal number of at least 1, without leading zeros. */
static bool take_number(const char **s, unsigned long long max, unsigned long long *ret)
{
	size_t digits = strspn(*s, "0123456789");

	if (digits == 0 || **s == '0')
		return false;
	errno = 0;
	*ret = strtoull(*s, NULL, 10);
	if (errno != 0 || *ret > max)
		return false;
	*s += digits;
	return true;
}

/* "NAME/V/" */
static bool take_version(const char **s, struct layout_key *k)
{
	size_t len = strcspn(*s, "/");
	unsigned long long number;

	if (len >= sizeof(k->name))
		return false;
	memcpy(k->name, *s, len);
	k->name[len] = '\0';
	if (datastore_name_check(k->name, NULL) < 0)
		return false;
	*s += len;
	if (!take_word(s, "/") || !take_number(s, UINT_MAX, &number) || !take_word(s, "/"))
		return false;
	k->version = (unsigned)number;
	return true;
}

/* "DD/DIGEST" */
static bool take_digest(const char **s)
{
	const char *fan = *s;

	return take_hex(s, 2) && take_word(s, "/") && strncmp(fan, *s, 2) == 0 && take_hex(s, 64);
}

static bool is_pack(const char *s, struct layout_key *k)
{
	k->kind = LAYOUT_PACK;
	return take_digest(&s) && strcmp(s, ".tar.zst") == 0;
}

static bool is_index(const char *s, struct layout_key *k)
{
	k->kind = LAYOUT_INDEX;
	return take_digest(&s) && strcmp(s, ".zst") == 0;
}

static bool is_large(const char *s, struct layout_key *k)
{
	k->kind = LAYOUT_LARGE;
	return take_hex(&s, 32) && strcmp(s, ".tar.zst") == 0;
}

static bool is_lease(const char *s, struct layout_key *k)
{
	k->kind = LAYOUT_LEASE;
	return lease_parse_kind(&s, &k->lease) && take_hex(&s, 16) && strcmp(s, ".json") == 0;
}

static bool is_use(const char *s, struct layout_key *k)
{
	unsigned long long seconds;

	k->kind = LAYOUT_USE;
	if (!take_version(&s, k) || !take_number(&s, LAST_SECOND, &seconds) || !take_word(&s, "-"))
		return false;
	k->expires = (time_t)seconds;
	return take_hex(&s, 16) && strcmp(s, ".json") == 0;
}

static bool is_of_version(const char *s, struct layout_key *k)
{
	if (!take_version(&s, k))
		return false;
	if (strcmp(s, "manifest.json") == 0)
		k->kind = LAYOUT_MANIFEST;
	else if (strcmp(s, "deleted.json") == 0)
		k->kind = LAYOUT_DELETED;
	else if (strcmp(s, "collected.json") == 0)
		k->kind = LAYOUT_COLLECTED;
	else
		return false;
	return true;
}

static bool is_marker(const char *s, struct layout_key *k)
{
	k->kind = LAYOUT_MARKER;
	return *s == '\0';
}

enum layout_kind layout_parse(const char *key, struct layout_key *ret)
{
	static const struct {
		const char *root;
		bool (*is)(const char *rest, struct layout_key *k);
	} forms[] = {
		{"datastores/", is_of_version},
		{"packs/", is_pack},
		{"large/", is_large},
		{"index/", is_index},
		{"leases/", is_lease},
		{"uses/", is_use},
		{STORE_MARKER, is_marker},
	};

	*ret = (struct layout_key){.kind = LAYOUT_FOREIGN};
	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		const char *rest = key;

		if (!take_word(&rest, forms[i].root))
			continue;
		if (!forms[i].is(rest, ret))
			ret->kind = LAYOUT_FOREIGN;
		break;
	}
	return ret->kind;
}

bool layout_is_temporary(const char *name)
{
	return take_hex(&name, 16) && *name == '\0';
}

void layout_foreign_done(struct layout_foreign *f)
{
	free(f->first);
	*f = (struct layout_foreign){0};
}

void layout_foreign_warn(const struct layout_foreign *f, const struct store_conn *h)
{
	if (f->n > 0)
		log_warn("%s also holds %zu %s no part of a store ('%s'%s): left there",
			h->store->name, f->n, f->n == 1 ? "object that is" : "objects that are",
			f->first, f->n == 1 ? "" : " for one");
}

struct layout_listing {
	layout_each_cb *each;
	void *ctx;
	struct layout_foreign *foreign;
};

static int on_object(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err)
{
	struct layout_listing *l = ctx;
	struct layout_key k;

	layout_parse(key, &k);
	k.size = size;
	k.modified = modified;
	if (k.kind != LAYOUT_FOREIGN)
		return l->each(l->ctx, key, &k, err);
	if (l->foreign->n++ == 0)
		l->foreign->first = text_copy(key);
	return 0;
}

int layout_list(struct store_conn *h, const char *prefix, layout_each_cb *each, void *ctx,
	struct layout_foreign *foreign, struct error *err)
{
	struct layout_listing l = {.each = each, .ctx = ctx, .foreign = foreign};

	if (cancel_requested(h->cancel))
		return error_set(err, -ECANCELED, "%s: cancelled", h->store->name);
	return h->store->ops->list(h, prefix, on_object, &l, err);
}

/* A set of keys. Each takes 32 bytes, whatever its length. */

static void digest_of(const char *key, uint8_t ret[static 32])
{
	struct sha256_ctx ctx;

	sha256_init(&ctx);
	sha256_update(&ctx, strlen(key), (const uint8_t *)key);
	sha256_digest(&ctx, 32, ret);
}

static int compare_digests(const void *a, const void *b)
{
	return memcmp(a, b, 32);
}

void layout_key_set_add(struct key_set *s, const char *key)
{
	if (s->n == s->cap) {
		s->cap = s->cap > 0 ? 2 * s->cap : 256;
		s->digests = realloc(s->digests, s->cap * sizeof(*s->digests));
		if (s->digests == NULL)
			abort();
	}
	digest_of(key, s->digests[s->n++]);
	s->sorted = false;
}

bool layout_key_set_has(struct key_set *s, const char *key)
{
	uint8_t digest[32];

	if (s->n == 0)
		return false;
	if (!s->sorted)
		qsort(s->digests, s->n, sizeof(*s->digests), compare_digests);
	s->sorted = true;
	digest_of(key, digest);
	return bsearch(digest, s->digests, s->n, sizeof(*s->digests), compare_digests) != NULL;
}

void layout_key_set_done(struct key_set *s)
{
	free(s->digests);
	*s = (struct key_set){0};
}
