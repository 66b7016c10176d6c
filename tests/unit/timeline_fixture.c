/* SPDX-License-Identifier: MIT */
#include "timeline_fixture.h"
#include "defer.h"
#include "progress.h"
#include "text.h"
#include <stdio.h>

#define MS  1000000ull
#define SEC (1000 * MS)

/* A run that began that long ago, so that nothing in it is in the future. */
struct maker {
	struct timeline *t;
	uint64_t begin_ns;
	unsigned run;
};

enum { LONG_AGO_S = 600 };

static struct maker make_run(const char *command)
{
	struct maker m = {.t = timeline_new()};

	m.begin_ns = now_ns() - LONG_AGO_S * SEC;
	m.run = timeline_begin_at(m.t, 0, SPAN_RUN, "stagerun", m.begin_ns);
	timeline_set_text(m.t, m.run, "version", "0.1.0");
	timeline_set_text(m.t, m.run, "command", command);
	return m;
}

static unsigned add(const struct maker *m, unsigned parent, enum span_kind kind, const char *name,
	double from_s, double to_s)
{
	unsigned id =
		timeline_begin_at(m->t, parent, kind, name, m->begin_ns + (uint64_t)(from_s * SEC));

	timeline_end_at(m->t, id, SPAN_OK, NULL, m->begin_ns + (uint64_t)(to_s * SEC));
	return id;
}

static unsigned add_failed(const struct maker *m, unsigned parent, enum span_kind kind,
	const char *name, const double times_s[2], const char *why)
{
	unsigned id = timeline_begin_at(
		m->t, parent, kind, name, m->begin_ns + (uint64_t)(times_s[0] * SEC));

	timeline_end_at(m->t, id, why != NULL ? SPAN_FAILED : SPAN_CANCELLED, why,
		m->begin_ns + (uint64_t)(times_s[1] * SEC));
	return id;
}

static void end_run(const struct maker *m, double ready_s, double end_s)
{
	unsigned command = timeline_begin_at(m->t, m->run, SPAN_COMMAND, "python train.py",
		m->begin_ns + (uint64_t)(ready_s * SEC));

	timeline_set_number(m->t, m->run, "ready_ns", (uint64_t)(ready_s * SEC));
	timeline_set_number(m->t, command, "pid", 42);
	if (end_s <= 0)
		return;
	timeline_end_at(m->t, command, SPAN_OK, NULL, m->begin_ns + (uint64_t)(end_s * SEC));
	timeline_set_number(m->t, m->run, "exit_code", 0);
	timeline_set_text(m->t, m->run, "reason", "completed");
	timeline_end_at(m->t, m->run, SPAN_OK, NULL, m->begin_ns + (uint64_t)(end_s * SEC));
}

static void set_stage(
	const struct maker *m, unsigned stage, const char *how, uint64_t bytes, uint64_t entries)
{
	timeline_set_text(m->t, stage, "origin", "config.yml:7");
	timeline_set_text(m->t, stage, "how", how);
	timeline_set_number(m->t, stage, "bytes", bytes);
	timeline_set_number(m->t, stage, "entries", entries);
}

struct made_source {
	const char *url, *format, *etag, *bottleneck, *advice;
	uint64_t bytes, expanded;
	double network_s, decode_s, disk_s;
};

static void set_source(const struct maker *m, unsigned id, const struct made_source *s)
{
	timeline_set_text(m->t, id, "url", s->url);
	timeline_set_text(m->t, id, "format", s->format);
	timeline_set_text(m->t, id, "etag", s->etag);
	timeline_set_text(m->t, id, "bottleneck", s->bottleneck);
	timeline_set_text(m->t, id, "advice", s->advice);
	timeline_set_number(m->t, id, "total_bytes", s->bytes);
	timeline_set_number(m->t, id, "received_bytes", s->bytes);
	timeline_set_number(m->t, id, "expanded_bytes", s->expanded);
	timeline_set_number(m->t, id, "connections", 4);
	timeline_set_number(m->t, id, "network_ns", (uint64_t)(s->network_s * SEC));
	timeline_set_number(m->t, id, "decode_ns", (uint64_t)(s->decode_s * SEC));
	timeline_set_number(m->t, id, "disk_ns", (uint64_t)(s->disk_s * SEC));
}

