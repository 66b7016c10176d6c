/* SPDX-License-Identifier: MIT */
/* Publishing under a lease. The lease is checked before, but a request may be under way for longer than a lease
 * lives (the network was away, the machine slept), and what the version counts on may have been collected until
 * it arrives: so it is checked again. Worker threads. */
#include "collect.h"
#include "defer.h"
#include "manifest_json.h"
#include "text.h"
#include "versions.h"
#include <string.h>

static int add_key(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err)
{
	(void)size;
	(void)modified;
	(void)err;
	key_set_add(ctx, key);
	return 0;
}

/* A key of m that is not in the store; NULL when all are. Heap. */
static char *missing_key(struct key_set *there, const struct manifest *m)
{
	for (size_t i = 0; i < m->n_parts; i++) {
		_free_ char *key = manifest_part_key(&m->parts[i]);

		if (!key_set_has(there, key))
			return take_ptr(&key);
	}
	for (size_t i = 0; i < m->n_objects; i++) {
		if (!key_set_has(there, m->objects[i].key))
			return copy_text(m->objects[i].key);
	}
	return NULL;
}

static int check_content(struct store_hand *h, const struct manifest *m, struct error *err)
{
	struct key_set there = {0};
	_free_ char *missing = NULL;
	int code = store_list(h, "packs/", add_key, &there, err);

	if (code == 0)
		code = store_list(h, "large/", add_key, &there, err);
	if (code == 0)
		code = store_list(h, "index/", add_key, &there, err);
	if (code == 0)
		missing = missing_key(&there, m);
	key_set_done(&there);
	if (missing != NULL)
		code = error_set(err, -ERR_RESTART,
			"'%s' was removed from the store while the creation's lease was not "
			"renewed "
			"(the store did not answer, or this machine slept): create again",
			missing);
	return code;
}

int lease_publish(struct store_hand *h, struct lease *l, struct manifest *m, struct error *err)
{
	int code = lease_check(l, err);

	if (code == 0)
		code = datastore_publish(h, m, err);
	if (code < 0 || lease_check(l, NULL) == 0)
		return code;
	code = check_content(h, m, err);
	if (code == -ERR_RESTART)
		(void)version_bury(h, m->name, m->version, NULL);
	return code;
}
