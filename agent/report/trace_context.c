/* SPDX-License-Identifier: MIT */
/* TRACEPARENT, "00-TRACE-PARENT-FLAGS", read and written. */
#include "random.h"
#include "report_private.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRACE_AT = 3, PARENT_AT = 36, FLAGS_AT = 53 };

static const char *get_variable(char *const *env, const char *name)
{
	size_t len = strlen(name);

	for (; env != NULL && *env != NULL; env++)
		if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
			return *env + len + 1;
	return NULL;
}

static bool is_hex(const char *s, size_t len)
{
	return strspn(s, "0123456789abcdef") >= len;
}

static bool is_id(const char *s, size_t len)
{
	return is_hex(s, len) && strspn(s, "0") < len;
}

/* A later version than 00 may have more behind the flags. */
static bool is_valid(const char *s)
{
	size_t len = strlen(s);

	if (len < TRACE_PARENT_SIZE - 1 || !is_hex(s, 2) || strncmp(s, "ff", 2) == 0)
		return false;
	if (s[2] != '-' || s[PARENT_AT - 1] != '-' || s[FLAGS_AT - 1] != '-')
		return false;
	if (len > TRACE_PARENT_SIZE - 1 &&
		(strncmp(s, "00", 2) == 0 || s[TRACE_PARENT_SIZE - 1] != '-'))
		return false;
	return is_id(s + TRACE_AT, TRACE_ID_SIZE - 1) &&
	       is_id(s + PARENT_AT, TRACE_SPAN_SIZE - 1) && is_hex(s + FLAGS_AT, 2);
}

void trace_context_begin(struct trace_context *c, char *const *env)
{
	const char *parent = get_variable(env, "TRACEPARENT");
	uint64_t id[2];

	*c = (struct trace_context){.flags = 1};
	random_fill(&c->seed, sizeof(c->seed));
	if (parent != NULL && is_valid(parent)) {
		memcpy(c->trace, parent + TRACE_AT, TRACE_ID_SIZE - 1);
		memcpy(c->parent, parent + PARENT_AT, TRACE_SPAN_SIZE - 1);
		c->flags = (unsigned)strtoul(parent + FLAGS_AT, NULL, 16) & 0xff;
		c->state = get_variable(env, "TRACESTATE");
		return;
	}
	random_fill(id, sizeof(id));
	snprintf(c->trace, sizeof(c->trace), "%016" PRIx64 "%016" PRIx64, id[0], id[1] | 1);
}

bool trace_context_is_sampled(const struct trace_context *c)
{
	return (c->flags & 1) != 0;
}

/* The finalizer of splitmix64: different inputs have different outputs. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

const char *trace_context_span(
	const struct trace_context *c, unsigned id, char buf[static TRACE_SPAN_SIZE])
{
	uint64_t n = mix(c->seed + id);

	snprintf(buf, TRACE_SPAN_SIZE, "%016" PRIx64, n != 0 ? n : 1);
	return buf;
}

const char *trace_context_child(
	const struct trace_context *c, unsigned id, char buf[static TRACE_PARENT_SIZE])
{
	char span[TRACE_SPAN_SIZE];

	snprintf(buf, TRACE_PARENT_SIZE, "00-%s-%s-%02x", c->trace, trace_context_span(c, id, span),
		c->flags & 0xff);
	return buf;
}
