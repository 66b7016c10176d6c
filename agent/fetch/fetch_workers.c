/* SPDX-License-Identifier: MIT */
/* The threads that fetch, decode and write, hired when a job finds none of them idle, and the buffers that they
 * take turns with: fresh memory for each job would cost a page fault for each 4 KiB of it. */
#include "fetch_private.h"
#include "text.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

uint64_t fetch_kit_room(const struct fetch_kit *k)
{
	return k->packed_room + k->raw_room;
}

void fetch_kit_empty(struct fetch_kit *k)
{
	free(k->packed);
	free(k->raw);
	k->packed = k->raw = NULL;
	k->packed_room = k->raw_room = 0;
}

void fetch_kit_free(struct fetch_kit *k)
{
	fetch_kit_empty(k);
	ZSTD_freeDCtx(k->decoder);
	free(k);
}

/* So that buffers of one fetch, whose jobs are all a little different, soon fit all of them. */
static size_t rounded(size_t size)
{
	size_t step = (size_t)64 << 10;

	while (step * 8 < size)
		step *= 2;
	return (size + step - 1) / step * step;
}

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

uint64_t fetch_kit_charge(const struct fetch_kit *k, const struct fetch_job *job)
{
	size_t packed = rounded(job->length), raw = rounded(job->decoded);

	return k == NULL ? packed + raw : larger(packed, k->packed_room) + larger(raw, k->raw_room);
}

static bool fit(uint8_t **buffer, size_t *room, size_t needed)
{
	if (needed <= *room)
		return true;
	free(*buffer);
	*buffer = malloc(needed);
	*room = *buffer != NULL ? needed : 0;
	return *buffer != NULL;
}

int fetch_kit_fit(struct fetch_kit *k, const struct fetch_job *job, struct error *err)
{
	if (k->decoder == NULL)
		k->decoder = ZSTD_createDCtx();
	if (k->decoder == NULL || !fit(&k->packed, &k->packed_room, rounded(job->length)) ||
		!fit(&k->raw, &k->raw_room, rounded(job->decoded)))
		return error_set(err, -ENOMEM, "no memory for %zu bytes of a datastore",
			job->length + job->decoded);
	return 0;
}

static int run(struct fetch_worker *w, const struct fetch_job *job, struct error *err)
{
	int r = fetch_kit_fit(w->kit, job, err);

	if (r < 0)
		return r;
	switch (job->kind) {
	case FETCH_SPAN:
		return fetch_span(w, job, err);
	case FETCH_PIECE:
		return fetch_piece(w, job, err);
	case FETCH_REFERENCE:
		return fetch_reference(w, job, err);
	}
	return 0;
}

static void *worker_main(void *ctx)
{
	struct fetch_worker *w = ctx;
	struct fetch *f = w->fetch;
	struct fetch_job *job;

	w->writer = writer_new(f->tree, f->name, f->opts->progress);
	while ((job = fetch_take(f, &w->kit)) != NULL) {
		struct error err = {0};
		int r = run(w, job, &err);

		if (r < 0)
			fetch_fail(f, r, &err);
		fetch_give_back(f, job, w->kit);
	}
	writer_close(w->writer);
	store_hand_close(w->hand);
	s3_client_free(w->s3);
	return NULL;
}

int fetch_hire(struct fetch *f, struct error *err)
{
	struct fetch_worker *w = &f->workers[f->n_workers];
	int r;

	*w = (struct fetch_worker){.fetch = f};
	r = pthread_create(&w->thread, NULL, worker_main, w);
	if (r != 0 && f->n_workers == 0)
		return error_set(err, -r, "cannot start a thread: %s", strerrordesc_np(r));
	f->n_workers += r == 0; /* nobody else looks at it */
	return 0;
}

void fetch_dismiss(struct fetch *f)
{
	for (unsigned i = 0; i < f->n_workers; i++)
		pthread_join(f->workers[i].thread, NULL);
	f->n_workers = 0;
}
