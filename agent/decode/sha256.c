/* SPDX-License-Identifier: MIT */
/* A reader that computes the SHA-256 of what passes through it, without changing it. One thread at
 * a time. It cannot skip: bytes that are not read cannot be digested. */
#include "decode.h"
#include "defer.h"
#include "digest.h"
#include "text.h"
#include <string.h>
#include <strings.h>

struct sha256 {
	struct reader base;
	struct reader *in;
	struct sha256_ctx ctx;
	char want[65]; /* lower or upper case; "": no digest is expected */
	char got[65];  /* "" until the end of the stream */
};

static int sha256_next(struct reader *r, struct slice *ret, struct error *err)
{
	struct sha256 *s = container_of(r, struct sha256, base);
	struct slice piece;
	int got;

	if (s->got[0] != '\0')
		return 0;
	got = reader_next(s->in, &piece, err);
	if (got < 0)
		return got;
	if (got > 0) {
		sha256_update(&s->ctx, piece.len, piece.data);
		*ret = piece;
		return 1;
	}
	digest_finish(&s->ctx, s->got);
	if (s->want[0] != '\0' && strcasecmp(s->want, s->got) != 0)
		return error_set(err, -ERR_DIGEST,
			"SHA-256 of %s is %s, expected %s: the object is not what was pinned; check the digest or the source",
			r->name, s->got, s->want);
	return 0;
}

static void sha256_close(struct reader *r)
{
	struct sha256 *s = container_of(r, struct sha256, base);

	reader_close(s->in);
	free(s);
}

struct reader *sha256_reader(struct reader *in, const char *want_hex)
{
	static const struct reader_ops ops = {.next = sha256_next, .close = sha256_close};
	struct sha256 *s = zalloc(sizeof(*s));

	reader_init(&s->base, &ops, in->name);
	s->in = in;
	if (want_hex != NULL)
		snprintf(s->want, sizeof(s->want), "%s", want_hex);
	sha256_init(&s->ctx);
	return &s->base;
}

void sha256_reader_hex(struct reader *r, char ret_hex[static 65])
{
	struct sha256 *s = container_of(r, struct sha256, base);

	memcpy(ret_hex, s->got, sizeof(s->got));
}
