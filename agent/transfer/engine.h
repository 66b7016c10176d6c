/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TRANSFER_ENGINE_H
#define STAGERUN_TRANSFER_ENGINE_H

#include "answer.h"
#include "block.h"
#include "object.h"
#include "pace.h"
#include "patience.h"
#include "transfer.h"
#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

/* The structures of the transfer engine. Each object is a window over its bytes: a list of ranges
 * in order. Each range is fetched into blocks by a request of its own, and one worker thread takes
 * the blocks from the front.
 *
 *   engine.c         start and end, easy handles, hosts; curl on libuv, the clock, the inbox
 *   schedule.c       which object gets the next connection and blocks; the length of its next range
 *   range.c          one range while its request is under way; ranges paused by the rate limit
 *   range_outcome.c  what follows from the end of a request; backoff
 *   range_record.c   requests in the timeline of the run, and counted in the progress
 *   crowd.c          hosts that refuse a request only because other requests are under way
 *   request.c        contents of a request: URL, headers, credentials, range, signature
 *   answer.c         parses response headers and classifies the response (no I/O)
 *   pace.c           how many connections and how long ranges are worthwhile (no I/O)
 *   patience.c       whether a request is retried, by time or by attempts
 *   window.c         the bytes between the ranges and the worker
 *   object.c         open, stream, read at an offset, close: the worker's and the loop's side
 *   call.c           single requests for call.h, on the calling thread, without the engine
 *   trust.c          finds the file of CA certificates
 *
 * Threads: the loop thread runs everything here except the worker's side of object.c and window.c,
 * and call.c. A worker posts requests to the inbox, and shares the window under the object's
 * lock. */

enum {
	BLOCK_BYTES = 256 * 1024,
	OWN_BLOCKS = 2,    /* blocks reserved for each object, so that it always makes progress */
	STREAM_BLOCKS = 16 /* buffered at most for a server without ranges */
};

/* A function that a worker asks the loop thread to run. Embedded in the object it is about. */
struct post {
	struct post *next;
	void (*run)(struct post *post);
	bool queued; /* under the inbox's lock */
};

/* The queue from worker threads to the loop thread. */
struct inbox {
	uv_async_t wake;
	pthread_mutex_t lock;

	/* Under lock. */
	struct post *first, **last;
	bool shut; /* no more posts are accepted */
};

/* One scheme://host:port and its active connections. Loop thread. */
struct host {
	struct host *next;
	char *origin; /* heap */
	unsigned active;
	bool answered;           /* patience_answered() was called for it */
	unsigned limit;          /* of connections, since more were refused; 0: no limit */
	uint64_t raise_limit_ns; /* when one more connection is tried; UINT64_MAX: never */
};

/* A URL whose reading ended because its ETag changed while size and date did not, or because the
 * server stopped serving ranges of it. Loop thread. */
struct unstable_url {
	struct unstable_url *next;
	char *url;                     /* as requested, before redirects; heap */
	struct object_version version; /* that was read */
	bool unranged;                 /* the server stopped serving ranges */
};

struct transfer {
	/* Set at creation. */
	uv_loop_t *loop;
	const struct transfer_options *opts;
	char *ca_file; /* heap; NULL: curl's own default */
	unsigned n_blocks;
	unsigned connections; /* limit for all hosts together */
	struct block_pool *pool;
	struct inbox inbox;

	/* Loop thread. */
	CURLM *multi;  /* NULL until engine_start_curl() */
	CURLSH *share; /* TLS sessions */
	uv_timer_t curl_timer;
	uv_timer_t clock;      /* backoffs, stalls, growth */
	uint64_t clock_due_ns; /* UINT64_MAX: stopped */
	CURL **idle;           /* easy handles without a request */
	unsigned n_idle;
	struct http_object *objects;
	struct http_object *to_wake; /* objects that received bytes during this event */
	struct host *hosts;
	unsigned active; /* connections */
	bool dirty;      /* something changed that the schedule depends on */
	bool closing;
	struct unstable_url *unstable;
	unsigned open_handles; /* of libuv; the last one to close frees the engine */
	void (*closed)(void *ctx);
	void *closed_ctx;
};

