/* SPDX-License-Identifier: MIT */
/* How each type of setting is read from text and written as text. Writing gives what reading takes:
 * a value that is locked travels from one file's settings to another's as text. */
#include "defer.h"
#include "settings_table.h"
#include <inttypes.h>
#include <limits.h>
#include <string.h>

static void *field_of(const struct setting *row, const struct settings *s)
{
	return (char *)s + row->offset;
}

/* The largest unit that divides n, so that nothing is rounded away. */
static char *print_in_units(uint64_t n, const uint64_t *factors, const char *const *names)
{
	size_t i = 0;

	while (n % factors[i] != 0)
		i++;
	return format_text("%" PRIu64 "%s", n / factors[i], names[i]);
}

static char *print_number(const struct setting *row, uint64_t n)
{
	static const uint64_t bytes[] = {1ULL << 40, 1 << 30, 1 << 20, 1 << 10, 1};
	static const char *const byte_names[] = {"T", "G", "M", "K", ""};
	static const uint64_t ms[] = {86400000, 3600000, 60000, 1000, 1};
	static const char *const ms_names[] = {"d", "h", "m", "s", "ms"};

	if (row->zero != NULL && n == 0)
		return copy_text(row->zero);
	if (n == 0)
		return copy_text("0");
	if (row->type == SETTING_SIZE)
		return print_in_units(n, bytes, byte_names);
	if (row->type == SETTING_DURATION)
		return print_in_units(n, ms, ms_names);
	return format_text("%" PRIu64, n);
}

static int check_range(const struct setting *row, uint64_t n, struct error *err)
{
	_free_ char *min = print_number(row, row->min);
	_free_ char *max = print_number(row, row->max);
	_free_ char *got = print_number(row, n);

	if (n < row->min && !(n == 0 && row->zero != NULL))
		return error_set(err, -ERR_CONFIG, "%s is too small (at least %s)", got, min);
	if (row->max > 0 && n > row->max)
		return error_set(err, -ERR_CONFIG, "%s is too large (at most %s)", got, max);
	return 0;
}

static int parse_number(
	const struct setting *row, const char *value, uint64_t *ret, struct error *err)
{
	uint64_t n = 0;
	int code = 0;

	if (row->zero != NULL && strcmp(value, row->zero) == 0)
		n = 0;
	else if (row->type == SETTING_SIZE)
		code = parse_size(value, &n, err);
	else if (row->type == SETTING_DURATION)
		code = parse_duration(value, &n, err);
	else
		code = parse_uint(
			value, row->type == SETTING_UINT ? UINT_MAX : UINT64_MAX - 1, &n, err);
	if (code == 0)
		code = check_range(row, n, err);
	if (code == 0)
		*ret = n;
	return code;
}

static int parse_choice(
	const struct setting *row, const char *value, unsigned *ret, struct error *err)
{
	_free_ char *choices = setting_describe_type(row);

	for (unsigned i = 0; row->choices[i] != NULL; i++) {
		if (strcmp(row->choices[i], value) == 0) {
			*ret = i;
			return 0;
		}
	}
	return error_set(err, -ERR_CONFIG, "'%s' is not one of %s", value, choices);
}

static int parse_text(const struct setting *row, const char *value, char **field, struct error *err)
{
	int code = row->check != NULL && *value != '\0' ? row->check(value, err) : 0;

	if (code < 0)
		return code;
	free(*field);
	*field = copy_text(value);
	return 0;
}

/* Every item is checked before the first is taken. */
static int parse_list(const struct setting *row, const char *value, bool append,
	struct strings *field, struct error *err)
{
	const char *separators = row->type == SETTING_WORDS ? ", \t\r\n" : "\r\n";
	_free_ char *copy = copy_text(value);
	struct strings items = {0};
	char *rest = NULL;
	int code = 0;

	for (char *item = strtok_r(copy, separators, &rest); item != NULL && code == 0;
		item = strtok_r(NULL, separators, &rest)) {
		code = row->check != NULL ? row->check(item, err) : 0;
		strings_add(&items, item);
	}
	if (code == 0 && !append)
		strings_done(field);
	for (size_t i = 0; code == 0 && i < items.n; i++)
		strings_add(field, items.v[i]);
	strings_done(&items);
	return code;
}

