/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_AWS_FIXTURE_H
#define STAGERUN_TEST_AWS_FIXTURE_H

#include "cancel.h"
#include "credentials.h"
#include "fake_http.h"
#include "text.h"
#include <pthread.h>

/* A run's environment, a directory for the shared files, and a server that plays STS, ECS and EC2. Nothing
 * of this machine's own settings is seen. */

enum fake_keys {
	KEYS_NONE, /* body is the answer */
	KEYS_JSON, /* fresh ones: AccessKeyId is the route's name and a number, from 1 */
	KEYS_STS   /* the same as XML */
};

struct route {
	const char *method, *path;
	enum fake_keys keys;
	const char *name;
	int lives_s; /* 0: no Expiration */
	int status;  /* 0: 200 */
	const char *body;
	unsigned stall_ms; /* before the answer */
	int fails_first;   /* so many 503 before */
	unsigned asked;    /* written by the server */
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

/* Without credentials anywhere, and EC2's service nowhere; HOME is a->dir. */
void aws_begin(struct aws *a);
void aws_end(struct aws *a);

void aws_set(struct aws *a, const char *name, const char *value);
/* "%s" is the server's address. */
void aws_set_url(struct aws *a, const char *name, const char *path);
void aws_config(struct aws *a, const char *text);      /* ~/.aws/config */
void aws_credentials(struct aws *a, const char *text); /* ~/.aws/credentials */
void aws_route(struct aws *a, const struct route *r);
/* From now on. */
void aws_break(struct aws *a, unsigned route, int status);
unsigned aws_asked(struct aws *a, const char *path);

/* a->value or a->err. The first one ends the preparation. */
int aws_get(struct aws *a);
/* Fails the test when it fails. Valid until the next one. */
const char *aws_key(struct aws *a);
/* The value of a form's field in the body of the i-th request, as sent; "" without. Heap. */
char *aws_form(struct aws *a, unsigned i, const char *name);

#endif