enum range_state {
	RANGE_WAITING,     /* for a connection */
	RANGE_ACTIVE,      /* its request is under way */
	RANGE_BACKING_OFF, /* its request failed; it is retried when due */
	RANGE_COMPLETE     /* every byte arrived */
};

/* Bytes [start, end) of an object, and the request that fetches them. */
struct range {
	struct range *next;
	struct http_object *object;

	/* Loop thread. */
	enum range_state state;
	uint64_t start;
	struct tried tried; /* failed attempts since the last one that made progress */
	unsigned url_generation;
	uint64_t attempt_at;       /* offset at which the current request began */
	uint64_t due_ns;           /* end of the backoff */
	uint64_t refused_since_ns; /* first refusal that crowd.c recorded; 0: none */
	unsigned n_refused;        /* such refusals */
	CURL *easy;                /* while active */
	struct curl_slist *headers;
	struct host *host;
	struct answer answer;
	enum verdict verdict; /* on the current request; VERDICT_NONE until its headers are in */
	struct error why;     /* for the verdict */
	char curl_message[CURL_ERROR_SIZE];
	CURLcode result;       /* of the request that ended last */
	char signed_with[136]; /* the access key of the current request; "": not signed */
	uint64_t limit;        /* offset at which the body of this answer ends */
	/* When the last wanted byte arrived, or the request was sent; 0: still connecting. */
	uint64_t last_ns;
	bool answered;           /* the headers of the current request are in */
	bool paused;             /* a stream without a free block */
	uint64_t held_ns;        /* paused by the rate limit since then; 0: not paused by it */
	struct block_pool *pool; /* in which blocks are reserved */
	unsigned reserved;
	unsigned span;   /* of the current request; 0: none */
	uint64_t blocks; /* number of blocks put into slots so far */

	/* Under the object's lock. Written by the loop thread only, except for slots and released,
	 * which the worker updates as it consumes blocks. */
	uint64_t at;          /* offset up to which bytes have arrived */
	uint64_t end;         /* SIZE_UNKNOWN: a stream of unknown length */
	struct block **slots; /* a ring; the worker removes the blocks it has consumed */
	unsigned n_slots;
	uint64_t released; /* number of blocks removed so far */

	/* Loop thread. For object_read_at(): bytes are copied there, not into slots; else NULL. */
	struct read_request *read;
};

/* One object_read_at(). On the heap, because a cancelled worker returns before the loop is done. */
struct read_request {
	struct post post;
	struct http_object *object;
	uint64_t offset;
	size_t len;

	/* Under the object's lock. */
	/* NULL: the worker was cancelled and has returned; the loop frees the request. */
	uint8_t *buf;
	bool done;
};

struct http_object {
	struct object base;

	/* Set at creation. */
	struct transfer *t;
	struct reader reader;
	char *name;
	char *asked_url; /* as requested, before redirects */
	bool probe;      /* WANT_IDENTITY */
	bool parts_only; /* WANT_PARTS */
	bool conditional;
	struct identity have;      /* when conditional */
	struct http_signer signer; /* ctx NULL: none */
	char *scope, *ca_file;     /* the signer's, which points to them */
	struct timeline *timeline; /* the progress's; NULL: nobody wants to know */
	unsigned span;             /* of the source, in it */
	struct cancel *cancel;
	struct cancel_watch watch;
	struct post open_post, stream_post, skip_post, close_post;

	/* Worker thread. */
	bool streaming; /* stream_post was sent */

