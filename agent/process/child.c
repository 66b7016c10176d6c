/* SPDX-License-Identifier: MIT */
/* The life of one child process on the loop: its output, its time limit, its end, and the end of
 * the processes that it left running in its group. Loop thread. */
#include "defer.h"
#include "process.h"
#include "process_private.h"
#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <uv.h>

/* The child's output, cut into lines. Only an unfinished line is copied; a complete one is
 * delivered from the caller's buffer. */

enum { LINE_MAX_BYTES = 64 * 1024 };

struct line_cutter {
	void (*on_line)(void *ctx, const char *line, size_t len); /* without its newline */
	void *ctx;
	size_t len;
	char pending[LINE_MAX_BYTES];
};

static void lines_end(struct line_cutter *l)
{
	size_t len = l->len;

	if (len == 0)
		return;
	l->len = 0;
	l->on_line(l->ctx, l->pending, len);
}

static void lines_append(struct line_cutter *l, const char *bytes, size_t len)
{
	while (len > 0) {
		size_t room = sizeof(l->pending) - l->len;
		size_t n = len < room ? len : room;

		if (room == 0) {
			lines_end(l);
			continue;
		}
		memcpy(l->pending + l->len, bytes, n);
		l->len += n;
		bytes += n;
		len -= n;
	}
}

static void lines_add(struct line_cutter *l, const char *bytes, size_t len)
{
	const char *newline;

	while ((newline = memchr(bytes, '\n', len)) != NULL) {
		size_t n = (size_t)(newline - bytes);

		if (l->len == 0 && n <= sizeof(l->pending)) {
			l->on_line(l->ctx, bytes, n);
		} else {
			lines_append(l, bytes, n);
			lines_end(l);
		}
		bytes += n + 1;
		len -= n + 1;
	}
	lines_append(l, bytes, len);
}

/* The processes that are left in the child's group. Only this group is waited for: the statuses of
 * other children belong to their owners. */

static bool runs_in_group(const char *pid, pid_t group)
{
	struct process_stat p;

	return process_stat_read(pid, &p) == 0 && p.group == group && p.runs;
}

/* kill(2) counts zombies as members of a group until their parent waits for them, and in some
 * containers PID 1 does that late or never. Only /proc shows which members are zombies. */
static bool only_zombies_are_left(pid_t group)
{
	_closedir_ DIR *proc = opendir("/proc");
	const struct dirent *entry;

	if (proc == NULL)
		return false;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): a DIR of our own */
	while ((entry = readdir(proc)) != NULL)
		if (isdigit((unsigned char)entry->d_name[0]) && runs_in_group(entry->d_name, group))
			return false;
	return true;
}

bool child_group_is_gone(pid_t group)
{
	while (waitpid(-group, NULL, WNOHANG) > 0)
		;
	if (kill(-group, 0) < 0 && errno == ESRCH)
		return true;
	return only_zombies_are_left(group);
}

void child_group_signal(pid_t group, int signal)
{
	kill(-group, signal);
	if (signal == SIGTERM)
		kill(-group, SIGCONT); /* a stopped process handles no signal but SIGKILL */
}

/* The child. The reaper waits for it. */

enum {
	KILL_AFTER_MS = 5000,   /* from SIGTERM to SIGKILL */
	TICK_MS = 10,           /* how often the rest of the group is checked */
	GROUP_TERM_TICKS = 1,   /* the rest of the group has this long to end by itself, */
	GROUP_KILL_TICKS = 101, /* and a second from SIGTERM to SIGKILL; */
	GROUP_LOST_TICKS = 301, /* a process that survives this long is stuck in the kernel */
	OUTPUT_TICKS = 100,     /* how long to read the output of one that left the group */
	READ_BYTES = 64 * 1024,
	LAST_READS = 16, /* a pipe holds a megabyte at most */
};

enum child_state {
	CHILD_RUNNING,      /* until the reaper calls on_end */
	CHILD_ENDING_GROUP, /* the child has ended; the rest of its group is being ended */
	CHILD_DRAINING,     /* its output is read to the end */
	CHILD_CLOSING,      /* its handles close; the last close callback calls on_exit */
};

struct child {
	/* Set at creation. */
	void (*on_exit)(void *ctx, const struct child_end *end); /* NULL: the child did not start */
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
	uv_timer_t limit; /* the time limit, then the time until SIGKILL */
	uv_timer_t tick;
	uv_poll_t output;
	struct line_cutter lines;
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
	c->state = CHILD_CLOSING;
	reap_forget(c->loop, &c->process);
	uv_close((uv_handle_t *)&c->limit, on_handle_closed);
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
	if (c->state == CHILD_DRAINING)
		finish_output(c);
}

