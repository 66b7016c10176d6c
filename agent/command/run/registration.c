/* SPDX-License-Identifier: MIT */
/* Registers in the store which versions a run uses. A failure is only logged, at debug level. Loop
 * thread, except for register_all() and remove_all(), which run on a thread of agent_work(). */
#include "../agent.h"
#include "datastore.h"
#include "defer.h"
#include "log.h"
#include "run.h"
#include <string.h>
#include <time.h>

/* The argument of the thread. On the heap, because an abandoned thread goes on using it. */
struct registration_work {
	struct store *store;
	struct strings names, versions; /* "" for the newest */
	time_t expires;
	struct strings keys;
};

static void registration_work_free(struct registration_work *w)
{
	text_strings_done(&w->names);
	text_strings_done(&w->versions);
	text_strings_done(&w->keys);
	free(w);
}

static int register_one(
	struct registration_work *w, struct store_conn *h, size_t i, struct error *err)
{
	const char *name = w->names.v[i];
	_free_ char *key = NULL;
	uint64_t number = 0;
	unsigned version = 0;
	int code;

	if (w->versions.v[i][0] != '\0')
		code = units_parse_uint(w->versions.v[i], INT32_MAX, &number, err);
	else
		code = datastore_newest(h, name, &version, err);
	if (number > 0)
		version = (unsigned)number;
	if (code == 0)
		code = datastore_register(h, name, version, w->expires, &key, err);
	if (code == 0)
		text_strings_add(&w->keys, key);
	return code;
}

static int register_all(void *ctx, struct cancel *cancel, struct error *err)
{
	struct registration_work *w = ctx;
	struct store_conn *h = NULL;
	int code = store_conn_open(w->store, cancel, &h, err);

	for (size_t i = 0; i < w->names.n && code == 0; i++)
		code = register_one(w, h, i, err);
	store_conn_close(h);
	return code;
}

static int remove_all(void *ctx, struct cancel *cancel, struct error *err)
{
	struct registration_work *w = ctx;
	struct store_conn *h = NULL;
	int code = store_conn_open(w->store, cancel, &h, err);

	if (code == 0)
		code = store_delete(h, (const char *const *)w->keys.v, w->keys.n, err);
	store_conn_close(h);
	return code;
}

/* Sets *w to NULL if the thread was abandoned, which still uses it. */
static void run_in_store(
	struct agent *a, agent_work_fn work, struct registration_work **w, const char *sentence)
{
	struct error why = {0};
	int code = agent_need_store(a, &why);

	(*w)->store = a->resources.store;
	if (code == 0)
		code = agent_work(a, work, *w, NULL, &why);
	if (code < 0)
		log_debug("%s: %s", sentence, why.msg);
	if (a->abandoned)
		*w = NULL;
}

void registration_make(struct registration *r, struct agent *a, const struct attachments *attached)
{
	struct registration_work *w;

	if (a->settings->register_ms == 0 || attached->n == 0)
		return;
	w = zalloc(sizeof(*w));
	w->expires = time(NULL) + (time_t)(a->settings->register_ms / 1000);
	for (size_t i = 0; i < attached->n; i++) {
		const char *version = attached->v[i].version;

		text_strings_add(&w->names, attached->v[i].name);
		text_strings_add(&w->versions, version != NULL ? version : "");
	}
	run_in_store(a, register_all, &w, "this run is not registered in the store");
	if (w == NULL)
		return;
	r->keys = w->keys;
	w->keys = (struct strings){0};
	registration_work_free(w);
}

void registration_remove(struct registration *r, struct agent *a)
{
	struct registration_work *w;

	if (r->keys.n == 0 || a->abandoned)
		return;
	w = zalloc(sizeof(*w));
	for (size_t i = 0; i < r->keys.n; i++)
		text_strings_add(&w->keys, r->keys.v[i]);
	run_in_store(
		a, remove_all, &w, "this run's registration stays in the store until it expires");
	if (w != NULL)
		registration_work_free(w);
}

void registration_done(struct registration *r)
{
	text_strings_done(&r->keys);
}
