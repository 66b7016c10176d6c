/* SPDX-License-Identifier: MIT */
/* Arbitrary bytes as JSON strings. Any thread. */
#include "json_bytes.h"
#include "text.h"

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
