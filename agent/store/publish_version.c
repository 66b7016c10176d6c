/* SPDX-License-Identifier: MIT */
/* The one PUT after which a version exists. Whoever writes the manifest of a number first has it; the
 * others take the next one. Worker threads. */
#include "backend.h"
#include "defer.h"
#include "versions.h"
#include <limits.h>
#include <string.h>

static int next_number(struct store_hand *h, struct manifest *m, struct error *err)
{
	struct versions all = {0};
	int code = versions_list(h, m->name, &all, err);

	if (code < 0)
		return code;
	m->version = all.n > 0 ? all.v[all.n - 1].number : 0;
	versions_done(&all);
	if (m->version == UINT_MAX)
		return error_set(err, -ERR_LIMIT, "datastore '%s' has no numbers left", m->name);
	m->version++;
	return 0;
}

/* Somebody has the number: is it this creation, whose first request's answer was lost? */
static int is_own(struct store_hand *h, const struct manifest *m, struct error *err)
{
	struct manifest *there = NULL;
	struct error ignored;
	int code = version_manifest(h, m->name, m->version, &there, &ignored);
	bool own = code == 0 && strcmp(there->nonce, m->nonce) == 0;

	manifest_free(there);
	/* A manifest that this version cannot read is certainly another's. */
	if (code < 0 && code != -ERR_FORMAT && code != -ERR_UNSUPPORTED && code != -ERR_LIMIT) {
		if (err != NULL)
			*err = ignored;
		return code;
	}
	return own;
}

int publish_number(struct store_hand *h, struct manifest *m, struct error *err)
{
	_free_ char *key = version_key(m->name, m->version, "manifest.json");
	_free_ char *json = manifest_print(m);
	size_t len = strlen(json);
	int code;

	if (len > MANIFEST_MAX_BYTES)
		return error_set(err, -ERR_LIMIT,
			"the manifest of '%s' would have %zu bytes, at most %zu can be: split the "
			"datastore",
			m->name, len, MANIFEST_MAX_BYTES);
	code = store_put_if_absent(h, key, json, len, err);
	if (code == 0)
		return 1;
	return code == -EEXIST ? is_own(h, m, err) : code;
}

int datastore_publish(struct store_hand *h, struct manifest *m, struct error *err)
{
	int code = datastore_name_check(m->name, err);

	while (code == 0) {
		code = next_number(h, m, err);
		if (code == 0)
			code = publish_number(h, m, err);
	}
	return code < 0 ? code : 0;
}