	/* Loop thread. */
	struct http_object *next, *next_to_wake;
	bool will_wake;      /* is in the engine's list to_wake */
	bool starved;        /* no blocks were free for it in this round of the schedule */
	bool discovered;     /* the first response gave its version and size */
	bool plain;          /* requests have no Range header */
	bool plain_is_guess; /* plain was set because a 5xx status may be a refusal of the range */
	bool served_plain;   /* a request without Range was answered when plain was a guess */
	bool ignores_limit;  /* uses more connections than the host's limit */
	bool varies;         /* answers differ in their ETag only: it does not identify a version */
	bool whole;          /* the server sends everything in one response */
	bool wanted;         /* the worker has started to read the stream */
	char *url;           /* the target of the last redirect; heap */
	unsigned url_generation;
	unsigned redirects;
	bool resolved_again;     /* after a denial, asked_url was requested anew */
	struct host *host;       /* of url */
	struct host *asked_host; /* of asked_url: the only host that may see credentials */
	struct object_version version;
	struct block_pool *own; /* OWN_BLOCKS blocks; NULL: not admitted by the schedule yet */
	struct range *ranges;   /* of the window, in order; the list is also under lock */
	struct range *reads;    /* for object_read_at() */
	uint64_t planned;       /* offset at which the next range begins */
	struct pace pace;

	/* Under lock. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct progress *progress;
	unsigned connected; /* requests that are counted in progress->connected */
	bool ready;         /* size and identity are known */
	bool sleeping;
	int failed;
	struct error why;
	uint64_t position; /* offset up to which the worker has consumed bytes */
	uint64_t size;
	uint64_t slept_ns, asleep_since_ns;
};

/* Unless noted, the functions below belong to the loop thread. */

/* --- engine.c --- */

/* Loads and starts curl, once. Called by the first object and not at start: loading libcurl takes
 * longer than the whole start of a run that fetches nothing. */
int engine_start_curl(struct transfer *t, struct error *err);
CURL *engine_acquire_easy(struct transfer *t); /* NULL: out of memory */
void engine_release_easy(struct transfer *t, CURL *easy);
/* The host of url, created on first use. NULL: url is malformed. */
struct host *engine_host(struct transfer *t, const char *url);
/* Makes the clock fire at due_ns or earlier. */
void engine_set_clock(struct transfer *t, uint64_t due_ns);
/* Wakes the object's worker at the end of this event. */
void engine_wake_worker(struct http_object *o);
/* Any thread. Returns false if the inbox is shut. */
bool engine_post(struct inbox *in, struct post *post);
/* Any thread. Wakes the loop; ctx is the inbox. */
void engine_wake_loop(void *ctx);

/* --- schedule.c --- */

void schedule(struct transfer *t);
/* Reserves n shared blocks; false if fewer than n are free above the headroom. */
bool schedule_reserve(struct http_object *o, unsigned n);

/* --- range.c --- */

struct range *range_new(struct http_object *o, uint64_t start, uint64_t end);
/* Hands over to the range n blocks that the caller has reserved in pool. */
void range_assign_blocks(struct range *r, struct block_pool *pool, unsigned n);
void range_free(struct range *r);                          /* cuts its request off */
void range_enter(struct range *r, enum range_state state); /* the only assignment to state */
void range_start(struct range *r);                         /* sends its request */
void range_detach(struct range *r);                        /* cuts its request off */
void range_tick(struct range *r, uint64_t now); /* ends a stalled request, or a backoff */
void range_resume(struct range *r);             /* resumes a paused stream if a block is free */
/* When range_tick() has to be called; UINT64_MAX: never. */
uint64_t range_due(const struct range *r);
/* Returns all reserved blocks except `keep` to the pool. */
void range_unreserve(struct range *r, unsigned keep);
struct answer_wanted range_wanted(const struct range *r);
/* Resumes held ranges as far as the rate limit allows. */
void range_hold_release(struct transfer *t);

/* --- range_outcome.c; never inside a curl callback --- */

void range_finished(struct range *r, CURLcode result);
/* redirect: the target, for VERDICT_REDIRECT; may be NULL. */
void range_apply_verdict(struct range *r, enum verdict verdict, const char *redirect);

/* Any thread. Returns VERDICT_RETRY or VERDICT_FAIL, and sets the error. */
enum verdict range_retry_classify_curl(
	CURLcode result, const char *said, const struct answer_wanted *wanted, struct error *err);
/* Any thread. The backoff, with jitter, after so many failures (from 1 on; see patience_step()). */
uint64_t range_retry_delay_ms(
	const struct transfer_options *opts, unsigned failures, uint64_t retry_after_ms);

/* --- range_record.c --- */

