/* SPDX-License-Identifier: MIT */
/* Runs that say which version they use. Worker threads. */
#include "uses.h"
#include "backend.h"
#include "datastore.h"
#include "defer.h"
#include "text.h"
#include <jansson.h>
#include <string.h>

time_t use_expires(const char *key)
{
	const char *name = strrchr(key, '/');
	char *end;
	long long seconds;

	if (name == NULL)
		return 0;
	errno = 0;
	seconds = strtoll(name + 1, &end, 10);
	return *end == '-' && errno == 0 ? (time_t)seconds : 0;
}

int datastore_register(struct store_hand *h, const char *name, unsigned version, time_t expires,
	char **ret_key, struct error *err)
{
	_free_ char *key = NULL, *json = NULL;
	char random[17], host[65] = "";
	json_t *o = json_object();
	int code;

	store_random(random);
	key = format_text("uses/%s/%u/%lld-%s.json", name, version, (long long)expires, random);
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
