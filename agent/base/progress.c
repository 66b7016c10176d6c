/* SPDX-License-Identifier: MIT */
/* The last incident of a source. Any thread. */
#include "progress.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void progress_note(struct progress *p, const char *fmt, ...)
{
	va_list ap;

	if (p == NULL)
		return;
	va_start(ap, fmt);
	pthread_mutex_lock(&p->note_mutex);
	vsnprintf(p->note, sizeof(p->note), fmt, ap);
	pthread_mutex_unlock(&p->note_mutex);
	va_end(ap);
	atomic_fetch_add(&p->notes, 1);
}

void progress_last_note(struct progress *p, char ret[static PROGRESS_NOTE_SIZE])
{
	pthread_mutex_lock(&p->note_mutex);
	memcpy(ret, p->note, PROGRESS_NOTE_SIZE);
	pthread_mutex_unlock(&p->note_mutex);
}
