/* SPDX-License-Identifier: MIT */
/* The scripted server. It implements only the parts of HTTP that the tests need: keep-alive, a
 * single range, and bodies with a Content-Length. fake_http_stop() joins all threads. */
#include "fake_http.h"
#include "text.h"
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 4096, REQUESTS_MAX = 8192, PIECE = 16384 };

struct connection {
	struct fake_http *f;
	pthread_t thread;
	int fd;
	unsigned number;
};

struct fake_http {
	struct fake_http *next; /* in the list of running servers */
	struct fake_options opts;
	int fd;
	unsigned port;
	pthread_t thread;
	atomic_bool stopping;

	pthread_mutex_t lock;
	struct connection connections[CONNECTIONS_MAX];
	unsigned n_connections;
	struct fake_request **requests;
	unsigned n_requests, under_way, peak;
};

static struct fake_http *running; /* the test's thread */

uint8_t fake_byte(unsigned seed, uint64_t offset)
{
	return (uint8_t)(seed + offset + (offset >> 8) * 7 + (offset >> 16) * 31);
}

static void sleep_ms(struct fake_http *f, uint64_t ms)
{
	while (ms > 0 && !f->stopping) {
		uint64_t nap = ms < 10 ? ms : 10;

		usleep((useconds_t)(nap * 1000));
		ms -= nap;
	}
}

