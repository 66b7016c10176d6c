/* SPDX-License-Identifier: MIT */
/* YAML as a tree: what is refused and where, and that nothing small becomes something large. */
#include "../../agent/config/runfile_reader.h"
#include "defer.h"
#include "test.h"
#include "text.h"
#include <string.h>

static void assert_refused(const char *yaml, const char *sentence)
{
	struct yaml_tree tree = {0};
	struct error err = {0};

	assert_int_equal(-ERR_CONFIG, yaml_tree_load("c.yml", yaml, strlen(yaml), &tree, &err));
	assert_null(tree.root);
	assert_string_equal(sentence, err.msg);
}

static struct yaml_tree load(const char *yaml)
{
	struct yaml_tree tree = {0};
	struct error err = {0};

	if (yaml_tree_load("c.yml", yaml, strlen(yaml), &tree, &err) < 0)
		fail_msg("%s", err.msg);
	return tree;
}

TEST(yaml_nodes_know_their_places)
{
	struct yaml_tree tree = load("a: 1\nb:\n  - x\n  - \"null\"\n  -\n");
	const struct yaml_node *b = tree.root->pairs[1].value;

	assert_int_equal(2, tree.root->n);
	assert_string_equal("b", tree.root->pairs[1].key->text);
	assert_int_equal(2, tree.root->pairs[1].key->line);
	assert_int_equal(YAML_LIST, b->kind);
	assert_int_equal(3, b->items[0]->line);
	assert_int_equal(5, b->items[0]->column);
	assert_false(yaml_is_null(b->items[1]));
	assert_true(yaml_is_null(b->items[2]));
	yaml_tree_done(&tree);
}

TEST(yaml_null_is_plain_and_a_tag_or_quotes_make_it_text)
{
	struct yaml_tree tree = load("[null, ~, Null, NULL, '', !!str null, nul]");
	static const bool want[] = {true, true, true, true, false, false, false};

	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		assert_int_equal(want[i], yaml_is_null(tree.root->items[i]));
	assert_true(yaml_is_null(NULL));
	yaml_tree_done(&tree);
}

TEST(yaml_with_tabs_in_its_indentation_is_told_so)
{
	assert_refused("a:\n\tb: 1\n",
		"c.yml:2:1: a tab in the indentation; YAML takes only spaces there");
	assert_refused("a:\n  b: 1\n  \tc: 2\n",
		"c.yml:3:3: a tab in the indentation; YAML takes only spaces there");
	assert_refused("a:\n  - x\n\t- y\n",
		"c.yml:3:1: a tab in the indentation; YAML takes only spaces there");
}

TEST(yaml_mistakes_are_told_with_line_and_column)
{
	assert_refused("a: b: c\n", "c.yml:1:5: mapping values are not allowed in this context");
	assert_refused("a: \"x\n\n",
		"c.yml:3:1: found unexpected end of stream, while scanning a quoted scalar (which "
		"begins on line 1)");
	assert_refused(
		"a: 1\nb: \x01\n", "c.yml:2: not UTF-8 text: control characters are not allowed");
	assert_refused("a: 1\nb: \"x\\0y\"\n", "c.yml:2:4: a NUL byte inside a text");
	assert_refused("a: *b\n", "c.yml:1:4: there is no anchor &b above");
	assert_refused("a: 1\n---\nb: 2\n", "c.yml:2:1: a second document; one file holds one");
	assert_refused("a: &x 1\nb:\n  <<: *x\n",
		"c.yml:3:3: merge keys (<<) are not supported; write the keys out");
	assert_refused("? [a]\n: 1\n", "c.yml:1:3: a key must be a word, not a list or a map");
}

TEST(yaml_duplicate_keys_are_refused_with_both_lines)
{
	assert_refused(
		"a:\n  k: 1\n  other: 1\n  k: 2\nb:\n", "c.yml:4:3: key 'k' is already on line 2");
	assert_refused("a: 1\n\"a\": 2\n", "c.yml:2:1: key 'a' is already on line 1");
}

TEST(yaml_keys_may_repeat_in_different_maps)
{
	struct yaml_tree tree = load("a: {k: 1}\nb: {k: 1, a: 2}\n");

	assert_int_equal(2, tree.root->n);
	yaml_tree_done(&tree);
}

TEST(yaml_aliases_mean_the_latest_anchor_of_that_name)
{
	struct yaml_tree tree = load("[&a 1, *a, &a 2, *a]");

	assert_string_equal("1", tree.root->items[1]->text);
	assert_string_equal("2", tree.root->items[3]->text);
	yaml_tree_done(&tree);
}

TEST(yaml_billion_laughs_is_refused_before_it_grows)
{
	struct text t = {0};

	text_add(&t, "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
	for (int i = 1; i < 9; i++)
		text_addf(&t, "a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n",
			i, i, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
	assert_refused(t.s, "c.yml:6:15: too much YAML (more than 100,000 values, aliases written "
			    "out)");
	text_done(&t);
}

TEST(yaml_alias_of_what_surrounds_it_is_refused)
{
	assert_refused("a: &a [1, *a]\n", "c.yml:1:11: an alias of what it is inside of");
	assert_refused("&a {b: {c: *a}}\n", "c.yml:1:12: an alias of what it is inside of");
}

static char *nested(unsigned depth)
{
	char *s = zalloc(2 * depth + 1);

	memset(s, '[', depth);
	memset(s + depth, ']', depth);
	return s;
}

TEST(yaml_depth_is_bounded_also_through_aliases)
{
	_free_ char *ok = nested(YAML_MAX_DEPTH), *deep = nested(YAML_MAX_DEPTH + 1);
	_free_ char *half = nested(60), *open = nested(50);
	_free_ char *twice = NULL;
	struct yaml_tree tree = load(ok);

	yaml_tree_done(&tree);
	assert_refused(deep, "c.yml:1:101: nested too deeply (more than 100 levels)");
	open[50] = '\0';
	twice = text_format("a: &a %s\nb: %s*a\n", half, open);
	assert_refused(twice, "c.yml:2:54: nested too deeply (more than 100 levels)");
}

TEST(yaml_anchors_are_bounded)
{
	struct text t = {0};

	for (int i = 0; i <= YAML_MAX_ANCHORS; i++)
		text_addf(&t, "- &a%d x\n", i);
	assert_refused(t.s, "c.yml:1001:3: too many anchors (more than 1,000)");
	text_done(&t);
}
