/* SPDX-License-Identifier: MIT */
/* The life of one child process on the loop: its output, its time limit, its end, and then the end
 * of whatever it left running in its group. Loop thread. The reaper waits for it. */
#include "defer.h"
#include "group.h"
#include "lines.h"
#include "process.h"
#include "reap.h"
#include "spawn.h"
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <uv.h>

enum {
	KILL_AFTER_MS = 5000,   /* from SIGTERM to SIGKILL */
	TICK_MS = 10,           /* how often the rest of a group is looked at */
	GROUP_TERM_TICKS = 1,   /* what ends by itself has this long */
	GROUP_KILL_TICKS = 101, /* and what was told to, a second */
	GROUP_LOST_TICKS = 301, /* what survives SIGKILL is stuck in the kernel */
	OUTPUT_TICKS = 100,     /* for a process that left the group but holds our pipe */
	READ_BYTES = 64 * 1024,
	LAST_READS = 16, /* a pipe holds a megabyte at most */
};

enum child_state {
	CHILD_RUNNING,  /* until the reaper says otherwise */
	CHILD_DISBANDS, /* it has ended; the rest of its group is being ended */
	CHILD_DRAINS,   /* its output is read to the end */
	CHILD_CLOSES,   /* its handles close; the last one calls on_exit */
};

struct child {
	/* Set at creation. */
	void (*on_exit)(void *ctx, const struct child_end *end); /* NULL: it never started */
	void *ctx;
	bool has_output;
	int output_fd;

	uv_loop_t *loop;

	enum child_state state;
	struct reaped process; /* its pid is also its group's */
	struct child_end end;
	bool terminating;
	unsigned ticks; /* in this state */
	unsigned open_handles;
	uv_timer_t patience; /* the time limit, then the time until SIGKILL */
	uv_timer_t tick;
	uv_poll_t output;
	struct lines lines;
};

static void on_handle_closed(uv_handle_t *h)
{
	struct child *c = h->data;

	if (--c->open_handles > 0)
		return;
	if (c->on_exit == NULL)
		child_free(c);
	else
		c->on_exit(c->ctx, &c->end);
}

static void child_close(struct child *c)
{
	c->state = CHILD_CLOSES;
	reap_forget(c->loop, &c->process);
	uv_close((uv_handle_t *)&c->patience, on_handle_closed);
	uv_close((uv_handle_t *)&c->tick, on_handle_closed);
	if (c->has_output) {
		uv_close((uv_handle_t *)&c->output, on_handle_closed);
		close(c->output_fd);
	}
}

void child_free(struct child *c)
{
	free(c);
}

/* Output. */

enum output { OUTPUT_SOME, OUTPUT_NOT_YET, OUTPUT_ENDED };

static enum output read_output(struct child *c)
{
	char bytes[READ_BYTES];
	ssize_t n = read(c->output_fd, bytes, sizeof(bytes));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return OUTPUT_NOT_YET;
	if (n <= 0)
		return OUTPUT_ENDED;
	lines_add(&c->lines, bytes, (size_t)n);
	return OUTPUT_SOME;
}

static bool output_has_ended(const struct child *c)
{
	return !c->has_output || !uv_is_active((const uv_handle_t *)&c->output);
}

static void finish_output(struct child *c)
{
	if (c->has_output)
		lines_end(&c->lines);
	child_close(c);
}

static void on_output(uv_poll_t *h, int status, int events)
{
	struct child *c = h->data;

	(void)events;
	if (status == 0 && read_output(c) != OUTPUT_ENDED)
		return;
	uv_poll_stop(h);
	if (c->state == CHILD_DRAINS)
		finish_output(c);
}

static void child_drain(struct child *c)
{
	c->state = CHILD_DRAINS;
	c->ticks = 0;
	if (output_has_ended(c))
		finish_output(c);
}

static void drain_tick(struct child *c)
{
	unsigned reads = 0;

	if (++c->ticks < OUTPUT_TICKS)
		return;
	while (reads < LAST_READS && read_output(c) == OUTPUT_SOME)
		reads++;
	finish_output(c);
}

/* The group. */

