/* SPDX-License-Identifier: MIT */
/* What all requests have in common, whichever of curl's interfaces makes them. Any thread. */
#include "engine.h"
#include <sys/socket.h>
#include <unistd.h>

static curl_socket_t open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *address)
{
	(void)ctx;
	(void)purpose;
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* Here, and not in libcurl, for the thread sanitizer: it must see that the number is free for another's
 * descriptor. */
static int close_socket(void *ctx, curl_socket_t fd)
{
	(void)ctx;
	return close(fd);
}

void network_set(CURL *easy, const struct transfer_options *opts, const char *ca_file)
{
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	/* On HTTP/2 all ranges would share one TCP window, and a paused one would still fill
	 * buffers. */
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)opts->connect_timeout_ms);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "stagerun/" STAGERUN_VERSION);
	if (ca_file == NULL)
		return;
	curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file);
	curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(easy, CURLOPT_PROXY_CAINFO, ca_file);
}
