/* SPDX-License-Identifier: MIT */
/* Extra fields of zip records. Pure; any thread. A field that is too short for what it should hold
 * is passed over as if it were not there: they add detail, and writers differ. */
#include "text.h"
#include "zip.h"
#include <libdeflate.h>
#include <string.h>

enum {
	EXTRA_ZIP64 = 0x0001,
	EXTRA_NTFS = 0x000a,
	EXTRA_TIMES = 0x5455,        /* Info-ZIP "UT" */
	EXTRA_UNICODE_NAME = 0x7075, /* Info-ZIP "up" */
	EXTRA_OWNER = 0x7875,        /* Info-ZIP "ux" */
};

const uint8_t *zip_extra_find(const struct zip_extra *x, uint16_t id, size_t *ret_len)
{
	const uint8_t *p = x->p;
	size_t left = x->len;

	while (left >= 4) {
		size_t len = get16(p + 2);

		if (len > left - 4)
			return NULL;
		if (get16(p) == id) {
			*ret_len = len;
			return p + 4;
		}
		p += 4 + len;
		left -= 4 + len;
	}
	return NULL;
}

int zip_extra_widen(const struct zip_extra *x, uint64_t *const *values, size_t n)
{
	size_t len = 0;
	const uint8_t *p = zip_extra_find(x, EXTRA_ZIP64, &len);

	for (size_t i = 0; i < n; i++) {
		if (*values[i] != UINT32_MAX || p == NULL)
			continue;
		if (len < 8)
			return -ERR_FORMAT;
		*values[i] = get64(p);
		p += 8;
		len -= 8;
	}
	return 0;
}

/* Windows counts units of 100 ns from 1601. The field holds a reserved word and then attributes, of
 * which number 1 is modification, access and creation time. */
static bool ntfs_mtime(const struct zip_extra *x, struct timespec *ret)
{
	const int64_t unix_epoch = INT64_C(116444736000000000);
	size_t len = 0;
	const uint8_t *p = zip_extra_find(x, EXTRA_NTFS, &len);
	struct zip_extra attributes;
	int64_t ticks;

	if (p == NULL || len < 4)
		return false;
	attributes = (struct zip_extra){.p = p + 4, .len = len - 4};
	p = zip_extra_find(&attributes, 0x0001, &len);
	if (p == NULL || len < 8 || get64(p) > INT64_MAX)
		return false;
	ticks = (int64_t)get64(p) - unix_epoch;
	ret->tv_sec = ticks / 10000000;
	ret->tv_nsec = ticks % 10000000 * 100;
	if (ret->tv_nsec < 0) {
		ret->tv_sec--;
		ret->tv_nsec += 1000000000;
	}
	return true;
}

static bool unix_mtime(const struct zip_extra *x, struct timespec *ret)
{
	size_t len = 0;
	const uint8_t *p = zip_extra_find(x, EXTRA_TIMES, &len);

	if (p == NULL || len < 5 || (p[0] & 1) == 0)
		return false;
	*ret = (struct timespec){.tv_sec = (int32_t)get32(p + 1)};
	return true;
}

/* An id of any length; false when it has more bits than ours. */
static bool get_id(const uint8_t *p, size_t len, uint32_t *ret)
{
	uint32_t id = 0;

	for (size_t i = 0; i < len; i++) {
		if (i >= 4 && p[i] != 0)
			return false;
		if (i < 4)
			id |= (uint32_t)p[i] << (8 * i);
	}
	*ret = id;
	return true;
}

void zip_extra_owner(const struct zip_extra *x, struct meta *meta)
{
	size_t len = 0, uid_len, gid_len;
	const uint8_t *p = zip_extra_find(x, EXTRA_OWNER, &len);
	uint32_t uid, gid;

	if (p == NULL || len < 3 || p[0] != 1)
		return;
	uid_len = p[1];
	if (len < 3 + uid_len)
		return;
	gid_len = p[2 + uid_len];
	if (len < 3 + uid_len + gid_len || uid_len == 0 || gid_len == 0)
		return;
	if (get_id(p + 2, uid_len, &uid) && get_id(p + 3 + uid_len, gid_len, &gid)) {
		meta->uid = uid;
		meta->gid = gid;
	}
}

bool zip_extra_mtime(const struct zip_extra *x, struct timespec *ret)
{
	return ntfs_mtime(x, ret) || unix_mtime(x, ret);
}

const uint8_t *zip_extra_name(
	const struct zip_extra *x, const uint8_t *raw_name, size_t raw_len, size_t *ret_len)
{
	size_t len = 0;
	const uint8_t *p = zip_extra_find(x, EXTRA_UNICODE_NAME, &len);

	if (p == NULL || len <= 5 || p[0] != 1 || memchr(p + 5, '\0', len - 5) != NULL)
		return NULL;
	/* A tool that renamed the entry without knowing this field left it behind. */
	if (get32(p + 1) != libdeflate_crc32(0, raw_name, raw_len))
		return NULL;
	*ret_len = len - 5;
	return p + 5;
}
