/* SPDX-License-Identifier: MIT */
/* Telling the store which versions a run uses. No failure of it is the run's. */
#include "registration.h"
#include "datastore.h"
#include "defer.h"
#include "log.h"
#include <string.h>
#include <time.h>

/* On the heap: its thread may outlive the wait for it. */
struct visit {
	struct store *store;
	struct strings names, versions; /* "" for the newest */
	time_t expires;
	struct strings keys;
};

static void visit_free(struct visit *v)
{
	strings_done(&v->names);
	strings_done(&v->versions);
	strings_done(&v->keys);
	free(v);
}

static int register_one(struct visit *v, struct store_hand *h, size_t i, struct error *err)
{
	const char *name = v->names.v[i];
	_free_ char *key = NULL;
	uint64_t number = 0;
	unsigned version = 0;
	int code;

	if (v->versions.v[i][0] != '\0')
		code = parse_uint(v->versions.v[i], INT32_MAX, &number, err);
	else
		code = datastore_newest(h, name, &version, err);
	if (number > 0)
		version = (unsigned)number;
	if (code == 0)
		code = datastore_register(h, name, version, v->expires, &key, err);
	if (code == 0)
		strings_add(&v->keys, key);
	return code;
}

static int register_all(void *ctx, struct cancel *cancel, struct error *err)
{
	struct visit *v = ctx;
	struct store_hand *h = NULL;
	int code = store_hand_open(v->store, cancel, &h, err);

	for (size_t i = 0; i < v->names.n && code == 0; i++)
		code = register_one(v, h, i, err);
	store_hand_close(h);
	return code;
}

static int remove_all(void *ctx, struct cancel *cancel, struct error *err)
{
	struct visit *v = ctx;
	struct store_hand *h = NULL;
	int code = store_hand_open(v->store, cancel, &h, err);

	if (code == 0)
		code = store_delete(h, (const char *const *)v->keys.v, v->keys.n, err);
	store_hand_close(h);
	return code;
}

/* *ret: NULL when it is lost to a thread that did not end. */
static void go(struct agent *a, agent_work_fn what, struct visit **v, const char *sentence)
{
	struct error why = {0};
	int code = agent_need_store(a, &why);

	(*v)->store = a->store;
	if (code == 0)
		code = agent_work(a, what, *v, NULL, &why);
	if (code < 0)
		log_debug("%s: %s", sentence, why.msg);
	if (a->abandoned)
		*v = NULL;
}

void registration_make(struct registration *r, struct agent *a, const struct attachments *attached)
{
	struct visit *v;

	if (a->settings->register_ms == 0 || attached->n == 0)
		return;
	v = zalloc(sizeof(*v));
	v->expires = time(NULL) + (time_t)(a->settings->register_ms / 1000);
	for (size_t i = 0; i < attached->n; i++) {
		const char *version = attached->v[i].version;

		strings_add(&v->names, attached->v[i].name);
		strings_add(&v->versions, version != NULL ? version : "");
	}
	go(a, register_all, &v, "this run is not registered in the store");
	if (v == NULL)
		return;
	r->keys = v->keys;
	v->keys = (struct strings){0};
	visit_free(v);
}

void registration_remove(struct registration *r, struct agent *a)
{
	struct visit *v;

	if (r->keys.n == 0 || a->abandoned)
		return;
	v = zalloc(sizeof(*v));
	for (size_t i = 0; i < r->keys.n; i++)
		strings_add(&v->keys, r->keys.v[i]);
	go(a, remove_all, &v, "this run's registration stays in the store until it expires");
	if (v != NULL)
		visit_free(v);
}

void registration_done(struct registration *r)
{
	strings_done(&r->keys);
}
