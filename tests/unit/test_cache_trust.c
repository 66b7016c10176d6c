/* SPDX-License-Identifier: MIT */
/* The node cache removes nothing that is not proven its own, takes nothing for absent or damaged that it could not
 * look at, and believes its inventories no further than they prove themselves. */
#include "../../agent/cache/cache_private.h"
#include "cache_fixture.h"
#include "defer.h"
#include "log.h"
#include "publish_fixture.h"
#include "test.h"
#include "text.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOBODY 65534
#define MIB    ((size_t)1 << 20)
#define KEY_A  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-cccccccccccccccccccccccccccccccc"
#define KEY_B  "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-cccccccccccccccccccccccccccccccc"

static void open_quiet(struct cached *c, uint64_t max_size)
{
	const struct cache_options opts = {.max_size = max_size, .deliver = CACHE_COPY};

	log_setup(LOG_ERROR, LOG_TEXT, STDERR_FILENO);
	cached_open(c, &opts);
}

static void put_away(struct cached *c, char letter, size_t size)
{
	cache_entry_close(entry_of(c, letter, size), false, false);
}

/* dir/victim with a file in it. */
static char *make_victim(const struct cached *c)
{
	char *victim = in(c->dir, "victim");

	assert_int_equal(0, mkdir(victim, 0755));
	put_text(in(victim, "cat.jpg"), "miaow");
	return victim;
}

static int evict(struct cached *c, const char *key)
{
	uint64_t n = 7, bytes = 7;
	int code = cache_evict(c->cache, 0, key, &n, &bytes, &c->err);

	if (code < 0) {
		assert_int_equal(0, n);
		assert_int_equal(0, bytes);
	}
	return code;
}

/* Removing. */

TEST(cache_evicts_nothing_by_a_name_that_is_no_key)
{
	struct cached c;
	char *victim;

	open_quiet(&c, 0);
	put_away(&c, 'a', 3000);
	victim = make_victim(&c);
	assert_int_equal(0, mkdir(in(c.dir, "cache/v1/mine"), 0755));
	put_text(in(c.dir, "cache/v1/room"), "");
	const char *const names[] = {"../../victim", victim, "", ".", "..", "room", "mine",
		KEY_A "/", KEY_A "/tree", "./" KEY_A, KEY_A "x",
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA-cccccccccccccccccccccccccccccccc",
		"gone.1.0123456789abcdef"};
	assert_int_equal(0, mkdir(in(c.dir, "cache/v1/gone.1.0123456789abcdef"), 0755));
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(-ENOENT, evict(&c, names[i]));
	assert_true(exists(in(victim, "cat.jpg")));
	assert_true(exists(in(c.dir, "cache/v1/mine")));
	assert_true(exists(in(c.dir, "cache/v1/room")));
	assert_true(there(&c, 'a'));
	cached_done(&c);
}

/* Makes something that has the name of KEY_B but is no entry. */
static void make_nothing(struct cached *c, unsigned kind)
{
	char *key = in(c->dir, "cache/v1/" KEY_B), *victim = in(c->dir, "victim");

	if (kind == 0)
		assert_int_equal(0, symlink(victim, key));
	else if (kind == 1)
		put_text(key, "x");
	else
		assert_int_equal(0, mkdir(key, 0755));
	if (kind > 1)
		put_text(in(key, "notes"), "x");
	if (kind > 2 && kind != 4)
		put_text(in(key, "use"), "");
	if (kind == 4)
		assert_int_equal(0, symlink(in(victim, "cat.jpg"), in(key, "use")));
	if (kind == 5)
		assert_int_equal(0, mkfifo(in(key, "filling"), 0600));
	if (kind == 6)
		assert_int_equal(0, chmod(key, 0777));
	if (kind == 7)
		assert_int_equal(0, chown(key, NOBODY, NOBODY));
}

