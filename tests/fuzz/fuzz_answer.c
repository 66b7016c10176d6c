/* SPDX-License-Identifier: MIT */
/* Fuzzes the evaluation of HTTP answers. The input is the headers of two answers, separated by an
 * empty line: the first answer opens an object, and the second is for a later range of it. Checks
 * that an answer is accepted as a range only if it is the requested one, and that two answers are
 * combined only if they name the same version. */
#include "../../agent/transfer/answer.h"
#include "fuzz.h"
#include "libcurl.h"
#include <stdlib.h>
#include <string.h>

enum { FROM = 100, TO = 200 };

static struct answer read_answer(const uint8_t **at, const uint8_t *end)
{
	struct answer a;

	answer_reset(&a);
	while (*at < end) {
		const uint8_t *newline = memchr(*at, '\n', (size_t)(end - *at));
		const uint8_t *next = newline != NULL ? newline + 1 : end;
		bool is_last = newline == *at;

		answer_header(&a, (const char *)*at, (size_t)(next - *at));
		*at = next;
		if (is_last)
			break;
	}
	return a;
}

static bool same_tag(const char *a, const char *b)
{
	a += strncmp(a, "W/", 2) == 0 ? 2 : 0;
	b += strncmp(b, "W/", 2) == 0 ? 2 : 0;
	return strcmp(a, b) == 0;
}

static bool names_same(const struct object_version *a, const struct object_version *b)
{
	if (answer_etag_is_strong(a->etag) && answer_etag_is_strong(b->etag))
		return strcmp(a->etag, b->etag) == 0;
	return a->last_modified[0] != '\0' && strcmp(a->last_modified, b->last_modified) == 0 &&
	       a->size != SIZE_UNKNOWN && a->size == b->size &&
	       (a->etag[0] == '\0' || same_tag(a->etag, b->etag));
}

static enum verdict judge(const struct answer *a, const struct answer_wanted *w)
{
	struct error err = {0};
	enum verdict v = answer_classify(a, w, &err);

	if ((v == VERDICT_RETRY || v == VERDICT_FAIL || v == VERDICT_DENIED) !=
		(err.code < 0 && strncmp(err.msg, w->name, strlen(w->name)) == 0))
		abort();
	if (v == VERDICT_NONE || (v == VERDICT_NOT_MODIFIED && !w->conditional))
		abort();
	if (v == VERDICT_RANGE && (w->plain || a->first != w->from || a->last < a->first ||
					  a->last >= w->to || a->last >= a->version.size))
		abort();
	if (v == VERDICT_WHOLE && (w->version != NULL || a->status != 200))
		abort();
	return v;
}

static void judge_later(const struct answer *first, const struct answer *later)
{
	struct answer_wanted w = {.name = "o", .from = FROM, .to = TO, .version = &first->version};

	if (judge(later, &w) == VERDICT_RANGE && !names_same(&first->version, &later->version))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	const uint8_t *at = bytes, *end = bytes + len;
	struct answer first, later;
	struct answer_wanted w = {.name = "o", .from = 0, .to = TO};
	struct error err;

	if (libcurl_load(&err) < 0)
		abort();
	first = read_answer(&at, end);
	later = read_answer(&at, end);
	answer_text(&first, (const char *)at, (size_t)(end - at));
	for (unsigned flags = 0; flags < 8; flags++) {
		w.plain = flags & 1;
		w.conditional = flags & 2;
		w.varies = flags & 4;
		if (judge(&first, &w) == VERDICT_RANGE && !w.plain)
			judge_later(&first, &later);
	}
	return 0;
}
