/* SPDX-License-Identifier: MIT */
/* Fuzzes the decoders, with the smallest budget. The first byte is the size of the slices of the
 * rest, so that inputs are also split at any place inside a decoder's state. Checks that decoding
 * ends, that an error contains its code, and that the budget is complete again afterwards. */
#include "decode.h"
#include "defer.h"
#include "fuzz.h"
#include "log.h"
#include "text.h"
#include <assert.h>
#include <unistd.h>

/* Bytes of output after which reading stops, because a decompression bomb is not a fault. */
#define ENOUGH ((uint64_t)32 << 20)

struct crumbs {
	struct reader base;
	const uint8_t *at;
	size_t left, piece;
};

static int crumbs_next(struct reader *r, struct slice *ret, struct error *err)
{
	struct crumbs *c = container_of(r, struct crumbs, base);
	size_t n = c->left < c->piece ? c->left : c->piece;

	(void)err;
	if (n == 0)
		return 0;
	*ret = (struct slice){.data = c->at, .len = n};
	c->at += n;
	c->left -= n;
	return 1;
}

static void crumbs_close(struct reader *r)
{
	free(container_of(r, struct crumbs, base));
}

static struct reader *crumbs_new(const uint8_t *bytes, size_t len)
{
	static const struct reader_ops ops = {.next = crumbs_next, .close = crumbs_close};
	struct crumbs *c = zalloc(sizeof(*c));

	reader_init(&c->base, &ops, "fuzz");
	c->piece = len > 0 && bytes[0] > 0 ? bytes[0] : SIZE_MAX;
	c->at = len > 0 ? bytes + 1 : bytes;
	c->left = len > 0 ? len - 1 : 0;
	return &c->base;
}

static void check_failure(int code, const struct error *err)
{
	assert(err->code == code && err->msg[0] != '\0');
}

static void read_enough(struct reader *r)
{
	uint64_t total = 0;
	struct error err;
	struct slice s;
	int got = 0;

	while (total < ENOUGH && (got = reader_next(r, &s, &err)) > 0) {
		assert(s.len > 0);
		total += s.len;
		slice_drop(&s);
	}
	if (got < 0)
		check_failure(got, &err);
	reader_close(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct budget *budget = budget_new(1); /* gets the smallest possible budget */
	struct decode_env env = {.budget = budget, .threads = 2};
	const struct decoder *decoder;
	struct reader *r;
	struct error err;

	log_setup(LOG_ERROR, LOG_TEXT, STDERR_FILENO); /* no warnings about garbage */
	if (decode_open(crumbs_new(bytes, len), &env, &r, &decoder, &err) == 0)
		read_enough(r);
	assert(budget_try_reserve(budget, budget_stage_half(budget)));
	budget_release(budget, budget_stage_half(budget));
	budget_free(budget);
	return 0;
}
