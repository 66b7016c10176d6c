/* SPDX-License-Identifier: MIT */
/* Fuzzes the parsers of the answers of S3 and of the services for credentials: lists of objects,
 * uploads and versions, results of deletions, errors, the XML of STS and the JSON of the other
 * services. Checks that the paths of elements are complete and that the message of an error is
 * one line. Listings and deletions run without the network: the input is the answer to each of
 * their requests. */
#define s3_perform              fuzzed_perform
#define s3_region_of            fuzzed_region_of
#define s3_list                 fuzzed_list
#define s3_object_check_archive fuzzed_check_archive
#define s3_uploads              fuzzed_uploads
#define s3_tally_new            fuzzed_tally_new
#define s3_tally_add            fuzzed_tally_add
#define s3_tally_free           fuzzed_tally_free
#define s3_cursor_move          fuzzed_cursor_move
#define s3_cursor_done          fuzzed_cursor_done
#define s3_is_versioned         fuzzed_is_versioned
#define s3_delete_versions      fuzzed_delete_versions
#define s3_delete_page          fuzzed_delete_page
#define s3_delete               fuzzed_delete
#include "../../agent/s3/credentials_private.h"
#include "../../agent/s3/s3_private.h"
#include "defer.h"
#include "fuzz.h"
#include "log.h"
#include "progress.h"
#include <errno.h>
#include <nettle/base64.h>
#include <nettle/md5.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../../agent/s3/s3_delete.c"
#include "../../agent/s3/s3_list.c"
#include "../../agent/s3/s3_versions.c"

enum { ENOUGH_FOUND = 500 };

static int on_end(void *ctx, const char *path, const char *text, struct error *err)
{
	size_t len = strlen(path);

	(void)err;
	if (len > 0 && (path[0] == '/' || path[len - 1] == '/' || strstr(path, "//") != NULL))
		abort();
	*(size_t *)ctx += len + strlen(text);
	return 0;
}

static void read_lists(const char *xml, size_t len)
{
	static const char *const roots[] = {"ListBucketResult", "DeleteResult", "Error",
		"ListMultipartUploadsResult", "ListVersionsResult", "InitiateMultipartUploadResult",
		"CompleteMultipartUploadResult"};

	for (size_t i = 0; i < ARRAY_LEN(roots); i++) {
		struct error err = {0};
		size_t sum = 0;
		int code = s3_xml_read(xml, len, roots[i], on_end, &sum, &err);

		if ((code < 0) != (err.msg[0] != '\0'))
			abort();
	}
}

static struct {
	const char *bytes;
	size_t len;
} answer;

int s3_perform(struct s3_client *c, const struct s3_request *what, struct reply *ret,
	unsigned *ret_attempts, struct error *err)
{
	(void)c, (void)what, (void)ret_attempts, (void)err;
	*ret = (struct reply){.status = 200};
	text_add_bytes(&ret->body, answer.bytes, answer.len);
	return 0;
}

char *s3_region_of(struct s3 *s, const char *bucket)
{
	(void)s, (void)bucket;
	return NULL;
}

/* Checks that the keys of a page are in order. */
static int on_object(void *ctx, const struct s3_object *o, struct error *err)
{
	char **before = ctx;

	(void)err;
	if (o->key == NULL || (*before != NULL && strcmp(*before, o->key) > 0))
		abort();
	free(*before);
	*before = o->ends_page ? NULL : text_copy(o->key);
	return 0;
}

static int on_upload(void *ctx, const char *key, const char *id, time_t begun, struct error *err)
{
	(void)ctx, (void)begun, (void)err;
	if (key == NULL || id == NULL)
		abort();
	return 0;
}

static bool is_chosen(void *ctx, const char *key)
{
	(void)ctx;
	return key[0] != 'k';
}

static void must_say(int code, const struct error *err)
{
	if (code < 0 && err->msg[0] == '\0')
		abort();
}

static void go_through(const char *xml, size_t len)
{
	static const char *const keys[] = {"a", "b"};
	const struct s3_chooser which = {.is_chosen = is_chosen};
	struct s3 s3 = {.endpoint = NULL};
	struct s3_client client = {.s3 = &s3};
	struct error err[4] = {{0}};
	char *before = NULL;
	bool versioned;

	answer.bytes = xml;
	answer.len = len;
	must_say(s3_list(&client, "b", "", NULL, '/', on_object, &before, &err[0]), &err[0]);
	must_say(s3_uploads(&client, "b", "", on_upload, NULL, &err[1]), &err[1]);
	must_say(s3_delete_versions(&client, "b", "", &which, &err[2]), &err[2]);
	must_say(s3_delete(&client, "b", keys, ARRAY_LEN(keys), &err[3]), &err[3]);
	s3_is_versioned(&client, "b", &versioned, NULL);
	free(before);
}

static void read_fault(const char *xml, size_t len)
{
	static const long statuses[] = {301, 400, 403, 404, 412, 503};

	for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
		const struct s3_subject what = {.doing = "read",
			.bucket = "b",
			.key = "k",
			.permission = "s3:GetObject",
			.endpoint = "https://s3",
			.region = "r",
			.who = "nobody"};
		struct s3_fault f;
		struct error err;

		s3_fault_read(&f, statuses[i], xml, len);
		s3_fault_headers(&f, NULL, NULL, "Tue, 15 Nov 1994 12:45:26 GMT");
		s3_fault_classify(&f, "r");
		if (s3_fault_error(&f, &what, &err) >= 0 || strpbrk(err.msg, "\r\n") != NULL)
			abort();
	}
}

static void read_keys(const char *bytes, size_t len)
{
	static size_t n_found;
	struct sts_answer a = {0};
	struct credentials_found found;
	struct error err;
	time_t when;

	if (sts_answer_parse(bytes, len, &a))
		credentials_parse_time(a.expiration.s != NULL ? a.expiration.s : "", &when, &err);
	sts_answer_done(&a);
	/* Each set of keys that is found is registered as a secret, which makes logging slower. */
	if (n_found < ENOUGH_FOUND &&
		credentials_found_parse(bytes, len, "Token", &found, &err) == 0) {
		n_found++;
		credentials_found_done(&found);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	char *copy = malloc(len + 1);

	if (copy == NULL)
		return 0;
	memcpy(copy, bytes, len);
	copy[len] = '\0';
	read_lists(copy, len);
	go_through(copy, len);
	read_fault(copy, len);
	read_keys(copy, len);
	free(s3_decode(copy));
	free(copy);
	return 0;
}
