/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the token that allows to write to meshd: meshd itself, the supervisor and meshctl, the last
 * two often as root. The directory belongs to meshd's user, who must not be able to have root read
 * another file and send it away, nor wait for ever.
 */
#ifndef LIB_TOKEN_H
#define LIB_TOKEN_H

#define TOKEN_DEFAULT_FILE "/var/lib/mesh/token"
#define TOKEN_LEAST	   16
#define TOKEN_MAX	   128

/*
 * The token in the file, without the line end. Opens neither links nor pipes, and waits for nobody.
 * 0; -ELOOP: no regular file of one name; -EINVAL: not one line of TOKEN_LEAST to TOKEN_MAX visible
 * ASCII characters; else -errno. out is "" then.
 */
int token_read(const char *file, char out[TOKEN_MAX + 1]);
/* What such an error means, for people: "it is ..." or "No such file or directory". */
const char *token_error(int err);

#endif
