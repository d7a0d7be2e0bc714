/* SPDX-License-Identifier: Apache-2.0 */
/* See token.h. */
#include "lib/token.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT(x)	  #x
#define NUMBER(x) TEXT(x)

/* All of a file that is no longer than a token and its line end. Bytes read, or -errno. */
static ssize_t read_plain(int fd, char *text, size_t cap)
{
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
		return -ELOOP;
	if (st.st_size > (off_t)cap)
		return -EINVAL;
	n = read(fd, text, cap);
	return n < 0 ? -errno : n;
}

int token_read(const char *file, char out[TOKEN_MAX + 1])
{
	char text[TOKEN_MAX + 3] = "";
	int fd = open(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	size_t len;
	ssize_t n;

	*out = 0;
	if (fd < 0)
		return -errno;
	n = read_plain(fd, text, sizeof(text) - 1);
	close(fd);
	if (n < 0)
		return (int)n;
	len = strcspn(text, "\r\n");
	if (len < TOKEN_LEAST || len > TOKEN_MAX || len + strspn(text + len, "\r\n") != (size_t)n)
		return -EINVAL;
	for (size_t i = 0; i < len; i++)
		if (text[i] <= ' ' || text[i] > '~')
			return -EINVAL;
	memcpy(out, text, len);
	out[len] = 0;
	return 0;
}

const char *token_error(int err)
{
	return err == -ELOOP	? "it is no regular file of one name (links are not followed)"
	       : err == -EINVAL ? "it is not one line of " NUMBER(TOKEN_LEAST) " to " NUMBER(
					  TOKEN_MAX) " visible characters"
				: strerror(-err);
}
