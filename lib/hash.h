/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash that is the same on every host, in every version and after every restart: the key of a
 * sticky session (mesh/sticky.h), and the identity of an endpoint (mesh_endpoint.hash, its low
 * half). Not for hash tables that strangers fill: there is no secret in it.
 */
#ifndef LIB_HASH_H
#define LIB_HASH_H

#include <mesh/sticky.h>
#include <stddef.h>
#include <stdint.h>

/* FNV-1a (draft-eastlake-fnv), which alone hardly brings the last bytes into the high bits. */
static inline uint64_t hash64(const void *bytes, size_t len)
{
	const unsigned char *p = bytes;
	uint64_t h = 0xcbf29ce484222325ULL;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3ULL;
	return mesh_sticky_mix(h);
}

#endif
