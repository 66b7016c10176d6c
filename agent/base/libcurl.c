/* SPDX-License-Identifier: MIT */
/* Stubs for libcurl's functions, so that libcurl and the thirty libraries it depends on (for LDAP,
 * Kerberos, SSH, ...) are loaded only when something is fetched: loading them takes longer than
 * everything else that `stagerun run` does in a run without a source. Any thread, after
 * libcurl_load(). */
#include "libcurl.h"
#include <assert.h>
#include <curl/curl.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#define LIBRARY "libcurl.so.4"

#if LIBCURL_VERSION_NUM >= 0x080000
#define URL_THAT_IS_READ const CURLU *
#else
#define URL_THAT_IS_READ CURLU *
#endif

/* For each function: its name without "curl_", result, parameters as in curl's headers,
 * arguments. */
#define FUNCTIONS(X) \
	X(easy_cleanup, void, (CURL * curl), (curl)) \
	X(easy_header, CURLHcode, \
		(CURL * easy, const char *name, size_t index, unsigned int origin, int request, \
			struct curl_header **hout), \
		(easy, name, index, origin, request, hout)) \
	X(easy_init, CURL *, (void), ()) \
	X(easy_pause, CURLcode, (CURL * handle, int bitmask), (handle, bitmask)) \
	X(easy_reset, void, (CURL * curl), (curl)) \
	X(easy_strerror, const char *, (CURLcode code), (code)) \
	X(free, void, (void *p), (p)) \
	X(getdate, time_t, (const char *p, const time_t *unused), (p, unused)) \
	X(global_cleanup, void, (void), ()) \
	X(global_init, CURLcode, (long flags), (flags)) \
	X(multi_add_handle, CURLMcode, (CURLM * multi_handle, CURL * curl_handle), \
		(multi_handle, curl_handle)) \
	X(multi_assign, CURLMcode, (CURLM * multi_handle, curl_socket_t sockfd, void *sockp), \
		(multi_handle, sockfd, sockp)) \
	X(multi_cleanup, CURLMcode, (CURLM * multi_handle), (multi_handle)) \
	X(multi_info_read, CURLMsg *, (CURLM * multi_handle, int *msgs_in_queue), \
		(multi_handle, msgs_in_queue)) \
	X(multi_init, CURLM *, (void), ()) \
	X(multi_perform, CURLMcode, (CURLM * multi_handle, int *running_handles), \
		(multi_handle, running_handles)) \
	X(multi_poll, CURLMcode, \
		(CURLM * multi_handle, struct curl_waitfd extra_fds[], unsigned int extra_nfds, \
			int timeout_ms, int *ret), \
		(multi_handle, extra_fds, extra_nfds, timeout_ms, ret)) \
	X(multi_remove_handle, CURLMcode, (CURLM * multi_handle, CURL * curl_handle), \
		(multi_handle, curl_handle)) \
	X(multi_strerror, const char *, (CURLMcode code), (code)) \
	X(multi_socket_action, CURLMcode, \
		(CURLM * multi_handle, curl_socket_t s, int ev_bitmask, int *running_handles), \
		(multi_handle, s, ev_bitmask, running_handles)) \
	X(share_cleanup, CURLSHcode, (CURLSH * share), (share)) \
	X(share_init, CURLSH *, (void), ()) \
	X(slist_append, struct curl_slist *, (struct curl_slist * list, const char *data), \
		(list, data)) \
	X(slist_free_all, void, (struct curl_slist * list), (list)) \
	X(url, CURLU *, (void), ()) \
	X(url_cleanup, void, (CURLU * handle), (handle)) \
	X(url_get, CURLUcode, \
		(URL_THAT_IS_READ handle, CURLUPart what, char **part, unsigned int flags), \
		(handle, what, part, flags)) \
	X(url_set, CURLUcode, \
		(CURLU * handle, CURLUPart what, const char *part, unsigned int flags), \
		(handle, what, part, flags)) \
	X(url_strerror, const char *, (CURLUcode code), (code))

/* Functions with one argument of any type after the option: name, result, parameters and their
 * names. */
#define OPTION_FUNCTIONS(X) \
	X(easy_getinfo, CURLcode, CURL *, curl, CURLINFO, info) \
	X(easy_setopt, CURLcode, CURL *, curl, CURLoption, option) \
	X(multi_setopt, CURLMcode, CURLM *, multi_handle, CURLMoption, option) \
	X(share_setopt, CURLSHcode, CURLSH *, share, CURLSHoption, option)

/* <curl/curl.h> defines macros of these names, to check types. */
#undef curl_easy_getinfo
#undef curl_easy_setopt
#undef curl_multi_setopt
#undef curl_share_setopt

/* Types and lists of parameters. NOLINTBEGIN(bugprone-macro-parentheses) */
static struct {
#define X(name, result, parameters, arguments) result(*name) parameters;
	FUNCTIONS(X)
#undef X
#define X(name, result, type, handle, option_type, option) result (*name)(type, option_type, ...);
	OPTION_FUNCTIONS(X)
#undef X
} libcurl;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char failure[200]; /* "": loaded */

static void *load_symbol(void *library, const char *name)
{
	void *function = dlsym(library, name);

	if (function == NULL)
		snprintf(failure, sizeof(failure), "%s has no %s()", LIBRARY, name);
	return function;
}

static void load_library(void)
{
	/* Never unloaded: it has memory and thread-local state of its own. RTLD_NOW, since a
	 * missing symbol is an error here, and with lazy binding would end the process later. */
	void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

	if (library == NULL) {
		/* NOLINTNEXTLINE(concurrency-mt-unsafe): thread-local in glibc */
		snprintf(failure, sizeof(failure), "%s", dlerror());
		return;
	}
#define X(name, ...) *(void **)&libcurl.name = load_symbol(library, "curl_" #name);
	FUNCTIONS(X)
	OPTION_FUNCTIONS(X)
#undef X
}

int libcurl_load(struct error *err)
{
	pthread_once(&once, load_library);
	if (failure[0] != '\0')
		return error_set(err, -ERR_UNSUPPORTED,
			"cannot load libcurl, which http and https need: %s (Debian's package is libcurl4)",
			failure);
	return 0;
}

#define X(name, result, parameters, arguments) \
	result curl_##name parameters \
	{ \
		assert(libcurl.name != NULL); \
		return libcurl.name arguments; \
	}
FUNCTIONS(X)
#undef X

/* The value of an option is a long, a curl_off_t or a pointer. Where each has 64 bits, all are
 * passed alike, and can be forwarded without knowing the type. */
static_assert(sizeof(long) == sizeof(void *) && sizeof(curl_off_t) == sizeof(void *),
	"values of options are handed on as pointers");

#define X(name, result, type, handle, option_type, option) \
	result curl_##name(type handle, option_type option, ...) \
	{ \
		va_list list; \
		void *value; \
\
		assert(libcurl.name != NULL); \
		va_start(list, option); \
		value = va_arg(list, void *); \
		va_end(list); \
		return libcurl.name(handle, option, value); \
	}
OPTION_FUNCTIONS(X)
#undef X
/* NOLINTEND(bugprone-macro-parentheses) */