TEST(cache_evicts_nothing_that_has_the_name_of_an_entry_and_is_none)
{
	for (unsigned kind = 0; kind < 8; kind++) {
		struct cached c;
		struct cache_entry *e = NULL;
		uint64_t n, bytes;
		struct stat st;

		if (kind == 7 && geteuid() != 0)
			continue;
		open_quiet(&c, 0);
		(void)make_victim(&c);
		make_nothing(&c, kind);
		assert_true(evict(&c, KEY_B) < 0);
		assert_int_equal(0, cache_evict(c.cache, 0, NULL, &n, &bytes, &c.err));
		assert_int_equal(0, n);
		assert_int_equal(0, lstat(in(c.dir, "cache/v1/" KEY_B), &st));
		assert_true(kind < 2 || exists(in(c.dir, "cache/v1/" KEY_B "/notes")));
		assert_true(exists(in(c.dir, "victim/cat.jpg")));
		/* Nor is it made into one. */
		if (kind < 3) {
			assert_int_equal(-EPERM, entry_open(&c, 'b', &e));
			assert_false(exists(in(c.dir, "cache/v1/" KEY_B "/use")));
		}
		cached_done(&c);
	}
}

TEST(cache_removes_of_what_an_eviction_left_only_what_is_exactly_so)
{
	const char *const foreign[] = {"gone.1.2", "gone.", "gone.girl", "gone.1.0123456789ABCDEF",
		"gone.1.0123456789abcdef.bak", "gone..0123456789abcdef"};
	struct cached c;
	uint64_t n, bytes;

	open_quiet(&c, 0);
	for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
		_free_ char *name = text_format("cache/v1/%s", foreign[i]);

		assert_int_equal(0, mkdir(in(c.dir, name), 0755));
	}
	(void)make_victim(&c);
	assert_int_equal(
		0, symlink(in(c.dir, "victim"), in(c.dir, "cache/v1/gone.2.0123456789abcdef")));
	assert_int_equal(0, mkdir(in(c.dir, "cache/v1/gone.3.0123456789abcdef"), 0755));
	if (geteuid() == 0)
		assert_int_equal(
			0, chown(in(c.dir, "cache/v1/gone.3.0123456789abcdef"), NOBODY, NOBODY));
	assert_int_equal(0, mkdir(in(c.dir, "cache/v1/gone.4.0123456789abcdef"), 0755));
	put_text(in(c.dir, "cache/v1/gone.4.0123456789abcdef/file"), "x");
	assert_int_equal(0, cache_evict(c.cache, UINT64_MAX, NULL, &n, &bytes, &c.err));
	for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
		_free_ char *name = text_format("cache/v1/%s", foreign[i]);

		assert_true(exists(in(c.dir, name)));
	}
	assert_true(exists(in(c.dir, "victim/cat.jpg")));
	assert_true(geteuid() != 0 || exists(in(c.dir, "cache/v1/gone.3.0123456789abcdef")));
	assert_false(exists(in(c.dir, "cache/v1/gone.4.0123456789abcdef")));
	cached_done(&c);
}

TEST(cache_evict_of_one_entry_tells_what_it_removed)
{
	struct cached c;
	uint64_t n, bytes;

	open_quiet(&c, 0);
	put_away(&c, 'a', MIB);
	assert_int_equal(0, cache_evict(c.cache, 0, KEY_A, &n, &bytes, &c.err));
	assert_int_equal(1, n);
	assert_true(bytes >= MIB && bytes < 2 * MIB);
	assert_int_equal(-ENOENT, evict(&c, KEY_A));
	cached_done(&c);
}

static int count_entry(void *ctx, const struct cache_info *info, struct error *err)
{
	(void)info;
	(void)err;
	++*(unsigned *)ctx;
	return 0;
}

TEST(cache_that_is_only_looked_at_is_not_made)
{
	_free_ char *dir = test_directory();
	struct cache_options opts = {.dir = in(dir, "missing/cache")};
	struct cache *cache;
	struct error err;
	uint64_t n, bytes;
	unsigned entries = 0;

	assert_int_equal(-ENOENT, cache_open(&opts, &cache, &err));
	assert_false(exists(in(dir, "missing")));
	opts.dir = in(dir, "empty");
	assert_int_equal(0, mkdir(opts.dir, 0755));
	assert_int_equal(0, cache_open(&opts, &cache, &err));
	assert_int_equal(0, cache_each(cache, count_entry, &entries, &err));
	assert_int_equal(0, entries);
	assert_int_equal(-ENOENT, cache_verify(cache, KEY_A, false, NULL, NULL, &err));
	assert_int_equal(-ENOENT, cache_evict(cache, 0, KEY_A, &n, &bytes, &err));
	assert_int_equal(0, cache_evict(cache, 0, NULL, &n, &bytes, &err));
	_free_ char *left = list(opts.dir);
	assert_string_equal("", left);
	cache_close(cache);
}

