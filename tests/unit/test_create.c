/* SPDX-License-Identifier: MIT */
/* Making versions of datastores: what is in the store then, for whoever has only zstd and tar, and what a second
 * version sends. */
#include "datastore.h"
#include "datastore_create.h"
#include "datastore_fetch.h"
#include "defer.h"
#include "index.h"
#include "test.h"
#include "text.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct bench {
	char *dir; /* source/ and store/ are in it */
	struct store *store;
	struct budget *budget;
	struct cancel cancel;
	struct progress progress;
	struct create_options opts;
	char *source;
	struct manifest *m;
	struct create_result result;
	struct error err;
};

static void sh(const struct bench *b, const char *script)
{
	_free_ char *command = text_format("set -e; cd '%s'; %s", b->dir, script);

	assert_int_equal(0, system(command));
}

static void begin(struct bench *b)
{
	_free_ char *store = NULL;
	struct store_env env = {0};

	*b = (struct bench){.dir = test_directory()};
	b->source = text_format("%s/source", b->dir);
	store = text_format("%s/store", b->dir);
	env.url = store;
	assert_int_equal(0, store_new(&env, &b->store, &b->err));
	b->budget = budget_new(0);
	cancel_init(&b->cancel);
	b->opts = (struct create_options){.store = b->store,
		.budget = b->budget,
		.cancel = &b->cancel,
		.progress = &b->progress,
		.threads = 2,
		.name = "cats",
		.source = b->source,
		.max_datastores = 50};
	sh(b, "mkdir source");
}

static void end(struct bench *b)
{
	manifest_free(b->m);
	store_free(b->store);
	budget_free(b->budget);
	cancel_done(&b->cancel);
	free(b->source);
	free(b->dir);
}

static int try_create(struct bench *b)
{
	manifest_free(take_ptr(&b->m));
	b->err.msg[0] = '\0';
	return datastore_create(&b->opts, &b->m, &b->result, &b->err);
}

static void create(struct bench *b)
{
	if (try_create(b) != 0 || b->m == NULL) {
		fail_msg("%s", b->err.msg);
		abort(); /* the analyzer does not know that it does not return */
	}
}

/* A line for each entry: type, path, target. */
static int list_entry(void *ctx, const struct index_entry *e, struct error *err)
{
	struct text *t = ctx;

	(void)err;
	text_addf(t, "%c %s", (char)e->type, e->path);
	if (e->target != NULL)
		text_addf(t, " -> %s", e->target);
	text_add(t, e->sparse ? " sparse\n" : "\n");
	return 0;
}

static char *list(struct bench *b)
{
	const struct files_options options = {
		.store = b->store, .cancel = &b->cancel, .threads = 1};
	struct text text = {0};

	assert_int_equal(0, datastore_files(&options, b->m, list_entry, &text, &b->err));
	return text_take(&text);
}

static void assert_lists(struct bench *b, const char *expected)
{
	_free_ char *got = list(b);

	assert_string_equal(expected, got);
}

/* What is in the objects of the store, as tar sees it, is what is in source/. */
static void assert_tar_reads_all(struct bench *b)
{
	sh(b, "rm -rf out; mkdir out; find store/packs store/large -name '*.zst' 2>/dev/null | "
	      "sort | "
	      "while read -r p; do zstd -dcq \"$p\" | tar -xpf - -C out; done; "
	      "tar --sort=name --numeric-owner --owner=0 --group=0 -cf a.tar -C source .; "
	      "touch -r source out; chmod --reference=source out; "
	      "tar --sort=name --numeric-owner --owner=0 --group=0 -cf b.tar -C out .; cmp a.tar "
	      "b.tar");
}

TEST(create_makes_packs_that_tar_reads)
{
	struct bench b;

	begin(&b);
	sh(&b, "cd source; mkdir -p empty d/deep; echo one > one; echo two > d/two; : > d/none; ln "
	       "-s ../one d/link; "
	       "chmod 640 one; chmod 700 d; touch -d '2001-02-03 04:05:06.789' one; "
	       "touch -d '1985-01-01 00:00:00.25' d/two");
	create(&b);
	assert_int_equal(1, b.m->version);
	assert_int_equal(3, b.m->files);
	assert_int_equal(8, b.m->bytes);
	assert_lists(
		&b, "d .\nd d\nd d/deep\nl d/link -> ../one\nf d/none\nf d/two\nd empty\nf one\n");
	assert_tar_reads_all(&b);
	end(&b);
}

