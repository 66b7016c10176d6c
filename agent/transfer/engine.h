/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TRANSFER_ENGINE_H
#define STAGERUN_TRANSFER_ENGINE_H

#include "answer.h"
#include "block.h"
#include "object.h"
#include "pace.h"
#include "transfer.h"
#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

/* The engine's own structures. One object is a window over its bytes: ranges in order, each fetched
 * by a request of its own into blocks, taken from the front by one worker.
 *
 *   engine    start and end; easy handles, hosts
 *   drive     curl on libuv, the clock, and what happens after every event
 *   inbox     how worker threads ask the loop thread for something
 *   schedule  which object gets the next connection and blocks, and how long its next range is
 *   range     one range while its request is under way
 *   outcome   what follows from the end of a request
 *   request   what one request says: URL, headers, credentials, range
 *   network   what all requests have in common, those of call.h too
 *   sign      with whose keys, and what S3 says to them
 *   answer    what a response said; judge: what that means (no I/O)
 *   pace      how many connections and how long ranges are worth it (no I/O)
 *   retry     curl's results, transient or not; backoff
 *   window    the bytes between a range and the worker
 *   object    opening, reading at an offset, closing: the worker's side
 *   upkeep    the same: the loop's side
 *   hold      ranges that wait for the rate that was set */

enum {
	BLOCK_BYTES = 256 * 1024,
	OWN_BLOCKS = 2,    /* only this object's, so that it can always go on */
	STREAM_BLOCKS = 16 /* buffered for a server without ranges, at most */
};

/* Something the loop thread shall do, asked for by a worker. Embedded in what it is about. */
struct post {
	struct post *next;
	void (*run)(struct post *post);
	bool queued; /* under the inbox's lock */
};

struct inbox {
	uv_async_t wake;
	pthread_mutex_t lock;
	struct post *first, **last;
	bool shut;
};

/* scheme://host:port, and the connections to it that are at work now. */
struct host {
	struct host *next;
	char *origin;
	unsigned active;
};

struct transfer {
	/* Set at creation. */
	uv_loop_t *loop;
	const struct transfer_options *opts;
	char *ca_file; /* NULL: curl's own default */
	unsigned n_blocks;
	unsigned connections; /* at once, to all hosts */
	struct block_pool *pool;
	struct inbox inbox;

	/* Loop thread. */
	CURLM *multi;
	CURLSH *share; /* TLS sessions */
	uv_timer_t curl_timer;
	uv_timer_t clock;      /* backoffs, stalls, growth */
	uint64_t clock_due_ns; /* UINT64_MAX: stopped */
	CURL **idle;           /* easy handles without a request */
	unsigned n_idle;
	int *inherited; /* descriptors without CLOEXEC that are not ours; -1 ends them */
	struct http_object *objects;
	struct http_object *touched; /* bytes arrived: wake their workers */
	struct host *hosts;
	unsigned active; /* connections at work */
	bool dirty;      /* something changed that the schedule depends on */
	bool closing;
	unsigned open_handles;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

enum range_state {
	RANGE_WAITING,     /* for a connection */
	RANGE_ACTIVE,      /* its request is under way */
	RANGE_BACKING_OFF, /* broken; asks again when due */
	RANGE_COMPLETE     /* every byte arrived */
};

/* Bytes [start, end) of an object, on their way. */
struct range {
	struct range *next;
	struct http_object *object;

	/* Loop thread. */
	enum range_state state;
	uint64_t start;
	unsigned attempts;   /* since the last byte arrived */
	uint64_t attempt_at; /* where the request under way began */
	uint64_t due_ns;     /* backing off until then */
	unsigned url_generation;
	CURL *easy; /* while active */
	struct curl_slist *headers;
	struct host *host;
	struct answer answer;
	enum verdict verdict; /* on the request under way; VERDICT_NONE until its headers are in */
	struct error why;     /* to the verdict */
	char curl_said[CURL_ERROR_SIZE];
	char signed_with[136]; /* the access key of the request under way; "": none */
	uint64_t limit;        /* the bytes of this answer end there */
	uint64_t last_ns; /* when a byte last arrived, or the request was sent; 0: connecting */
	bool paused;      /* a stream without a block to fill */
	uint64_t held_ns; /* it waits for the rate since then; 0: it does not */
	struct block_pool *pool; /* whose blocks are reserved */
	unsigned reserved;
	uint64_t blocks; /* put into slots so far */

	/* The object's lock; written by the loop thread alone, but for what the worker passes. */
	uint64_t at;          /* bytes before it have arrived */
	uint64_t end;         /* SIZE_UNKNOWN: a stream of unknown length */
	struct block **slots; /* a ring; the worker takes blocks out that it has passed */
	unsigned n_slots;
	uint64_t released; /* blocks taken out so far */

	struct read_request
		*read; /* object_read_at(): bytes go there, not into slots. Loop thread */
};

/* One object_read_at(), on the heap because the worker may be cancelled out of it. */
struct read_request {
	struct post post;
	struct http_object *object;
	uint64_t offset;
	size_t len;

	/* The object's lock. */
	uint8_t *buf; /* NULL: the worker was cancelled and has gone; the loop frees the request */
	bool done;
};

struct http_object {
	struct object base;

	/* Set at creation. */
	struct transfer *t;
	struct reader reader;
	char *name;
	char *asked_url;
	bool probe;   /* WANT_IDENTITY */
	bool sparing; /* WANT_PARTS */
	bool conditional;
	struct identity have;      /* when conditional */
	struct http_signer signer; /* ctx NULL: none */
	struct cancel *cancel;
	struct cancel_watch watch;
	bool streaming; /* the worker's: stream_post is sent */
	struct post open_post, stream_post, skip_post, close_post;