/* Looks that fail. */

struct failing {
	unsigned call;
	int errnum;
};

static int evict_blindly(void *ctx)
{
	const struct failing *f = ctx;
	struct cached c;
	uint64_t n, bytes;

	open_quiet(&c, 0);
	put_away(&c, 'a', 3000);
	put_away(&c, 'b', 3000);
	EXPECT(refuse_system_call(f->call, f->errnum) == 0);
	(void)cache_evict(c.cache, 0, NULL, &n, &bytes, &c.err);
	EXPECT(n == 0);
	EXPECT(cache_evict(c.cache, 0, KEY_A, &n, &bytes, &c.err) < 0);
	/* By calls that are not refused. */
	EXPECT(openat(c.cache->fd, KEY_A "/tree", O_PATH) >= 0);
	EXPECT(openat(c.cache->fd, KEY_B "/tree", O_PATH) >= 0);
	return 0;
}

TEST(cache_evicts_nothing_that_it_could_not_look_at)
{
	static const struct failing looks[] = {{SYS_getdents64, EIO}, {SYS_getdents64, ESTALE},
		{SYS_pread64, EIO}, {SYS_flock, ENOLCK}, {SYS_newfstatat, EACCES},
		{SYS_newfstatat, EIO}, {SYS_faccessat2, EIO}};

	for (size_t i = 0; i < ARRAY_LEN(looks); i++) {
		struct failing f = looks[i];

		print_message("call %u\n", f.call);
		assert_int_equal(0, in_child(geteuid(), evict_blindly, &f));
	}
}

static int open_blindly(void *ctx)
{
	const struct failing *f = ctx;
	struct cache_entry *e = NULL;
	struct cached c;
	int code;

	open_quiet(&c, 0);
	put_away(&c, 'a', 3000);
	EXPECT(refuse_system_call(f->call, f->errnum) == 0);
	code = entry_open(&c, 'a', &e);
	EXPECT(code < 0 && code != -ESTALE);
	EXPECT(openat(c.cache->fd, KEY_A "/tree", O_PATH) >= 0);
	code = cache_verify(c.cache, KEY_A, false, NULL, NULL, &c.err);
	EXPECT(code < 0 && code != -ESTALE && code != -ENOENT);
	return 0;
}

TEST(cache_calls_nothing_damaged_that_it_could_not_look_at)
{
	static const struct failing looks[] = {
		{SYS_pread64, EIO}, {SYS_newfstatat, EACCES}, {SYS_newfstatat, EIO}};

	for (size_t i = 0; i < ARRAY_LEN(looks); i++) {
		struct failing f = looks[i];

		print_message("call %u\n", f.call);
		assert_int_equal(0, in_child(geteuid(), open_blindly, &f));
	}
}

static int open_unreadable_record(void *ctx)
{
	struct cache_entry *e = NULL;
	struct cached c = {.dir = ctx};
	const struct cache_options opts = {.dir = in(ctx, "cache"), .make = true};

	cancel_init(&c.cancel);
	EXPECT(cache_open(&opts, &c.cache, &c.err) == 0);
	e = entry_of(&c, 'a', 3000);
	cache_entry_close(e, false, false);
	EXPECT(chmod(entry_path(&c, 'a', ".stagerun/tree/whole.json"), 0) == 0);
	EXPECT(entry_open(&c, 'a', &e) == -EACCES);
	EXPECT(there(&c, 'a'));
	EXPECT(chmod(entry_path(&c, 'a', ".stagerun/tree/whole.json"), 0644) == 0);
	EXPECT(chmod(entry_path(&c, 'a', "inventory"), 0) == 0);
	EXPECT(entry_open(&c, 'a', &e) == -EIO);
	EXPECT(there(&c, 'a'));
	EXPECT(cache_verify(c.cache, KEY_A, false, NULL, NULL, &c.err) == -EIO);
	EXPECT(strstr(c.err.msg, "Permission denied") != NULL);
	EXPECT(chmod(entry_path(&c, 'a', "inventory"), 0600) == 0);
	EXPECT(chmod(entry_path(&c, 'a', "tree/d"), 0) == 0);
	EXPECT(entry_open(&c, 'a', &e) == -EIO);
	EXPECT(there(&c, 'a'));
	EXPECT(cache_verify(c.cache, KEY_A, false, NULL, NULL, &c.err) == -EIO);
	EXPECT(chmod(entry_path(&c, 'a', "tree/d"), 0555) == 0);
	EXPECT(chmod(entry_path(&c, 'a', "tree/d/run"), 0) == 0);
	EXPECT(cache_verify(c.cache, KEY_A, true, NULL, NULL, &c.err) == -EIO);
	EXPECT(strstr(c.err.msg, "'d/run'") != NULL);
	EXPECT(entry_open(&c, 'a', &e) == 0);
	EXPECT(deliver(&c, e, &(struct wanted){.to = "x"}, NULL) == -EIO);
	return 0;
}

