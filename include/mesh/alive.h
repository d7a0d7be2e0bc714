/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Whether an endpoint is alive, in the upper half of its flags: how many listening sockets it
 * stands on. The supervisor says which those are (mesh_listener.endpoint), the kernel takes each
 * away when it stops to listen, and nobody of ours needs to run for that. Whoever is registered by
 * hand has no sockets that we know, and counts as alive.
 *
 * All values in and out, to be stored by compare-and-swap.
 */
#ifndef MESH_ALIVE_H
#define MESH_ALIVE_H

#include <mesh/abi.h>

#define MESH_ALIVE_ONE	 (1u << 16)
#define MESH_ALIVE_LOW	 0xffffu
#define MESH_ALIVE_TRIES 16 /* in the kernel, where loops end */

static inline __u32 mesh_alive_sockets(__u32 flags)
{
	return flags >> 16;
}

/* One socket more. */
static inline __u32 mesh_alive_more(__u32 flags)
{
	if (mesh_alive_sockets(flags) == MESH_ALIVE_LOW)
		return flags;
	return (flags + MESH_ALIVE_ONE) | MESH_EP_ALIVE;
}

/* One less. */
static inline __u32 mesh_alive_less(__u32 flags)
{
	if (mesh_alive_sockets(flags))
		flags -= MESH_ALIVE_ONE;
	return mesh_alive_sockets(flags) ? flags : flags & ~MESH_EP_ALIVE;
}

/* The supervisor writes the other flags; `image` holds in its upper half how many sockets it knows
 * of: a socket that it knows to have gone does not count, whatever became of the kernel's word. */
static inline __u32 mesh_alive_write(__u32 old, __u32 image)
{
	__u32 n = mesh_alive_sockets(old), most = mesh_alive_sockets(image),
	      low = image & MESH_ALIVE_LOW & ~MESH_EP_ALIVE;

	if (image & MESH_EP_EXTERNAL)
		return image;
	n = n < most ? n : most;
	return low | n << 16 | (n ? MESH_EP_ALIVE : 0);
}

#endif
