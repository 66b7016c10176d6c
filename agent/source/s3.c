/* SPDX-License-Identifier: MIT */
/* s3://bucket/key is one object, read through the transfer engine. s3://bucket/prefix/ is a
 * directory of objects: here it has only an identity, which is computed from its listing (a stage
 * fetches its objects). Worker threads. */
#include "s3.h"
#include "defer.h"
#include "source_private.h"
#include "text.h"
#include <errno.h>
#include <string.h>

static int s3_check(const char *url, struct error *err)
{
	struct s3_bucket_key place;
	int code = s3_bucket_key_parse(url, &place, err);

	if (code == 0)
		s3_bucket_key_done(&place);
	return code;
}

struct prefix_object {
	struct object base;
	char *name;
};

static struct reader *prefix_stream(struct object *o)
{
	(void)o;
	return NULL;
}

static int prefix_read_at(
	struct object *o, uint64_t offset, void *buf, size_t len, struct error *err)
{
	(void)offset, (void)buf, (void)len;
	return error_set(err, -EISDIR, "%s is a directory of objects, not one object", o->name);
}

static void prefix_close(struct object *o)
{
	struct prefix_object *p = container_of(o, struct prefix_object, base);

	free(p->name);
	free(p);
}

static struct object *prefix_object(const struct source_request *req, const struct identity *id)
{
	static const struct object_ops ops = {
		.stream = prefix_stream, .read_at = prefix_read_at, .close = prefix_close};
	struct prefix_object *p = zalloc(sizeof(*p));

	p->name = source_display(req->url);
	p->base = (struct object){.ops = &ops, .name = p->name, .identity = *id};
	p->base.not_modified = req->have != NULL && object_identity_same(req->have, id);
	return &p->base;
}

static int add_to_tally(void *tally, const struct s3_object *o, struct error *err)
{
	(void)err;
	s3_tally_add(tally, o);
	return 0;
}

static int identify_prefix(const struct source_env *env, const struct s3_bucket_key *place,
	struct identity *ret, struct error *err)
{
	struct s3_client *client;
	struct s3_tally *tally;
	int code = s3_client_new(env->s3, env->cancel, &client, err);

	if (code < 0)
		return code;
	tally = s3_tally_new();
	code = s3_list(client, place->bucket, place->key, NULL, '\0', add_to_tally, tally, err);
	s3_tally_free(tally, ret);
	s3_client_free(client);
	return code;
}

static int open_prefix(const struct source_env *env, const struct source_request *req,
	const struct s3_bucket_key *place, struct object **ret, struct error *err)
{
	struct identity id;
	int code;

	if (req->want != WANT_IDENTITY)
		return error_set(err, -ERR_USAGE,
			"%s ends in '/', and so is a directory of objects; one object is wanted here",
			req->url);
	code = identify_prefix(env, place, &id, err);
	if (code == 0)
		*ret = prefix_object(req, &id);
	return code;
}

static int s3_source_open(const struct source_env *env, const struct source_request *req,
	struct object **ret, struct error *err)
{
	struct s3_bucket_key place;
	int code = s3_bucket_key_parse(req->url, &place, err);

	if (code < 0)
		return code;
	if (env->s3 == NULL)
		code = error_set(err, -ERR_UNSUPPORTED, "%s: S3 is not to be had here", req->url);
	else if (s3_bucket_key_is_prefix(&place))
		code = open_prefix(env, req, &place, ret, err);
	else
		code = s3_object_open(env->s3, env->transfer, place.bucket, place.key, req->have,
			req->want, req->progress, env->cancel, ret, err);
	s3_bucket_key_done(&place);
	return code;
}

const struct source_scheme source_s3 = {
	.prefix = "s3://", .remote = true, .check = s3_check, .open = s3_source_open};