static void disband_tick(struct child *c)
{
	c->ticks++;
	if (group_is_gone(c->process.pid) || c->ticks == GROUP_LOST_TICKS) {
		child_drain(c);
	} else if (c->ticks == GROUP_TERM_TICKS) {
		c->end.left_processes = true;
		group_signal(c->process.pid, SIGTERM);
	} else if (c->ticks >= GROUP_KILL_TICKS) {
		group_signal(c->process.pid, SIGKILL);
	}
}

static void on_tick(uv_timer_t *h)
{
	struct child *c = h->data;

	if (c->state == CHILD_DISBANDS)
		disband_tick(c);
	else if (c->state == CHILD_DRAINS)
		drain_tick(c);
}

static void child_disband(struct child *c)
{
	c->state = CHILD_DISBANDS;
	uv_timer_stop(&c->patience);
	uv_timer_start(&c->tick, on_tick, TICK_MS, TICK_MS);
	if (group_is_gone(c->process.pid))
		child_drain(c);
}

/* The process. */

static void on_end(struct reaped *r, int wait_status)
{
	struct child *c = container_of(r, struct child, process);

	c->end.wait_status = wait_status;
	child_disband(c);
}

static void on_patience_over(uv_timer_t *h)
{
	const struct child *c = h->data;

	group_signal(c->process.pid, SIGKILL);
}

void child_kill(struct child *c, int signal)
{
	if (c->state != CHILD_RUNNING && c->state != CHILD_DISBANDS)
		return;
	group_signal(c->process.pid, signal);
	if (signal != SIGTERM || c->terminating)
		return;
	c->terminating = true;
	if (c->state == CHILD_RUNNING)
		uv_timer_start(&c->patience, on_patience_over, KILL_AFTER_MS, 0);
}

static void on_time_up(uv_timer_t *h)
{
	struct child *c = h->data;

	c->end.timed_out = true;
	child_kill(c, SIGTERM);
}

/* The start. */

static void adopt(struct child *c, void *handle)
{
	((uv_handle_t *)handle)->data = c;
	c->open_handles++;
}

static int make_output(struct child *c, int *ret_write_end, struct error *err)
{
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "make a pipe for a child's output: %m");
	r = uv_poll_init(c->loop, &c->output, fds[0]); /* makes our end, only, non-blocking */
	if (r < 0) {
		close(fds[0]);
		close(fds[1]);
		return error_set(err, r, "watch a child's output: %s", uv_strerror(r));
	}
	adopt(c, &c->output);
	c->has_output = true;
	c->output_fd = fds[0];
	*ret_write_end = fds[1];
	return 0;
}

static int child_launch(struct child *c, const struct child_options *opts, struct error *err)
{
	_close_ int output = -1;
	int r = 0;

	if (opts->on_line != NULL && (r = make_output(c, &output, err)) < 0)
		return r;
	r = spawn(&(struct spawn_options){.argv = opts->argv,
			  .env = opts->env,
			  .cwd = opts->cwd,
			  .inherited = opts->inherited,
			  .output_fd = output},
		&c->process.pid, NULL, err);
	if (r < 0)
		return r;
	if (c->has_output)
		uv_poll_start(&c->output, UV_READABLE, on_output);
	if (opts->timeout_ms > 0)
		uv_timer_start(&c->patience, on_time_up, opts->timeout_ms, 0);
	return 0;
}

int child_start(
	uv_loop_t *loop, const struct child_options *opts, struct child **ret, struct error *err)
{
	struct child *c = zalloc(sizeof(*c));
	int r;

	c->loop = loop;
	c->process.on_end = on_end;
	r = reap_watch(loop, &c->process, err);
	if (r < 0) {
		child_free(c);
		return r;
	}
	uv_timer_init(loop, &c->patience);
	adopt(c, &c->patience);
	uv_timer_init(loop, &c->tick);
	adopt(c, &c->tick);
	c->lines.on_line = opts->on_line;
	c->lines.ctx = opts->ctx;
	r = child_launch(c, opts, err);
	if (r < 0) {
		child_close(c); /* without on_exit: frees itself */
		return r;
	}
	c->on_exit = opts->on_exit;
	c->ctx = opts->ctx;
	*ret = c;
	return 0;
}
