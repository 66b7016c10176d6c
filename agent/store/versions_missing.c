/* SPDX-License-Identifier: MIT */
/* What to say when a datastore, or a version of it, is not there. Worker threads. */
#include "backend.h"
#include "defer.h"
#include "text.h"
#include "versions.h"
#include <string.h>

enum { NAMED_AT_MOST = 12 };

/* "1, 2 and 5"; "" when there is none. Of many, the newest. */
static char *existing_numbers(const struct versions *all)
{
	struct text t = {0};
	size_t n = 0, i = 0;

	text_add(&t, "");
	for (size_t j = 0; j < all->n; j++)
		n += all->v[j].exists;
	if (n > NAMED_AT_MOST)
		text_add(&t, "...");
	for (size_t j = 0; j < all->n; j++) {
		if (!all->v[j].exists)
			continue;
		i++;
		if (n - i >= NAMED_AT_MOST)
			continue;
		if (t.len > 0)
			text_add(&t, i == n ? " and " : ", ");
		text_addf(&t, "%u", all->v[j].number);
	}
	return text_take(&t);
}

static bool was_deleted(const struct versions *all, unsigned version)
{
	for (size_t i = 0; i < all->n; i++) {
		if (all->v[i].deleted && (version == 0 || all->v[i].number == version))
			return true;
	}
	return false;
}

static void existing_names(const struct versions *all, struct strings *names)
{
	for (size_t i = 0; i < all->n; i++) {
		if (all->v[i].exists &&
			(names->n == 0 || strcmp(names->v[names->n - 1], all->v[i].name) != 0))
			strings_add(names, all->v[i].name);
	}
}

static int no_such_name(
	struct store_hand *h, const char *name, const struct strings *names, struct error *err)
{
	const char *near = nearest_word(name, (const char *const *)names->v, names->n);
	const char *store = h->store->name;
	_free_ char *list = NULL;
	struct text t = {0};

	if (names->n == 0)
		return error_set(err, -ENOENT,
			"there is no datastore '%s' in %s, which has none: create one with "
			"`stagerun datastore create`",
			name, store);
	if (near != NULL)
		return error_set(err, -ENOENT,
			"there is no datastore '%s' in %s: did you mean '%s'?", name, store, near);
	for (size_t i = 0; i < names->n && i < NAMED_AT_MOST; i++)
		text_addf(&t, "%s%s", i > 0 ? ", " : "", names->v[i]);
	if (names->n > NAMED_AT_MOST)
		text_add(&t, ", ...");
	list = text_take(&t);
	return error_set(
		err, -ENOENT, "there is no datastore '%s' in %s: there is %s", name, store, list);
}

int versions_missing(struct store_hand *h, const struct versions *of_name, const char *name,
	unsigned version, struct error *err)
{
	_free_ char *numbers = existing_numbers(of_name);
	const char *why = was_deleted(of_name, version) ? "was deleted" : "does not exist";
	const char *store = h->store->name;
	struct versions all = {0};
	struct strings names = {0};
	int code;

	if (numbers[0] != '\0')
		return error_set(err, -ENOENT, "version %u of datastore '%s' in %s %s: there is %s",
			version, name, store, why, numbers);
	if (of_name->n > 0)
		return error_set(err, -ENOENT,
			"datastore '%s' in %s has no version any more: all were deleted", name,
			store);
	code = versions_list(h, NULL, &all, err);
	if (code < 0)
		return code;
	existing_names(&all, &names);
	code = no_such_name(h, name, &names, err);
	strings_done(&names);
	versions_done(&all);
	return code;
}
