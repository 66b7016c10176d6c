/* SPDX-License-Identifier: MIT */
/* The part of UTF-8 that names on a terminal or in JSON need. Any thread. The functions of the C
 * library depend on a locale, and containers have none. */
#include "utf8.h"
#include <string.h>

/* Beyond this code point, scripts have characters that are two columns wide. */
enum { FIRST_WIDE = 0x1100 };

static size_t length_by_first_byte(unsigned char c)
{
	if (c < 0x80)
		return 1;
	if (c >= 0xc2 && c < 0xe0)
		return 2;
	if (c >= 0xe0 && c < 0xf0)
		return 3;
	return c >= 0xf0 && c < 0xf5 ? 4 : 0;
}

/* Reads at most room bytes, and none after one that does not continue the character. */
static size_t decode(const char *s, size_t room, uint32_t *ret_code)
{
	static const uint8_t first_bits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t len = length_by_first_byte((unsigned char)*s);
	uint32_t code = (unsigned char)*s & first_bits[len];

	if (len > room)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if (((unsigned char)s[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | ((unsigned char)s[i] & 0x3f);
	}
	/* Overlong forms, surrogates, and codes beyond Unicode. */
	if (len == 0 || code < smallest[len] || (code >= 0xd800 && code < 0xe000) ||
		code > 0x10ffff)
		return 0;
	*ret_code = code;
	return len;
}

size_t utf8_character(const char *s, uint32_t *ret_code)
{
	return decode(s, SIZE_MAX, ret_code);
}

bool utf8_is_valid(const void *bytes, size_t len)
{
	const char *s = bytes;
	uint32_t code;

	while (len > 0) {
		size_t n = decode(s, len, &code);

		if (n == 0)
			return false;
		s += n;
		len -= n;
	}
	return true;
}

static bool is_control(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0);
}

void utf8_add_clean(struct text *t, const char *s)
{
	while (*s != '\0') {
		uint32_t code = 0;
		size_t len = utf8_character(s, &code);

		if (len > 0 && !is_control(code)) {
			text_add_bytes(t, s, len);
			s += len;
		} else {
			text_addf(t, "\\x%02x", (unsigned char)*s++);
		}
	}
}

size_t utf8_step(const char **s)
{
	uint32_t code = 0;
	size_t len = utf8_character(*s, &code);

	*s += len > 0 ? len : 1;
	return code >= FIRST_WIDE ? 2 : 1;
}

size_t utf8_columns(const char *s)
{
	size_t columns = 0;

	while (*s != '\0')
		columns += utf8_step(&s);
	return columns;
}

size_t utf8_fitting(const char *s, size_t columns)
{
	const char *at = s;

	while (*at != '\0') {
		const char *next = at;
		size_t width = utf8_step(&next);

		if (width > columns)
			break;
		columns -= width;
		at = next;
	}
	return (size_t)(at - s);
}
