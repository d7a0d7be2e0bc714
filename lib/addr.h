/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses as the mesh keeps them: 16 bytes in network order, IPv4 as ::ffff:a.b.c.d, port in host
 * order. */
#ifndef LIB_ADDR_H
#define LIB_ADDR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDR_TEXT_MAX 56 /* "[ffff:...:ffff]:65535" and NUL */

struct addr {
	uint8_t ip[16];
	uint16_t port;
};

bool addr_is_v4(const uint8_t ip[16]);
bool addr_is_loopback(const uint8_t ip[16]); /* 127/8, ::1 */
bool addr_is_any(const uint8_t ip[16]);	     /* 0.0.0.0, :: */

/* "1.2.3.4", "::1" or "[::1]" into ip[16]. 0 or -EINVAL. No names, no look-up. */
int addr_parse_ip(const char *s, uint8_t ip[16]);
/* "1.2.3.4:80", "[::1]:80"; ":80" and "80" mean 0.0.0.0. 0 or -EINVAL. */
int addr_parse(const char *s, struct addr *a);
/* Into out[ADDR_TEXT_MAX]; returns out. */
char *addr_format_ip(const uint8_t ip[16], char *out);
char *addr_format(const struct addr *a, char *out);

/* To and from the kernel's form. to: v4-mapped becomes AF_INET. Returns the length of *ss. from: 0
 * or -EAFNOSUPPORT. */
socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss);
int addr_from_sockaddr(const struct sockaddr_storage *ss, struct addr *a);

#endif
