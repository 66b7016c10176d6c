/* SPDX-License-Identifier: MIT */
/* Is there anything to do? A pinned digest, or version of a datastore, answers without a request; otherwise each source costs
 * one conditional request for one byte. */
#include "defer.h"
#include "source.h"
#include "stage_datastore.h"
#include "stage_private.h"
#include <string.h>

int stage_source_is_unchanged(
	struct stage *s, size_t i, const struct record_source *had, struct error *err)
{
	const struct source_env env = {
		.transfer = s->env->transfer, .s3 = s->env->s3, .cancel = &s->attempt};
	const struct source_request request = {
		.url = s->sources[i].url, .have = &had->identity, .want = WANT_IDENTITY};
	struct object *o;
	int code;

	if (stage_is_datastore(s->sources[i].url))
		return stage_datastore_is_unchanged(s, i, &had->identity, err);
	if (s->sources[i].sha256 != NULL && strcmp(s->sources[i].sha256, had->sha256) == 0)
		return 1;
	if (!identity_pins(&had->identity))
		return 0;
	code = source_open(&env, &request, &o, err);
	if (code < 0)
		return code;
	code = o->not_modified || identity_same(&o->identity, &had->identity);
	object_close(o);
	return code;
}

int stage_is_warm(struct stage *s, struct error *err)
{
	const struct record *had = destination_holds(s->destination, s->key);
	int unchanged = 1;

	if (had == NULL || had->n_sources != s->n_sources)
		return 0;
	for (size_t i = 0; i < s->n_sources && unchanged > 0; i++)
		unchanged = stage_source_is_unchanged(s, i, &had->sources[i], err);
	return unchanged > 0 ? stage_keep_shared(s, had) : unchanged;
}
