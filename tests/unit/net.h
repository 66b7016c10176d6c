/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_NET_H
#define STAGERUN_TEST_NET_H

#include "cancel.h"
#include "fake_http.h"
#include "progress.h"
#include "transfer.h"
#include <pthread.h>
#include <uv.h>

/* A transfer engine on a loop thread, against a fake server: what most tests of the engine need.
 * The test itself is the worker. Change opts and fake between net_init() and net_start(). */
struct net {
	struct transfer_options opts;
	struct fake_options fake;
	uint64_t network_bytes;

	struct fake_http *server;
	struct transfer *transfer;
	struct cancel cancel;
	struct progress progress;
	struct error err;
	uv_loop_t loop;
	uv_async_t stop;
	pthread_t thread;
	char *url;
};

void net_init(struct net *n, uint64_t size);
void net_start(struct net *n);
void net_stop(struct net *n);

/* Open n->url; 0 or the error's code. */
int net_open(struct net *n, struct object **ret);
/* Reads the object's stream to its end. Every byte must be the fake server's: the test fails if
 * not. Returns how many came, or the negative code of the error, which is in n->err. */
int64_t net_drain(struct net *n, struct object *o);
/* Open, drain, close. */
int64_t net_fetch(struct net *n);

#endif