TEST(cache_entry_that_cannot_be_read_stays)
{
	_free_ char *dir = shared_directory();

	assert_int_equal(0, chmod(dir, 01777));
	assert_int_equal(
		0, in_child(geteuid() == 0 ? NOBODY : geteuid(), open_unreadable_record, dir));
}

/* Damage. */

static int verify(struct cached *c)
{
	return cache_verify(c->cache, KEY_A, false, NULL, NULL, &c->err);
}

static void assert_damaged(struct cached *c, const char *says)
{
	struct cache_entry *e;

	assert_int_equal(-ESTALE, verify(c));
	if (strstr(c->err.msg, says) == NULL)
		fail_msg("%s", c->err.msg);
	assert_int_equal(0, entry_open(c, 'a', &e));
	assert_null(cache_entry_record(e));
	cache_entry_close(e, false, false);
}

TEST(cache_verify_finds_what_was_added)
{
	static const struct {
		const char *dir, *says;
	} places[] = {
		{"tree", "'.' holds"}, {"tree/d", "'d' holds"}, {"tree/empty", "'empty' holds"}};

	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		struct cached c;
		char *dir;

		open_quiet(&c, 0);
		put_away(&c, 'a', 3000);
		assert_int_equal(0, verify(&c));
		dir = entry_path(&c, 'a', places[i].dir);
		assert_int_equal(0, chmod(dir, 0755));
		put_text(in(dir, "added"), "x");
		assert_damaged(&c, places[i].says);
		cached_done(&c);
	}
}

TEST(cache_verify_finds_what_was_added_and_the_time_set_back)
{
	struct cached c;
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
	char *dir;

	open_quiet(&c, 0);
	put_away(&c, 'a', 3000);
	dir = entry_path(&c, 'a', "tree/empty");
	times[1] = look(dir, ".").st_mtim;
	assert_int_equal(0, chmod(dir, 0755));
	assert_int_equal(0, mkdir(in(dir, "added"), 0755));
	assert_int_equal(0, utimensat(AT_FDCWD, dir, times, 0));
	assert_int_equal(-ESTALE, verify(&c));
	cached_done(&c);
}

TEST(cache_verify_finds_a_link_that_was_changed)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
	struct cached c;
	char *dir;

	open_quiet(&c, 0);
	put_away(&c, 'a', 3000);
	dir = entry_path(&c, 'a', "tree/d");
	times[1] = look(dir, ".").st_mtim;
	assert_int_equal(0, chmod(dir, 0755));
	assert_int_equal(0, unlink(in(dir, "s")));
	assert_int_equal(0, symlink("h", in(dir, "s")));
	assert_int_equal(0, utimensat(AT_FDCWD, dir, times, 0));
	assert_damaged(&c, "'d/s' leads to 'h', not to 'run'");
	cached_done(&c);
}

TEST(cache_verify_finds_a_further_name_that_became_another_file)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
	struct cached c;
	char *dir;

	open_quiet(&c, 0);
	put_away(&c, 'a', 3000);
	dir = entry_path(&c, 'a', "tree/d");
	times[1] = look(dir, ".").st_mtim;
	assert_int_equal(0, chmod(dir, 0755));
	assert_int_equal(0, unlink(in(dir, "h")));
	put_text(in(dir, "h"), "x");
	assert_int_equal(0, utimensat(AT_FDCWD, dir, times, 0));
	assert_damaged(&c, "'d/h'");
	cached_done(&c);
}

/* Inventories. */

struct listed {
	char *dir; /* with tree in it */
	int key_fd, tree_fd;
	struct inventory_head head;
};