TEST(create_keeps_odd_and_long_names)
{
	struct bench b;

	begin(&b);
	sh(&b, "cd source; long=$(printf 'l%.0s' $(seq 200)); mkdir -p $long/$long; echo x > "
	       "$long/$long/$long; "
	       "ln -s $long/$long/$long link; printf 1 > \"$(printf 'new\\nline')\"; "
	       "printf 2 > \"$(printf 'bytes\\377\\376')\"; printf 3 > \"$(printf "
	       "'tab\\tback\\\\slash')\"; "
	       "printf 4 > \"$(printf '%0150d' 7)\"; printf 5 > '-x'");
	create(&b);
	assert_tar_reads_all(&b);
	end(&b);
}

TEST(create_walks_each_directory_before_its_longer_named_neighbours)
{
	struct bench b;

	begin(&b);
	sh(&b, "cd source; mkdir a; : > a/x; : > a-b; : > a.c; : > 'a b'");
	create(&b);
	assert_lists(&b, "d .\nd a\nf a/x\nf a b\nf a-b\nf a.c\n");
	end(&b);
}

TEST(create_stores_files_with_several_names_once_and_last)
{
	struct bench b;

	begin(&b);
	sh(&b, "cd source; mkdir d; echo shared > d/z; ln d/z b; echo alone > zz; ln zz "
	       "../outside");
	create(&b);
	assert_lists(&b, "d .\nd d\nf b\nh d/z -> b\nf zz\n");
	assert_int_equal(3, b.m->files);
	assert_int_equal(13, b.m->bytes);
	sh(&b, "mkdir out; zstd -dcq store/packs/*/* | tar -xf - -C out; diff -r source out; test "
	       "out/b -ef out/d/z");
	end(&b);
}

TEST(create_of_a_sparse_file_stores_next_to_nothing)
{
	struct bench b;

	begin(&b);
	sh(&b, "cd source; truncate -s 40M large; printf x | dd of=large bs=1 seek=20000000 "
	       "conv=notrunc status=none; "
	       "truncate -s 1M small");
	create(&b);
	assert_lists(&b, "d .\nf large sparse\nf small sparse\n");
	assert_in_range(b.result.sent_bytes, 1, 20000);
	assert_tar_reads_all(&b);
	end(&b);
}

TEST(create_makes_a_large_file_an_object_of_its_own)
{
	struct bench b;

	begin(&b);
	sh(&b, "cd source; head -c 30000000 /dev/urandom > large; echo x > small");
	create(&b);
	assert_int_equal(2, b.m->n_objects);
	sh(&b, "test $(find store/large -type f | wc -l) = 1");
	assert_tar_reads_all(&b);
	end(&b);
}

TEST(create_of_one_file_has_that_file)
{
	struct bench b;
	_free_ char *file = NULL;

	begin(&b);
	sh(&b, "echo x > source/data.zip");
	file = text_format("%s/data.zip", b.source);
	b.opts.source = file;
	create(&b);
	assert_lists(&b, "f data.zip\n");
	end(&b);
}

static void make_many(const struct bench *b)
{
	sh(b, "cd source; for d in 1 2 3 4 5; do mkdir d$d; for f in $(seq 40); do "
	      "head -c 3000 /dev/urandom > d$d/f$f; done; done");
}

TEST(create_of_the_same_tree_under_another_name_sends_no_pack)
{
	struct bench b;

	begin(&b);
	make_many(&b);
	create(&b);
	assert_in_range(b.result.sent_bytes, 600000, 700000);
	b.opts.name = "dogs";
	create(&b);
	assert_int_equal(0, b.result.sent_bytes);
	end(&b);
}

