/* SPDX-License-Identifier: MIT */
/* Unpacks one zip. The directory at its end is read first, at random; then the walking thread,
 * which is the caller's, walks once through the data as it downloads. It cuts out each entry's
 * compressed bytes, without a copy if they lie in one block; workers inflate and write them. The
 * walking thread unpacks large entries itself, and those of rarer methods.
 *
 * A job that waits for a worker must never keep the network waiting as well: bytes that have to be
 * collected from several blocks are copied, so that the network's blocks are free again. */
#include "decode.h"
#include "defer.h"
#include "log.h"
#include "text.h"
#include "unpack_private.h"
#include "zip_private.h"
#include <errno.h>
#include <inttypes.h>
#include <isa-l/igzip_lib.h>
#include <libdeflate.h>
#include <string.h>

#define OUTPUT_BYTES ((size_t)256 << 10)

/* The destination of a large entry. */
struct zip_target {
	struct writer *writer;
	const char *name;
	struct cancel *cancel;
};

struct zip_large {
	struct zip_stream *stream;
	const struct zip_entry *entry;
	const struct zip_target *to;
	uint64_t written;
	uint32_t crc;
	struct inflate_state state;
	uint8_t output[OUTPUT_BYTES];
};

static int wrong_length(const struct zip_entry *e, struct error *err)
{
	return error_set(err, -ERR_FORMAT,
		"the data of '%s' is not as long as the zip says (%" PRIu64 " bytes)", e->name,
		e->size);
}

static int write_bytes(struct zip_large *l, const uint8_t *bytes, size_t len, struct error *err)
{
	int code;

	if (len > l->entry->size - l->written)
		return wrong_length(l->entry, err);
	l->crc = libdeflate_crc32(l->crc, bytes, len);
	code = writer_file_write(l->to->writer, l->written, bytes, len, err);
	l->written += len;
	return code;
}

/* Inflates one slice of input, and writes all of the result. */
static int inflate_slice(struct zip_large *l, const struct slice *in, struct error *err)
{
	struct inflate_state *z = &l->state;
	int code;

	z->next_in = (uint8_t *)in->data; /* not written to; the library does not use const */
	z->avail_in = (uint32_t)in->len;
	do {
		z->next_out = l->output;
		z->avail_out = OUTPUT_BYTES;
		if (isal_inflate(z) != ISAL_DECOMP_OK)
			return error_set(err, -ERR_FORMAT, "the compressed data of '%s' is damaged",
				l->entry->name);
		code = write_bytes(l, l->output, OUTPUT_BYTES - z->avail_out, err);
		if (code < 0)
			return code;
	} while (z->avail_out == 0 || (z->avail_in > 0 && z->block_state != ISAL_BLOCK_FINISH));
	return z->avail_in > 0 ? wrong_length(l->entry, err) : 0;
}

static int unpack_slice(struct zip_large *l, const struct slice *in, struct error *err)
{
	if (cancel_requested(l->to->cancel))
		return error_set(err, -ECANCELED, "cancelled at '%s'", l->entry->name);
	return l->entry->method == ZIP_STORED ? write_bytes(l, in->data, in->len, err)
					      : inflate_slice(l, in, err);
}

static int unpack_slices(struct zip_large *l, struct error *err)
{
	uint64_t left = l->entry->packed;
	int code = 0;

	while (left > 0 && code == 0) {
		struct slice in = {0};

		/* isal_inflate() uses 32-bit lengths. */
		code = zip_stream_next(l->stream, left < UINT32_MAX ? left : UINT32_MAX, &in, err);
		if (code < 0)
			break;
		left -= in.len;
		code = unpack_slice(l, &in, err);
		slice_drop(&in);
	}
	return code;
}

static int check_whole(const struct zip_large *l, struct error *err)
{
	const struct zip_entry *e = l->entry;

	if (e->method == ZIP_DEFLATED && l->state.block_state != ISAL_BLOCK_FINISH)
		return wrong_length(e, err);
	if (l->written != e->size)
		return wrong_length(e, err);
	if (l->crc != e->crc)
		return error_set(err, -ERR_FORMAT,
			"'%s' is damaged: its checksum is not the one in the zip", e->name);
	return 0;
}

/* Unpacks an entry that is too large for one part, from the stream's current position, as its bytes
 * arrive, with a fixed amount of memory. */
