/* SPDX-License-Identifier: Apache-2.0 */
/* See name.h. */
#include "lib/name.h"

#include <string.h>

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool name_valid_bytes(const char *s, size_t len)
{
	if (len < 1 || len > NAME_LEN_MAX || !is_alnum(s[0]))
		return false;
	for (size_t i = 1; i < len; i++)
		if (!is_alnum(s[i]) && s[i] != '.' && s[i] != '_' && s[i] != '-')
			return false;
	return true;
}

bool name_is_own(const char *s)
{
	return !strncmp(s, NAME_OWN, sizeof(NAME_OWN) - 1);
}

bool name_valid(const char *s)
{
	return name_valid_bytes(s, strnlen(s, NAME_LEN_MAX + 1));
}