TEST(create_of_a_new_version_sends_what_changed)
{
	struct bench b;

	begin(&b);
	make_many(&b);
	create(&b);
	sh(&b, "cd source; echo changed > d2/f7; head -c 3000 /dev/urandom > d4/f1; echo new > "
	       "new; rm d5/f5; touch d1/f1");
	create(&b);
	assert_int_equal(2, b.m->version);
	assert_int_equal(200, b.m->files);
	assert_int_equal(197, b.result.reused_files);
	assert_in_range(b.result.sent_bytes, 3000, 40000);
	assert_int_equal(2, b.m->n_objects);
	end(&b);
}

TEST(create_packs_anew_what_is_in_a_pack_that_is_hardly_used)
{
	struct bench b;

	begin(&b);
	make_many(&b);
	create(&b);
	sh(&b, "rm -r source/d1 source/d2 source/d3");
	create(&b);
	assert_int_equal(80, b.result.reused_files);
	create(&b);
	assert_int_equal(0, b.result.reused_files);
	assert_int_equal(1, b.m->n_objects);
	create(&b);
	assert_int_equal(80, b.result.reused_files);
	assert_int_equal(0, b.result.sent_bytes);
	end(&b);
}

TEST(create_finds_files_with_several_names_again)
{
	struct bench b;

	begin(&b);
	sh(&b, "cd source; mkdir d; echo 1 > a; ln a z; echo 2 > d/b; ln d/b c; echo 3 > m");
	create(&b);
	create(&b);
	assert_int_equal(3, b.result.reused_files);
	assert_int_equal(0, b.result.sent_bytes);
	assert_lists(&b, "d .\nd d\nf m\nf a\nh z -> a\nf c\nh d/b -> c\n");
	end(&b);
}

static void assert_refused(struct bench *b, const char *name, const char *why)
{
	assert_int_equal(-ERR_REFUSED, try_create(b));
	assert_non_null(strstr(b->err.msg, name));
	assert_non_null(strstr(b->err.msg, why));
}

TEST(create_refuses_links_that_leave_the_tree)
{
	static const char *const targets[] = {
		"/etc/passwd", "../outside", "d/../../outside", "l/../../x"};
	struct bench b;

	begin(&b);
	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		_free_ char *script = text_format("rm -rf source; mkdir -p source/d/e; ln -s d/e "
						  "source/l; ln -s %s source/bad",
			targets[i]);

		sh(&b, script);
		assert_refused(&b, "'bad'", "--dereference");
	}
	end(&b);
}

TEST(create_follows_links_that_leave_when_asked_to)
{
	struct bench b;

	begin(&b);
	sh(&b, "mkdir blobs; echo weights > blobs/1; mkdir blobs/dir; echo x > blobs/dir/x; cd "
	       "source; "
	       "ln -s ../blobs/1 model; ln -s ../blobs/dir dir; ln -s model inside");
	b.opts.dereference = true;
	create(&b);
	assert_lists(&b, "d .\nd dir\nf dir/x\nl inside -> model\nf model\n");
	sh(&b, "ln -s ../source source/loop");
	assert_refused(&b, "loop", "never end");
	end(&b);
}

TEST(create_refuses_what_is_no_file)
{
	struct bench b;

	begin(&b);
	sh(&b, "mkfifo source/pipe");
	assert_refused(&b, "'pipe'", "fifo");
	sh(&b, "rm source/pipe; mkdir source/d; mknod source/d/null c 1 3 2>/dev/null || mkfifo "
	       "source/d/null");
	assert_refused(&b, "'d/null'", "is a ");
	end(&b);
}

static void *keep_writing(void *arg)
{
	struct bench *b = arg;
	_free_ char *path = text_format("%s/changing", b->source);
	FILE *f = fopen(path, "a");

	while (!cancel_requested(&b->cancel)) {
		fputs("more", f);
		fflush(f);
	}
	fclose(f);
	return NULL;
}

TEST(create_finds_a_file_that_changes_meanwhile)
{
	struct bench b;
	struct cancel other;
	pthread_t writer;

	begin(&b);
	sh(&b, "head -c 20000000 /dev/zero > source/changing");
	cancel_init(&other);
	b.opts.cancel = &other;
	assert_int_equal(0, pthread_create(&writer, NULL, keep_writing, &b));
	assert_int_equal(-ERR_CHANGED, try_create(&b));
	assert_non_null(strstr(b.err.msg, "'changing'"));
	cancel_request(&b.cancel);
	pthread_join(writer, NULL);
	cancel_done(&other);
	sh(&b, "test -z \"$(find store -name manifest.json)\"");
	end(&b);
}

