/* SPDX-License-Identifier: MIT */
#include "version_fixture.h"
#include "defer.h"
#include "test.h"
#include <fcntl.h>
#include <nettle/sha2.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

static char *hex_of(const void *bytes, size_t len)
{
	uint8_t digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx ctx;
	char *hex = zalloc(65);

	sha256_init(&ctx);
	sha256_update(&ctx, len, bytes);
	sha256_digest(&ctx, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	return hex;
}

static int on_part(void *ctx, const struct index_part_info *part, struct error *err)
{
	struct version *v = ctx;
	struct manifest *m = v->manifest;
	_free_ char *key = manifest_part_key(part->sha256);
	struct manifest_part *p;

	m->parts = realloc(m->parts, (m->n_parts + 1) * sizeof(*m->parts));
	p = &m->parts[m->n_parts++];
	*p = (struct manifest_part){.bytes = part->len, .entries = part->entries};
	memcpy(p->sha256, part->sha256, sizeof(p->sha256));
	p->first = text_copy(part->first);
	p->last = text_copy(part->last);
	return store_put(v->hand, key, part->bytes, part->len, err);
}

static void begin_pack(struct version *v)
{
	snprintf(v->pack, sizeof(v->pack), "packs/%02u/pack.tar.zst", v->n_packs++);
	v->stored.len = v->raw.len = 0;
	v->n_frames = v->n_entries = 0;
	v->raw_begin = 0;
}

void version_open(struct version *v)
{
	struct error err = {0};

	memset(v, 0, sizeof(*v));
	v->store_path = test_directory();
	assert_int_equal(0, store_new(&(struct store_env){.url = v->store_path}, &v->store, &err));
	assert_int_equal(0, store_conn_open(v->store, NULL, &v->hand, &err));
	v->manifest = zalloc(sizeof(*v->manifest));
	v->manifest->name = text_copy("cats");
	v->manifest->version = 3;
	v->index = index_writer_new(on_part, v);
	v->entries = zalloc(100000 * sizeof(*v->entries));
	begin_pack(v);
	box_open(&v->box);
	v->options = (struct fetch_options){.store = v->store,
		.budget = v->box.budget,
		.cancel = &v->box.cancel,
		.progress = &v->box.progress,
		.threads = 3,
		.connections = 8,
		.selection = &v->selection};
}

static void free_manifest(struct manifest *m)
{
	for (size_t i = 0; i < m->n_parts; i++) {
		free(m->parts[i].first);
		free(m->parts[i].last);
	}
	free(m->parts);
	free(m->name);
	free(m->reference);
	free(m);
}

void version_close(struct version *v)
{
	box_close(&v->box);
	index_writer_free(v->index);
	free(v->entries);
	text_done(&v->stored);
	text_done(&v->raw);
	free_manifest(v->manifest);
	store_conn_close(v->hand);
	store_free(v->store);
	free(v->store_path);
}

static struct version_entry *add(struct version *v, enum index_type type, const char *path)
{
	struct version_entry *e = &v->entries[v->n_entries++];

	*e = (struct version_entry){.path = text_copy(path)};
	e->e = (struct index_entry){.type = type,
		.mode = 0640,
		.mtime = {.tv_sec = 1600000000, .tv_nsec = 7},
		.path = e->path};
	return e;
}

struct index_entry *version_last(struct version *v)
{
	return &v->entries[v->n_entries - 1].e;
}

void version_dir(struct version *v, const char *path, mode_t mode)
{
	add(v, INDEX_DIR, path)->e.mode = mode;
}

void version_symlink(struct version *v, const char *path, const char *target)
{
	struct version_entry *e = add(v, INDEX_SYMLINK, path);

	e->e.target = e->target = text_copy(target);
}

void version_file(struct version *v, const char *path, const void *bytes, size_t len)
{
	struct version_entry *e = add(v, INDEX_FILE, path);

	e->e.size = len;
	e->e.sha256 = e->sha256 = hex_of(bytes, len);
	e->at = v->raw_begin + v->raw.len;
	text_add_bytes(&v->raw, bytes, len);
}

void version_text(struct version *v, const char *path, const char *content)
{
	version_file(v, path, content, strlen(content));
}

void version_hardlink(struct version *v, const char *path, const char *target)
{
	const struct version_entry *file = &v->entries[v->n_entries - 1];
	struct version_entry *e = add(v, INDEX_HARDLINK, path);

	e->e.size = file->e.size;
	e->e.sha256 = e->sha256 = text_copy(file->e.sha256);
	e->e.target = e->target = text_copy(target);
	e->at = file->at;
}

void version_cut(struct version *v)
{
	size_t room = ZSTD_compressBound(v->raw.len), n;
	_free_ char *packed = zalloc(room);
	ZSTD_CCtx *c = ZSTD_createCCtx();

	if (v->raw.len > 0) {
		assert_true(v->n_frames < ARRAY_LEN(v->frames));
		ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
		n = ZSTD_compress2(c, packed, room, v->raw.s, v->raw.len);
		assert_false(ZSTD_isError(n));
		v->frames[v->n_frames++] = (struct index_frame){.offset = v->stored.len,
			.length = (uint32_t)n,
			.raw = (uint32_t)v->raw.len,
			.raw_before = v->raw_begin};
		text_add_bytes(&v->stored, packed, n);
		v->raw_begin += v->raw.len;
		v->raw.len = 0;
	}
	ZSTD_freeCCtx(c);
}

static void index_entry(struct version *v, struct version_entry *e)
{
	struct error err = {0};
	size_t first = 0, n = 0;

	if (e->e.size > 0 && e->e.type != INDEX_REFERENCE) {
		while (v->frames[first].raw_before + v->frames[first].raw <= e->at)
			first++;
		e->e.skip = (uint32_t)(e->at - v->frames[first].raw_before);
		while (v->frames[first + n].raw_before < e->at + e->e.size &&
			first + n < v->n_frames)
			n++;
	}
	if (index_writer_add(v->index, &e->e, v->pack, v->frames + first, n, &err) != 0)
		fail_msg("%s", err.msg);
	free(e->path);
	free(e->target);
	free(e->sha256);
}

void version_pack(struct version *v)
{
	struct error err = {0};

	version_cut(v);
	if (v->stored.len > 0)
		assert_int_equal(0, store_put(v->hand, v->pack, v->stored.s, v->stored.len, &err));
	v->manifest->stored_bytes += v->stored.len;
	for (size_t i = 0; i < v->n_entries; i++)
		index_entry(v, &v->entries[i]);
	begin_pack(v);
}

void version_store(struct version *v)
{
	struct error err = {0};

	version_pack(v);
	assert_int_equal(0, index_writer_finish(v->index, &err));
}

int version_fetch(struct version *v)
{
	int r = datastore_fetch(&v->options, v->manifest, v->box.tree, &v->box.err);

	return r < 0 ? r : tree_finish(v->box.tree, NULL, &v->box.err);
}

void version_fetch_ok(struct version *v)
{
	if (version_fetch(v) != 0)
		fail_msg("%s", v->box.err.msg);
}

void version_damage(struct version *v, const char *key, size_t at)
{
	_free_ char *path = text_format("%s/%s", v->store_path, key);
	_close_ int fd = open(path, O_RDWR | O_CLOEXEC);
	char c;

	assert_int_equal(1, pread(fd, &c, 1, (off_t)at));
	c ^= 1;
	assert_int_equal(1, pwrite(fd, &c, 1, (off_t)at));
}

void version_truncate(struct version *v, const char *key, size_t len)
{
	_free_ char *path = text_format("%s/%s", v->store_path, key);

	assert_int_equal(0, truncate(path, (off_t)len));
}