static int unpack_large(struct zip_stream *s, const struct zip_entry *e,
	const struct zip_target *to, struct error *err)
{
	_free_ struct zip_large *l = zalloc(sizeof(*l));
	int code;

	l->stream = s;
	l->entry = e;
	l->to = to;
	isal_inflate_init(&l->state);
	code = writer_file_open(to->writer, to->name, &e->meta, e->size, false, err);
	if (code == 0)
		code = unpack_slices(l, err);
	if (code == 0)
		code = check_whole(l, err);
	if (code == 0)
		code = writer_file_close(to->writer, err);
	return code;
}

/* Entries of the rarer methods. An entry's compressed bytes are a stream of their own, which a
 * decoder of agent/decode reads. */

#define MEMORY_LEAST ((uint64_t)8 << 20)

/* The compressed bytes of one entry. */
struct zip_packed {
	struct reader base;
	struct zip_stream *stream;
	uint64_t left;
};

/* The destination of an entry that needs a decoder. */
struct zip_coded_target {
	struct crew *crew;
	struct writer *writer;
	const char *name;
	struct cancel *cancel;
	struct budget *budget;
	uint64_t granted; /* bytes of the budget, for the decoder */
};

struct zip_coded {
	const struct zip_entry *entry;
	const struct zip_coded_target *to;
	struct zip_packed packed;
	struct reader *decoded;
	uint64_t size; /* bytes decoded so far */
	uint32_t crc;
};

/* The memory to reserve for a decoder, in bytes: what decoders usually need, if the budget has it.
 * If a larger dictionary shows up later, it is requested then, and refused before it is
 * allocated. */
static uint64_t coded_memory(const struct budget *budget)
{
	uint64_t half = budget_stage_half(budget);
	uint64_t least = half / 2 < MEMORY_LEAST ? half / 2 : MEMORY_LEAST;

	return half / 4 > least ? half / 4 : least;
}

static int packed_next(struct reader *r, struct slice *ret, struct error *err)
{
	struct zip_packed *p = container_of(r, struct zip_packed, base);
	int got;

	if (p->left == 0)
		return 0;
	got = zip_stream_next(p->stream, p->left, ret, err);
	if (got < 0)
		return got;
	p->left -= ret->len;
	return 1;
}

static void packed_close(struct reader *r)
{
	(void)r; /* a member of struct zip_coded, which is on the stack */
}

/* Reads the next decoded bytes: 1, 0 at the end of the entry, whose length and checksum are
 * checked, or negative. */
static int next_decoded(struct zip_coded *c, struct slice *ret, struct error *err)
{
	const struct zip_entry *e = c->entry;
	int got = reader_next(c->decoded, ret, err);

	if (got == -ERR_TRUNCATED && c->packed.base.failed == 0)
		return error_set(err, -ERR_FORMAT,
			"the compressed data of '%s' is damaged: it ends early", e->name);
	if (got < 0)
		return got;
	if (got == 0 && c->size != e->size)
		return wrong_length(e, err);
	if (got == 0 && c->crc != e->crc)
		return error_set(err, -ERR_FORMAT,
			"'%s' is damaged: its checksum is not the one in the zip", e->name);
	if (got == 0)
		return 0;
	if (ret->len > e->size - c->size) {
		slice_drop(ret);
		return wrong_length(e, err);
	}
	c->crc = libdeflate_crc32(c->crc, ret->data, ret->len);
	c->size += ret->len;
	return 1;
}

static int write_parts(struct zip_coded *c, struct error *err)
{
	const struct zip_coded_target *to = c->to;
	int code =
		writer_file_open(to->writer, to->name, &c->entry->meta, c->entry->size, false, err);
	int got = 1;

	while (code == 0 && got > 0) {
		uint64_t at = c->size;
		struct slice s = {0};

		if (cancel_requested(to->cancel))
			return error_set(err, -ECANCELED, "cancelled at '%s'", c->entry->name);
		got = next_decoded(c, &s, err);
		code = got > 0 ? writer_file_write(to->writer, at, s.data, s.len, err) : got;
		slice_drop(&s);
	}
	return code < 0 ? code : writer_file_close(to->writer, err);
}

/* Decodes the whole entry into memory. The caller frees *ret, also on failure; a NUL follows the
 * bytes. */
