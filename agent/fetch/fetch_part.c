/* SPDX-License-Identifier: MIT */
/* What jobs share, each alive as long as one of them needs it. Any thread. */
#include "fetch_private.h"
#include "text.h"
#include <stdlib.h>

struct fetch_part *fetch_part_new(struct fetch *f, struct index_part *index)
{
	struct fetch_part *p = zalloc(sizeof(*p));

	p->fetch = f;
	p->index = *index;
	*index = (struct index_part){0};
	atomic_init(&p->refs, 1);
	p->items = zalloc(p->index.n_entries * sizeof(*p->items));
	pthread_mutex_lock(&f->mutex);
	f->n_parts++;
	pthread_mutex_unlock(&f->mutex);
	return p;
}

void fetch_part_unref(struct fetch_part *p)
{
	struct fetch *f = p->fetch;

	if (atomic_fetch_sub(&p->refs, 1) > 1)
		return;
	index_part_done(&p->index);
	free(p->items);
	free(p->links);
	free(p);
	pthread_mutex_lock(&f->mutex);
	f->n_parts--;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->mutex);
}

struct fetch_large *fetch_large_new(const struct fetch_item *item, uint64_t pieces)
{
	struct fetch_large *l = zalloc(sizeof(*l));

	l->item = *item;
	l->pieces = pieces;
	sha256_init(&l->sha256);
	atomic_init(&l->refs, 1);
	return l;
}

void fetch_large_unref(struct fetch_large *l)
{
	if (l == NULL || atomic_fetch_sub(&l->refs, 1) > 1)
		return;
	writer_close(l->writer);
	free(l);
}

struct fetch_job *fetch_job_new(struct fetch_part *p, enum fetch_kind kind)
{
	struct fetch_job *job = zalloc(sizeof(*job));

	atomic_fetch_add(&p->refs, 1);
	job->part = p;
	job->kind = kind;
	return job;
}

void fetch_job_of_large(struct fetch_job *job, struct fetch_large *l, uint64_t turn)
{
	if (l == NULL)
		return;
	atomic_fetch_add(&l->refs, 1);
	job->large = l;
	job->turn = turn;
}

void fetch_job_free(struct fetch_job *job)
{
	fetch_large_unref(job->large);
	fetch_part_unref(job->part);
	free(job);
}

const char *fetch_object_of(const struct fetch_part *p, uint32_t frame)
{
	return p->index.objects[p->index.frames[frame].object];
}
