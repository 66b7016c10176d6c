/* SPDX-License-Identifier: MIT */
/* Growing strings and arrays of strings. Running out of memory for a few bytes of text aborts. */
#include "text.h"
#include "defer.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void *base_zalloc(size_t size)
{
	void *p = calloc(1, size > 0 ? size : 1);

	if (p == NULL)
		abort();
	return p;
}

char *text_copy(const char *s)
{
	char *copy;

	if (s == NULL)
		return NULL;
	copy = strdup(s);
	if (copy == NULL)
		abort();
	return copy;
}

static void text_reserve(struct text *t, size_t more)
{
	size_t need = t->len + more + 1;

	if (need <= t->cap)
		return;
	t->cap = need > 2 * t->cap ? need : 2 * t->cap;
	t->s = realloc(t->s, t->cap);
	if (t->s == NULL)
		abort();
}

void text_add_bytes(struct text *t, const void *bytes, size_t len)
{
	text_reserve(t, len);
	if (len > 0)
		memcpy(t->s + t->len, bytes, len);
	t->len += len;
	t->s[t->len] = '\0';
}

void text_add(struct text *t, const char *s)
{
	text_add_bytes(t, s, strlen(s));
}

static void text_addv(struct text *t, const char *fmt, va_list ap)
{
	va_list again;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0)
		abort();
	text_reserve(t, (size_t)n);
	vsnprintf(t->s + t->len, (size_t)n + 1, fmt, ap);
	t->len += (size_t)n;
}

void text_addf(struct text *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	text_addv(t, fmt, ap);
	va_end(ap);
}

void text_add_shown(struct text *t, const char *s)
{
	while (true) {
		const char *c = s;

		while ((unsigned char)*c >= 0x20 && *c != 0x7f)
			c++;
		text_add_bytes(t, s, (size_t)(c - s));
		if (*c == '\0')
			return;
		text_addf(t, "\\x%02x", (unsigned char)*c);
		s = c + 1;
	}
}

void text_done(struct text *t)
{
	free(t->s);
	*t = (struct text){0};
}

char *text_take(struct text *t)
{
	char *s;

	text_reserve(t, 0);
	t->s[t->len] = '\0';
	s = t->s;
	*t = (struct text){0};
	return s;
}

char *text_format(const char *fmt, ...)
{
	struct text t = {0};
	va_list ap;

	va_start(ap, fmt);
	text_addv(&t, fmt, ap);
	va_end(ap);
	return text_take(&t);
}

void text_strings_add(struct strings *a, const char *s)
{
	if (a->n + 2 > a->cap) {
		a->cap = a->cap > 0 ? 2 * a->cap : 8;
		a->v = realloc(a->v, a->cap * sizeof(*a->v));
		if (a->v == NULL)
			abort();
	}
	a->v[a->n++] = text_copy(s);
	a->v[a->n] = NULL;
}

void text_strings_done(struct strings *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->v[i]);
	free(a->v);
	*a = (struct strings){0};
}

bool text_begins(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

char *text_without_slashes(const char *path)
{
	size_t len = strlen(path);

	while (len > 1 && path[len - 1] == '/')
		len--;
	return text_format("%.*s", (int)len, path);
}

bool text_is_reserved_name(const char *component)
{
	const size_t len = strlen(STATE_NAME);
	char next;

	if (strncasecmp(component, STATE_NAME, len) != 0)
		return false;
	next = component[len];
	return next == '\0' || next == '/' || next == '-';
}