TEST(create_stops_when_it_is_cancelled)
{
	struct bench b;

	begin(&b);
	make_many(&b);
	cancel_request(&b.cancel);
	assert_int_equal(-ECANCELED, try_create(&b));
	end(&b);
}

TEST(create_takes_only_what_is_selected)
{
	static const char *const exclude[] = {"*.tmp", "/cache", NULL};
	const struct selection selection = {.exclude = exclude};
	struct bench b;

	begin(&b);
	sh(&b, "cd source; mkdir cache keep; echo > cache/x; echo > keep/a; echo > keep/b.tmp; "
	       "mkfifo keep/pipe.tmp");
	b.opts.selection = &selection;
	create(&b);
	assert_lists(&b, "d .\nd keep\nf keep/a\n");
	end(&b);
}

/* --- archives --- */

static void create_from(struct bench *b, const char *name)
{
	_free_ char *archive = text_format("%s/%s", b->dir, name);

	b->opts.source = archive;
	b->opts.extract = true;
	create(b);
}

TEST(create_extracts_an_archive_into_packs_that_tar_reads)
{
	struct bench b;

	begin(&b);
	sh(&b, "cd source; mkdir -p d/empty; echo 1 > d/1; head -c 27000000 /dev/urandom > large; "
	       "ln -s d/1 link; "
	       "chmod 600 d/1; tar -czf ../a.tar.gz --format=pax .");
	create_from(&b, "a.tar.gz");
	assert_lists(&b, "d .\nd d\nf d/1\nd d/empty\nf large\nl link -> d/1\n");
	assert_tar_reads_all(&b);
	end(&b);
}

TEST(create_of_an_archive_is_in_the_index_s_order_and_the_last_of_a_name_counts)
{
	struct bench b;
	_free_ char *all = NULL;

	begin(&b);
	sh(&b, "cd source; mkdir d; echo old > z; echo 1 > d/1; ln d/1 0; tar -cf ../a.tar z d/1 "
	       "0; echo newer > z; "
	       "tar -rf ../a.tar z d");
	create_from(&b, "a.tar");
	assert_lists(&b, "d d\nf z\nf d/1\nh 0 -> d/1\n");
	assert_int_equal(8, b.m->bytes);
	end(&b);
}

TEST(create_of_a_compressed_file_whose_size_shows_at_its_end)
{
	struct bench b;

	begin(&b);
	sh(&b, "head -c 41000000 /dev/urandom > source/data; touch -d '2020-01-01' source/data; "
	       "gzip -1 -c source/data > data.gz; touch -d '2020-01-01' data.gz");
	create_from(&b, "data.gz");
	assert_lists(&b, "f data\n");
	assert_int_equal(41000000, b.m->bytes);
	sh(&b, "for p in store/large/*; do zstd -dcq $p | tar -xOf - data | cmp - source/data; "
	       "done");
	end(&b);
}

TEST(create_of_a_zip_has_what_is_in_it)
{
	struct bench b;

	begin(&b);
	sh(&b, "cd source; mkdir d; for f in $(seq 300); do echo $f > d/$f; done; head -c 30000000 "
	       "/dev/zero > large; "
	       "zip -qr ../a.zip .");
	create_from(&b, "a.zip");
	assert_int_equal(301, b.m->files);
	sh(&b, "mkdir out; for p in $(find store -name '*.tar.zst'); do zstd -dcq $p | tar -xf - "
	       "-C out; done; "
	       "diff -r out source");
	end(&b);
}

TEST(create_refuses_an_archive_that_leaves_the_tree)
{
	struct bench b;
	_free_ char *archive = NULL;

	begin(&b);
	sh(&b, "cd source; mkdir d; echo > d/f; ln -s d/f/../../../x bad; tar -cf ../a.tar .");
	archive = text_format("%s/a.tar", b.dir);
	b.opts.source = archive;
	b.opts.extract = true;
	assert_refused(&b, "'bad'", "refused");
	end(&b);
}
