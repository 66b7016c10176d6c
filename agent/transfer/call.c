/* SPDX-License-Identifier: MIT */
/* One request and its answer, waited for by the thread that asks: curl's multi interface with one
 * handle, since only that can be left at any moment and shows its descriptors. */
#include "call.h"
#include "calling.h"
#include "defer.h"
#include "engine.h"
#include "libcurl.h"
#include "throttle.h"
#include <string.h>
#include <unistd.h>

enum { LOOK_AROUND_MS = 100 }; /* how often a sleeper looks whether it was cancelled */

/* Descriptors that only the look-up knows of have to be made CLOEXEC. */
static int on_look_up(void *resolver, void *reserved, void *ctx)
{
	struct caller *c = ctx;

	(void)resolver, (void)reserved;
	c->looks_up = true;
	return 0;
}

int caller_new(const struct transfer_options *network, struct cancel *cancel, struct caller **ret,
	struct error *err)
{
	struct caller *c;
	int code = libcurl_load(err);

	if (code < 0)
		return code;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return error_set(err, -ENOMEM, "libcurl cannot start: out of memory");
	c = zalloc(sizeof(*c));
	c->network = network;
	c->cancel = cancel;
	c->inherited = cloexec_inherited();
	c->multi = curl_multi_init();
	c->easy = curl_easy_init();
	cloexec_sweep(c->inherited);
	code = trust_find(network->ca_file, &c->ca_file, err);
	if (code == 0 && (c->multi == NULL || c->easy == NULL))
		code = error_set(
			err, -ENOMEM, "libcurl cannot start: out of memory or file descriptors");
	if (code < 0) {
		caller_free(c);
		return code;
	}
	*ret = c;
	return 0;
}

void caller_free(struct caller *c)
{
	if (c == NULL)
		return;
	curl_easy_cleanup(c->easy);
	curl_multi_cleanup(c->multi);
	curl_global_cleanup();
	free(c->inherited);
	free(c->ca_file);
	free(c);
}

/* "PUT https://host/path": without the query, where signatures and tokens may be. */
static char *name_of(const struct call *what)
{
	return format_text("%s %.*s", what->method, (int)strcspn(what->url, "?#"), what->url);
}

static bool stalled(struct calling *c)
{
	curl_off_t sent = 0;
	uint64_t moved, now = now_ns();

	curl_easy_getinfo(c->caller->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
	moved = c->moved + (uint64_t)sent;
	if (moved != c->moved_before) {
		c->moved_before = moved;
		c->last_ns = now;
	}
	return now - c->last_ns > c->caller->network->stall_timeout_ms * 1000000;
}

static bool is_finished(struct caller *caller, CURLcode *ret)
{
	const CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(caller->multi, &left)) != NULL) {
		if (m->msg == CURLMSG_DONE) {
			*ret = m->data.result;
			return true;
		}
	}
	return false;
}

static void sleep_until_due(struct calling *c)
{
	const struct caller *caller = c->caller;
	uint64_t now = now_ns(), due, most = LOOK_AROUND_MS * 1000000ull;

	while (!cancel_requested(caller->cancel) &&
		(due = throttle_due_ns(caller->network->throttle, now)) != 0) {
		usleep((useconds_t)((due - now < most ? due - now : most) / 1000) + 1);
		now = now_ns();
	}
	c->last_ns = now;
}

/* What is not taken, the server has to keep. */
static CURLcode wait_for_rate(struct calling *c)
{
	CURLcode result = CURLE_OK;

	while (c->held && result == CURLE_OK && !cancel_requested(c->caller->cancel)) {
		sleep_until_due(c);
		c->held = false;
		result = curl_easy_pause(c->caller->easy, CURLPAUSE_CONT);
	}
	return result;
}

/* Until curl is done (0, and its result), or somebody loses patience. */
static int wait_for_end(struct calling *c, CURLcode *ret)
{
	struct caller *caller = c->caller;
	int running;

	for (;;) {
		CURLMcode m = curl_multi_perform(caller->multi, &running);

		if (caller->looks_up)
			cloexec_sweep(caller->inherited);
		caller->looks_up = false;
		if (is_finished(caller, ret))
			return 0;
		if (cancel_requested(caller->cancel))
			return error_set(c->err, -ECANCELED, "cancelled");
		if (stalled(c))
			return error_set(c->err, -ETIMEDOUT, "no byte came or went for %g s",
				(double)caller->network->stall_timeout_ms / 1000);
		*ret = wait_for_rate(c);
		if (*ret != CURLE_OK)
			return 0;
		if (m == CURLM_OK)
			m = curl_multi_poll(caller->multi, NULL, 0, LOOK_AROUND_MS, NULL);
		if (m != CURLM_OK)
			return error_set(c->err, -ENOMEM, "%s", curl_multi_strerror(m));
	}
}

static int judge(const struct calling *c, CURLcode result)
{
	const char *advice = retry_permanent_advice(result);
	const char *said = c->said[0] != '\0' ? c->said : curl_easy_strerror(result);

	if (result == CURLE_OK)
		return 0;
	if (c->code < 0)
		return c->code; /* a callback has said why */
	if (advice != NULL)
		return error_set(c->err, -ERR_HTTP, "%s%s", said, advice);
	return error_set(
		c->err, result == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : -EAGAIN, "%s", said);
}

static int perform(struct calling *c)
{
	struct caller *caller = c->caller;
	CURLcode result = calling_prepare(c);
	int code = 0;

	if (result != CURLE_OK)
		return judge(c, result);
	calling_expect_reply(c);
	curl_easy_setopt(caller->easy, CURLOPT_RESOLVER_START_FUNCTION, on_look_up);
	curl_easy_setopt(caller->easy, CURLOPT_RESOLVER_START_DATA, caller);
	c->last_ns = now_ns();
	if (curl_multi_add_handle(caller->multi, caller->easy) != CURLM_OK)
		return error_set(c->err, -ENOMEM, "out of memory");
	code = wait_for_end(c, &result);
	curl_multi_remove_handle(caller->multi, caller->easy);
	return code < 0 ? code : judge(c, result);
}

int call(struct caller *caller, const struct call *what, struct reply *ret, struct error *err)
{
	struct reply reply = {0};
	struct error why = {0};
	struct calling c = {.caller = caller, .what = what, .reply = &reply, .err = &why};
	int code;

	if (cancel_requested(caller->cancel))
		return error_set(err, -ECANCELED, "cancelled");
	code = perform(&c);
	curl_easy_reset(caller->easy);
	curl_slist_free_all(c.headers);
	if (code < 0) {
		_free_ char *name = name_of(what);

		reply_done(&reply);
		return error_set(err, code, "%s: %s", name, why.msg);
	}
	*ret = reply;
	return 0;
}

bool call_is_transient(int code)
{
	return code == -EAGAIN || code == -ETIMEDOUT;
}
