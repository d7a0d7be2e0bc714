/* SPDX-License-Identifier: Apache-2.0 */
/* See records.h. */
#include "agent/records.h"

#include <mesh/alive.h>
#include <mesh/seq.h>
#include <stddef.h>
#include <string.h>

#define SEQ   sizeof(__u32)
#define FLAGS offsetof(struct mesh_endpoint, flags)
#define REST  (FLAGS + sizeof(__u32)) /* of an endpoint: what is behind its flags */

_Static_assert(!offsetof(struct mesh_upstream, seq) && !offsetof(struct mesh_endpoint, seq),
	       "seq first");

/* One that a writer died in is not. */
static bool is_whole(__u32 seq)
{
	return seq && !(seq & 1);
}

static bool differs(const void *dst, const void *src, size_t from, size_t to)
{
	return memcmp((const char *)dst + from, (const char *)src + from, to - from) != 0;
}

static void copy(void *dst, const void *src, size_t from, size_t to)
{
	memcpy((char *)dst + from, (const char *)src + from, to - from);
}

void records_put_upstream(struct mesh_upstream *dst, const struct mesh_upstream *src)
{
	if (is_whole(dst->seq) && !differs(dst, src, SEQ, sizeof(*dst)))
		return;
	mesh_seq_write_begin(&dst->seq);
	copy(dst, src, SEQ, sizeof(*dst));
	mesh_seq_write_end(&dst->seq);
}

void records_change_flags(__u32 *flags, __u32 (*fn)(__u32 old, __u32 image), __u32 image)
{
	__u32 old = __atomic_load_n(flags, __ATOMIC_RELAXED);

	while (!__atomic_compare_exchange_n(flags, &old, fn(old, image), true, __ATOMIC_RELEASE,
					    __ATOMIC_RELAXED))
		;
}

/* Nobody stands on it yet. */
static __u32 first_flags(__u32 old, __u32 image)
{
	(void)old;
	return mesh_alive_write(0, image);
}

void records_put_endpoint(struct mesh_endpoint *dst, const struct mesh_endpoint *src, bool fresh)
{
	bool write = !is_whole(dst->seq) || differs(dst, src, SEQ, FLAGS) ||
		     differs(dst, src, REST, sizeof(*dst));

	if (write) {
		mesh_seq_write_begin(&dst->seq);
		copy(dst, src, SEQ, FLAGS);
		copy(dst, src, REST, sizeof(*dst));
	}
	records_change_flags(&dst->flags, fresh ? first_flags : mesh_alive_write, src->flags);
	if (write)
		mesh_seq_write_end(&dst->seq);
}
