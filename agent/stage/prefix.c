/* SPDX-License-Identifier: MIT */
/* A directory of objects, listed by the thread of its source and fetched by hands: small objects by the
 * hundred at once, since each costs little but the way to S3 and back. */
#include "prefix.h"
#include "defer.h"
#include "source.h"
#include "text.h"
#include "unpack.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

/* Of small objects, so many are under way for each connection that the settings allow to one host: what
 * limits them is time, not bytes. */
enum { HANDS_PER_CONNECTION = 8, SMALL_MAX = 8 << 20 };

bool stage_is_prefix(const char *url)
{
	struct s3_place place;
	bool is;

	if (strncasecmp(url, "s3://", 5) != 0 || s3_place_parse(url, &place, NULL) < 0)
		return false;
	is = s3_place_is_prefix(&place);
	s3_place_done(&place);
	return is;
}

/* Why a file system could not have the name; NULL: it could. */
static const char *objection(const char *name)
{
	const char *part = name;

	for (;;) {
		size_t len = strcspn(part, "/");

		if (len == 0 && (part[0] != '\0' || part == name))
			return "an empty part ('//')";
		if (len == 1 && part[0] == '.')
			return "the part '.'";
		if (len == 2 && part[0] == '.' && part[1] == '.')
			return "the part '..'";
		if (part[len] == '\0' || part[len + 1] == '\0')
			return NULL;
		part += len + 1;
	}
}

static int check_name(
	const struct prefix *p, const struct s3_object *o, const char *name, struct error *err)
{
	const char *what = objection(name);

	if (what != NULL)
		return error_set(err, -ERR_REFUSED,
			"s3://%s/%.300s: there is %s in its name, which no file system can have; "
			"leave "
			"it out with exclude",
			p->place.bucket, o->key, what);
	if (name[strlen(name) - 1] == '/' && o->size > 0)
		return error_set(err, -ERR_REFUSED,
			"s3://%s/%.300s: it is called like a directory, but has %" PRIu64
			" bytes; leave it out with exclude",
			p->place.bucket, o->key, o->size);
	return 0;
}

static const char *select_name(const struct prefix *p, const char *name)
{
	const struct stage_spec *spec = p->stage->spec;
	const struct selection selection = {.include = (const char *const *)spec->include.v,
		.exclude = (const char *const *)spec->exclude.v,
		.strip_components = spec->strip_components};

	return selection_apply(&selection, name);
}

static struct prefix_item *item_new(const struct s3_object *o, const char *name)
{
	struct prefix_item *item = zalloc(sizeof(*item));

	item->key = copy_text(o->key);
	item->name = item->key + (name - o->key);
	item->size = o->size;
	item->modified = o->modified;
	memcpy(item->etag, o->etag, sizeof(item->etag));
	return item;
}

/* One object of the listing. */
static int on_listed(void *ctx, const struct s3_object *o, struct error *err)
{
	struct prefix *p = ctx;
	size_t len = strlen(p->place.key);
	const char *name;
	int code;

	if (strncmp(o->key, p->place.key, len) != 0)
		return error_set(err, -ERR_HTTP,
			"s3://%s/%s: the server lists '%.300s', which does not begin so",
			p->place.bucket, p->place.key, o->key);
	s3_tally_add(p->tally, o);
	p->n_listed++;
	if (o->key[len] ==
		'\0') /* the prefix itself, as an object: a sign that consoles put there */
		return 0;
	name = select_name(p, o->key + len);
	if (name == NULL || name[0] == '\0')
		return 0;
	code = check_name(p, o, o->key + len, err);
	if (code < 0)
		return code;
	count(&p->stage->progress[p->i].total, o->size);
	return prefix_queue_put(&p->queue, item_new(o, name), err);
}

static int check_listed(const struct prefix *p, struct error *err)
{
	if (p->n_listed > 0)
		return 0;
	return error_set(err, -ENOENT,
		"s3://%s/%s: there is no object whose key begins so; check its spelling",
		p->place.bucket, p->place.key);
}

static int list(struct prefix *p, struct error *err)
{
	struct stage *s = p->stage;
	struct s3_client *client;
	int code = s3_client_new(s->env->s3, &s->attempt, &client, err);

	if (code < 0)
		return code;
	code = s3_list(client, p->place.bucket, p->place.key, NULL, '\0', on_listed, p, err);
	s3_client_free(client);
	return code < 0 ? code : check_listed(p, err);
}

static int work(
	struct prefix *p, struct s3_client *client, struct writer *writer, struct error *err)
{
	struct prefix_item *item;
	int code = 0;

	while (code == 0 && (item = prefix_queue_take(&p->queue)) != NULL) {
		code = prefix_fetch(p, item, client, writer, err);
		prefix_item_free(item);
	}
	return code;
}

static void *hand_main(void *ctx)
{
	struct prefix *p = ctx;
	struct stage *s = p->stage;
	struct progress *progress = &s->progress[p->i];
	struct writer *writer = writer_new(s->tree, progress->name, progress);
	struct s3_client *client = NULL;
	struct error err = {0};
	int code = s3_client_new(s->env->s3, &s->attempt, &client, &err);

	if (code == 0)
		code = work(p, client, writer, &err);
	s3_client_free(client);
	writer_close(writer);
	if (code < 0)
		prefix_queue_fail(&p->queue, code, &err);
	return NULL;
}

static int check_source(const struct stage *s, size_t i, struct error *err)
{
	if (s->sources[i].sha256 != NULL)
		return error_set(err, -ERR_USAGE,
			"%s is a directory of objects, and a sha256 is of one", s->sources[i].url);
	if (s->env->s3 == NULL)
		return error_set(
			err, -ERR_UNSUPPORTED, "%s: S3 is not to be had here", s->sources[i].url);
	return 0;
}

int stage_prefix(struct stage *s, size_t i, struct identity *ret, struct error *err)
{
	struct prefix *p = zalloc(sizeof(*p));
	uint64_t share = budget_stage_half(s->env->budget) / 4;
	int code = check_source(s, i, err);

	if (code == 0)
		code = s3_place_parse(s->sources[i].url, &p->place, err);
	if (code == 0) {
		p->stage = s;
		p->i = i;
		p->small_max = share < SMALL_MAX ? (size_t)share : SMALL_MAX;
		p->tally = s3_tally_new();
		prefix_queue_init(&p->queue, &s->attempt,
			s->env->connections * HANDS_PER_CONNECTION, hand_main, p);
		code = prefix_queue_finish(&p->queue, list(p, err), err);
		s3_tally_free(p->tally, ret);
		s3_place_done(&p->place);
	}
	free(p);
	return code;
}