/* The range's request is sent; its outcome is known, but it is not detached yet; it is detached. A
 * request without an outcome was cancelled. */
void range_record_begin(struct range *r);
void range_record_outcome(struct range *r, enum verdict verdict);
void range_record_end(struct range *r);
/* An attempt is repeated; an attempt ended because nothing arrived any more. */
void range_record_retry(struct http_object *o);
void range_record_stall(struct http_object *o);

/* --- crowd.c --- */

/* Before the request is detached. True: it was refused, or not answered, perhaps because other
 * requests to its host are under way. Then crowd_step_back() retries it with fewer connections,
 * and the attempt does not count. */
bool crowd_refuses(const struct range *r, enum verdict verdict);
void crowd_step_back(struct range *r);
void crowd_tick(struct range *r, uint64_t now); /* lifts the limit after a long wait */
void crowd_served(struct range *r);             /* the range's request was answered */
/* Whether the object's host may get one more connection. */
bool crowd_admits(const struct http_object *o, uint64_t now);

/* --- request.c --- */

CURLcode request_prepare(struct range *r);
/* Any thread, after libcurl_load(). Checks transfer_options.headers. */
int request_check_headers(const struct transfer_options *opts, struct error *err);
/* Any thread. "https://host:443"; NULL when malformed. Heap. */
char *request_url_origin(const char *url);
/* The target of the current answer's redirect, without the user and password of another origin;
 * NULL: there is no Location, or it is malformed. Heap. */
char *request_redirect(const struct range *r);
bool request_url_has_prefix(const char *url, const char *prefix, size_t prefix_len);
/* Classifies an answer whose status is not a success; the object's signer explains refusals. */
enum verdict request_classify_signature(struct range *r);

/* Any thread. Sets the options that all requests share, those of call.h included. */
CURLcode request_set_network(CURL *easy, const struct transfer_options *opts, const char *ca_file);
/* Any thread. */
void request_add_header(struct curl_slist **headers, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Any thread. Stores code in *result unless *result is a failure already. */
void request_note_network(CURLcode *result, CURLcode code);

/* --- window.c; functions that end in _locked need the object's lock --- */

/* Worker thread. The stream is about to be read: more ranges are fetched ahead of it. */
void window_start_stream(struct http_object *o);
/* Puts blocks into slots for len more bytes; false: no block is free. */
bool window_ensure_room(struct range *r, size_t len);
/* Appends bytes for which window_ensure_room() has made room. */
void window_fill(struct range *r, const uint8_t *bytes, size_t len);
/* The server sends the whole object: the range becomes a ring without an end. */
void window_make_stream(struct range *r);
extern const struct reader_ops window_reader_ops; /* worker thread */

/* --- object.c --- */

/* Stores the object's first failure and wakes its worker. */
void object_fail(struct http_object *o, int code, const struct error *why);
/* The first response: stores version and size. ranges: the server honours Range. */
void object_discovered(struct http_object *o, const struct answer *a, bool ranges);
/* Fails all objects. */
void object_engine_failed(struct transfer *t, CURLMcode why);
void object_not_modified(struct http_object *o);
/* Reading failed because answer a has another version. If only the ETag differs, that is
 * remembered for object_varies(). */
void object_changed(struct http_object *o, const struct answer *a);
/* The server stopped serving ranges: the next object of this URL is requested without Range. */
void object_unranged(struct http_object *o);
/* Whether an earlier reading of the URL failed because its ETag alone changed, and v has the same
 * size and date: then several servers answer that do not agree on the ETag. */
bool object_varies(const struct http_object *o, const struct object_version *v);
int object_set_url(struct http_object *o, const char *url); /* -1: malformed */
/* Ends an object_read_at(); frees the range. */
void object_read_done(struct range *r);
void object_destroy(struct http_object *o);

/* --- trust.c; any thread --- */

/* Checks that netrc_file is readable: curl would ignore a missing file and send no passwords.
 * configured may be NULL. */
int trust_check_netrc(const char *configured, struct error *err);
/* *ret_path: heap; NULL: no file was found, curl uses its own default. */
int trust_find(const char *configured, char **ret_path, struct error *err);

#endif
