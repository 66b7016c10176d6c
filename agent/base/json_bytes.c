/* SPDX-License-Identifier: MIT */
/* Arbitrary bytes as JSON strings. Any thread. */
#include "json_bytes.h"
#include "text.h"
#include "utf8.h"

json_t *json_from_bytes(const char *bytes)
{
	struct text t = {0};
	json_t *value;

	text_add(&t, "");
	for (const unsigned char *p = (const unsigned char *)bytes; *p != '\0'; p++) {
		if (*p < ' ' || *p >= 0x7f || *p == '%')
			text_addf(&t, "%%%02X", *p);
		else
			text_add_bytes(&t, p, 1);
	}
	value = json_string(t.s);
	text_done(&t);
	if (value == NULL)
		abort(); /* out of memory: it is ASCII */
	return value;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

char *json_to_bytes(const json_t *value)
{
	const char *in = json_string_value(value);
	struct text t = {0};

	if (in == NULL)
		return NULL;
	text_add(&t, "");
	for (; *in != '\0'; in++) {
		char c = *in;

		if (c == '%') {
			int high = hex_digit(in[1]);
			int low = high < 0 ? -1 : hex_digit(in[2]);

			c = (char)(high * 16 + low);
			if (low < 0 || c == '\0') {
				text_done(&t);
				return NULL;
			}
			in += 2;
		}
		text_add_bytes(&t, &c, 1);
	}
	return text_take(&t);
}

json_t *json_from_text(const char *s, enum json_odd odd)
{
	json_t *value = json_string(s);
	struct text t = {0};

	if (value != NULL)
		return value;
	for (; *s != '\0'; s++) {
		if ((unsigned char)*s < 0x80)
			text_add_bytes(&t, s, 1);
		else if (odd == JSON_ODD_HEX)
			text_addf(&t, "\\x%02x", (unsigned char)*s);
		else
			text_add(&t, "?");
	}
	value = json_string(t.s);
	text_done(&t);
	return value;
}

static size_t plain_len(const char *s)
{
	size_t len = 0;

	while ((unsigned char)s[len] >= 0x20 && (unsigned char)s[len] < 0x7f && s[len] != '"' &&
		s[len] != '\\')
		len++;
	return len;
}

void json_add_text(struct text *to, const char *s)
{
	uint32_t code;

	text_add_bytes(to, "\"", 1);
	while (true) {
		size_t len = plain_len(s);

		text_add_bytes(to, s, len);
		s += len;
		if (*s == '\0')
			break;
		len = utf8_character(s, &code);
		if (*s == '"' || *s == '\\')
			text_addf(to, "\\%c", *s);
		else if (len > 1)
			text_add_bytes(to, s, len);
		else
			text_addf(to, "\\u%s%02x", len == 0 ? "dc" : "00", (unsigned char)*s);
		s += len > 0 ? len : 1;
	}
	text_add_bytes(to, "\"", 1);
}
