/* SPDX-License-Identifier: MIT */
/* The controlling terminal. Loop thread. */
#include "terminal.h"
#include <fcntl.h>
#include <unistd.h>

void terminal_open(struct terminal *t)
{
	t->fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (t->fd < 0 && tcgetpgrp(STDIN_FILENO) > 0) /* an image without /dev/tty */
		t->fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}

void terminal_close(struct terminal *t)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

bool terminal_belongs_to(const struct terminal *t, pid_t group)
{
	return t->fd >= 0 && tcgetpgrp(t->fd) == (group != 0 ? group : getpgrp());
}

void terminal_give(const struct terminal *t, pid_t group)
{
	if (t->fd >= 0)
		tcsetpgrp(t->fd, group != 0 ? group : getpgrp());
}

bool terminal_is_interactive(void)
{
	return isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1;
}
