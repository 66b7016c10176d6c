/* SPDX-License-Identifier: MIT */
/* Sorting the entries of a zip by where their data is. Pure; any thread. */
#include "zip_place.h"
#include <stdbool.h>

static bool comes_before(const struct zip_place *a, const struct zip_place *b)
{
	return a->header_at != b->header_at ? a->header_at < b->header_at
					    : a->record_at < b->record_at;
}

static void sift_down(struct zip_place *heap, uint64_t i, uint64_t n)
{
	struct zip_place moving = heap[i];

	for (;;) {
		uint64_t child = 2 * i + 1;

		if (child >= n)
			break;
		if (child + 1 < n && comes_before(&heap[child], &heap[child + 1]))
			child++;
		if (!comes_before(&moving, &heap[child]))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = moving;
}

/* A heap sort: in place, where glibc's qsort() would take as much memory again. */
void zip_places_sort(struct zip_place *places, uint64_t n)
{
	for (uint64_t i = n / 2; i > 0; i--)
		sift_down(places, i - 1, n);
	for (uint64_t last = n; last > 1; last--) {
		struct zip_place largest = places[0];

		places[0] = places[last - 1];
		places[last - 1] = largest;
		sift_down(places, 0, last - 1);
	}
}