static int gather_decoded(struct zip_coded *c, uint8_t **ret, struct error *err)
{
	int got = 1;

	*ret = zalloc(c->entry->size + 1);
	while (got > 0) {
		uint64_t at = c->size;
		struct slice s = {0};

		got = next_decoded(c, &s, err);
		if (got > 0 && s.len > 0)
			memcpy(*ret + at, s.data, s.len);
		slice_drop(&s);
	}
	return got;
}

static int write_whole(struct zip_coded *c, struct error *err)
{
	const struct zip_entry *e = c->entry;
	const struct zip_coded_target *to = c->to;
	_free_ uint8_t *bytes = NULL;
	struct slice content;
	int code = gather_decoded(c, &bytes, err);

	if (code < 0)
		return code;
	content = (struct slice){.data = bytes, .len = e->size};
	if (e->type != S_IFLNK)
		return crew_file(to->crew, to->writer, to->name, &e->meta, &content, err);
	if (strlen((const char *)bytes) != e->size)
		return error_set(err, -ERR_REFUSED,
			"the target of the symbolic link '%s' holds a NUL byte", e->name);
	return crew_symlink(to->crew, to->writer, to->name, (const char *)bytes, &e->meta, err);
}

static int decode_and_write(struct zip_coded *c, struct error *err)
{
	const struct zip_entry *e = c->entry;
	bool whole =
		e->type == S_IFLNK || (e->size <= CREW_FILE_MAX && crew_has_workers(c->to->crew));
	int code = crew_await(c->to->crew, c->to->name, err);

	if (code < 0)
		return code;
	return whole ? write_whole(c, err) : write_parts(c, err);
}

/* Unpacks an entry whose method needs a decoder, from the stream's current position, as its bytes
 * arrive. No entry of its name may be waiting for a worker or running. */
static int unpack_coded(struct zip_stream *s, const struct zip_entry *e,
	const struct zip_coded_target *to, struct error *err)
{
	static const struct reader_ops ops = {.next = packed_next, .close = packed_close};
	const struct decode_env env = {.budget = to->budget,
		.cancel = to->cancel,
		.threads = 1,
		.granted = to->granted,
		.size = e->size};
	_free_ char *shown = text_format("'%.300s' in the zip", e->name);
	struct zip_coded c = {.entry = e, .to = to, .packed = {.stream = s, .left = e->packed}};
	int code;

	reader_init(&c.packed.base, &ops, shown);
	code = zip_method_decoder(e)->open(&c.packed.base, &env, &c.decoded, err);
	if (code < 0)
		return code;
	code = decode_and_write(&c, err);
	reader_close(c.decoded);
	return code;
}

/* The walk. */

/* A worker unpacks an entry that has no more bytes than a part, compressed and not; most of the
 * memory is for parts. */
#define PART_MAX ((uint64_t)4 << 20)
#define PART_MIN ((uint64_t)64 << 10)
/* For the directory, large entries and scratch files. */
#define OTHER_BYTES (((uint64_t)1 << 20) + SCRATCH_MEMORY)
#define LINK_MAX    65536

struct zip_memory {
	unsigned threads;
	size_t part;
	uint64_t reserved;
	uint64_t coded; /* bytes of it, for a decoder of one of the rarer methods */
};

/* The zip that is unpacked. */
struct zip_source {
	const char *source; /* for messages */
	struct object *object;
	struct reader *in; /* object's stream */
	uint64_t begin;    /* the result of zip_begin() */
};

struct zip_walk {
	const struct unpack_env *env;
	const struct zip_memory *memory;
	struct zip_stream stream;
	struct crew *crew;
	struct writer *writer;       /* the walking thread's own */
	struct block_pool *gathered; /* blocks for entries whose bytes arrived in several slices */
	struct zip_workers *workers;
};

/* An eighth of a stage's share of the budget, since several zips can be unpacked at the same
 * time. */
static struct zip_memory plan_memory(const struct unpack_env *env)
{
	uint64_t share = budget_stage_half(env->budget) / 8;
	uint64_t most_threads = share / PART_MIN / 2;
	struct zip_memory m = {.threads = env->threads > 0 ? env->threads : 1};
	uint64_t parts, part;

	if (m.threads > most_threads)
		m.threads = most_threads > 0 ? (unsigned)most_threads : 1;
	/* a worker: one for input, one for output; the walk: one */
	parts = 2 * (uint64_t)m.threads + 1;
	part = share / parts;
	part = part > PART_MAX ? PART_MAX : part < PART_MIN ? PART_MIN : part;
	m.part = (size_t)part;
	m.reserved = parts * part + m.threads * ZIP_WORKER_BYTES + OTHER_BYTES;
	return m;
}

