/* SPDX-License-Identifier: MIT */
/* keep_download: what arrives of an archive that is one stream is also written, as it came, into the state
 * directory, so that a run which follows a killed one asks for no byte twice. The file is a prefix of one version of
 * the object: continue.c removed it if it was another's. Source thread. */
#include "keep.h"
#include "defer.h"
#include "log.h"
#include "publish.h"
#include "text.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BLOCK_BYTES = 256 << 10, BLOCKS = 8 };

struct kept {
	struct reader reader;
	struct reader *in; /* past what was there at the start */
	int fd;
	uint64_t length; /* bytes that were there at the start */
	uint64_t at;     /* of those, handed out */
	bool failed;     /* no more is written down */
	struct block_pool *pool;
	struct cancel *cancel;
};

static int give_kept(struct kept *k, struct slice *ret, struct error *err)
{
	struct block *b = block_pool_take(k->pool, k->cancel);
	ssize_t n;

	if (b == NULL)
		return error_set(err, -ECANCELED, "%s: cancelled", k->reader.name);
	n = pread(k->fd, b->data, b->capacity, (off_t)k->at);
	if (n <= 0) {
		int code = n < 0 ? -errno : -EIO;

		block_unref(b);
		return error_set(err, code,
			"cannot read what was kept of %s from an earlier run: %s", k->reader.name,
			strerrordesc_np(-code));
	}
	k->at += (uint64_t)n;
	*ret = (struct slice){.data = b->data, .len = (size_t)n, .owner = b};
	return 1;
}

static bool write_all(int fd, const uint8_t *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno != EINTR)
			return false;
		if (n > 0) {
			bytes += n;
			len -= (size_t)n;
		}
	}
	return true;
}

static void keep(struct kept *k, const struct slice *s)
{
	if (k->failed || write_all(k->fd, s->data, s->len))
		return;
	k->failed = true;
	log_warn("%s: the download is not kept for a later run: %m", k->reader.name);
	/* It was handed out already, and may take the room that the files need. */
	(void)!ftruncate(k->fd, 0);
}

static int kept_next(struct reader *r, struct slice *ret, struct error *err)
{
	struct kept *k = container_of(r, struct kept, reader);
	int code;

	if (k->at < k->length)
		return give_kept(k, ret, err);
	code = reader_next(k->in, ret, err);
	if (code > 0)
		keep(k, ret);
	return code;
}

static void kept_close(struct reader *r)
{
	struct kept *k = container_of(r, struct kept, reader);

	reader_close(k->in);
	block_pool_free(k->pool);
	close(k->fd);
	free(k);
}

static struct kept *kept_new(struct reader *in, int fd, uint64_t length)
{
	static const struct reader_ops ops = {.next = kept_next, .close = kept_close};
	struct kept *k = zalloc(sizeof(*k));

	reader_init(&k->reader, &ops, in->name);
	k->in = in;
	k->fd = fd;
	k->length = length;
	k->pool = block_pool_new(BLOCK_BYTES, BLOCKS, NULL, NULL);
	return k;
}

struct reader *stage_keep(const struct keep_env *env, struct object *o, struct reader *in)
{
	const int flags = O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC;
	_close_ int fd = openat(env->state_fd, KEPT_FILE, flags, 0600);
	struct error why;
	struct kept *k;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0) {
		log_warn("%s: the download is not kept for a later run: %m", in->name);
		return in;
	}
	/* Another's, whatever the journal says: it is longer than the object. */
	if ((uint64_t)st.st_size > o->identity.size && ftruncate(fd, st.st_size = 0) != 0)
		return in;
	if (st.st_size > 0 && reader_skip(in, (uint64_t)st.st_size, &why) < 0)
		return in; /* it tells again when it is read */
	k = kept_new(in, take_fd(&fd), (uint64_t)st.st_size);
	k->cancel = env->cancel;
	if (st.st_size > 0)
		log_info("%s: %s of it were kept by a run that was interrupted", in->name,
			print_size((uint64_t)st.st_size, (char[32]){0}));
	return &k->reader;
}