int setting_parse(const struct setting *row, struct settings *s, const char *value, bool append,
	struct error *err)
{
	void *field = field_of(row, s);
	uint64_t n;
	int code;

	switch (row->type) {
	case SETTING_BOOL:
		return parse_bool(value, field, err);
	case SETTING_ENUM:
		return parse_choice(row, value, field, err);
	case SETTING_TEXT:
		return parse_text(row, value, field, err);
	case SETTING_WORDS:
	case SETTING_LINES:
		return parse_list(row, value, append, field, err);
	case SETTING_UINT:
		code = parse_number(row, value, &n, err);
		if (code == 0)
			*(unsigned *)field = (unsigned)n;
		return code;
	default:
		code = parse_number(row, value, &n, err);
		if (code == 0)
			*(uint64_t *)field = n == 0 && row->zero_is_max ? UINT64_MAX : n;
		return code;
	}
}

static char *print_list(const struct strings *items, const char *between)
{
	struct text t = {0};

	for (size_t i = 0; i < items->n; i++) {
		text_add(&t, i > 0 ? between : "");
		text_add(&t, items->v[i]);
	}
	return text_take(&t);
}

char *setting_print(const struct setting *row, const struct settings *s)
{
	const void *field = field_of(row, s);
	uint64_t n;

	switch (row->type) {
	case SETTING_BOOL:
		return copy_text(*(const bool *)field ? "yes" : "no");
	case SETTING_ENUM:
		return copy_text(row->choices[*(const unsigned *)field]);
	case SETTING_TEXT:
		return copy_text(*(char *const *)field);
	case SETTING_WORDS:
		return print_list(field, ", ");
	case SETTING_LINES:
		return print_list(field, "\n");
	case SETTING_UINT:
		return print_number(row, *(const unsigned *)field);
	default:
		n = *(const uint64_t *)field;
		return print_number(row, n == UINT64_MAX && row->zero_is_max ? 0 : n);
	}
}

void setting_clear(const struct setting *row, struct settings *s)
{
	void *field = field_of(row, s);

	if (row->type == SETTING_TEXT)
		free(*(char **)field);
	else if (row->type == SETTING_WORDS || row->type == SETTING_LINES)
		strings_done(field);
}

static char *describe_choices(const struct setting *row)
{
	struct text t = {0};

	for (size_t i = 0; row->choices[i] != NULL; i++) {
		bool last = row->choices[i + 1] == NULL;

		text_add(&t, i == 0 ? "" : last ? " or " : ", ");
		text_add(&t, row->choices[i]);
	}
	return text_take(&t);
}

static char *describe_number(const struct setting *row, const char *what)
{
	_free_ char *min = print_number(row, row->min);
	_free_ char *max = print_number(row, row->max);
	struct text t = {0};

	text_add(&t, row->zero != NULL ? row->zero : "");
	text_addf(&t, "%s%s", row->zero != NULL ? ", or " : "", what);
	if (row->min > 1)
		text_addf(&t, ", at least %s", min);
	if (row->max > 0)
		text_addf(&t, ", at most %s", max);
	return text_take(&t);
}

char *setting_describe_type(const struct setting *row)
{
	switch (row->type) {
	case SETTING_BOOL:
		return copy_text("yes or no");
	case SETTING_ENUM:
		return describe_choices(row);
	case SETTING_TEXT:
		return copy_text(row->unit);
	case SETTING_WORDS:
		return format_text("%s; separated by commas or spaces", row->unit);
	case SETTING_LINES:
		return format_text("%s; one a line, the key repeated", row->unit);
	case SETTING_SIZE:
		return describe_number(row, "bytes, or with K, M, G or T");
	case SETTING_DURATION:
		return describe_number(row, "seconds, or with ms, s, m, h or d");
	default:
		return describe_number(row, row->unit != NULL ? row->unit : "a number");
	}
}
