/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate before the JSON parser, for texts that come from outside: see strict_parse() in
 * schema.h. cJSON takes any bytes in strings, cuts them at U+0000, recurses 1000 levels and makes
 * 40 times as much of a text as it is long; none of this may reach the rest of meshd.
 */
#include "ctl/meshd/schema.h"
#include "lib/json.h"
#include "lib/utf8.h"

#include <string.h>

/* What begins one more value: of "[1,2]" the list, its first member and each comma's. An empty list
 * or object counts as two. */
static bool begins_value(char c)
{
	return c == ',' || c == '[' || c == '{';
}

/* What is wrong with the text, or NULL; *at is where. */
static const char *gate(const char *text, size_t len, size_t values_max, size_t *at)
{
	size_t n, values = 1;
	bool quoted = false;
	int depth = 0;

	for (size_t i = 0; i < len; i += n) {
		*at = i;
		n = utf8_len((const unsigned char *)text + i, len - i);
		if (!n)
			return "invalid UTF-8";
		if (text[i] == '\0')
			return "NUL byte";
		if (!quoted && begins_value(text[i]) && ++values > values_max)
			return "too many values";
		if (quoted && text[i] == '\\') {
			if (len - i >= 6 && !memcmp(text + i, "\\u0000", 6))
				return "\\u0000 is not accepted";
			n = i + 1 < len && (unsigned char)text[i + 1] < 0x80 ? 2 : 1;
		} else if (quoted && (unsigned char)text[i] < 0x20) {
			return "control character in a string";
		} else if (text[i] == '"') {
			quoted = !quoted;
		} else if (!quoted && (text[i] == '{' || text[i] == '[')) {
			if (++depth > JSON_DEPTH_MAX)
				return "nested too deeply";
		} else if (!quoted && (text[i] == '}' || text[i] == ']')) {
			depth--;
		}
	}
	return NULL;
}

cJSON *strict_parse(const char *text, size_t len, size_t values_max, struct schema_error *e)
{
	size_t at = 0;
	const char *why =
		len ? gate(text, len, values_max ? values_max : JSON_VALUES_MAX, &at) : "empty";
	cJSON *v = why ? NULL : json_parse(text, len, &at);

	e->path[0] = e->text[0] = '\0';
	if (!v)
		schema_fail(e, "", "malformed JSON at byte %zu%s%s", at, why ? ": " : "",
			    why ? why : "");
	return v;
}
