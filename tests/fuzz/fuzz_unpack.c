/* SPDX-License-Identifier: MIT */
/* Fuzzes the unpackers. There must be no crash, no sanitizer report and no endless run, and no
 * entry outside the directory into which they unpack. */
#include "defer.h"
#include "log.h"
#include "object.h"
#include "unpack.h"
#include <dirent.h>
#include <fcntl.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SLICE_BYTES 700

struct input {
	struct object base;
	struct reader reader;
	const uint8_t *bytes;
	size_t len, at;
};

static int next(struct reader *r, struct slice *ret, struct error *err)
{
	struct input *in = container_of(r, struct input, reader);
	size_t left = in->len - in->at, n = left < SLICE_BYTES ? left : SLICE_BYTES;

	(void)err;
	*ret = (struct slice){.data = in->bytes + in->at, .len = n};
	in->at += n;
	return n > 0;
}

static int read_at(struct object *o, uint64_t offset, void *buf, size_t len, struct error *err)
{
	const struct input *in = container_of(o, struct input, base);

	if (offset > in->len || len > in->len - offset)
		return error_set(err, -ERR_TRUNCATED, "it ends early");
	memcpy(buf, in->bytes + offset, len);
	return 0;
}

static void input_init(struct input *in, const uint8_t *data, size_t size, bool seekable)
{
	static const struct object_ops object_ops = {.read_at = read_at};
	static const struct reader_ops reader_ops = {.next = next};

	*in = (struct input){.bytes = data, .len = size};
	in->base.ops = &object_ops;
	in->base.name = "input";
	in->base.seekable = seekable;
	in->base.identity.size = seekable ? size : SIZE_UNKNOWN;
	reader_init(&in->reader, &reader_ops, "input");
}

static int work_fd = -1;

static void set_up(void)
{
	static char path[] = "/tmp/fuzz-unpack-XXXXXX";

	if (work_fd >= 0)
		return;
	setlocale(LC_CTYPE, "C.UTF-8"); // NOLINT(concurrency-mt-unsafe): before any thread
	log_setup(LOG_ERROR, LOG_TEXT, 2);
	if (mkdtemp(path) == NULL)
		abort();
	work_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void unpack_into(int root_fd, const uint8_t *data, size_t size, bool seekable)
{
	const struct tree_options options = {
		.limits = {.max_bytes = 4 << 20, .max_entries = 200, .max_path = 4096},
		.uid = (uid_t)-1,
		.gid = (gid_t)-1,
	};
	struct budget *budget = budget_new((uint64_t)16 << 20);
	struct selection selection = {0};
	struct unpack_env env = {
		.budget = budget,
		.selection = &selection,
		.threads = 2,
		.scratch_fd = work_fd,
	};
	struct input in;
	struct unpack_input input = {.object = &in.base,
		.in = &in.reader,
		.source = "input",
		.url = size % 2 == 0 ? "https://host/input.zip" : "https://host/input",
		.file_name = "single.tar",
		.extract = true};
	const char *format;
	struct error err;

	input_init(&in, data, size, seekable);
	if (tree_new(root_fd, work_fd, &options, &env.tree, &err) < 0)
		abort();
	if (unpack(&env, &input, &format, &err) >= 0)
		tree_finish(env.tree, NULL, &err);
	slice_drop(&in.reader.back);
	tree_free(env.tree);
	budget_free(budget);
}

static void check_nothing_beside_root(void)
{
	_closedir_ DIR *dir = fdopendir(openat(work_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *e;

	while ((e = readdir(dir)) != NULL) // NOLINT(concurrency-mt-unsafe): a stream of our own
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
			strcmp(e->d_name, "root") != 0)
			abort();
}

static void run(const uint8_t *data, size_t size, bool seekable)
{
	struct error err;

	mkdirat(work_fd, "root", 0755);
	{
		_close_ int root_fd = openat(work_fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		unpack_into(root_fd, data, size, seekable);
	}
	check_nothing_beside_root();
	if (remove_tree(work_fd, "root", NULL, &err) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	set_up();
	run(data, size, true);
	if (size > 0 && (data[0] == 'P' || data[0] == '7'))
		run(data, size, false);
	return 0;
}
