/* SPDX-License-Identifier: MIT */
/* Fuzzes the parser of agent.ini. Checks that an input is read, or rejected with a message that
 * names the file. Each value that was read must be in its row's range, be the same after it is
 * printed and parsed again, and have a description. */
#include "../../agent/config/settings_table.h"
#include "defer.h"
#include "fuzz.h"
#include "log.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Returns a path in /proc to a file in memory, so that no file is created in a directory. */
static const char *write_file(const uint8_t *bytes, size_t len)
{
	static char path[32];
	static int fd = -1;

	if (fd < 0)
		fd = memfd_create("agent.ini", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, bytes, len, 0) != (ssize_t)len)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return path;
}

static void check_row(const struct setting *row, const struct settings *s)
{
	struct settings *other = settings_new();
	_free_ char *printed = setting_print(row, s), *again = NULL;
	struct error err = {0};

	if (setting_parse(row, other, printed, false, &err) < 0)
		abort();
	again = setting_print(row, other);
	if (strcmp(printed, again) != 0)
		abort();
	settings_free(other);
}

static void on_row(void *ctx, const char *key, const char *value, const char *origin)
{
	if (strchr(key, '.') == NULL || origin[0] == '\0')
		abort();
	*(size_t *)ctx += strlen(value) < SIZE_MAX;
}

static void check(struct settings *s)
{
	struct error err = {0};
	size_t n = 0;

	for (size_t i = 0; i < settings_count; i++) {
		/* The other rows have their defaults; to check them for each input would be
		 * slow. */
		if (s->origins[i].kind == ORIGIN_FILE)
			check_row(&settings_table[i], s);
	}
	settings_lock(s);
	if (settings_check(s, &err) < 0 && (err.code != -ERR_CONFIG || err.msg[0] == '\0'))
		abort();
	settings_describe(s, on_row, &n);
	if (n != settings_count)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	const char *path = write_file(bytes, len);
	struct settings *s = settings_new();
	struct error err = {0};

	log_setup(LOG_ERROR, LOG_TEXT, STDERR_FILENO);
	if (settings_parse_file(s, path, &err) == 0)
		check(s);
	else if (err.code >= 0 || strncmp(err.msg, path, strlen(path)) != 0)
		abort();
	settings_free(s);
	return 0;
}
