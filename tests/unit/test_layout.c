/* SPDX-License-Identifier: MIT */
/* Which keys are a store's, and which place is a store. */
#include "../../agent/store/store_private.h"
#include "defer.h"
#include "store_fixture.h"
#include "test.h"
#include <string.h>

#define HEX16 "0123456789abcdef"
#define HEX32 HEX16 HEX16
#define HEX62 HEX32 HEX16 "0123456789abcd"

static enum layout_kind kind(const char *key)
{
	struct layout_key k;

	return layout_parse(key, &k);
}

TEST(layout_knows_every_key_that_is_written)
{
	struct layout_key k;

	assert_int_equal(kind("store.json"), LAYOUT_MARKER);
	assert_int_equal(kind("packs/aa/aa" HEX62 ".tar.zst"), LAYOUT_PACK);
	assert_int_equal(kind("index/0f/0f" HEX62 ".zst"), LAYOUT_INDEX);
	assert_int_equal(kind("large/" HEX32 ".tar.zst"), LAYOUT_LARGE);
	assert_int_equal(kind("datastores/a.b/12/deleted.json"), LAYOUT_DELETED);
	assert_int_equal(kind("datastores/a.b/12/collected.json"), LAYOUT_COLLECTED);
	assert_int_equal(
		layout_parse("datastores/cats/4294967295/manifest.json", &k), LAYOUT_MANIFEST);
	assert_string_equal(k.name, "cats");
	assert_int_equal(k.version, 4294967295u);
	assert_int_equal(layout_parse("leases/collect-" HEX16 ".json", &k), LAYOUT_LEASE);
	assert_int_equal(k.lease, LEASE_COLLECT);
	assert_int_equal(layout_parse("uses/cats/3/1795984745-" HEX16 ".json", &k), LAYOUT_USE);
	assert_int_equal(k.version, 3);
	assert_int_equal(k.expires, 1795984745);
	assert_true(layout_is_temporary(HEX16));
}

TEST(layout_knows_nothing_else)
{
	static const char *const foreign[] = {"", "store.jso", "store.json ", "store.json/x",
		"packs", "packs/", "packs/aa/", "packs/aa/bb" HEX62 ".tar.zst",
		"packs/aa/aa" HEX62 ".tar.zst.1", "packs/aa/aa" HEX62 "0.tar.zst",
		"packs/aa/aa" HEX62 ".zst", "packs/AA/AA" HEX62 ".tar.zst",
		"packs/aa" HEX62 ".tar.zst", "/packs/aa/aa" HEX62 ".tar.zst",
		"x/packs/aa/aa" HEX62 ".tar.zst", "index/aa/aa" HEX62 ".tar.zst",
		"large/" HEX16 ".tar.zst", "large/aa/" HEX32 ".tar.zst", "large/" HEX32 ".tar.gz",
		"leases/" HEX16 ".json", "leases/backup-" HEX16 ".json", "leases/create-" HEX16,
		"leases/create-" HEX16 "0.json", "uses/cats/3/" HEX16 ".json",
		"uses/cats/3/12-x.json", "uses/cats/3/-5-" HEX16 ".json",
		"uses/cats/3/99999999999999999999-" HEX16 ".json", "uses/cats/3/+5-" HEX16 ".json",
		"uses/Cats/3/5-" HEX16 ".json", "datastores/cats/0/manifest.json",
		"datastores/cats/01/manifest.json", "datastores/cats/4294967296/manifest.json",
		"datastores/cats/1/manifest.json~", "datastores/cats/1/index.html",
		"datastores/cats/manifest.json", "datastores//1/manifest.json",
		"datastores/../1/manifest.json", "datastores/cats/ 1/manifest.json",
		"datastores/.cats/1/manifest.json"};

	for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
		if (kind(foreign[i]) != LAYOUT_FOREIGN)
			fail_msg("'%s' is taken for a store's", foreign[i]);
	}
	assert_false(layout_is_temporary("session"));
	assert_false(layout_is_temporary(HEX16 ".part"));
	assert_false(layout_is_temporary(HEX32));
}

TEST(marker_is_given_to_a_new_place_whatever_else_lies_there)
{
	struct store_fixture f;

	store_fixture_setup(&f);
	store_fixture_put(&f, "packs/left-pad.tgz", "x");
	/* Of another creation that begins just now. */
	store_fixture_put(&f, "leases/create-" HEX16 ".json", "{}");
	assert_int_equal(store_marker_classify(f.hand, false, &f.err), MARKER_NONE);
	assert_false(store_fixture_has(&f, STORE_MARKER));
	assert_int_equal(store_marker_classify(f.hand, true, &f.err), MARKER_THERE);
	assert_true(store_fixture_has(&f, STORE_MARKER));
	store_fixture_teardown(&f);
}

TEST(marker_is_not_given_where_only_content_looks_like_a_stores)
{
	struct store_fixture f;

	store_fixture_setup(&f);
	store_fixture_put(&f, "packs/aa/aa" HEX62 ".tar.zst", "x");
	assert_int_equal(store_marker_classify(f.hand, true, &f.err), MARKER_UNKNOWN);
	assert_false(store_fixture_has(&f, STORE_MARKER));
	store_fixture_publish(&f, "cats", "packs/aa/aa" HEX62 ".tar.zst");
	store_fixture_put(&f, "thesis.tex", "beside the layout's directories");
	assert_int_equal(store_marker_classify(f.hand, false, &f.err), MARKER_THERE);
	store_fixture_teardown(&f);
}
