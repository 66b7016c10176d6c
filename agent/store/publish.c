/* SPDX-License-Identifier: MIT */
/* Publishes versions, and registers the runs that use one. Worker threads. */
#include "datastore.h"
#include "defer.h"
#include "store_private.h"
#include "text.h"
#include <jansson.h>
#include <limits.h>
#include <string.h>
#include <time.h>

int datastore_register(struct store_conn *h, const char *name, unsigned version, time_t expires,
	char **ret_key, struct error *err)
{
	_free_ char *key = NULL, *json = NULL;
	char random[17], host[65] = "";
	json_t *o = json_object();
	int code;

	store_random(random);
	key = text_format("uses/%s/%u/%lld-%s.json", name, version, (long long)expires, random);
	(void)gethostname(host, sizeof(host) - 1);
	json_object_set_new(o, "expires", json_integer((json_int_t)expires));
	json_object_set_new(o, "host", json_string(host));
	json_object_set_new(o, "pid", json_integer(getpid()));
	json = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	if (json == NULL)
		abort(); /* out of memory */
	code = store_put(h, key, json, strlen(json), err);
	if (code == 0)
		*ret_key = take_ptr(&key);
	return code;
}

/* Publishing. A version exists after one conditional PUT of its manifest. The first writer of a
 * number's manifest owns the number; the other writers try the next number. */

/* Sets m->version to the next number after the newest listed one, and always beyond its present
 * value: the number that was refused just now may still be missing from the listing. */
static int next_number(struct store_conn *h, struct manifest *m, struct error *err)
{
	struct versions all = {0};
	int code = versions_list(h, m->name, &all, err);

	if (code < 0)
		return code;
	if (all.n > 0 && all.v[all.n - 1].number > m->version)
		m->version = all.v[all.n - 1].number;
	versions_done(&all);
	if (m->version == UINT_MAX)
		return error_set(err, -ERR_LIMIT, "datastore '%s' has no numbers left", m->name);
	m->version++;
	return 0;
}

/* Returns 1 if the number's manifest was written by this creation, by a first request whose answer
 * was lost; 0 if by another one. */
static int is_own_manifest(struct store_conn *h, const struct manifest *m, struct error *err)
{
	struct manifest *there = NULL;
	struct error ignored;
	int code = version_manifest(h, m->name, m->version, &there, &ignored);
	bool own = code == 0 && strcmp(there->nonce, m->nonce) == 0;

	manifest_free(there);
	/* A manifest that this program cannot parse was not written by this creation. */
	if (code < 0 && code != -ERR_FORMAT && code != -ERR_UNSUPPORTED && code != -ERR_LIMIT) {
		if (err != NULL)
			*err = ignored;
		return code;
	}
	return own;
}

int publish_number(struct store_conn *h, struct manifest *m, struct error *err)
{
	_free_ char *key = version_key(m->name, m->version, "manifest.json");
	_free_ char *json = manifest_print(m);
	size_t len = strlen(json);
	int code;

	if (len > MANIFEST_MAX_BYTES)
		return error_set(err, -ERR_LIMIT,
			"the manifest of '%s' would have %zu bytes, at most %zu can be: split the datastore",
			m->name, len, MANIFEST_MAX_BYTES);
	code = store_put_if_absent(h, key, json, len, err);
	if (code == 0)
		return 1;
	return code == -EEXIST ? is_own_manifest(h, m, err) : code;
}

int datastore_publish(struct store_conn *h, struct manifest *m, struct error *err)
{
	int code = datastore_name_check(m->name, err);

	m->version = 0;
	while (code == 0) {
		code = next_number(h, m, err);
		if (code == 0)
			code = publish_number(h, m, err);
	}
	if (code < 0)
		return code;
	store_note_written(h->store, m->name, m->version);
	return 0;
}

/* Publishing under a lease. The lease is checked before the request. The request may however take
 * longer than the lease lives (the network was down, the machine slept), and objects that the
 * version relies on may have been collected before it arrived. Therefore the lease is checked again
 * afterwards. */

static int on_key(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err)
{
	(void)size;
	(void)modified;
	(void)err;
	layout_key_set_add(ctx, key);
	return 0;
}

/* Returns the first key of m that is not in the set (heap), or NULL. */
static char *missing_key(struct key_set *there, const struct manifest *m)
{
	for (size_t i = 0; i < m->n_parts; i++) {
		_free_ char *key = manifest_part_key(m->parts[i].sha256);

		if (!layout_key_set_has(there, key))
			return take_ptr(&key);
	}
	for (size_t i = 0; i < m->n_objects; i++) {
		if (!layout_key_set_has(there, m->objects[i].key))
			return text_copy(m->objects[i].key);
	}
	return NULL;
}

static int check_content(struct store_conn *h, const struct manifest *m, struct error *err)
{
	struct key_set there = {0};
	_free_ char *missing = NULL;
	int code = store_list(h, "packs/", on_key, &there, err);

	if (code == 0)
		code = store_list(h, "large/", on_key, &there, err);
	if (code == 0)
		code = store_list(h, "index/", on_key, &there, err);
	if (code == 0)
		missing = missing_key(&there, m);
	layout_key_set_done(&there);
	if (missing != NULL)
		code = error_set(err, -ERR_RESTART,
			"'%s' was removed from the store while the creation's lease was not renewed (the store did not answer, or this machine slept): create again",
			missing);
	return code;
}

int publish_under_lease(
	struct store_conn *h, struct lease *l, struct manifest *m, struct error *err)
{
	int code = lease_check(l, err);

	if (code == 0)
		code = datastore_publish(h, m, err);
	if (code < 0 || lease_check(l, NULL) == 0)
		return code;
	code = check_content(h, m, err);
	if (code == -ERR_RESTART)
		(void)version_mark_deleted(h, m->name, m->version, NULL);
	return code;
}
