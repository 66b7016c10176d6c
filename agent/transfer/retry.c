/* SPDX-License-Identifier: MIT */
/* What curl's own failures mean, and how long to wait before the next try. What a server answered
 * is judged elsewhere. Any thread. */
#include "engine.h"
#include "error.h"
#include <errno.h>
#include <sys/random.h>

/* Failures that the same request would meet again. Everything else that can happen on the way to a
 * server and back passes: name look-ups, refused and lost connections, broken handshakes. */
const char *retry_permanent_advice(CURLcode result)
{
	switch (result) {
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_ISSUER_ERROR:
		return "; if the server's CA is your own, name its file in ca_file in agent.ini";
	case CURLE_SSL_CACERT_BADFILE:
		return "; set ca_file in agent.ini, or install ca-certificates";
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
		return "; check the spelling of the URL";
	case CURLE_COULDNT_RESOLVE_PROXY:
		return "; check https_proxy and http_proxy";
	case CURLE_OUT_OF_MEMORY:
	case CURLE_FAILED_INIT:
	case CURLE_NOT_BUILT_IN:
	case CURLE_UNKNOWN_OPTION:
	case CURLE_BAD_FUNCTION_ARGUMENT:
	case CURLE_SSL_ENGINE_NOTFOUND:
	case CURLE_SSL_ENGINE_SETFAILED:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_TOO_MANY_REDIRECTS:
	case CURLE_LOGIN_DENIED:
		return "";
	default:
		return NULL;
	}
}

enum verdict retry_judge_curl(
	CURLcode result, const char *said, const struct answer_wanted *wanted, struct error *err)
{
	const char *advice = retry_permanent_advice(result);

	if (said[0] == '\0')
		said = curl_easy_strerror(result);
	error_set(err, -ERR_HTTP, "%s: %s%s", wanted->name, said, advice != NULL ? advice : "");
	return advice != NULL ? VERDICT_FAIL : VERDICT_RETRY;
}

static uint64_t random_below(uint64_t n)
{
	uint64_t r;

	if (getrandom(&r, sizeof(r), GRND_NONBLOCK) != (ssize_t)sizeof(r))
		r = now_ns();
	return r % n;
}

uint64_t retry_delay_ms(
	const struct transfer_options *opts, unsigned attempt, uint64_t retry_after_ms)
{
	uint64_t ceiling = opts->retry_base_ms;
	uint64_t jitter;

	while (attempt-- > 1 && ceiling < opts->retry_max_ms)
		ceiling *= 2;
	if (ceiling > opts->retry_max_ms)
		ceiling = opts->retry_max_ms;
	/* Anywhere between nothing and the ceiling: clients that were cut off together must not
	 * come back together. */
	jitter = random_below(ceiling + 1);
	return retry_after_ms > jitter ? retry_after_ms : jitter;
}
