/* SPDX-License-Identifier: Apache-2.0 */
/* What is said on stderr in between. Header only; after cmocka.h. */
#ifndef TESTS_UNIT_SAID_H
#define TESTS_UNIT_SAID_H

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int said_file, said_before;

static inline void said_begin(void)
{
	said_file = memfd_create("said", MFD_CLOEXEC);
	said_before = dup(STDERR_FILENO);
	assert_true(said_file >= 0 && said_before >= 0);
	assert_int_equal(dup2(said_file, STDERR_FILENO), STDERR_FILENO);
}

/* Does it hold that? */
static inline void said_end(const char *part)
{
	char text[4096];
	ssize_t n = pread(said_file, text, sizeof(text) - 1, 0);

	dup2(said_before, STDERR_FILENO);
	close(said_before);
	close(said_file);
	text[n > 0 ? n : 0] = '\0';
	if (!strstr(text, part))
		fail_msg("'%s' is not in '%s'", part, text);
}

#endif
