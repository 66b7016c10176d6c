/* SPDX-License-Identifier: MIT */
/* Parses S3's XML answers with expat, as a stream of elements that end. S3's answers are flat; a
 * document that is nested deeper, or that declares a document type (which could define entities),
 * is refused. Pure. */
#include "defer.h"
#include "s3_private.h"
#include <expat.h>
#include <limits.h>
#include <string.h>

enum { DEPTH_MAX = 8, PATH_SIZE = 256, CHUNK = 1 << 20 };

struct xml {
	XML_Parser parser;
	const char *root;
	s3_xml_on_end on_end;
	void *ctx;
	struct error *err;
	unsigned depth;
	char path[PATH_SIZE];
	struct text text; /* text of the innermost element */
	int code;
};

static void stop_parser(struct xml *x, int code)
{
	x->code = code;
	XML_StopParser(x->parser, XML_FALSE);
}

/* Without its namespace's prefix. Behind the colon of "kms:" there is nothing, and a path has no
 * empty step. */
static const char *local_name(const char *name)
{
	const char *colon = strrchr(name, ':');

	return colon != NULL && colon[1] != '\0' ? colon + 1 : name;
}

static void clear_text(struct xml *x)
{
	x->text.len = 0;
	if (x->text.s != NULL)
		x->text.s[0] = '\0';
}

static void on_start(void *ctx, const XML_Char *name, const XML_Char **attributes)
{
	struct xml *x = ctx;
	size_t at = strlen(x->path), len = strlen(local_name(name));

	(void)attributes;
	clear_text(x);
	if (x->code < 0)
		return;
	if (x->depth == 0 && strcmp(local_name(name), x->root) != 0) {
		stop_parser(x, error_set(x->err, -ERR_FORMAT, "it is a <%.64s>, not a <%s>", name,
				       x->root));
	} else if (x->depth == DEPTH_MAX || at + len + 2 > sizeof(x->path)) {
		stop_parser(x, error_set(x->err, -ERR_FORMAT, "its elements lie too deep"));
	} else if (x->depth++ > 0) {
		snprintf(x->path + at, sizeof(x->path) - at, "%s%s", at > 0 ? "/" : "",
			local_name(name));
	}
}

static void on_element_end(void *ctx, const XML_Char *name)
{
	struct xml *x = ctx;
	char *slash;
	int code;

	(void)name;
	if (x->code < 0)
		return;
	code = x->on_end(x->ctx, x->path, x->text.s != NULL ? x->text.s : "", x->err);
	if (code < 0)
		stop_parser(x, code);
	clear_text(x);
	slash = strrchr(x->path, '/');
	*(slash != NULL ? slash : x->path) = '\0';
	x->depth--;
}

static void on_text(void *ctx, const XML_Char *s, int len)
{
	struct xml *x = ctx;

	text_add_bytes(&x->text, s, (size_t)len);
}

static void on_doctype(
	void *ctx, const XML_Char *name, const XML_Char *sysid, const XML_Char *pubid, int internal)
{
	struct xml *x = ctx;

	(void)name, (void)sysid, (void)pubid, (void)internal;
	stop_parser(x, error_set(x->err, -ERR_FORMAT, "it declares a document type"));
}

static int parse(struct xml *x, const char *bytes, size_t len)
{
	do {
		size_t n = len < CHUNK ? len : CHUNK;

		if (XML_Parse(x->parser, bytes, (int)n, n == len) != XML_STATUS_OK)
			return x->code < 0 ? x->code
					   : error_set(x->err, -ERR_FORMAT, "%s",
						     XML_ErrorString(XML_GetErrorCode(x->parser)));
		bytes += n;
		len -= n;
	} while (len > 0);
	return 0;
}

int s3_xml_read(const char *bytes, size_t len, const char *root, s3_xml_on_end on_end, void *ctx,
	struct error *err)
{
	struct xml x = {.root = root, .on_end = on_end, .ctx = ctx, .err = err};
	int code;

	x.parser = XML_ParserCreate(NULL);
	if (x.parser == NULL)
		return error_set(err, -ENOMEM, "out of memory");
	XML_SetUserData(x.parser, &x);
	XML_SetElementHandler(x.parser, on_start, on_element_end);
	XML_SetCharacterDataHandler(x.parser, on_text);
	XML_SetStartDoctypeDeclHandler(x.parser, on_doctype);
	code = parse(&x, bytes, len);
	XML_ParserFree(x.parser);
	text_done(&x.text);
	return code;
}

int s3_xml_answer(const struct s3_request *what, const struct reply *reply, const char *root,
	s3_xml_on_end on_end, void *ctx, struct error *err)
{
	int code = s3_xml_read(reply->body.s != NULL ? reply->body.s : "", reply->body.len, root,
		on_end, ctx, err);

	if (code == -ERR_FORMAT)
		error_prefix(err,
			"s3://%s/%s: cannot %s it: the server's answer is not S3's: check the endpoint",
			what->bucket, what->key != NULL ? what->key : "", what->doing);
	return code;
}

void s3_xml_escape(struct text *t, const char *s)
{
	for (; *s != '\0'; s++) {
		if (strchr("<>&\"'", *s) != NULL || (unsigned char)*s < ' ')
			text_addf(t, "&#%d;", *s);
		else
			text_add_bytes(t, s, 1);
	}
}
