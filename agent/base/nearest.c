/* SPDX-License-Identifier: MIT */
/* "did you mean": the nearest candidate by edit distance, where swapping two neighbouring letters
 * counts as one edit (optimal string alignment). Pure. */
#include "defer.h"
#include "text.h"
#include <string.h>

enum { LONGEST = 63 };

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static bool swapped(const char *a, const char *b, size_t i, size_t j)
{
	return i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
}

/* Stores three rows of the table at a time; words longer than LONGEST are never near. */
static size_t distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	size_t rows[3][LONGEST + 1];

	if (la > LONGEST || lb > LONGEST)
		return SIZE_MAX;
	for (size_t j = 0; j <= lb; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= la; i++) {
		size_t *row = rows[i % 3], *above = rows[(i - 1) % 3], *before = rows[(i + 1) % 3];

		row[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			row[j] = min_size(min_size(above[j], row[j - 1]) + 1,
				above[j - 1] + (a[i - 1] != b[j - 1]));
			if (swapped(a, b, i, j))
				row[j] = min_size(row[j], before[j - 2] + 1);
		}
	}
	return rows[la % 3][lb];
}

static const char *nearest_spelling(const char *word, const char *const *candidates, size_t n)
{
	size_t allowed = strlen(word) / 3, best = SIZE_MAX;
	const char *nearest = NULL;

	if (allowed < 1)
		allowed = 1;
	for (size_t i = 0; i < n; i++) {
		size_t d = distance(word, candidates[i]);

		if (d < best) {
			best = d;
			nearest = candidates[i];
		}
	}
	return best <= allowed ? nearest : NULL;
}

/* Replaces synonyms for start and end, whose letters are far from ours, or near the wrong word:
 * on_experiment_begin is nearer to on_experiment_end than to on_experiment_start. NULL: word ends
 * in none of them. Heap. */
static char *replace_synonym(const char *word)
{
	static const struct {
		const char *theirs, *ours;
	} ends[] = {{"_begin", "_start"}, {"_before", "_start"}, {"_finish", "_end"},
		{"_stop", "_end"}, {"_after", "_end"}};
	size_t len = strlen(word);

	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		size_t tail = strlen(ends[i].theirs);

		if (len > tail && strcmp(word + len - tail, ends[i].theirs) == 0)
			return text_format("%.*s%s", (int)(len - tail), word, ends[i].ours);
	}
	return NULL;
}

const char *nearest_word(const char *word, const char *const *candidates, size_t n)
{
	_free_ char *ours = replace_synonym(word);
	const char *nearest = ours != NULL ? nearest_spelling(ours, candidates, n) : NULL;

	return nearest != NULL ? nearest : nearest_spelling(word, candidates, n);
}
