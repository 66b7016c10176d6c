/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_AWS_FIXTURE_H
#define STAGERUN_TEST_AWS_FIXTURE_H

#include "cancel.h"
#include "credentials.h"
#include "fake_http.h"
#include "text.h"
#include <pthread.h>

/* For the tests of credentials: the environment of a run, a directory for the shared AWS files,
 * and a server that acts as STS, ECS and EC2. The settings of this machine are not used. */

enum fake_keys {
	KEYS_NONE, /* the answer is body */
	KEYS_JSON, /* new keys in each answer: AccessKeyId is name and the number of the request */
	KEYS_STS   /* as KEYS_JSON, as XML */
};

struct route {
	const char *method, *path;
	enum fake_keys keys;
	const char *name;
	int lives_s; /* seconds until the keys expire; 0: no Expiration */
	int status;  /* 0: 200 */
	const char *body;
	unsigned stall_ms; /* wait before the answer */
	int fails_first;   /* number of failures before the first answer */
	int fail_status;   /* of these failures; 0: 503 */
	const char *fail_body;
	unsigned asked; /* number of requests; written by the server, under aws.lock */
};

struct aws {
	struct strings env;
	struct transfer_options network;
	struct credentials_options opts;
	struct cancel cancel;
	struct credentials *c;
	struct credentials_value value;
	struct error err;
	char *dir;
	struct fake_http *server;

	pthread_mutex_t lock;
	struct route routes[8];
	struct strings bodies;
};

/* Sets up an environment without credentials, in which EC2's metadata service answers 404. HOME
 * is a->dir. */
void aws_begin(struct aws *a);
void aws_end(struct aws *a);

void aws_set(struct aws *a, const char *name, const char *value);
/* Sets the variable to the URL of path on the server. */
void aws_set_url(struct aws *a, const char *name, const char *path);
void aws_config(struct aws *a, const char *text);      /* ~/.aws/config */
void aws_credentials(struct aws *a, const char *text); /* ~/.aws/credentials */
void aws_route(struct aws *a, const struct route *r);
/* From now on, the route (by its index) answers with this status. */
void aws_break(struct aws *a, unsigned route, int status);
unsigned aws_asked(struct aws *a, const char *path); /* number of requests for path */

/* Gets credentials into a->value, or sets a->err. The first call creates a->c from the
 * environment and a->opts, which must not be changed after it. */
int aws_get(struct aws *a);
/* As aws_get(), and returns the access key, which is valid until the next call. Fails the test on
 * an error. */
const char *aws_key(struct aws *a);
/* The encoded value of a form field in the body of request i, or ""; heap. */
char *aws_form(struct aws *a, unsigned i, const char *name);

#endif