/* Ranges of n connections at once. Nothing arrives between the two times of a stall. */
static void add_ranges(const struct maker *m, unsigned source, unsigned n, const double span_s[2],
	const double stall_s[2])
{
	const double length = 0.9;

	for (unsigned c = 0; c < n; c++) {
		double at = span_s[0] + 0.05 * c;

		for (unsigned i = 0; at < span_s[1]; i++) {
			double end = at + length + 0.35 * ((i * 7 + c * 5) % 4);
			bool stalls = at < stall_s[1] && end > stall_s[0];
			_free_ char *name = text_format("bytes %u", i * n + c);
			unsigned id;

			end = stalls ? stall_s[1] : end;
			end = end < span_s[1] ? end : span_s[1];
			id = add(m, source, SPAN_RANGE, name, at, end);
			timeline_set_number(m->t, id, "offset", (uint64_t)(i * n + c) * 8000000);
			timeline_set_number(m->t, id, "received_bytes", stalls ? 900000 : 8000000);
			timeline_set_number(m->t, id, "first_byte_ns", 60 * MS);
			timeline_set_number(m->t, id, "status", 206);
			timeline_set_number(m->t, id, "attempt", 1);
			at = end + 0.01;
		}
	}
}

static const double never[2] = {0, 0};

static void add_imagenet(const struct maker *m)
{
	const struct made_source facts = {.url = "https://data.example.org/sets/imagenet.tar",
		.format = "tar",
		.etag = "\"5f3a-62c91\"",
		.bottleneck = "network",
		.advice = "more connections: the server gives each 60 MB/s",
		.bytes = 11420000000,
		.expanded = 11390000000,
		.network_s = 41.0,
		.disk_s = 3.1};
	unsigned stage = add(m, m->run, SPAN_STAGE, "/data/imagenet", 0.02, 47.4);
	unsigned source =
		add(m, stage, SPAN_SOURCE, "data.example.org/sets/imagenet.tar", 0.05, 47.2);

	set_stage(m, stage, "staged", 11390000000, 1281167);
	set_source(m, source, &facts);
	timeline_set_number(m->t, source, "stalls", 1);
	timeline_set_text(m->t, source, "sha256",
		"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
	add_ranges(m, source, 4, (const double[]){0.1, 47.1}, (const double[]){21, 29});
	add(m, stage, SPAN_PUBLISH, "/data/imagenet", 47.25, 47.4);
}

static void add_cifar_and_labels(const struct maker *m)
{
	const struct made_source cifar = {.url = "s3://bucket/cifar5.tar.zst",
		.format = "tar.zst",
		.etag = "\"77aa\"",
		.bottleneck = "decode",
		.advice = "repack as datastore: one zstd frame decodes on one core",
		.bytes = 3200000000,
		.expanded = 9100000000,
		.network_s = 1.0,
		.decode_s = 13.5,
		.disk_s = 1.2};
	unsigned stage = add(m, m->run, SPAN_STAGE, "/data/cifar5", 0.02, 22.9);
	unsigned source;

	set_stage(m, stage, "staged", 9100000000, 50000);
	add(m, stage, SPAN_LOCK, "stagerun run (pid 4711 on node-3)", 0.04, 4.1);
	source = add(m, stage, SPAN_SOURCE, "s3://bucket/cifar5.tar.zst", 4.2, 22.6);
	set_source(m, source, &cifar);
	add_ranges(m, source, 8, (const double[]){4.3, 21}, never);
	add(m, stage, SPAN_PUBLISH, "/data/cifar5", 22.6, 22.9);
	stage = add(m, m->run, SPAN_STAGE, "/data/labels", 0.02, 0.6);
	set_stage(m, stage, "staged", 48000, 2);
	source = add(m, stage, SPAN_SOURCE, "datastore:labels:3", 0.05, 0.55);
	timeline_set_text(m->t, source, "datastore", "labels");
	timeline_set_number(m->t, source, "version", 3);
	timeline_set_text(m->t, source, "sha256",
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	timeline_set_number(m->t, source, "received_bytes", 21000);
	timeline_set_number(m->t, source, "network_ns", 400 * MS);
}

struct timeline *timeline_of_cold_start(void)
{
	struct maker m = make_run("python train.py --epochs 90");

	add(&m, m.run, SPAN_HOOK, "on_stage_start hook /etc/stagerun/hooks/on_stage_start/10-mount",
		0.005, 0.02);
	add_imagenet(&m);
	add_cifar_and_labels(&m);
	add(&m, m.run, SPAN_DEPENDENCIES, "requirements.txt", 0.02, 11.8);
	add(&m, m.run, SPAN_ACTION, "on_experiment_start action 4 (config.yml:19)", 47.41, 48.1);
	timeline_set_text(m.t, m.run, "warnings",
		"temporary files go to /tmp (TMPDIR: /scratch is not there)\nthe server of data.example.org does not name a version for certain");
	end_run(&m, 48.2, 0);
	return m.t;
}

struct timeline *timeline_of_slow_disk(void)
{
	const struct made_source facts = {.url = "http://10.0.0.7/coco.zip",
		.format = "zip",
		.etag = "\"c0c0\"",
		.bottleneck = "disk",
		.advice =
			"slow file system: 1.1 ms for a file; stage to a local disk, or use one archive with fewer files",
		.bytes = 19300000000,
		.expanded = 19300000000,
		.network_s = 4,
		.decode_s = 2,
		.disk_s = 121};
	struct maker m = make_run("torchrun --nproc-per-node 8 train.py");
	unsigned stage = add(&m, m.run, SPAN_STAGE, "/mnt/nfs/coco", 0.02, 142);
	unsigned source = add(&m, stage, SPAN_SOURCE, "10.0.0.7/coco.zip", 0.1, 141.2);

	set_stage(&m, stage, "staged", 19300000000, 123287);
	set_source(&m, source, &facts);
	add_ranges(&m, source, 2, (const double[]){0.2, 140}, never);
	add(&m, stage, SPAN_PUBLISH, "/mnt/nfs/coco", 141.3, 142);
	end_run(&m, 142.1, 500);
	return m.t;
}

struct timeline *timeline_of_warm_start(void)
{
	struct maker m = make_run("python train.py");
	static const char *const names[] = {"imagenet", "cifar5", "labels"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		_free_ char *to = text_format("/data/%s", names[i]);
		_free_ char *from = text_format("data.example.org/sets/%s.tar", names[i]);
		unsigned stage = add(&m, m.run, SPAN_STAGE, to, 0.002, 0.031 + 0.004 * (double)i);
		unsigned source =
			add(&m, stage, SPAN_SOURCE, from, 0.004, 0.03 + 0.004 * (double)i);

		set_stage(&m, stage, "warm", 9100000000, 50000);
		timeline_set_text(m.t, source, "etag", "\"5f3a-62c91\"");
		timeline_set_number(m.t, source, "network_ns", 20 * MS);
	}
	end_run(&m, 0.044, 0);
	return m.t;
}

struct timeline *timeline_of_failed_start(void)
{
	static const char why[] =
		"https://data.example.org/sets/imagnet.tar: the server answered 404 Not Found; is the name right?";
	struct maker m = make_run("python train.py");
	unsigned stage = add_failed(
		&m, m.run, SPAN_STAGE, "/data/imagenet", (const double[]){0.01, 0.4}, why);
	unsigned source = add_failed(&m, stage, SPAN_SOURCE, "data.example.org/sets/imagnet.tar",
		(const double[]){0.02, 0.39}, why);

	timeline_set_text(m.t, source, "url", "https://data.example.org/sets/imagnet.tar");
	stage = add_failed(
		&m, m.run, SPAN_STAGE, "/data/cifar5", (const double[]){0.01, 0.8}, NULL);
	source = add_failed(&m, stage, SPAN_SOURCE, "s3://bucket/cifar5.tar.zst",
		(const double[]){0.02, 0.75}, NULL);
	timeline_set_number(m.t, source, "total_bytes", 3200000000);
	timeline_set_number(m.t, source, "received_bytes", 41000000);
	timeline_set_number(m.t, source, "network_ns", 500 * MS);
	timeline_set_text(m.t, m.run, "phase", "stage");
	timeline_set_text(m.t, m.run, "reason", "start_failed");
	timeline_set_number(m.t, m.run, "exit_code", 125);
	timeline_end_at(m.t, m.run, SPAN_FAILED, why, m.begin_ns + 812 * MS);
	return m.t;
}

struct timeline *timeline_of_hostile_names(void)
{
	static const char name[] =
		"x/<script>alert(1)</script>\"' onload=a \xff\x01\x1b[2J &amp; \xe2\x80\xaegpj.tar";
	struct maker m = make_run(name);
	unsigned stage = add(&m, m.run, SPAN_STAGE, name, 0, 2);
	unsigned source = add(&m, stage, SPAN_SOURCE, name, 0.1, 2);

	timeline_set_text(m.t, source, "url", name);
	timeline_set_text(m.t, source, "etag", name);
	timeline_set_text(m.t, source, "advice", name);
	timeline_set_number(m.t, source, "network_ns", 1900 * MS);
	add(&m, stage, SPAN_LOCK, name, 0, 0.1);
	add_failed(&m, m.run, SPAN_ACTION, name, (const double[]){2, 2.1}, name);
	timeline_set_text(m.t, m.run, "warnings", name);
	end_run(&m, 2.2, 0);
	return m.t;
}

const struct timeline_sample timeline_samples[] = {
	{"cold", timeline_of_cold_start},
	{"slow-disk", timeline_of_slow_disk},
	{"warm", timeline_of_warm_start},
	{"failed", timeline_of_failed_start},
	{"hostile", timeline_of_hostile_names},
	{NULL, NULL},
};