static void child_drain(struct child *c)
{
	c->state = CHILD_DRAINING;
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

static void end_group_tick(struct child *c)
{
	c->ticks++;
	if (child_group_is_gone(c->process.pid) || c->ticks == GROUP_LOST_TICKS) {
		child_drain(c);
	} else if (c->ticks == GROUP_TERM_TICKS) {
		c->end.left_processes = true;
		child_group_signal(c->process.pid, SIGTERM);
	} else if (c->ticks >= GROUP_KILL_TICKS) {
		child_group_signal(c->process.pid, SIGKILL);
	}
}

static void on_tick(uv_timer_t *h)
{
	struct child *c = h->data;

	if (c->state == CHILD_ENDING_GROUP)
		end_group_tick(c);
	else if (c->state == CHILD_DRAINING)
		drain_tick(c);
}

static void child_end_group(struct child *c)
{
	c->state = CHILD_ENDING_GROUP;
	uv_timer_stop(&c->limit);
	uv_timer_start(&c->tick, on_tick, TICK_MS, TICK_MS);
	if (child_group_is_gone(c->process.pid))
		child_drain(c);
}

/* The process. */

static void on_end(struct reaped *r, int wait_status)
{
	struct child *c = container_of(r, struct child, process);

	c->end.wait_status = wait_status;
	child_end_group(c);
}

static void on_kill_time(uv_timer_t *h)
{
	const struct child *c = h->data;

	child_group_signal(c->process.pid, SIGKILL);
}

void child_kill(struct child *c, int signal)
{
	if (c->state != CHILD_RUNNING && c->state != CHILD_ENDING_GROUP)
		return;
	child_group_signal(c->process.pid, signal);
	if (signal != SIGTERM || c->terminating)
		return;
	c->terminating = true;
	if (c->state == CHILD_RUNNING)
		uv_timer_start(&c->limit, on_kill_time, KILL_AFTER_MS, 0);
}

static void on_time_up(uv_timer_t *h)
{
	struct child *c = h->data;

	c->end.timed_out = true;
	child_kill(c, SIGTERM);
}

/* The start. */

static void own_handle(struct child *c, void *handle)
{
	((uv_handle_t *)handle)->data = c;
	c->open_handles++;
}

static int open_output(struct child *c, int *ret_write_end, struct error *err)
{
	int fds[2], code;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "make a pipe for a child's output: %m");
	code = uv_poll_init(c->loop, &c->output, fds[0]); /* sets O_NONBLOCK, on this end only */
	if (code < 0) {
		close(fds[0]);
		close(fds[1]);
		return error_set(err, code, "watch a child's output: %s", uv_strerror(code));
	}
	own_handle(c, &c->output);
	c->has_output = true;
	c->output_fd = fds[0];
	*ret_write_end = fds[1];
	return 0;
}

static int child_launch(struct child *c, const struct child_options *opts, struct error *err)
{
	_close_ int output = -1;
	int code = 0;

	if (opts->on_line != NULL)
		code = open_output(c, &output, err);
	if (code < 0)
		return code;
	code = spawn(&(struct spawn_options){.argv = opts->argv,
			     .env = opts->env,
			     .cwd = opts->cwd,
			     .inherited = opts->inherited,
			     .output_fd = output},
		&c->process.pid, NULL, err);
	if (code < 0)
		return code;
	if (c->has_output)
		uv_poll_start(&c->output, UV_READABLE, on_output);
	if (opts->timeout_ms > 0)
		uv_timer_start(&c->limit, on_time_up, opts->timeout_ms, 0);
	return 0;
}

int child_start(
	uv_loop_t *loop, const struct child_options *opts, struct child **ret, struct error *err)
{
	struct child *c = zalloc(sizeof(*c));
	int code;

	c->loop = loop;
	c->process.on_end = on_end;
	code = reap_watch(loop, &c->process, err);
	if (code < 0) {
		child_free(c);
		return code;
	}
	uv_timer_init(loop, &c->limit);
	own_handle(c, &c->limit);
	uv_timer_init(loop, &c->tick);
	own_handle(c, &c->tick);
	c->lines.on_line = opts->on_line;
	c->lines.ctx = opts->ctx;
	code = child_launch(c, opts, err);
	if (code < 0) {
		child_close(c); /* on_exit is NULL: frees it */
		return code;
	}
	c->on_exit = opts->on_exit;
	c->ctx = opts->ctx;
	*ret = c;
	return 0;
}
