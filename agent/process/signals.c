/* SPDX-License-Identifier: MIT */
/* Signals as events. Loop thread. A signalfd is used rather than handlers because it returns the
 * sender and the value of a signal, and because a blocked signal stays pending until it is read. */
#include "defer.h"
#include "job.h"
#include "process_private.h"
#include "text.h"
#include "thread.h"
#include <string.h>
#include <uv.h>

struct signals {
	uv_poll_t readable;
	int fd;
	void (*on_signal)(void *ctx, const struct signalfd_siginfo *info);
	void *ctx;
};

static bool is_own_sigpipe(const struct signalfd_siginfo *info)
{
	/* From a write() to a pipe without a reader, which returns EPIPE as well. */
	return info->ssi_signo == SIGPIPE && info->ssi_pid == (uint32_t)getpid();
}

void signals_dispatch(struct signals *s)
{
	struct signalfd_siginfo info;

	while (read(s->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		if (!is_own_sigpipe(&info))
			s->on_signal(s->ctx, &info);
}

static void on_readable(uv_poll_t *h, int status, int events)
{
	(void)status;
	(void)events;
	signals_dispatch(h->data);
}

static void on_closed(uv_handle_t *h)
{
	struct signals *s = h->data;

	close(s->fd);
	free(s);
}

int signals_open(uv_loop_t *loop, const sigset_t *which,
	void (*on_signal)(void *ctx, const struct signalfd_siginfo *info), void *ctx,
	struct signals **ret, struct error *err)
{
	_close_ int fd = signalfd(-1, which, SFD_CLOEXEC | SFD_NONBLOCK);
	char why[THREAD_WHY_SIZE];
	struct signals *s;
	int code;

	if (fd < 0)
		return error_set(err, -errno, "cannot watch for signals: %s",
			thread_explain_call(errno, "signalfd4()", why));
	s = zalloc(sizeof(*s));
	code = uv_poll_init(loop, &s->readable, fd);
	if (code < 0) {
		free(s);
		return error_set(err, code, "cannot watch for signals: %s",
			thread_explain_call(-code, "ioctl()", why));
	}
	pthread_sigmask(SIG_BLOCK, which, NULL);
	s->fd = take_fd(&fd);
	s->on_signal = on_signal;
	s->ctx = ctx;
	s->readable.data = s;
	uv_poll_start(&s->readable, UV_READABLE, on_readable);
	uv_unref((uv_handle_t *)&s->readable);
	*ret = s;
	return 0;
}

void signals_hold_loop(struct signals *s, bool hold)
{
	if (hold)
		uv_ref((uv_handle_t *)&s->readable);
	else
		uv_unref((uv_handle_t *)&s->readable);
}

void signals_close(struct signals *s)
{
	uv_close((uv_handle_t *)&s->readable, on_closed);
}

void signals_forwardable(const struct inherited *in, sigset_t *ret)
{
	sigfillset(ret);
	sigdelset(ret, SIGKILL);
	sigdelset(ret, SIGSTOP);
	sigdelset(ret, SIGCHLD);
	for (int s = 1; s < NSIG; s++)
		if (in->actions[s].sa_handler == SIG_IGN)
			sigdelset(ret, s);
}

bool signals_stop_here(int signal, bool or_group)
{
	sigset_t one, pending, mask;

	sigemptyset(&one);
	sigaddset(&one, signal);
	pthread_sigmask(SIG_UNBLOCK, &one, &mask);
	kill(or_group ? 0 : getpid(), signal);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	/* The SIGCONT that ended the stop is blocked and still pending. */
	sigpending(&pending);
	return sigismember(&pending, SIGCONT) == 1;
}
