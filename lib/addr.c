/* SPDX-License-Identifier: Apache-2.0 */
/* See addr.h. */
#include "lib/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t v4_prefix[12] = {[10] = 0xff, [11] = 0xff};

bool addr_is_v4(const uint8_t ip[16])
{
	return !memcmp(ip, v4_prefix, sizeof(v4_prefix));
}

bool addr_is_loopback(const uint8_t ip[16])
{
	return addr_is_v4(ip) ? ip[12] == 127 : !memcmp(ip, &in6addr_loopback, 16);
}

bool addr_is_any(const uint8_t ip[16])
{
	return addr_is_v4(ip) ? !(ip[12] | ip[13] | ip[14] | ip[15])
			      : !memcmp(ip, &in6addr_any, 16);
}

int addr_parse_ip(const char *s, uint8_t ip[16])
{
	char bare[INET6_ADDRSTRLEN];
	size_t len = strlen(s);
	uint8_t v4[4];

	if (inet_pton(AF_INET, s, v4) == 1) {
		memcpy(ip, v4_prefix, sizeof(v4_prefix));
		memcpy(ip + 12, v4, sizeof(v4));
		return 0;
	}
	if (len > 2 && s[0] == '[' && s[len - 1] == ']') {
		s++;
		len -= 2;
	}
	if (len >= sizeof(bare))
		return -EINVAL;
	memcpy(bare, s, len);
	bare[len] = 0;
	return inet_pton(AF_INET6, bare, ip) == 1 ? 0 : -EINVAL;
}

static int parse_port(const char *s, uint16_t *port)
{
	size_t digits = strspn(s, "0123456789");
	long n;

	if (!digits || digits > 5 || s[digits])
		return -EINVAL;
	n = strtol(s, NULL, 10);
	if (n > 65535)
		return -EINVAL;
	*port = (uint16_t)n;
	return 0;
}

int addr_parse(const char *s, struct addr *a)
{
	const char *colon = strrchr(s, ':');
	char host[INET6_ADDRSTRLEN + 2] = "0.0.0.0";
	struct addr parsed;
	size_t len;

	if (colon && colon != s) {
		len = (size_t)(colon - s);
		if (len >= sizeof(host) || (s[0] != '[' && memchr(s, ':', len)))
			return -EINVAL;
		memcpy(host, s, len);
		host[len] = 0;
	}
	if (parse_port(colon ? colon + 1 : s, &parsed.port) || addr_parse_ip(host, parsed.ip))
		return -EINVAL;
	*a = parsed;
	return 0;
}

char *addr_format_ip(const uint8_t ip[16], char *out)
{
	bool v4 = addr_is_v4(ip);

	if (!inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? ip + 12 : ip, out, ADDR_TEXT_MAX))
		out[0] = 0;
	return out;
}

char *addr_format(const struct addr *a, char *out)
{
	char ip[ADDR_TEXT_MAX];
	const char *fmt = addr_is_v4(a->ip) ? "%s:%u" : "[%s]:%u";

	if (snprintf(out, ADDR_TEXT_MAX, fmt, addr_format_ip(a->ip, ip), a->port) >= ADDR_TEXT_MAX)
		out[0] = 0;
	return out;
}

socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
	struct sockaddr_in *in = (struct sockaddr_in *)ss;

	memset(ss, 0, sizeof(*ss));
	if (addr_is_v4(a->ip)) {
		in->sin_family = AF_INET;
		in->sin_port = htons(a->port);
		memcpy(&in->sin_addr, a->ip + 12, 4);
		return sizeof(*in);
	}
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(a->port);
	memcpy(&in6->sin6_addr, a->ip, 16);
	return sizeof(*in6);
}

int addr_from_sockaddr(const struct sockaddr_storage *ss, struct addr *a)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;
	const struct sockaddr_in *in = (const struct sockaddr_in *)ss;

	if (ss->ss_family == AF_INET) {
		memcpy(a->ip, v4_prefix, sizeof(v4_prefix));
		memcpy(a->ip + 12, &in->sin_addr, 4);
		a->port = ntohs(in->sin_port);
		return 0;
	}
	if (ss->ss_family == AF_INET6) {
		memcpy(a->ip, &in6->sin6_addr, 16);
		a->port = ntohs(in6->sin6_port);
		return 0;
	}
	return -EAFNOSUPPORT;
}