/* Appends more to s if it lies right behind s in the same block, and drops it then. */
static bool append_adjacent(struct slice *s, struct slice *more)
{
	if (s->owner == NULL || s->owner != more->owner || s->data + s->len != more->data)
		return false;
	s->len += more->len;
	slice_drop(more);
	return true;
}

/* Copies all bytes of an entry to b; parts are its first two slices, which are dropped. */
static int copy_slices(struct zip_walk *w, const struct zip_entry *e, struct slice parts[static 2],
	struct block *b, struct error *err)
{
	size_t have = 0;
	int code = 0;

	for (size_t i = 0; i < 2; i++) {
		memcpy(b->data + have, parts[i].data, parts[i].len);
		have += parts[i].len;
		slice_drop(&parts[i]);
	}
	while (code == 0 && have < e->packed) {
		struct slice s = {0};

		code = zip_stream_next(&w->stream, e->packed - have, &s, err);
		if (code == 0)
			memcpy(b->data + have, s.data, s.len);
		have += s.len;
		slice_drop(&s);
	}
	return code;
}

static int gather_copy(struct zip_walk *w, const struct zip_entry *e, struct slice parts[static 2],
	struct slice *ret, struct error *err)
{
	struct block *b = block_pool_take(w->gathered, w->env->cancel);
	int code;

	if (b == NULL) {
		slice_drop(&parts[0]);
		slice_drop(&parts[1]);
		return error_set(err, -ECANCELED, "cancelled at '%s'", e->name);
	}
	code = copy_slices(w, e, parts, b, err);
	if (code < 0)
		block_unref(b);
	else
		*ret = (struct slice){.data = b->data, .len = (size_t)e->packed, .owner = b};
	return code;
}

/* Collects the entry's compressed bytes in one slice; those of a stored file in two if they lie in
 * two blocks. While it waits for bytes, it references at most one of the blocks that the network
 * needs. */
static int gather(struct zip_walk *w, const struct zip_entry *e, struct slice ret[static 2],
	struct error *err)
{
	bool may_be_two = e->method == ZIP_STORED && e->type == S_IFREG;
	struct slice parts[2] = {0};
	int code = e->packed > 0 ? zip_stream_next(&w->stream, e->packed, &parts[0], err) : 0;

	while (code == 0 && parts[0].len < e->packed && parts[1].len == 0) {
		code = zip_stream_next(&w->stream, e->packed - parts[0].len, &parts[1], err);
		if (code == 0)
			append_adjacent(&parts[0], &parts[1]);
	}
	if (code < 0) {
		slice_drop(&parts[0]);
		return code;
	}
	if (parts[0].len + parts[1].len < e->packed || (parts[1].len > 0 && !may_be_two))
		return gather_copy(w, e, parts, &ret[0], err);
	ret[0] = parts[0];
	ret[1] = parts[1];
	return 0;
}

static int queue_entry(
	struct zip_walk *w, const struct zip_entry *e, const char *name, struct error *err)
{
	struct zip_job job = {
		.name = name,
		.type = e->type,
		.meta = e->meta,
		.method = e->method,
		.crc = e->crc,
		.size = (size_t)e->size,
	};
	int code = gather(w, e, job.packed, err);

	return code < 0 ? code : zip_workers_add(w->workers, &job, err);
}

/* Unpacks the entry on the walking thread. zip_workers_await() also queues the jobs that were
 * added. */
static int unpack_on_walk(
	struct zip_walk *w, const struct zip_entry *e, const char *name, struct error *err)
{
	const struct zip_target to = {.writer = w->writer, .name = name, .cancel = w->env->cancel};
	const struct zip_coded_target coded_to = {.crew = w->crew,
		.writer = w->writer,
		.name = name,
		.cancel = w->env->cancel,
		.budget = w->env->budget,
		.granted = w->memory->coded};
	int code = zip_workers_await(w->workers, name, err);

	if (code == 0 && zip_method_needs_decoder(e))
		return unpack_coded(&w->stream, e, &coded_to, err);
	if (code == 0)
		code = crew_await(w->crew, name, err);
	return code < 0 ? code : unpack_large(&w->stream, e, &to, err);
}

/* As unpack_without_data(), for a symbolic link: the zip has the target's checksum, so a link that
 * exists can be verified without the target's bytes being fetched. */