/* A tree of links whose targets look like records, n of them. */
static void list_links(struct listed *l, unsigned n)
{
	struct error err;
	char name[32];
	struct stat st;

	*l = (struct listed){.dir = test_directory()};
	assert_int_equal(0, mkdir(in(l->dir, "tree"), 0755));
	l->key_fd = open(l->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	l->tree_fd = openat(l->key_fd, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "l%u", i);
		assert_int_equal(0, symlinkat(i % 2 == 0 ? "f 644 1 0.000000000 nofile"
							 : "l 777 1 0.000000000 nolink",
					    l->tree_fd, name));
	}
	assert_int_equal(0, fstat(l->tree_fd, &st));
	l->head.top = st.st_mtim;
	assert_int_equal(0, inventory_make(l->key_fd, l->tree_fd, &l->head, NULL, &err));
}

static void listed_done(struct listed *l)
{
	close(l->key_fd);
	close(l->tree_fd);
	free(l->dir);
}

TEST(cache_inventory_tells_a_target_from_a_record_wherever_it_is_read)
{
	struct listed l;
	struct error err = {0};

	list_links(&l, 800);
	for (int i = 0; i < 50; i++)
		if (verify_sample(l.key_fd, &err) != 0)
			fail_msg("%s", err.msg);
	listed_done(&l);
}

/* Rewrites the inventory as the first version of it was. */
static void make_first_format(int key_fd)
{
	_close_ int fd = openat(key_fd, "inventory", O_RDWR | O_CLOEXEC);
	char head[INVENTORY_HEAD + 64] = {0}, first[INVENTORY_HEAD] = {0};
	off_t size = lseek(fd, 0, SEEK_END);
	_free_ char *all = zalloc((size_t)size + 1);
	size_t n = INVENTORY_HEAD;
	char *top, *what;

	assert_int_equal(size, pread(fd, all, (size_t)size, 0));
	memcpy(head, all, INVENTORY_HEAD);
	for (size_t i = INVENTORY_HEAD; i < (size_t)size; i++)
		if (all[i] != '>' || all[i - 1] != '\0')
			all[n++] = all[i];
	top = strstr(head, "\ntop ");
	what = strstr(head, "\nwhat ");
	assert_non_null(top);
	*top = '\0';
	snprintf(first, sizeof(first), "stagerun cache inventory 1\nlength %zu%s%s", n,
		strstr(head, "\nbytes "), what);
	memcpy(all, first, INVENTORY_HEAD);
	assert_int_equal(n, pwrite(fd, all, n, 0));
	assert_int_equal(0, ftruncate(fd, (off_t)n));
}