static bool send_all(int fd, const void *bytes, size_t len)
{
	const char *p = bytes;

	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static const char *find_header(const struct fake_request *req, const char *name)
{
	const char *line = req->headers;
	size_t len = strlen(name);

	while (line[0] != '\0') {
		if (strncasecmp(line, name, len) == 0 && line[len] == ':')
			return line + len + 1 + strspn(line + len + 1, " ");
		line += strcspn(line, "\n");
		line += line[0] == '\n';
	}
	return NULL;
}

bool fake_has_header(const struct fake_request *req, const char *name)
{
	return find_header(req, name) != NULL;
}

bool fake_header_is(const struct fake_request *req, const char *name, const char *value)
{
	const char *is = find_header(req, name);

	return is != NULL && strncmp(is, value, strlen(value)) == 0 &&
	       strchr("\r\n", is[strlen(value)]) != NULL;
}

static bool read_body(int fd, struct fake_request *ret)
{
	const char *length = find_header(ret, "Content-Length");
	char buf[16384];

	ret->body_len = 0;
	ret->body[0] = '\0';
	for (uint64_t left = length != NULL ? strtoull(length, NULL, 10) : 0; left > 0;) {
		ssize_t n = recv(fd, buf, left < sizeof(buf) ? left : sizeof(buf), 0);
		size_t kept = strlen(ret->body);

		if (n <= 0)
			return false;
		snprintf(ret->body + kept, sizeof(ret->body) - kept, "%.*s", (int)n, buf);
		ret->body_len += (uint64_t)n;
		left -= (uint64_t)n;
	}
	return true;
}

/* Reads the head, up to its empty line, and the body. */
static bool read_request(int fd, struct fake_request *ret)
{
	char buf[16384];
	size_t len = 0;
	const char *range;

	while (len < 4 || memcmp(buf + len - 4, "\r\n\r\n", 4) != 0) {
		if (len == sizeof(buf) - 1 || recv(fd, buf + len, 1, 0) != 1)
			return false;
		len++;
	}
	buf[len] = '\0';
	sscanf(buf, "%15s %1023s", ret->method, ret->path);
	snprintf(ret->headers, sizeof(ret->headers), "%.8191s", strchr(buf, '\n') + 1);
	range = find_header(ret, "Range");
	ret->has_range = range != NULL &&
			 sscanf(range, "bytes=%" SCNu64 "-%" SCNu64, &ret->first, &ret->last) == 2;
	return read_body(fd, ret);
}

static void set_status(struct fake_reply *r, int status)
{
	r->status = status;
	r->text = "";
	r->content_length = 0;
}

/* The reply of a correct server. */
static void answer_well(
	const struct fake_http *f, const struct fake_request *q, struct fake_reply *r)
{
	const char *match;

	*r = (struct fake_reply){.status = 200,
		.etag = "\"v1\"",
		.last_modified = "Tue, 15 Nov 1994 12:45:26 GMT",
		.len = f->opts.size,
		.cut_after = FAKE_NONE,
		.stall_after = FAKE_NONE,
		.seed = 1};
	r->content_length = r->len;
	match = find_header(q, "If-Match");
	if (match != NULL && strncmp(match, r->etag, strlen(r->etag)) != 0)
		set_status(r, 412);
	else if (fake_header_is(q, "If-None-Match", r->etag))
		set_status(r, 304);
	else if (q->has_range && q->first >= f->opts.size)
		set_status(r, 416);
	else if (q->has_range) {
		r->status = 206;
		r->range_first = r->first = q->first;
		r->range_last = q->last < f->opts.size ? q->last : f->opts.size - 1;
		r->range_total = f->opts.size;
		r->content_length = r->len = r->range_last - r->first + 1;
	}
}

static bool send_head(int fd, const struct fake_reply *r)
{
	struct text t = {0};
	bool sent;

	text_addf(&t, "HTTP/1.1 %d Status\r\n%s", r->status, r->headers);
	if (r->etag[0] != '\0')
		text_addf(&t, "ETag: %s\r\n", r->etag);
	if (r->last_modified[0] != '\0')
		text_addf(&t, "Last-Modified: %s\r\n", r->last_modified);
	if (r->status == 206 && r->range_total == FAKE_NONE)
		text_addf(&t, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/*\r\n", r->range_first,
			r->range_last);
	else if (r->status == 206)
		text_addf(&t, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n",
			r->range_first, r->range_last, r->range_total);
	if (r->content_length != FAKE_NONE)
		text_addf(&t, "Content-Length: %" PRIu64 "\r\n", r->content_length);
	else
		text_add(&t, "Connection: close\r\n");
	text_add(&t, "\r\n");
	sent = send_all(fd, t.s, t.len);
	text_done(&t);
	return sent;
}

static void count_reply(struct fake_http *f, int by)
{
	pthread_mutex_lock(&f->lock);
	f->under_way += (unsigned)by;
	if (f->under_way > f->peak)
		f->peak = f->under_way;
	pthread_mutex_unlock(&f->lock);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The number of bytes to send next. A piece ends where the script wants a pause or a cut. */
static size_t piece_at(const struct fake_reply *r, uint64_t sent)
{
	uint64_t until = min_u64(r->len, sent + (r->piece > 0 ? r->piece : PIECE));

	if (sent < r->cut_after)
		until = min_u64(until, r->cut_after);
	if (sent < r->stall_after)
		until = min_u64(until, r->stall_after);
	return (size_t)(until - sent);
}

static bool send_piece(int fd, const struct fake_reply *r, uint64_t sent, size_t len)
{
	char buf[PIECE];

	for (size_t i = 0; i < len; i++)
		buf[i] = (char)fake_byte(r->seed, r->first + sent + i);
	if (!send_all(fd, buf, len))
		return false;
	if (r->bytes_per_s > 0)
		usleep((useconds_t)(len * 1000000 / r->bytes_per_s));
	return true;
}

/* A reply is counted as ended before its last bytes are sent, because a client may send the next
 * request as soon as it has them. */
static bool send_bytes(struct fake_http *f, int fd, const struct fake_reply *r, bool *ended)
{
	uint64_t sent = 0;

	while (sent < r->len && !f->stopping && sent != r->cut_after) {
		size_t len = piece_at(r, sent);

		if (sent == r->stall_after)
			sleep_ms(f, r->stall_ms);
		if (sent + len == r->len) {
			count_reply(f, -1);
			*ended = true;
		}
		if (!send_piece(fd, r, sent, len))
			return false;
		sent += len;
	}
	return sent == r->len;
}

static bool reply(struct fake_http *f, int fd, const struct fake_request *q)
{
	struct fake_reply r;
	bool keep, ended = false;

	answer_well(f, q, &r);
	if (f->opts.script != NULL)
		f->opts.script(f->opts.ctx, q, &r);
	count_reply(f, 1);
	keep = send_head(fd, &r);
	if (keep && r.text != NULL && strcmp(q->method, "HEAD") != 0)
		keep = send_all(fd, r.text, strlen(r.text));
	else if (keep && strcmp(q->method, "HEAD") != 0)
		keep = send_bytes(f, fd, &r, &ended);
	if (!ended)
		count_reply(f, -1);
	return keep && r.content_length != FAKE_NONE && !r.closes;
}

static struct fake_request *copy_of(const struct fake_request *q)
{
	struct fake_request *copy = zalloc(sizeof(*copy));

	*copy = *q;
	return copy;
}

static void *serve(void *ctx)
{
	struct connection *c = ctx;
	struct fake_http *f = c->f;
	struct fake_request q = {.connection = c->number};

	while (!f->stopping && read_request(c->fd, &q)) {
		pthread_mutex_lock(&f->lock);
		q.number = f->n_requests;
		if (f->n_requests < REQUESTS_MAX)
			f->requests[f->n_requests++] = copy_of(&q);
		pthread_mutex_unlock(&f->lock);
		if (!reply(f, c->fd, &q))
			break;
	}
	shutdown(c->fd, SHUT_RDWR);
	return NULL;
}

static void *accept_all(void *ctx)
{
	struct fake_http *f = ctx;
	int fd;

	while ((fd = accept4(f->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		struct connection *c = &f->connections[f->n_connections];

		/* Otherwise the end of each reply would wait for the client's delayed ACK. */
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
		pthread_mutex_lock(&f->lock);
		*c = (struct connection){.f = f, .fd = fd, .number = f->n_connections};
		if (f->stopping || f->n_connections == CONNECTIONS_MAX - 1 ||
			pthread_create(&c->thread, NULL, serve, c) != 0)
			close(fd);
		else
			f->n_connections++;
		pthread_mutex_unlock(&f->lock);
	}
	return NULL;
}

/* Signals are for the code under test: a thread that does not block SIGCHLD can take it before the signalfd of a
 * loop is read. Threads of connections inherit the mask. */
static int start_deaf(pthread_t *thread, struct fake_http *f)
{
	sigset_t all, before;
	int code;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	code = pthread_create(thread, NULL, accept_all, f);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return code;
}

struct fake_http *fake_http_start(const struct fake_options *opts)
{
	struct fake_http *f = zalloc(sizeof(*f));
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);

	f->opts = *opts;
	f->requests = zalloc(
		REQUESTS_MAX * sizeof(*f->requests)); /* NOLINT(bugprone-sizeof-expression) */
	pthread_mutex_init(&f->lock, NULL);
	f->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(f->fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(f->fd, 128) < 0 ||
		getsockname(f->fd, (struct sockaddr *)&a, &len) < 0 ||
		start_deaf(&f->thread, f) != 0)
		abort();
	f->port = ntohs(a.sin_port);
	f->next = running;
	running = f;
	return f;
}

void fake_http_stop(struct fake_http *f)
{
	struct fake_http **at = &running;

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	f->stopping = true;
	shutdown(f->fd, SHUT_RDWR);
	pthread_join(f->thread, NULL);
	for (unsigned i = 0; i < f->n_connections; i++)
		shutdown(f->connections[i].fd, SHUT_RDWR);
	for (unsigned i = 0; i < f->n_connections; i++) {
		pthread_join(f->connections[i].thread, NULL);
		close(f->connections[i].fd);
	}
	close(f->fd);
	pthread_mutex_destroy(&f->lock);
	for (unsigned i = 0; i < f->n_requests; i++)
		free(f->requests[i]);
	free(f->requests);
	free(f);
}

void fake_http_stop_all(void)
{
	while (running != NULL)
		fake_http_stop(running);
}

char *fake_http_url(const struct fake_http *f, const char *path)
{
	return text_format("http://127.0.0.1:%u%s", f->port, path);
}

unsigned fake_http_port(const struct fake_http *f)
{
	return f->port;
}

unsigned fake_http_requests(struct fake_http *f)
{
	unsigned n;

	pthread_mutex_lock(&f->lock);
	n = f->n_requests;
	pthread_mutex_unlock(&f->lock);
	return n;
}

struct fake_request fake_http_request(struct fake_http *f, unsigned i)
{
	struct fake_request q;

	pthread_mutex_lock(&f->lock);
	q = *f->requests[i];
	pthread_mutex_unlock(&f->lock);
	return q;
}

unsigned fake_http_peak(struct fake_http *f)
{
	unsigned n;

	pthread_mutex_lock(&f->lock);
	n = f->peak;
	pthread_mutex_unlock(&f->lock);
	return n;
}
