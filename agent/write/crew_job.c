/* SPDX-License-Identifier: MIT */
/* An entry on its way to a hand, as one piece of memory. Pure but for that; any thread. */
#include "crew_private.h"
#include "path.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* FNV-1a. */
static uint64_t hash_of(const char *bytes, size_t len)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < len; i++) {
		hash ^= (uint8_t)bytes[i];
		hash *= UINT64_C(0x100000001b3);
	}
	return hash != 0 ? hash : 1;
}

uint64_t crew_name_hash(const char *name)
{
	char path[PATH_MAX];

	return path_normalise(name, PATH_MAX - 1, path, NULL) < 0 ? 0 : hash_of(path, strlen(path));
}

static size_t size_of(const char *s)
{
	return s != NULL ? strlen(s) + 1 : 0;
}

/* Copies len bytes to *at and moves it on. */
static const void *place(char **at, const void *bytes, size_t len)
{
	char *to = *at;

	if (bytes == NULL)
		return NULL;
	*at = mempcpy(to, bytes, len);
	return to;
}

static struct crew_job *copy(
	const char *name, const char *target, const struct meta *m, const struct slice *content)
{
	size_t len = content != NULL ? content->len : 0;
	struct crew_job *job = malloc(sizeof(*job) + size_of(name) + size_of(target) + len);
	char *at;

	if (job == NULL)
		return NULL;
	*job = (struct crew_job){.meta = *m, .len = len};
	at = job->bytes;
	job->name = place(&at, name, size_of(name));
	job->target = place(&at, target, size_of(target));
	job->content = place(&at, len > 0 ? content->data : NULL, len);
	return job;
}

struct crew_job *crew_job_new(enum job_kind kind, const char *name, const char *target,
	const struct meta *m, const struct slice *content)
{
	uint64_t target_hash = kind == JOB_HARDLINK ? crew_name_hash(target) : 0;
	char path[PATH_MAX];
	struct crew_job *job;

	if (path_normalise(name, PATH_MAX - 1, path, NULL) < 0 ||
		(kind == JOB_HARDLINK && target_hash == 0))
		return NULL;
	job = copy(name, target, m, content);
	if (job == NULL)
		return NULL;
	job->kind = kind;
	job->name_hash = hash_of(path, strlen(path));
	job->parent_hash = hash_of(path, path_parent_len(path));
	job->target_hash = target_hash;
	return job;
}

void crew_job_free(struct crew_job *job)
{
	free(job);
}
