/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Events from the kernel to the supervisor, through the ring buffer `events`. One fixed-size record
 * for all kinds; an event that does not fit is counted (MESH_C_EVENTS_LOST) and made good by
 * reconciling with the sockets that exist.
 */
#ifndef MESH_EVENT_H
#define MESH_EVENT_H

#include <mesh/abi.h>

enum mesh_event_kind {
	MESH_EV_LISTEN = 1,   /* a socket in a cgroup under ours began to listen: cookie, cgroup,
				 netns, local */
	MESH_EV_UNLISTEN = 2, /* it stopped: cookie, cgroup, netns, local */
	MESH_EV_CLOSE = 3,    /* a captured client socket closed: upstream, workload, bytes,
				 duration, remote, the endpoint that the kernel chose */
	MESH_EV_SPLICE = 4,   /* a workload calls splice(2) on its socket: cookie, workload, netns,
				 remote, local; error: EIO when bytes are, or may come, where
				 splice(2) does not see them */
};

struct mesh_event {
	__u32 kind;
	__u32 upstream;
	__u32 workload;
	__u32 error;  /* errno-like: 0, or ECONNREFUSED, ECONNRESET, ETIMEDOUT ... of a close */
	__u64 cookie; /* of a close: 0 when nobody has asked for it before */
	union {
		__u64 cgroup;
		struct { /* of a close; MESH_NONE: a worker's to choose */
			__u32 endpoint;
			__u32 endpoint_gen;
		};
	};
	__u64 netns;
	__u64 time_ns;
	__u64 duration_ns; /* of a close: since connect() */
	__u64 connect_ns;  /* of a close: from connect() to established, 0 when it never was */
	__u64 bytes_sent;
	__u64 bytes_received;
	__u8 ip[16];
	__be16 port;
	__u8 v6only; /* 1: a listener on :: that takes no IPv4 */
	__u8 pad[3];
	__be16 local_port; /* with local_ip: of a splice */
	__u8 local_ip[16];
};
_Static_assert(sizeof(struct mesh_event) == 120, "abi");

#endif
