/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ADVICE_H
#define STAGERUN_ADVICE_H

#include <stdint.h>

/* What would make a source faster, in one sentence, from what it waited for. Pure. */

/* Waits as in struct progress, during wall_ns; threads wait beside each other, so that a sum may
 * exceed it. */
struct advice_facts {
	uint64_t wall_ns; /* from its first request to its last entry */
	uint64_t network_ns, decode_ns, disk_ns, budget_ns;
	uint64_t lock_ns;            /* waited for another agent, before wall_ns */
	uint64_t received, expanded; /* bytes */
	uint64_t entries;
	uint64_t stalls;          /* attempts that ended because nothing arrived any more */
	uint64_t max_rate;        /* bytes per second, of all downloads; 0: no limit */
	unsigned connections;     /* the most at once; 0: not known */
	unsigned connections_max; /* for one host: connections_per_host */
	unsigned connections_all; /* of all downloads: connections; 0: not known */
	const char *format;       /* such as "tar.zst"; NULL: not known */
};

/* Heap. NULL: little was waited, or nothing is known that would help. Any thread. */
char *advice_sentence(const struct advice_facts *f);

#endif
