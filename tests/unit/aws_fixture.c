/* SPDX-License-Identifier: MIT */
#include "aws_fixture.h"
#include "defer.h"
#include "test.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char *fresh_keys(const struct route *r)
{
	time_t expires = time(NULL) + r->lives_s;
	char when[64] = "";
	struct tm tm;

	gmtime_r(&expires, &tm);
	if (r->lives_s != 0)
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (r->keys == KEYS_JSON)
		return text_format("{\"Code\": \"Success\", \"AccessKeyId\": \"%s%u\", "
				   "\"SecretAccessKey\": \"the-secret-of-%s\", \"Token\": "
				   "\"a-token-of-%s\"%s%s%s}",
			r->name, r->asked, r->name, r->name,
			*when != '\0' ? ", \"Expiration\": \"" : "", when,
			*when != '\0' ? "\"" : "");
	return text_format(
		"<R xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Result><Credentials>"
		"<AccessKeyId>%s%u</AccessKeyId><SecretAccessKey>the-secret-of-%s"
		"</SecretAccessKey><SessionToken>a-token&amp;of-%s</SessionToken>"
		"<Expiration>%s</Expiration></Credentials></Result></R>",
		r->name, r->asked, r->name, r->name, when);
}

static void answer(struct aws *a, struct route *r, struct fake_reply *reply)
{
	_free_ char *body = NULL;
	bool fails = (int)++r->asked <= r->fails_first;
	const char *said = fails ? r->fail_body : r->body;

	reply->status = r->status != 0 ? r->status : 200;
	if (fails)
		reply->status = r->fail_status != 0 ? r->fail_status : 503;
	body = r->keys != KEYS_NONE && reply->status == 200 ? fresh_keys(r)
							    : text_copy(said != NULL ? said : "");
	text_strings_add(&a->bodies, body);
	reply->text = a->bodies.v[a->bodies.n - 1];
	reply->content_length = strlen(reply->text);
}

static struct route *route_of(struct aws *a, const struct fake_request *q)
{
	for (struct route *r = a->routes; r->path != NULL; r++)
		if (strcmp(q->method, r->method) == 0 && strcmp(q->path, r->path) == 0)
			return r;
	return NULL;
}

static void script(void *ctx, const struct fake_request *q, struct fake_reply *reply)
{
	struct aws *a = ctx;
	struct route *r;
	unsigned stall_ms;

	reply->etag[0] = reply->last_modified[0] = '\0';
	reply->status = 404;
	reply->text = "";
	reply->content_length = 0;
	pthread_mutex_lock(&a->lock);
	r = route_of(a, q);
	if (r != NULL)
		answer(a, r, reply);
	stall_ms = r != NULL ? r->stall_ms : 0;
	pthread_mutex_unlock(&a->lock);
	usleep(stall_ms * 1000);
}

void aws_begin(struct aws *a)
{
	*a = (struct aws){.network = {.connect_timeout_ms = 3000, .stall_timeout_ms = 3000},
		.dir = test_directory()};
	cancel_init(&a->cancel);
	pthread_mutex_init(&a->lock, NULL);
	a->server = fake_http_start(&(struct fake_options){.script = script, .ctx = a});
	aws_set(a, "HOME", a->dir);
	aws_set(a, "PATH", "/usr/bin:/bin");
	aws_set_url(a, "AWS_EC2_METADATA_SERVICE_ENDPOINT", "");
}

void aws_end(struct aws *a)
{
	credentials_value_done(&a->value);
	credentials_free(a->c);
	fake_http_stop(a->server);
	cancel_done(&a->cancel);
	pthread_mutex_destroy(&a->lock);
	text_strings_done(&a->bodies);
	text_strings_done(&a->env);
	free(a->dir);
}

void aws_set(struct aws *a, const char *name, const char *value)
{
	_free_ char *both = text_format("%s=%s", name, value);

	text_strings_add(&a->env, both);
}

void aws_set_url(struct aws *a, const char *name, const char *path)
{
	_free_ char *url = fake_http_url(a->server, path);

	aws_set(a, name, url);
}

static void write_shared(const struct aws *a, const char *name, const char *text)
{
	_free_ char *dir = text_format("%s/.aws", a->dir);
	_free_ char *path = text_format("%s/%s", dir, name);
	_close_ int fd = -1;

	mkdir(dir, 0700);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(strlen(text), write(fd, text, strlen(text)));
}

void aws_config(struct aws *a, const char *text)
{
	write_shared(a, "config", text);
}

void aws_credentials(struct aws *a, const char *text)
{
	write_shared(a, "credentials", text);
}

void aws_route(struct aws *a, const struct route *r)
{
	size_t n = 0;

	pthread_mutex_lock(&a->lock);
	while (a->routes[n].path != NULL)
		n++;
	assert_true(n + 1 < ARRAY_LEN(a->routes));
	a->routes[n] = *r;
	pthread_mutex_unlock(&a->lock);
}

void aws_break(struct aws *a, unsigned route, int status)
{
	pthread_mutex_lock(&a->lock);
	a->routes[route].status = status;
	pthread_mutex_unlock(&a->lock);
}

unsigned aws_asked(struct aws *a, const char *path)
{
	unsigned asked = 0;

	pthread_mutex_lock(&a->lock);
	for (struct route *r = a->routes; r->path != NULL; r++)
		asked += strcmp(r->path, path) == 0 ? r->asked : 0;
	pthread_mutex_unlock(&a->lock);
	return asked;
}

int aws_get(struct aws *a)
{
	if (a->c == NULL) {
		a->opts.network = &a->network;
		a->opts.environment = a->env.v;
		a->c = credentials_new(&a->opts);
	}
	credentials_value_done(&a->value);
	return credentials_get(a->c, &a->cancel, &a->value, &a->err);
}

const char *aws_key(struct aws *a)
{
	if (aws_get(a) < 0)
		fail_msg("%s", a->err.msg);
	return a->value.access_key;
}

char *aws_form(struct aws *a, unsigned i, const char *name)
{
	struct fake_request q = fake_http_request(a->server, i);
	_free_ char *wanted = text_format("&%s=", name);
	_free_ char *body = text_format("&%s", q.body);
	const char *at = strstr(body, wanted);

	if (at == NULL)
		return text_copy("");
	at += strlen(wanted);
	return text_format("%.*s", (int)strcspn(at, "&"), at);
}
