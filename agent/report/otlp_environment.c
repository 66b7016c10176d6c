/* SPDX-License-Identifier: MIT */
/* Reads OpenTelemetry's variables. A variable for traces wins over the one for all signals; an
 * empty one counts as unset. What is malformed is left out, as the specification demands: telemetry
 * must not stop a run. */
#include "defer.h"
#include "otlp.h"
#include "redact.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DEFAULT_ENDPOINT "http://localhost:4318"

enum { DEFAULT_TIMEOUT_MS = 10000 };

static const char *get_variable(char *const *env, const char *name)
{
	size_t len = strlen(name);

	for (; env != NULL && *env != NULL; env++)
		if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
			return (*env)[len + 1] != '\0' ? *env + len + 1 : NULL;
	return NULL;
}

/* OTEL_EXPORTER_OTLP_TRACES_X, else OTEL_EXPORTER_OTLP_X. */
static const char *get_exporter_variable(char *const *env, const char *what)
{
	_free_ char *own = text_format("OTEL_EXPORTER_OTLP_TRACES_%s", what);
	_free_ char *common = text_format("OTEL_EXPORTER_OTLP_%s", what);
	const char *value = get_variable(env, own);

	return value != NULL ? value : get_variable(env, common);
}

static int hex_digit(char c)
{
	if (isdigit((unsigned char)c))
		return c - '0';
	return isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

/* Decodes %XX in place, and removes blanks around it. Returns the beginning; NULL if it has a
 * control character, which would end a header. */
static char *decode(char *s)
{
	char *to, *from;
	size_t len;

	s += strspn(s, " \t");
	len = strlen(s);
	while (len > 0 && strchr(" \t", s[len - 1]) != NULL)
		s[--len] = '\0';
	for (to = from = s; *from != '\0'; from++, to++) {
		int high = *from == '%' ? hex_digit(from[1]) : -1;
		int low = high >= 0 ? hex_digit(from[2]) : -1;

		*to = low >= 0 ? (char)(high * 16 + low) : *from;
		from += low >= 0 ? 2 : 0;
		if ((unsigned char)*to < 0x20 || *to == 0x7f)
			return NULL;
	}
	*to = '\0';
	return s;
}

/* Calls fn for each "key=value" of a list of W3C baggage; properties after ';' are ignored. */
static void each_pair(const char *list,
	void (*fn)(struct otlp_options *o, const char *key, const char *value),
	struct otlp_options *o)
{
	_free_ char *copy = text_copy(list);

	for (char *at = copy; at != NULL;) {
		char *pair = strsep(&at, ",");
		char *value = strchr(pair, '=');
		char *key;

		if (value == NULL)
			continue;
		*value++ = '\0';
		value[strcspn(value, ";")] = '\0';
		key = decode(pair);
		value = decode(value);
		if (key != NULL && *key != '\0' && value != NULL)
			fn(o, key, value);
	}
}

static void add_header(struct otlp_options *o, const char *key, const char *value)
{
	_free_ char *line = text_format("%s: %s", key, value);

	if (strpbrk(key, ": \t") != NULL)
		return;
	redact_add(value);
	text_strings_add(&o->headers, line);
}

static bool has_attribute(const struct otlp_options *o, const char *key)
{
	size_t len = strlen(key);

	for (size_t i = 0; i < o->resource.n; i++)
		if (strncmp(o->resource.v[i], key, len) == 0 && o->resource.v[i][len] == '=')
			return true;
	return false;
}

static void add_attribute(struct otlp_options *o, const char *key, const char *value)
{
	_free_ char *pair = text_format("%s=%s", key, value);

	if (!has_attribute(o, key) && strchr(key, '=') == NULL)
		text_strings_add(&o->resource, pair);
}

static void use_service_name(struct otlp_options *o, const char *key, const char *value)
{
	if (strcmp(key, "service.name") == 0)
		add_attribute(o, key, value);
}

static void read_resource(char *const *env, struct otlp_options *o)
{
	const char *name = get_variable(env, "OTEL_SERVICE_NAME");
	const char *attributes = get_variable(env, "OTEL_RESOURCE_ATTRIBUTES");

	if (name != NULL)
		add_attribute(o, "service.name", name);
	else if (attributes != NULL)
		each_pair(attributes, use_service_name, o);
	add_attribute(o, "service.name", "stagerun");
	if (attributes != NULL)
		each_pair(attributes, add_attribute, o);
}

/* An endpoint for all signals is where "/v1/traces" is below; one for traces is used as it is. */
static char *choose_url(char *const *env)
{
	const char *traces = get_variable(env, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
	const char *all = get_variable(env, "OTEL_EXPORTER_OTLP_ENDPOINT");
	const char *host;
	size_t len;

	if (traces != NULL) {
		host = strstr(traces, "://");
		return host != NULL && strchr(host + 3, '/') == NULL ? text_format("%s/", traces)
								     : text_copy(traces);
	}
	all = all != NULL ? all : DEFAULT_ENDPOINT;
	len = strlen(all);
	while (len > 0 && all[len - 1] == '/')
		len--;
	return text_format("%.*s/v1/traces", (int)len, all);
}

static bool is_disabled(char *const *env)
{
	const char *disabled = get_variable(env, "OTEL_SDK_DISABLED");

	return disabled != NULL && strcasecmp(disabled, "true") == 0;
}

/* Whether word is in the list, whose items are separated by commas. */
static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	while (list != NULL && *list != '\0') {
		size_t item;

		list += strspn(list, ", \t");
		item = strcspn(list, ", \t");
		if (item == len && strncasecmp(list, word, len) == 0)
			return true;
		list += item;
	}
	return false;
}

/* Programs that are no servers must not send to a default address unasked. */
static bool is_wanted(char *const *env)
{
	const char *exporter = get_variable(env, "OTEL_TRACES_EXPORTER");

	if (is_disabled(env))
		return false;
	if (exporter != NULL)
		return has_word(exporter, "otlp");
	return get_exporter_variable(env, "ENDPOINT") != NULL;
}

/* The collector's OTLP/HTTP receiver takes JSON where it takes protobuf. */
static char *find_obstacle(char *const *env, const struct otlp_options *o)
{
	const char *protocol = get_exporter_variable(env, "PROTOCOL");

	if (protocol != NULL && strcasecmp(protocol, "grpc") == 0)
		return text_copy(
			"OTEL_EXPORTER_OTLP_PROTOCOL is grpc, and only http/json is supported");
	if (strncasecmp(o->url, "http://", 7) != 0 && strncasecmp(o->url, "https://", 8) != 0)
		return text_copy(
			"the endpoint of OTEL_EXPORTER_OTLP_ENDPOINT is no http:// or https:// URL");
	return NULL;
}

static uint64_t read_timeout(char *const *env)
{
	const char *value = get_exporter_variable(env, "TIMEOUT");
	uint64_t ms = 0;

	return value != NULL && units_parse_uint(value, UINT32_MAX, &ms, NULL) == 0 && ms > 0
		       ? ms
		       : DEFAULT_TIMEOUT_MS;
}

void otlp_from_environment(char *const *env, struct otlp_options *ret)
{
	const char *headers = get_exporter_variable(env, "HEADERS");
	const char *compression = get_exporter_variable(env, "COMPRESSION");

	*ret = (struct otlp_options){0};
	if (!is_wanted(env))
		return;
	ret->url = choose_url(env);
	ret->why_not = find_obstacle(env, ret);
	ret->enabled = ret->why_not == NULL;
	if (headers != NULL)
		each_pair(headers, add_header, ret);
	ret->gzip = compression != NULL && strcasecmp(compression, "gzip") == 0;
	ret->timeout_ms = read_timeout(env);
	ret->certificate = text_copy(get_exporter_variable(env, "CERTIFICATE"));
	read_resource(env, ret);
}

void otlp_options_done(struct otlp_options *o)
{
	free(o->why_not);
	free(o->url);
	free(o->certificate);
	text_strings_done(&o->headers);
	text_strings_done(&o->resource);
	*o = (struct otlp_options){0};
}
