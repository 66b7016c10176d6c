/* SPDX-License-Identifier: MIT */
/* What a response means for the range that was asked for. Pure: no curl handle, no lock, no thread
 * of its own, so that every lie a server can tell is a test of a few lines. */
#include "answer.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Only what both responses say can differ. */
static const char *difference(const struct version *was, const struct version *is)
{
	if (was->etag[0] != '\0' && is->etag[0] != '\0' && strcmp(was->etag, is->etag) != 0)
		return "its ETag";
	if (was->size != SIZE_UNKNOWN && is->size != SIZE_UNKNOWN && was->size != is->size)
		return "its size";
	/* The same strong ETag is the same bytes, whatever the date. */
	if (etag_is_strong(was->etag) && etag_is_strong(is->etag))
		return NULL;
	if (was->last_modified[0] != '\0' && is->last_modified[0] != '\0' &&
		strcmp(was->last_modified, is->last_modified) != 0)
		return "its Last-Modified date";
	return NULL;
}

static enum verdict changed(const struct answer_wanted *w, const char *what, struct error *err)
{
	error_set(err, -ERR_CHANGED, "%s was replaced on the server while it was read: %s changed",
		w->name, what);
	return VERDICT_FAIL;
}

/* A stored coding that is known by its first bytes is one more compression to undo, like any other.
 * One that is not would be stored as garbage. */
static bool coding_is_readable(const char *coding)
{
	static const char *const known[] = {"identity", "gzip", "x-gzip", "zstd", "aws-chunked"};
	char copy[sizeof(((struct answer *)NULL)->content_encoding)];
	char *save, *word;

	snprintf(copy, sizeof(copy), "%s", coding);
	for (word = strtok_r(copy, ", ", &save); word != NULL; word = strtok_r(NULL, ", ", &save)) {
		size_t i = 0;

		while (i < sizeof(known) / sizeof(known[0]) && strcasecmp(word, known[i]) != 0)
			i++;
		if (i == sizeof(known) / sizeof(known[0]))
			return false;
	}
	return true;
}

static enum verdict judge_content_range(
	const struct answer *a, const struct answer_wanted *w, struct error *err)
{
	if (!a->has_range || w->plain) {
		error_set(err, -ERR_HTTP,
			"%s: the server answered 206 Partial Content without a usable "
			"Content-Range; it or a proxy before it is broken",
			w->name);
		return VERDICT_RETRY;
	}
	if (a->first != w->from || a->last >= w->to) {
		error_set(err, -ERR_HTTP,
			"%s: asked for bytes %" PRIu64 "-%" PRIu64
			", the server's Content-Range says %" PRIu64 "-%" PRIu64
			"; it or a proxy before it is broken",
			w->name, w->from, w->to - 1, a->first, a->last);
		return VERDICT_RETRY;
	}
	if (a->content_length != SIZE_UNKNOWN && a->content_length != a->last - a->first + 1) {
		error_set(err, -ERR_HTTP,
			"%s: the server promises %" PRIu64 " bytes in Content-Range and %" PRIu64
			" in Content-Length; it or a proxy before it is broken",
			w->name, a->last - a->first + 1, a->content_length);
		return VERDICT_RETRY;
	}
	return VERDICT_RANGE;
}

static enum verdict judge_partial(
	const struct answer *a, const struct answer_wanted *w, struct error *err)
{
	const char *what = w->version != NULL ? difference(w->version, &a->version) : NULL;

	if (what != NULL)
		return changed(w, what, err);
	if (a->has_range && a->version.size == SIZE_UNKNOWN && w->version == NULL)
		return VERDICT_PLAIN; /* ranges of nobody knows what cannot be planned */
	return judge_content_range(a, w, err);
}

static enum verdict judge_whole(
	const struct answer *a, const struct answer_wanted *w, struct error *err)
{
	struct version is = a->version;
	const char *what;

	if (w->version == NULL)
		return VERDICT_WHOLE;
	is.size = a->content_length;
	what = difference(w->version, &is);
	if (what != NULL)
		return changed(w, what, err);
	error_set(err, -ERR_HTTP,
		"%s: the server answered 200 with the whole object where it had served ranges "
		"before; are several servers behind that name?",
		w->name);
	return VERDICT_RETRY;
}

static enum verdict judge_unsatisfiable(
	const struct answer *a, const struct answer_wanted *w, struct error *err)
{
	/* Of an empty object no range can be had, and some servers do not say more than that. */
	if (w->version == NULL && !w->plain)
		return VERDICT_PLAIN;
	if (w->version != NULL && a->version.size != w->version->size)
		return changed(w, "its size", err);
	error_set(err, -ERR_HTTP,
		"%s: the server answered 416 Range Not Satisfiable for bytes %" PRIu64 "-%" PRIu64
		", which it has; it or a proxy before it is broken",
		w->name, w->from, w->to - 1);
	return VERDICT_RETRY;
}

static const char *advice(int status)
{
	switch (status) {
	case 401:
		return "; give credentials (headers or netrc_file in agent.ini)";
	case 403:
		return "; check the credentials (headers or netrc_file in agent.ini), or whether a "
		       "presigned URL has expired";
	case 404:
	case 410:
		return "; check the spelling of the URL";
	case 407:
		return "; check the user and password in https_proxy or http_proxy";
	case 408:
	case 429:
		return "; it is overloaded or limits this client";
	default:
		return status >= 500 ? "; the fault is the server's" : "";
	}
}

static bool is_transient(const struct answer *a)
{
	if (a->status == 400) /* S3's word for a slow connection */
		return strstr(a->text, "<Code>RequestTimeout</Code>") != NULL;
	return a->status == 408 || a->status == 429 ||
	       (a->status >= 500 && a->status != 501 && a->status != 505);
}

static enum verdict judge_refusal(
	const struct answer *a, const struct answer_wanted *w, struct error *err)
{
	error_set(err, -ERR_HTTP, "%s: the %s answered %d%s%s%s", w->name,
		a->status == 407 ? "proxy" : "server", a->status, a->reason[0] != '\0' ? " " : "",
		a->reason, advice(a->status));
	if (is_transient(a))
		return VERDICT_RETRY;
	if (a->status == 401 || a->status == 403 || a->status == 404 || a->status == 410)
		return VERDICT_DENIED;
	return VERDICT_FAIL;
}

static enum verdict judge_success(
	const struct answer *a, const struct answer_wanted *w, struct error *err)
{
	if (!coding_is_readable(a->content_encoding)) {
		error_set(err, -ERR_HTTP,
			"%s: the server sent it with Content-Encoding '%s' although only "
			"'identity' was asked for; store it without",
			w->name, a->content_encoding);
		return VERDICT_FAIL;
	}
	return a->status == 206 ? judge_partial(a, w, err) : judge_whole(a, w, err);
}

enum verdict answer_judge(const struct answer *a, const struct answer_wanted *w, struct error *err)
{
	switch (a->status) {
	case 200:
	case 206:
		return judge_success(a, w, err);
	case 301:
	case 302:
	case 303:
	case 307:
	case 308:
		return VERDICT_REDIRECT;
	case 304:
		return w->conditional ? VERDICT_NOT_MODIFIED : judge_refusal(a, w, err);
	case 412:
		return w->version != NULL ? changed(w, "its ETag", err) : judge_refusal(a, w, err);
	case 416:
		return judge_unsatisfiable(a, w, err);
	default:
		return judge_refusal(a, w, err);
	}
}
