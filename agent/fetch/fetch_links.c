/* SPDX-License-Identifier: MIT */
/* Hard links, made when all that they can link to is written: they come last in the index. The walk's. */
#include "fetch_private.h"

int fetch_links(struct fetch_part *p, struct error *err)
{
	struct fetch *f = p->fetch;
	int r = p->n_links > 0 ? fetch_await_jobs(f, err) : 0;

	for (size_t i = 0; i < p->n_links && r == 0; i++) {
		const struct fetch_item *link = &p->links[i];

		r = crew_hardlink(
			f->crew, f->writer, link->name, fetch_select_target(f, link->entry), err);
	}
	return r;
}