TEST(cache_inventory_of_the_first_format_is_understood)
{
	struct inventory_head head;
	struct cache_entry *e;
	struct cached c;
	struct listed l;
	struct error err = {0};

	list_links(&l, 800);
	make_first_format(l.key_fd);
	assert_int_equal(0, inventory_head_read(l.key_fd, &head));
	assert_false(head.marked);
	for (int i = 0; i < 20; i++)
		if (verify_sample(l.key_fd, &err) != 0)
			fail_msg("%s", err.msg);
	listed_done(&l);

	open_quiet(&c, 0);
	put_away(&c, 'a', 3000);
	_close_ int key_fd = open(entry_path(&c, 'a', ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	make_first_format(key_fd);
	assert_int_equal(0, verify(&c));
	e = entry_of(&c, 'a', 3000);
	assert_int_equal(0, deliver(&c, e, &(struct wanted){.to = "x"}, NULL));
	assert_usual(in(c.dir, "x"), true, 3000);
	assert_int_equal(key_fd >= 0, true);
	assert_int_equal(look(entry_path(&c, 'a', ""), ".").st_ino, ({
		struct stat st;
		fstat(key_fd, &st);
		st.st_ino;
	}));
	cache_entry_close(e, false, false);
	cached_done(&c);
}

TEST(cache_inventory_with_an_endless_record_is_damaged_and_takes_no_memory)
{
	struct inventory *l;
	struct inventory_entry e;
	struct listed made;
	int code;

	list_links(&made, 4);
	_close_ int fd = openat(made.key_fd, "inventory", O_RDWR | O_CLOEXEC);
	_free_ char *long_record = zalloc(MIB);
	memset(long_record, 'f', MIB);
	assert_int_equal(MIB, pwrite(fd, long_record, MIB, INVENTORY_HEAD));
	char head[INVENTORY_HEAD] = {0};
	made.head.length = INVENTORY_HEAD + MIB;
	assert_int_equal(0, inventory_head_print(&made.head, head, sizeof(head)));
	assert_int_equal(INVENTORY_HEAD, pwrite(fd, head, sizeof(head), 0));
	assert_int_equal(0, inventory_open(made.key_fd, &l));
	code = inventory_next(l, &e);
	assert_int_equal(-ESTALE, code);
	inventory_close(l);
	listed_done(&made);
}

TEST(cache_state_that_is_no_regular_file_is_neither_read_nor_waited_for)
{
	struct cached c;
	struct cache_entry *e;

	open_quiet(&c, 0);
	put_away(&c, 'a', 3000);
	assert_int_equal(0, unlink(entry_path(&c, 'a', "inventory")));
	assert_int_equal(0, mkfifo(entry_path(&c, 'a', "inventory"), 0600));
	alarm(20);
	assert_int_equal(-EIO, verify(&c));
	assert_int_equal(-EIO, entry_open(&c, 'a', &e));
	assert_true(there(&c, 'a'));
	alarm(0);
	cached_done(&c);
}

/* Room. */

TEST(cache_entry_that_claims_more_than_there_is_does_not_evict_the_others)
{
	struct cached c;
	uint64_t n, bytes;

	open_quiet(&c, 0);
	put_away(&c, 'a', 3000);
	assert_int_equal(0, mkdir(in(c.dir, "cache/v1/" KEY_B), 0755));
	put_text(in(c.dir, "cache/v1/" KEY_B "/use"), "");
	put_text(in(c.dir, "cache/v1/" KEY_B "/filling"),
		"0 0 0 0 18446744073709551000 process 1 on x\n");
	assert_int_equal(0, cache_evict(c.cache, UINT64_MAX, NULL, &n, &bytes, &c.err));
	assert_int_equal(0, n);
	assert_true(there(&c, 'a'));
	cached_done(&c);
}

/* Links that appear. */

TEST(cache_tree_is_a_destination_that_is_never_followed)
{
	const struct destination_options opts = {0};
	struct destination *d = NULL;
	struct record *record;
	struct cached c;
	char *victim;

	open_quiet(&c, 0);
	victim = make_victim(&c);
	assert_int_equal(0, mkdir(in(c.dir, "key"), 0755));
	assert_int_equal(0, symlink(victim, in(c.dir, "key/tree")));
	_close_ int key_fd = open(in(c.dir, "key"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (destination_open_in(key_fd, in(c.dir, "key/tree"), &opts, &d, &c.err) == 0) {
		assert_string_equal(in(c.dir, "key/tree"), destination_path(d));
		assert_int_not_equal(0, destination_check(d, "aaaa", &c.err));
	}
	destination_close(d, false);
	assert_int_equal(0, destination_peek_in(key_fd, in(c.dir, "key/tree"), &record, &c.err));
	assert_null(record);
	_free_ char *there = list(victim);
	assert_string_equal("cat.jpg", there);
	assert_false(exists(in(c.dir, ".stagerun")));
	cached_done(&c);
}

TEST(cache_reaches_the_files_of_an_entry_through_no_link)
{
	_free_ char *dir = test_directory();
	const char *base;

	assert_int_equal(0, mkdir(in(dir, "victim"), 0755));
	put_text(in(dir, "victim/a"), "secret");
	assert_int_equal(0, mkdir(in(dir, "tree"), 0755));
	assert_int_equal(0, mkdir(in(dir, "tree/d"), 0755));
	assert_int_equal(0, symlink("../victim", in(dir, "tree/s")));
	assert_int_equal(0, symlink("../../victim", in(dir, "tree/d/s")));
	_close_ int fd = open(in(dir, "tree"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct parent_lookup r = PARENT_LOOKUP(fd);
	assert_int_equal(fd, cache_lookup_parent(&r, "a", &base));
	assert_true(cache_lookup_parent(&r, "d/a", &base) >= 0);
	assert_string_equal("a", base);
	assert_int_equal(-1, cache_lookup_parent(&r, "s/a", &base));
	assert_int_equal(-1, cache_lookup_parent(&r, "d/s/a", &base));
	assert_int_equal(-1, cache_lookup_parent(&r, "../victim/a", &base));
	assert_int_equal(-1, cache_lookup_parent(&r, "d/..", &base));
	cache_lookup_done(&r);
}