	/* Loop thread. */
	struct http_object *next, *next_touched;
	bool is_touched;
	bool full; /* got neither block nor connection in this round of the schedule */
	bool discovered;
	bool plain;  /* ask without Range */
	bool whole;  /* the server sends everything in one response */
	bool wanted; /* object_stream() was called */
	char *url;   /* where the last redirect led */
	unsigned url_generation;
	unsigned redirects;
	bool resolved_again;
	struct host *host;
	struct version version;
	struct block_pool *own;
	struct range *ranges; /* of the window, in order. List and order: also under lock */
	struct range *reads;
	uint64_t planned; /* where the next range begins */
	struct pace pace;

	/* Under lock. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct progress *progress;
	bool ready; /* size and identity are known */
	bool sleeping;
	int failed;
	struct error why;
	uint64_t position; /* the worker has taken all bytes before it */
	uint64_t size;
	uint64_t slept_ns, asleep_since_ns;
};

/* engine */
/* Before the first object: loading libcurl takes longer than a start for which there is nothing to fetch. */
int engine_start_curl(struct transfer *t, struct error *err);
CURL *engine_take_easy(struct transfer *t);
void engine_give_easy(struct transfer *t, CURL *easy);
struct host *engine_host(struct transfer *t, const char *url);
void engine_handle_closed(struct transfer *t); /* one of open_handles; after the last, it is gone */

/* drive */
void engine_clock(struct transfer *t, uint64_t due_ns); /* the clock strikes then, or before */
void engine_touch(struct http_object *o); /* bytes arrived: its worker is woken after this event */
int drive_on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx);
int drive_on_curl_timer(CURLM *multi, long timeout_ms, void *ctx);
void drive_on_wake(uv_async_t *wake);

/* inbox */
int inbox_init(struct inbox *in, uv_loop_t *loop, uv_async_cb on_wake);
void inbox_done(struct inbox *in);
bool inbox_post(struct inbox *in, struct post *post); /* any thread; false: shut */
void inbox_run(struct inbox *in);
void inbox_shut(struct inbox *in);
void inbox_wake(void *ctx); /* any thread; ctx is the inbox */

/* schedule */
void schedule(struct transfer *t);
bool schedule_reserve(
	struct http_object *o, unsigned n); /* n shared blocks, leaving the headroom */

/* range */
struct range *range_new(struct http_object *o, uint64_t start, uint64_t end);
void range_keep_blocks(struct range *r, struct block_pool *pool, unsigned n); /* n reserved ones */
void range_free(struct range *r);                          /* stops what is under way */
void range_enter(struct range *r, enum range_state state); /* the only assignment to state */
void range_start(struct range *r);
void range_detach(struct range *r);             /* takes the request off the network */
void range_tick(struct range *r, uint64_t now); /* stalls; end of a backoff */
void range_resume(struct range *r);
uint64_t range_due(const struct range *r); /* when the clock shall look at it; UINT64_MAX: never */
void range_give_back_reserved(struct range *r, unsigned keep);
struct answer_wanted range_wanted(const struct range *r);

/* outcome */
void range_finished(struct range *r, CURLcode result);
void range_act(struct range *r, enum verdict verdict, const char *redirect);

/* request */
CURLcode request_prepare(struct range *r);
int request_check_headers(const struct transfer_options *opts, struct error *err);
char *url_origin(const char *url); /* "https://host:443"; NULL when malformed. Heap */
bool url_has_prefix(const char *url, const char *prefix, size_t prefix_len);

/* network */
void network_set(CURL *easy, const struct transfer_options *opts, const char *ca_file);

/* sign */
void sign_prepare(struct range *r);
enum verdict sign_judge(struct range *r); /* of an answer that is no success */

/* retry */
/* What to do about a failure that the same request would meet again; NULL: it may pass. */
const char *retry_permanent_advice(CURLcode result);
enum verdict retry_judge_curl(
	CURLcode result, const char *said, const struct answer_wanted *wanted, struct error *err);
uint64_t retry_delay_ms(
	const struct transfer_options *opts, unsigned attempt, uint64_t retry_after_ms);

/* window; those that end in _locked need the object's lock */
void window_begin(struct http_object *o);     /* the worker's: bytes are wanted one after another */
bool window_fit(struct range *r, size_t len); /* blocks for len more bytes; false: none free */
void window_fill(struct range *r, const uint8_t *bytes, size_t len);
void window_make_stream(struct range *r);
extern const struct reader_ops window_reader_ops;

/* upkeep */
void upkeep_on_open(struct post *post);
void upkeep_on_stream(struct post *post);
void upkeep_on_skip(struct post *post);
void upkeep_on_read(struct post *post);
void upkeep_on_close(struct post *post);
void object_fail(struct http_object *o, int code, const struct error *why);
void object_discovered(struct http_object *o, const struct answer *a, bool ranges);
void object_not_modified(struct http_object *o);
int object_set_url(struct http_object *o, const char *url); /* -1: malformed */
void read_request_done(struct range *r);
void object_destroy(struct http_object *o);

/* hold */
bool hold(struct range *r); /* whether its next bytes must wait; then they come later */
void hold_release(struct transfer *t);

/* trust, cloexec */
int trust_find(const char *configured, char **ret_path, struct error *err);
int *cloexec_inherited(void);
void cloexec_sweep(const int *inherited);

#endif