static int unpack_link_without_data(
	struct zip_walk *w, const struct zip_entry *e, const char *name, struct error *err)
{
	_free_ char *target = NULL;
	int code = crew_await(w->crew, name, err);

	if (code < 0)
		return code;
	target = writer_find_link(w->writer, name, e->size);
	if (target == NULL || libdeflate_crc32(0, target, e->size) != e->crc)
		return 0;
	code = crew_symlink(w->crew, w->writer, name, target, &e->meta, err);
	return code < 0 ? code : 1;
}

/* Unpacks an entry without its data, if an earlier run has left the file or link, or if it is a
 * directory: 1 if it did so, 0 or negative. Directories and links between existing files must not
 * cause requests either: each request transfers a hundred times as much as a directory or a link
 * needs. */
static int unpack_without_data(
	struct zip_walk *w, const struct zip_entry *e, const char *name, struct error *err)
{
	int code;

	if (!tree_is_continued(w->env->tree))
		return 0;
	code = zip_workers_await(w->workers, name, err);
	if (code < 0)
		return code;
	if (e->type == S_IFDIR) {
		code = crew_dir(w->crew, w->writer, name, &e->meta, err);
		return code < 0 ? code : 1;
	}
	if (e->type == S_IFLNK)
		return unpack_link_without_data(w, e, name, err);
	return crew_has(w->crew, w->writer, name, &e->meta, e->size, err);
}

static int unpack_entry(
	struct zip_walk *w, struct zip_entry *e, const char *name, struct error *err)
{
	int done = unpack_without_data(w, e, name, err), code;

	if (done != 0)
		return done < 0 ? done : 0;
	code = zip_stream_open_entry(&w->stream, e, err);
	if (code < 0)
		return code;
	if (e->type == S_IFDIR)
		return crew_dir(w->crew, w->writer, name, &e->meta, err);
	if (e->type == S_IFLNK && (e->size > LINK_MAX || e->packed > LINK_MAX))
		return error_set(err, -ERR_REFUSED,
			"the target of the symbolic link '%s' is too long", e->name);
	if (!zip_method_needs_decoder(e) && e->size <= w->memory->part &&
		e->packed <= w->memory->part)
		return queue_entry(w, e, name, err);
	return unpack_on_walk(w, e, name, err);
}

static int walk_entries(struct zip_walk *w, struct zip_directory *d, struct error *err)
{
	struct zip_entry *e;
	int found;

	while ((found = zip_directory_next(d, &e, err)) > 0) {
		const char *name;
		int code = select_entry(w->env->selection, e->name, &name, err);

		if (code > 0)
			code = unpack_entry(w, e, name, err);
		if (code < 0)
			return code;
	}
	return found;
}

/* Queued jobs reference the network's blocks, so none may stay with the walk while it waits for
 * more bytes. */
static int before_wait(void *ctx, struct error *err)
{
	struct zip_walk *w = ctx;

	return zip_workers_flush(w->workers, err);
}

static int walk_with_workers(
	struct zip_walk *w, const char *source, struct zip_directory *d, struct error *err)
{
	const struct zip_memory *m = w->memory;
	struct zip_workers_options options = {
		.source = source, .crew = w->crew, .threads = m->threads, .part = m->part};
	uint64_t bytes;
	int code;

	zip_directory_sum(d, &bytes, &options.entries);
	code = zip_workers_start(w->env, &options, &w->workers, err);
	if (code < 0)
		return code;
	w->stream.before_wait = before_wait;
	w->stream.ctx = w;
	w->writer = writer_new(w->env->tree, source, w->env->progress);
	w->gathered = block_pool_new(m->part, m->threads + 1, NULL, NULL);
	code = walk_entries(w, d, err);
	code = zip_workers_finish(w->workers, code, err);
	block_pool_free(w->gathered);
	writer_close(w->writer);
	zip_stream_done(&w->stream);
	return code;
}

static int walk(struct zip_walk *w, const char *source, struct zip_directory *d, struct error *err)
{
	const struct crew_env crew = {.tree = w->env->tree,
		.source = source,
		.budget = w->env->budget,
		.cancel = w->env->cancel,
		.progress = w->env->progress};

	w->crew = crew_new(&crew);
	return crew_finish(w->crew, walk_with_workers(w, source, d, err), err);
}

