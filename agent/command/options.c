/* SPDX-License-Identifier: MIT */
/* Parses a command line by the rows of its tables, and prints the help from them. Loop thread. */
#include "options.h"
#include "defer.h"
#include "text.h"
#include <stdio.h>
#include <string.h>

static bool same_name(const char *row, const char *word, size_t len)
{
	if (strlen(row) != len)
		return false;
	for (size_t i = 0; i < len; i++) {
		if ((row[i] == '_' ? '-' : row[i]) != (word[i] == '_' ? '-' : word[i]))
			return false;
	}
	return true;
}

static const struct option_row *find_row(
	const struct option_row *const *tables, const char *word, size_t len)
{
	for (; *tables != NULL; tables++) {
		for (const struct option_row *row = *tables; row->name != NULL; row++) {
			bool letter = word[0] == '-' && word[1] == row->letter && word[2] == '\0';

			if (row->letter != 0 && letter)
				return row;
			if (len > 2 && strncmp(word, "--", 2) == 0 &&
				same_name(row->name, word + 2, len - 2))
				return row;
		}
	}
	return NULL;
}

static int unknown_option(
	const struct option_row *const *tables, const char *word, size_t len, struct error *err)
{
	_free_ char *typed = text_format("%.*s", (int)len, word);
	const char *candidates[64], *nearest;
	size_t n = 0;

	for (; *tables != NULL; tables++) {
		for (const struct option_row *row = *tables; row->name != NULL; row++) {
			if (n < ARRAY_LEN(candidates))
				candidates[n++] = row->name;
		}
	}
	nearest = nearest_word(typed + strspn(typed, "-"), candidates, n);
	if (nearest != NULL)
		return error_set(
			err, -ERR_USAGE, "unknown option %s; did you mean --%s?", typed, nearest);
	return error_set(err, -ERR_USAGE,
		"unknown option %s; --help lists them, and -- ends them before a command", typed);
}

static int store_option(
	const struct option_row *row, void *into, const char *value, struct error *err)
{
	void *member = (char *)into + row->offset;

	if (row->set != NULL)
		return row->set(into, value, err);
	switch (row->kind) {
	case OPTION_FLAG:
		*(bool *)member = true;
		break;
	case OPTION_TEXT:
		*(const char **)member = value;
		break;
	case OPTION_LIST:
		text_strings_add(member, value);
		break;
	case OPTION_SETTING:
		request_override(into, row, value);
		break;
	}
	return 0;
}

/* Parses the option at argv[*i] and the value that follows it. */
static int parse_option(int argc, char **argv, const struct option_row *const *tables, void *into,
	int *i, struct error *err)
{
	const char *word = argv[*i], *equals = strchr(word, '=');
	size_t len = equals != NULL ? (size_t)(equals - word) : strlen(word);
	const struct option_row *row = find_row(tables, word, len);

	if (row == NULL)
		return unknown_option(tables, word, len, err);
	if (row->metavar == NULL && equals != NULL)
		return error_set(err, -ERR_USAGE, "--%s takes no value", row->name);
	if (row->metavar == NULL)
		return store_option(row, into, NULL, err);
	if (equals == NULL && *i + 1 == argc)
		return error_set(err, -ERR_USAGE, "--%s needs a value: --%s %s", row->name,
			row->name, row->metavar);
	return store_option(row, into, equals != NULL ? equals + 1 : argv[++*i], err);
}

/* A command line, and the index of the next word. */
struct command_line {
	int argc, i;
	char **argv;
	bool ended; /* "--" was parsed */
};

/* Parses up to the first word that is no option, or past "--". */
static int parse_options(struct command_line *l, const struct option_row *const *tables, void *into,
	struct error *err)
{
	int code = 0;

	for (; l->i < l->argc && code == 0; l->i++) {
		const char *word = l->argv[l->i];

		if (strcmp(word, "--") == 0) {
			l->ended = true;
			l->i++;
			return 0;
		}
		if (word[0] != '-' || word[1] == '\0')
			return 0;
		code = parse_option(l->argc, l->argv, tables, into, &l->i, err);
	}
	return code;
}

int options_parse(int argc, char **argv, const struct option_row *const *tables, void *into,
	int *ret_rest, struct error *err)
{
	struct command_line l = {.argc = argc, .argv = argv};
	int code = parse_options(&l, tables, into, err);

	if (code == 0)
		*ret_rest = l.i;
	return code;
}

int options_parse_all(int argc, char **argv, const struct option_row *const *tables, void *into,
	struct strings *ret_words, struct error *err)
{
	struct command_line l = {.argc = argc, .argv = argv};

	while (l.i < argc) {
		int code = l.ended ? 0 : parse_options(&l, tables, into, err);

		if (code < 0)
			return code;
		if (l.i < argc)
			text_strings_add(ret_words, argv[l.i++]);
	}
	return 0;
}

static void print_row(const struct option_row *row)
{
	char letter[8] = "    ", left[64];

	if (row->letter != 0)
		snprintf(letter, sizeof(letter), "-%c, ", row->letter);
	snprintf(left, sizeof(left), "%s--%s %s", letter, row->name,
		row->metavar != NULL ? row->metavar : "");
	printf("  %-34s %s\n", left, row->help);
}

void options_print(const struct option_row *const *tables)
{
	for (; *tables != NULL; tables++) {
		for (const struct option_row *row = *tables; row->name != NULL; row++)
			print_row(row);
	}
}
