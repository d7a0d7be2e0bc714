/* SPDX-License-Identifier: Apache-2.0 */
/* See auth.h. */
#include "ctl/meshd/auth.h"
#include "lib/addr.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static int token_create(const char *file, gid_t gid)
{
	unsigned char raw[32];
	char text[2 * sizeof(raw) + 2];
	ssize_t n;
	int r = 0, fd;

	if (getrandom(raw, sizeof(raw), 0) != sizeof(raw))
		return -EIO;
	for (size_t i = 0; i < sizeof(raw); i++)
		snprintf(text + 2 * i, 3, "%02x", raw[i]);
	strcat(text, "\n");
	fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (gid != (gid_t)-1 && fchown(fd, (uid_t)-1, gid) < 0)
		r = -errno;
	else if (fchmod(fd, 0640) < 0)
		r = -errno;
	else if ((n = write(fd, text, sizeof(text) - 1)) != sizeof(text) - 1)
		r = n < 0 ? -errno : -ENOSPC;
	else if (fsync(fd) < 0)
		r = -errno;
	close(fd);
	if (r)
		unlink(file);
	return r;
}

int auth_token_load(struct auth *a, const char *dir, gid_t gid, char *why, size_t cap)
{
	char file[4096];
	int r;

	snprintf(file, sizeof(file), "%s/token", dir);
	r = token_read(file, a->token);
	if (r == -ENOENT) {
		r = token_create(file, gid);
		if (!r)
			r = token_read(file, a->token);
	}
	if (r)
		snprintf(why, cap, "cannot use %s: %s%s", file, token_error(r),
			 r == -EINVAL || r == -ELOOP ? "; remove it to get a new one" : "");
	return r;
}

/* Takes as long for every candidate of the same length, wherever it differs. */
static bool same_secret(const char *secret, const char *given)
{
	size_t n = strlen(secret), m = strlen(given);
	unsigned char diff = n != m;

	for (size_t i = 0; i < m; i++)
		diff |= (unsigned char)(secret[n ? i % n : 0] ^ given[i]);
	return !diff && n;
}

static bool token_matches(const struct auth *a, const char *authorization)
{
	static const char scheme[] = "Bearer ";

	if (!authorization || strncasecmp(authorization, scheme, sizeof(scheme) - 1))
		return false;
	authorization += sizeof(scheme) - 1;
	return same_secret(a->token, authorization + strspn(authorization, " "));
}

/* The name in a Host header, without port and brackets, into out. False when it is malformed. */
static bool host_name(const char *host, char *out, size_t cap)
{
	const char *end = host[0] == '[' ? strchr(host, ']') : host + strcspn(host, ":");
	const char *begin = host + (host[0] == '[');
	const char *rest = end + (end && *end == ']');

	if (!end || end == begin || (size_t)(end - begin) >= cap)
		return false;
	if (*rest && (*rest != ':' || !rest[1] || rest[1 + strspn(rest + 1, "0123456789")]))
		return false;
	memcpy(out, begin, (size_t)(end - begin));
	out[end - begin] = '\0';
	return true;
}

static bool in_list(const char *list, const char *word)
{
	size_t len = strlen(word), n;

	for (; list && *list; list += n + (list[n] == ',')) {
		n = strcspn(list, ",");
		if (n == len && !strncasecmp(list, word, len))
			return true;
	}
	return false;
}

/* A page that reached us under a name of its own (rebinding) says that name: only names which
 * nobody else can give themselves are taken. */
static bool host_allowed(const struct auth *a, const char *host)
{
	char name[256];
	uint8_t ip[16];

	if (!host_name(host, name, sizeof(name)))
		return false;
	return !strcasecmp(name, "localhost") || addr_parse_ip(name, ip) == 0 ||
	       in_list(a->allow_hosts, name);
}

static bool origin_matches(const char *origin, const char *host)
{
	static const char http[] = "http://";

	return !strncasecmp(origin, http, sizeof(http) - 1) &&
	       !strcasecmp(origin + sizeof(http) - 1, host);
}

/* Does a browser ask on behalf of a page that is not ours? It could not read the answer, but it
 * would have meshd work, and hold taps. Of a plain GET (an image, a form) browsers tell the origin
 * in Sec-Fetch-Site only; other clients send neither. */
static bool of_foreign_page(const struct auth_facts *f)
{
	if (f->origin && (!f->host || !origin_matches(f->origin, f->host)))
		return true;
	return f->site && strcasecmp(f->site, "same-origin") && strcasecmp(f->site, "none");
}

unsigned auth_judge(const struct auth *a, const struct auth_facts *f, const char **why)
{
	if (f->local)
		return 0;
	if (f->host && !host_allowed(a, f->host)) {
		*why = "this Host is not served: use an address, localhost, or a name given by "
		       "--allow-host";
		return 403;
	}
	if ((f->write || !f->page) && of_foreign_page(f)) {
		*why = "requests from pages of another origin are not accepted";
		return 403;
	}
	if (!f->write)
		return 0;
	if ((a->insecure_writes && f->peer_loopback) || token_matches(a, f->authorization))
		return 0;
	*why = "a write needs the token (Authorization: Bearer ...; see the file token in meshd's "
	       "state directory) "
	       "or the unix socket";
	return 401;
}