static void log_oddities(
	const struct zip_source *zip, const struct zip_end *end, const struct zip_directory *d)
{
	const char *name = zip_directory_backslashes(d);

	if (name != NULL)
		log_warn("%s: backslashes in its names are taken for slashes, as in '%s'",
			zip->source, name);
	name = zip_directory_unmarked(d);
	if (name != NULL)
		log_warn(
			"%s: does not say what characters its names are, as of '%s': their bytes are kept; zip_names = CP437, CP932, GBK or the like converts them to UTF-8",
			zip->source, name);
	if (end->ignored > 0)
		log_warn("%s: ignored %" PRIu64 " bytes after the end of the zip", zip->source,
			end->ignored);
}

/* Reserves more memory once the directory shows that a decoder is needed. Everything is released
 * and reserved anew, because a thread that waits for memory must hold none. */
static int reserve_for_decoder(
	const struct unpack_env *env, struct zip_memory *memory, struct error *err)
{
	uint64_t more = coded_memory(env->budget), all = memory->reserved + more;
	int code;

	budget_release(env->budget, memory->reserved);
	memory->reserved = 0;
	code = budget_reserve_counted(env->budget, all, env->cancel,
		env->progress != NULL ? &env->progress->budget_ns : NULL, err);
	if (code < 0)
		return code;
	memory->reserved = all;
	memory->coded = more;
	return 0;
}

static int unpack_source(const struct unpack_env *env, struct zip_memory *memory,
	const struct zip_source *zip, struct error *err)
{
	struct zip_walk w = {.env = env, .memory = memory, .stream.in = zip->in};
	struct zip_directory *d = NULL;
	uint64_t bytes, entries;
	struct zip_end end;
	int code = zip_find_end(zip->object, zip->begin, &end, err);

	if (code == 0)
		code = zip_directory_open(env, zip->object, &end, &d, err);
	if (code < 0)
		return code;
	log_oddities(zip, &end, d);
	zip_directory_sum(d, &bytes, &entries);
	code = tree_check_room(env->tree, bytes, entries, err);
	if (code == 0 && zip_directory_needs_decoder(d))
		code = reserve_for_decoder(env, memory, err);
	if (code == 0)
		code = walk(&w, zip->source, d, err);
	zip_directory_close(d);
	return code;
}

static int store_and_unpack(const struct unpack_env *env, struct zip_memory *memory,
	const struct unpack_input *input, struct zip_source *zip, struct error *err)
{
	struct object *copy;
	int code;

	log_info("%s: a zip that cannot be read at random is first stored whole", input->source);
	code = scratch_from_input(env, input, &copy, err);
	if (code < 0)
		return code;
	zip->object = copy;
	zip->in = object_stream(copy);
	code = unpack_source(env, memory, zip, err);
	object_close(copy);
	return code;
}

static int unpack_input(const struct unpack_env *env, struct zip_memory *memory,
	const struct unpack_input *input, struct error *err)
{
	struct object *o = input->object;
	struct zip_source zip = {.source = input->source, .object = o, .in = input->in};
	uint8_t first[8];
	int len = reader_peek(input->in, first, sizeof(first), err);

	if (len < 0)
		return len;
	zip.begin = zip_begin(first, (size_t)len);
	return o->seekable && o->identity.size != SIZE_UNKNOWN
		       ? unpack_source(env, memory, &zip, err)
		       : store_and_unpack(env, memory, input, &zip, err);
}

static int zip_unpack(
	const struct unpack_env *env, const struct unpack_input *input, struct error *err)
{
	struct zip_memory memory = plan_memory(env);
	int code = budget_reserve_counted(env->budget, memory.reserved, env->cancel,
		env->progress != NULL ? &env->progress->budget_ns : NULL, err);

	if (code < 0)
		return code;
	code = unpack_input(env, &memory, input, err);
	if (memory.reserved > 0)
		budget_release(env->budget, memory.reserved);
	return code;
}

/* A local header, perhaps behind the mark of a zip that was meant to be split, or the end record of
 * an empty zip. */
static bool zip_matches(const uint8_t *first, size_t len)
{
	return zip_begin(first, len) != SIZE_UNKNOWN ||
	       (len >= 22 && memcmp(first, "PK\5\6", 4) == 0);
}

const struct unpacker unpack_zip = {
	.name = "zip",
	.matches = zip_matches,
	.unpack = zip_unpack,
	.needs_object = true,
};
