/* SPDX-License-Identifier: MIT */
/* What STS answers: of its XML, the few elements that matter, wherever they stand. */
#include "chain.h"
#include "defer.h"
#include <expat.h>
#include <string.h>

struct reading {
	struct sts_answer *answer;
	struct text *into; /* the element that is open; NULL: none that matters */
};

static struct text *place_of(struct sts_answer *a, const char *element)
{
	const struct {
		const char *name;
		struct text *into;
	} places[] = {
		{"AccessKeyId", &a->access_key},
		{"SecretAccessKey", &a->secret_key},
		{"SessionToken", &a->session_token},
		{"Expiration", &a->expiration},
		{"Code", &a->code},
		{"Message", &a->message},
	};

	for (size_t i = 0; i < ARRAY_LEN(places); i++)
		if (strcmp(element, places[i].name) == 0)
			return places[i].into;
	return NULL;
}

static void on_begin(void *ctx, const char *element, const char **attributes)
{
	struct reading *r = ctx;

	(void)attributes;
	r->into = place_of(r->answer, element);
}

static void on_end(void *ctx, const char *element)
{
	struct reading *r = ctx;

	(void)element;
	r->into = NULL;
}

static void on_text(void *ctx, const char *s, int len)
{
	struct reading *r = ctx;

	if (r->into != NULL)
		text_add_bytes(r->into, s, (size_t)len);
}

bool sts_answer_parse(const char *xml, size_t len, struct sts_answer *ret)
{
	XML_Parser parser = XML_ParserCreate(NULL);
	struct reading r = {.answer = ret};
	enum XML_Status status;

	if (parser == NULL)
		abort();
	XML_SetUserData(parser, &r);
	XML_SetElementHandler(parser, on_begin, on_end);
	XML_SetCharacterDataHandler(parser, on_text);
	status = XML_Parse(parser, xml != NULL ? xml : "", (int)len, 1);
	XML_ParserFree(parser);
	return status == XML_STATUS_OK;
}

void sts_answer_done(struct sts_answer *a)
{
	if (a->secret_key.s != NULL)
		explicit_bzero(a->secret_key.s, a->secret_key.len);
	text_done(&a->access_key);
	text_done(&a->secret_key);
	text_done(&a->session_token);
	text_done(&a->expiration);
	text_done(&a->code);
	text_done(&a->message);
}
