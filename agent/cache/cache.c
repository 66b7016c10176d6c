/* SPDX-License-Identifier: MIT */
/* Opening the cache: whose it is, and what stays in use. */
#include "cache_private.h"
#include "defer.h"
#include "log.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define VERSION "v1"

/* Descriptors that are passed on are put from here on: out of the way of shells and of programs that count
 * on low ones. Below the usual soft limit of 1024. */
#define FIRST_PASSED 960

static int check_owner(int fd, const char *path, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return error_set(err, -errno, "cannot look at %s: %m", path);
	if (st.st_uid != geteuid())
		return error_set(err, -EPERM,
			"%s belongs to user %u, and this is user %u: a node cache has one owner",
			path, (unsigned)st.st_uid, (unsigned)geteuid());
	if ((st.st_mode & 022) != 0)
		return error_set(err, -EPERM,
			"others may write to %s (mode %o), and could change what is staged: chmod "
			"go-w",
			path, (unsigned)st.st_mode & 07777);
	return 0;
}

/* mkdir -p; what is there already stays as it is. */
static void make_parents(const char *path)
{
	_free_ char *copy = copy_text(path);

	for (char *p = copy + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		(void)!mkdir(copy, 0755);
		*p = '/';
	}
	(void)!mkdir(copy, 0755);
}

static int open_dir(const char *dir, struct cache *c, struct error *err)
{
	_close_ int fd = -1;
	_free_ char *path = NULL;
	char real[PATH_MAX];
	int code;

	make_parents(dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || realpath(dir, real) == NULL)
		return error_set(err, -errno, "cannot open the node cache %s: %m", dir);
	code = check_owner(fd, real, err);
	if (code < 0)
		return code;
	c->dir = copy_text(real);
	path = format_text("%s/" VERSION, real);
	(void)!mkdirat(fd, VERSION, 0755);
	c->fd = openat(fd, VERSION, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (c->fd < 0)
		return error_set(err, -errno, "cannot make %s: %m", path);
	return check_owner(c->fd, path, err);
}

int cache_open(const struct cache_options *opts, struct cache **ret, struct error *err)
{
	struct cache *c = zalloc(sizeof(*c));
	int code;

	*c = (struct cache){.fd = -1,
		.max_size = opts->max_size,
		.min_free = opts->min_free,
		.deliver = opts->deliver};
	pthread_mutex_init(&c->mutex, NULL);
	code = open_dir(opts->dir, c, err);
	if (code < 0) {
		cache_close(c);
		return code;
	}
	*ret = c;
	return 0;
}

const char *cache_dir(const struct cache *c)
{
	return c->dir;
}

void cache_close(struct cache *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < c->n_kept; i++)
		close(c->kept[i]);
	free(c->kept);
	if (c->fd >= 0)
		close(c->fd);
	free(c->dir);
	pthread_mutex_destroy(&c->mutex);
	free(c);
}

void use_keep(struct cache *c, int fd)
{
	pthread_mutex_lock(&c->mutex);
	c->kept = realloc(c->kept, (c->n_kept + 1) * sizeof(*c->kept));
	if (c->kept == NULL)
		abort();
	c->kept[c->n_kept++] = fd;
	pthread_mutex_unlock(&c->mutex);
}

void cache_pass_on(struct cache *c)
{
	if (c == NULL)
		return;
	pthread_mutex_lock(&c->mutex);
	/* A lock belongs to the open file: it is held until the last descriptor of it is closed. */
	for (size_t i = 0; i < c->n_kept; i++)
		if (fcntl(c->kept[i], F_DUPFD, FIRST_PASSED) < 0 &&
			fcntl(c->kept[i], F_SETFD, 0) != 0)
			log_warn("what is used of the node cache may be evicted meanwhile: %m");
	pthread_mutex_unlock(&c->mutex);
}

int entry_check_owner(int key_fd, const char *path, struct error *err)
{
	return check_owner(key_fd, path, err);
}
