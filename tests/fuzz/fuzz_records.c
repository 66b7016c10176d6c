/* SPDX-License-Identifier: MIT */
/* Fuzzes the readers of the state files of a destination (a journal, a record, the record of an
 * unfinished tree, packed records) and of the inventory of a node cache entry. Checks the
 * properties of the data that was read, and that it is the same after it is written and read
 * again. */
#include "../../agent/cache/inventory.h"
#include "../../agent/publish/journal.h"
#include "../../agent/publish/publish_private.h"
#include "defer.h"
#include "fuzz.h"
#include "log.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int work_fd = -1;

static void set_up(void)
{
	static char path[] = "/tmp/fuzz-records-XXXXXX";

	if (work_fd >= 0)
		return;
	log_setup(LOG_ERROR, LOG_TEXT, STDERR_FILENO);
	if (mkdtemp(path) == NULL)
		abort();
	work_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* All files are accessed relative to this descriptor. */
	if (work_fd < 0 || mkdirat(work_fd, "tree.a", 0700) != 0)
		abort();
}

static void write_file(
	const char *name, const void *head, size_t head_len, const uint8_t *bytes, size_t len)
{
	const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
	_close_ int fd = openat(work_fd, name, flags, 0600);

	if (fd < 0 || (head_len > 0 && write(fd, head, head_len) != (ssize_t)head_len) ||
		(len > 0 && write(fd, bytes, len) != (ssize_t)len))
		abort();
}

static void check_name(const char *name)
{
	if (name[0] == '\0' || strchr(name, '/') != NULL || strcmp(name, ".") == 0 ||
		strcmp(name, "..") == 0)
		abort();
}

static void check_record(const struct record *r)
{
	struct text t = {0};
	_free_ char *words = NULL;

	if (r->n_sources == 0 || !publish_key_is_valid(r->key))
		abort();
	(void)publish_record_is_pinned(r);
	publish_record_describe(r, &t);
	words = text_take(&t);
	if (words == NULL)
		abort();
}

static void check_same(struct journal *a, struct journal *b)
{
	struct journal_entry x, y;
	int more;

	if (a->kind != b->kind || strcmp(a->tree, b->tree) != 0 || !b->this_boot ||
		strcmp(a->record->key, b->record->key) != 0 ||
		a->record->n_sources != b->record->n_sources ||
		a->record->bytes != b->record->bytes || a->record->entries != b->record->entries)
		abort();
	do {
		more = journal_next(a, &x);
		if (more != journal_next(b, &y))
			abort();
		if (more && (strcmp(x.name, y.name) != 0 || !inode_same(&x.inode, &y.inode) ||
				    x.replace != y.replace || x.gone != y.gone ||
				    (x.replace && !inode_same(&x.old, &y.old))))
			abort();
	} while (more);
}

static void write_again(struct journal *j)
{
	const struct journal_head head = {.dir_fd = work_fd,
		.path = "work",
		.kind = j->kind,
		.tree = j->tree,
		.record = j->record,
		.marks = &j->marks};
	struct journal_writer w;
	struct journal_entry e;
	struct journal *again;
	struct error err;
	int code = journal_begin(&w, &head, &err);

	while (code == 0 && journal_next(j, &e) > 0) {
		check_name(e.name);
		code = journal_add(&w, &e, &err);
	}
	/* Fails for a time stamp that no file can have. */
	if (code < 0 || journal_commit(&w, false, &err) < 0) {
		journal_abandon(&w);
		return;
	}
	if (journal_open(work_fd, w.name, &again) < 0)
		abort();
	journal_rewind(j);
	check_same(j, again);
	journal_close(again);
}

static void check_journal(struct journal *j)
{
	check_name(j->tree);
	check_record(j->record);
	write_again(j);
	journal_close(j);
}

static void read_journal(const uint8_t *bytes, size_t len)
{
	struct destination d = {.lock_fd = work_fd, .place = {.state_fd = work_fd}};
	struct journal *j;

	write_file(WHOLE_FILE, NULL, 0, bytes, len);
	if (journal_open(work_fd, WHOLE_FILE, &j) == 0)
		check_journal(j);
	write_file(UNFINISHED_FILE, NULL, 0, bytes, len);
	j = leftovers_open_unfinished(&d);
	if (j != NULL) {
		if (j->kind != PUBLISH_UNFINISHED || !j->this_boot)
			abort();
		journal_close(j);
	}
}

static int state_of(const struct packed_records *p, const char *key)
{
	struct journal *j;
	int code = packed_open(p, key, &j);

	if (code == 0)
		check_journal(j);
	return code;
}

/* Checks that each key has the same record after the file is written again. */
static void read_packed(const uint8_t *bytes, size_t len)
{
	static const char title[] = "{\"stagerun\": \"records\", \"format\": 1}\n";
	struct packed_records p, again;

	write_file("packed", title, strlen(title), bytes, len);
	packed_init(&p);
	packed_init(&again);
	packed_load(&p, work_fd, "packed", false);
	if (p.n_fds != 1 || packed_write(&p, work_fd, work_fd, -1) != 0)
		abort();
	packed_load(&again, work_fd, PACKED_NEW, false);
	for (size_t i = 0; i < p.n; i++) {
		if (state_of(&p, p.v[i].key) != state_of(&again, p.v[i].key))
			abort();
	}
	packed_done(&p);
	packed_done(&again);
}

static bool read_entries(struct inventory *l)
{
	struct inventory_entry e;
	int code;

	while ((code = inventory_next(l, &e)) > 0) {
		if (strchr("fdlh", e.type) == NULL || e.path[0] == '\0' ||
			(e.target != NULL) != (e.type == 'l' || e.type == 'h'))
			abort();
	}
	return code == 0;
}

/* Checks that inventory_seek() finds the start of an entry, from any offset in a complete
 * inventory. */
static void seek(struct inventory *l, bool whole)
{
	static const double shares[] = {0, 0.1, 0.5, 0.9, 1};

	for (size_t i = 0; i < ARRAY_LEN(shares); i++) {
		if (inventory_seek(l, shares[i]) && !read_entries(l) && whole && l->head.marked)
			abort();
	}
}

static void open_inventory(void)
{
	struct inventory *l;
	bool whole;

	if (inventory_open(work_fd, &l) < 0)
		return;
	whole = read_entries(l);
	seek(l, whole);
	inventory_rewind(l);
	if (read_entries(l) != whole)
		abort();
	inventory_close(l);
}

/* Uses the input as it is, and as the entries after a valid head, which a fuzzer would hardly
 * ever generate. */
static void read_inventory(const uint8_t *bytes, size_t len)
{
	char head[INVENTORY_HEAD] = "";
	struct inventory_head h = {.length = INVENTORY_HEAD + len, .what = "cats"};

	write_file(INVENTORY_NAME, NULL, 0, bytes, len);
	open_inventory();
	if (inventory_head_print(&h, head, sizeof(head)) < 0)
		abort();
	write_file(INVENTORY_NAME, head, sizeof(head), bytes, len);
	open_inventory();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	set_up();
	read_journal(bytes, len);
	read_packed(bytes, len);
	read_inventory(bytes, len);
	return 0;
}
