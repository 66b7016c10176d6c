/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_NET_H
#define STAGERUN_TEST_NET_H

#include "cancel.h"
#include "fake_http.h"
#include "progress.h"
#include "transfer.h"
#include <pthread.h>
#include <uv.h>

/* A transfer engine on a loop thread, and a fake server. The test itself is the worker thread. It
 * may change opts and fake between net_init() and net_start(). */
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

/* Opens n->url. Returns 0, or a negative code with n->err. */
int net_open(struct net *n, struct object **ret);
/* Reads the object's stream to its end, and fails the test if a byte differs from the fake
 * server's. Returns the number of bytes, or a negative code with n->err. */
int64_t net_drain(struct net *n, struct object *o);
/* Opens, drains and closes the object. */
int64_t net_fetch(struct net *n);

#endif
