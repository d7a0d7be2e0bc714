/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the kernel programs, the supervisor and the workers share: map keys and values, and limits.
 * Included by bpf/ (after vmlinux.h) and by user space alike; only fixed-size types, explicit
 * padding, sizes asserted. Addresses are always 16 bytes in network order, IPv4 as ::ffff:a.b.c.d,
 * so that one key serves both families. Ports are in network order where the type says __be16.
 *
 * A change of any layout here raises MESH_ABI_VERSION: maps are pinned and outlive a process.
 */
#ifndef MESH_ABI_H
#define MESH_ABI_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

/* For functions that return a struct: BPF has no calls that do. */
#define MESH_INLINE	   static inline __attribute__((always_inline))

#define MESH_ABI_VERSION   4

#define MESH_MAX_SERVICES  1024	 /* names known on this host */
#define MESH_MAX_UPSTREAMS 2048	 /* (service, port) pairs that can be called */
#define MESH_MAX_ENDPOINTS 4096	 /* one address and port each */
#define MESH_MAX_SUBSETS   4096	 /* (upstream, version) pairs, each with a slot table */
#define MESH_MAX_WORKLOADS 4096	 /* managed cgroups */
#define MESH_MAX_NETNS	   1024	 /* network namespaces with a capture listener */
#define MESH_MAX_DESTS	   65536 /* addresses that are captured */
#define MESH_MAX_ORIGDST   65536 /* captured connections that no worker has accepted yet */
#define MESH_MAX_WAITING                                                                           \
	(MESH_MAX_ORIGDST / 4)	 /* of those that are not established, of one workload */
#define MESH_MAX_LISTENERS 16384 /* listening sockets of workloads */
#define MESH_MAX_REFUSALS  4096	 /* (caller, upstream, reason) with refusals that nobody has read */
#define MESH_MAX_EDGES	   4096	 /* (caller, callee) pairs with requests in flight */
#define MESH_MAX_WORKERS   16
/* The kernel counts as a worker where gauges are kept by worker: of the others there are at most
 * this many, old and new together. */
#define MESH_KERNEL_WORKER (MESH_MAX_WORKERS - 1)
#define MESH_SPLITS	   8   /* weighted subsets of one upstream */
#define MESH_VERSIONS	   16  /* versions of a service that its configuration names, and "all" */
#define MESH_WINDOW	   5   /* buckets of a rolling window */
#define MESH_SLOTS	   256 /* slots of one subset's table */
#define MESH_ID_MAX	   64  /* instance id, NUL included */
#define MESH_NAME_MAX	   64  /* service or version name, NUL included */
#define MESH_NONE	   0xffffffffu
#define MESH_VIRTUAL	   0xfffffffeu /* see mesh_dest */

enum mesh_protocol { MESH_PROTO_AUTO = 0, MESH_PROTO_HTTP = 1, MESH_PROTO_TCP = 2 };
enum mesh_policy { MESH_LB_P2C, MESH_LB_LEAST_REQUEST, MESH_LB_ROUND_ROBIN, MESH_LB_RANDOM };

/* dests: an address that somebody may connect() to. `netns` is the cookie of the namespace for
 * loopback addresses, which exist once in each, and 0 for all others. */
struct mesh_dest_key {
	__u8 ip[16];
	__be16 port;
	__u16 pad[3];
	__u64 netns;
};
_Static_assert(sizeof(struct mesh_dest_key) == 32, "abi");

struct mesh_dest {
	__u32 upstream; /* index into upstreams */
	__u32 workload; /* the workload that listens there, MESH_NONE for none or several,
			   MESH_VIRTUAL: nobody ever does, it is an address of the service */
};
_Static_assert(sizeof(struct mesh_dest) == 8, "abi");

/* workloads: by cgroup id (inode of the cgroup2 directory). */
struct mesh_workload {
	__u32 id;      /* the supervisor's index; what events and records carry */
	__u32 service; /* MESH_NONE: a pure caller */
	__u64 netns;   /* cookie of its network namespace */
	__u8 ip[16];   /* what others see it as; all zero: not known */
};
_Static_assert(sizeof(struct mesh_workload) == 32, "abi");

/* netns: by cookie: the capture listeners there. A cookie of 0 means there is none of that family.
 * The hook compares cookies, so that nobody else's socket on the same port is ever taken for ours.
 */
struct mesh_netns {
	__u64 listener4;
	__u64 listener6;
	__be16 port;
	__u16 pad[3];
};
_Static_assert(sizeof(struct mesh_netns) == 24, "abi");

/* origdst: what a captured connection was meant for, by the client's side of the tuple. Written by
 * sockops at TCP_CONNECT_CB, before the SYN leaves; read by the worker after accept(); removed when
 * the worker's side of the connection ends, accepted or not (a client may be gone long before the
 * worker comes to accept), or when the client's ends without ever having been established. LRU:
 * what slips through both costs nothing, and is overwritten when its port is used again. */
struct mesh_origdst_key {
	__u64 netns;
	__u8 ip[16];
	__be16 port;
	__u16 pad[3];
};
_Static_assert(sizeof(struct mesh_origdst_key) == 32, "abi");

struct mesh_origdst {
	__u8 ip[16];
	__be16 port;
	__u16 pad;
	__u32 upstream;
	__u32 workload;	    /* the caller */
	__u32 service;	    /* the caller's, MESH_NONE: a pure caller */
	__u64 netns;	    /* the caller's */
	__u64 time_ns;	    /* CLOCK_MONOTONIC of connect() */
	__u8 caller_ip[16]; /* as in struct mesh_workload; the tuple shows loopback */
};
_Static_assert(sizeof(struct mesh_origdst) == 64, "abi");

/* listeners: by socket cookie: what must be told when it goes. */
struct mesh_listener {
	__u64 cgroup;
	__u64 netns;
	__u8 ip[16];
	__be16 port;
	__u8 v6only; /* 1: on ::, and takes no IPv4 */
	__u8 pad[5];
	__u32 endpoint; /* that stands on it, index + 1; 0: not known yet. The supervisor's */
	__u32 gen;	/* of that endpoint */
};
_Static_assert(sizeof(struct mesh_listener) == 48, "abi");

/*
 * Arrays below are BPF_F_MMAPABLE. "Steers": written by the supervisor alone, mapped read-only by
 * workers. "Counts": single 64-bit words that workers and the kernel change by compare-and-swap.
 */

/* upstreams (steers): a service's port as something to call. Split weights add up to 65536 (or
 * nsplit is 0: no endpoints); a draw of 16 bits picks the subset, MESH_NONE: nobody serves it, and
 * the service wants no other instead. version[]: the subset of each version by its number,
 * MESH_NONE: nobody serves it. Number 0 is everybody; the others are those of the service's
 * versions in the snapshot, and a number never comes to mean another version while a snapshot that
 * knows it is in force. */
struct mesh_upstream {
	__u32 seq; /* odd while being written, see mesh_seq_* in seq.h */
	__u32 service;
	__u8 protocol; /* enum mesh_protocol, as declared */
	__u8 policy;   /* enum mesh_policy */
	__be16 port;
	__u32 nsplit;
	struct {
		__u32 subset;
		__u32 upto; /* cumulative weight; the last one is 65536 */
	} split[MESH_SPLITS];
	__u32 version[MESH_VERSIONS];
	__u32 primary; /* 1: leads to the primary ports, whatever they are */
	__u8 pad[44];
};
_Static_assert(sizeof(struct mesh_upstream) == 192, "abi");

/* slots (steers): the slot table of a subset. Entries beyond the number of endpoints repeat them,
 * in proportion to weight / latency, or in turn (slots.h). All MESH_SLOTS entries are filled unless
 * n is 0: nobody to call. n: how many of them make whole turns, for round robin. A slot is one
 * 16-bit store: readers need no lock, at worst they see the previous endpoint. */
struct mesh_slots {
	__u32 n;
	__u16 nendpoints; /* different endpoints in it */
	__u16 panic; /* most of the subset is out: all that may be called are in it, and count as
			well */
	__u16 ep[MESH_SLOTS];
};
_Static_assert(sizeof(struct mesh_slots) == 520, "abi");

/* services (steers): by service id, what the kernel itself has to know of a service's
 * configuration. Written by system call: nobody maps them. A reader may see a mix of two for the
 * moment of a write. All zero: not in use. */
enum mesh_service_flags {
	MESH_SVC_USED = 1,
	MESH_SVC_FAIL_CLOSED = 2,  /* refuse what cannot be served */
	MESH_SVC_ACCEL_OFF = 4,	   /* never enrolled in the sockhash */
	MESH_SVC_ACCEL_ON = 8,	   /* whatever was measured, of whom can bear it */
	MESH_SVC_NO_FALLBACK = 16, /* what falls to a version that nobody serves fails */
};
/* Policy of the breaker of a service and of its endpoints; breaker.h says how it is applied. */
struct mesh_breaker_policy {
	__u32 error_pm; /* hundredths of a percent; 5000: half */
	__u32 min_requests;
	__u32 window_ms;
	__u32 open_ms;	   /* at least 1 */
	__u32 half_open;   /* 1 to 255; what is outside counts as the nearest of these */
	__u32 consecutive; /* 0: does not count */
	__u32 max_ejected; /* percent of a service's endpoints */
	__u32 probe_ms;	   /* length of a round, at least 1; longer than a request may take */
};
struct mesh_service {
	__u32 flags;	       /* enum mesh_service_flags */
	__u32 max_connections; /* 0: no limit */
	__u32 connect_ms; /* a connect() given up after that long counts as failed; 0: none does */
	__u32 pad;
	struct mesh_breaker_policy breaker;
	__u64 reserved[10];
};
_Static_assert(sizeof(struct mesh_service) == 128, "abi");

/* names: by service id: what ids and numbers of versions mean, for the next supervisor. Written
 * before anything that goes by them. */
struct mesh_names {
	char service[MESH_NAME_MAX];
	char version[MESH_VERSIONS - 1][MESH_NAME_MAX]; /* of numbers from 1 on; "": none */
};
_Static_assert(sizeof(struct mesh_names) == 1024, "abi");

/* endpoints (steers). An index is not given to another endpoint for some seconds after its end.
 * `flags` is a word of its own, outside of `seq`: the kernel clears MESH_EP_ALIVE in it, when the
 * last of the sockets that it stands on stops to listen. How many there are is in the upper half;
 * alive.h is how the word is changed. */
enum mesh_endpoint_flags {
	MESH_EP_USED = 1,
	MESH_EP_ALIVE = 2,	/* it listens, as far as the kernel knows */
	MESH_EP_LOOPBACK = 4,	/* reachable only from within its own namespace */
	MESH_EP_EXTERNAL = 8,	/* registered by hand, not discovered */
	MESH_EP_WILDCARD = 16,	/* listens on all addresses of its namespace, loopback included */
	MESH_EP_UNHEALTHY = 32, /* its health checks fail: no slots, and no pooled connections */
	MESH_EP_DRAINING = 64,	/* no new requests; running ones finish */
};
struct mesh_endpoint {
	__u32 seq; /* odd while being written */
	__u32 gen; /* changes when the index is given to another endpoint */
	__u8 ip[16];
	__u32 flags; /* enum mesh_endpoint_flags */
	__u32 service;
	__u32 workload; /* MESH_NONE when external */
	__u32 hash;	/* of id: the same on every host and after every restart */
	__u64 netns; /* cookie of its namespace; external: of the agent's for its loopback, else 0
		      */
	char id[MESH_ID_MAX]; /* instance id, for x-instance-id; NUL-terminated */
	char version[MESH_NAME_MAX];
	__u32 weight; /* 1 to 1000, usually 100 */
	__be16 port;
	__u8 pad[10];
};
_Static_assert(sizeof(struct mesh_endpoint) == 192, "abi");

/* ep_stats (counts): per endpoint, same index. Tries are counted, not requests: a retry must not
 * hide a bad endpoint. The supervisor trips the breaker (it alone knows how many of the others are
 * out), workers and kernel take its probes. */
struct mesh_ep_stat {
	__u64 ewma;		   /* ewma.h */
	__u64 breaker;		   /* breaker.h: not closed means ejected */
	__u64 consecutive;	   /* failures in a row */
	__u64 window[MESH_WINDOW]; /* window.h */
};
_Static_assert(sizeof(struct mesh_ep_stat) == 64, "abi");

/* ep_inflight (counts): per endpoint, one gauge per worker. A worker writes its own only; the
 * supervisor zeroes the gauges of a worker that died. That of MESH_KERNEL_WORKER is the kernel's:
 * connections that it sent there and that are open. */
struct mesh_ep_inflight {
	__u32 worker[MESH_MAX_WORKERS];
};
_Static_assert(sizeof(struct mesh_ep_inflight) == 64, "abi");

/* up_stats (counts): per upstream. */
struct mesh_up_stat {
	__u64 cursor;  /* round robin */
	__u64 learned; /* enum mesh_learned: what an `auto` port turned out to speak */
	__u64 reserved[6];
};
_Static_assert(sizeof(struct mesh_up_stat) == 64, "abi");
enum mesh_learned { MESH_LEARNED_NOTHING = 0, MESH_LEARNED_HTTP = 1, MESH_LEARNED_TCP = 2 };

/* svc_stats (counts): per service. Requests as their callers see them; the mesh's own refusals are
 * not among them. */
struct mesh_svc_stat {
	__u64 breaker;		   /* breaker.h */
	__u64 window[MESH_WINDOW]; /* window.h */
	__u64 budget;		   /* budget.h */
	__u64 went[3];		   /* how often the breaker went to each enum mesh_breaker_state */
	__u64 reserved[6];
};
_Static_assert(sizeof(struct mesh_svc_stat) == 128, "abi");

/* svc_inflight (counts): per service, gauges of each worker, as in ep_inflight. */
struct mesh_svc_gauges {
	__u32 requests;
	__u32 connections; /* to its endpoints, pooled ones included */
	__u32 pending;	   /* requests that wait for a connection */
	__u32 seats;	   /* requests that have a connection or wait, while there is a limit */
};
struct mesh_svc_inflight {
	struct mesh_svc_gauges worker[MESH_MAX_WORKERS];
};
_Static_assert(sizeof(struct mesh_svc_inflight) == 256, "abi");

/* edges (counts): requests in flight of one caller to one callee, open addressing by key; edge.h
 * says how an entry is found, claimed and, by the supervisor, freed again. Key: caller + 1 in the
 * high half, callee's service in the low half; the caller is its service, for a pure caller its
 * workload | MESH_EDGE_WORKLOAD, for the gateway MESH_EDGE_GATEWAY. */
#define MESH_EDGE_WORKLOAD 0x80000000u
#define MESH_EDGE_GATEWAY  0x7ffffffeu
struct mesh_edge {
	__u64 key;
	__u64 reserved;
	__u32 worker[MESH_MAX_WORKERS];
};
_Static_assert(sizeof(struct mesh_edge) == 80, "abi");

/* refusals: connects that the kernel itself refused, since the supervisor has last read them. */
enum mesh_refusal {
	MESH_REFUSED_BREAKER = 1, /* the service's breaker is open */
	MESH_REFUSED_BULKHEAD,	  /* it has as many connections as it may */
	MESH_REFUSED_NO_ENDPOINT, /* nobody serves it, and it fails closed or the address is
				     nobody's */
	MESH_REFUSALS,
};
struct mesh_refusal_key {
	__u32 workload, upstream;
	__u32 reason; /* enum mesh_refusal */
	__u32 pad;
};
_Static_assert(sizeof(struct mesh_refusal_key) == 16, "abi");

/* beats (counts): one element: when each worker last came round in its loop, CLOCK_MONOTONIC ns, 0:
 * it does not run, or accepts nothing any more. A worker writes its own, by
 * compare-and-swap of what it wrote last (0 at first); the kernel writes 0 when the worker is sent
 * SIGKILL, and when its process begins to end. */
struct mesh_beats {
	__u64 worker[MESH_MAX_WORKERS];
};
_Static_assert(sizeof(struct mesh_beats) == 128, "abi");

/* ctl (steers): one element. */
struct mesh_ctl {
	__u32 abi;
	__u32 workers;
	__u64 agent_cgroup; /* that the agent itself runs in */
	__u64 splice_ns; /* CLOCK_MONOTONIC since when connections may skip TCP; 0: they may not */
	/* 1, and for good: there may be connections that have two queues, one of redirected bytes
	 * and one of TCP's. Such a socket need not raise an edge for the second, so that less than
	 * asked for does not mean drained. */
	__u32 splice_bare;
	__u32 pad;
	__u64 reserved[4];
};
_Static_assert(sizeof(struct mesh_ctl) == 64, "abi");

/* counters: per CPU, indexed by this. */
enum mesh_counter {
	MESH_C_CAPTURED,    /* connect() sent to a worker */
	MESH_C_KERNEL,	    /* endpoint chosen in the kernel */
	MESH_C_PASSED,	    /* a workload's connect() left alone: not a destination of ours */
	MESH_C_REFUSED,	    /* refused in the hook */
	MESH_C_PASSED_SELF, /* a workload calling itself */
	MESH_C_PASSED_NO_LISTENER, /* failed open: no worker listens in that namespace */
	MESH_C_PASSED_STALE,	   /* failed open: no worker's beat is fresh */
	MESH_C_PASSED_DEVICE,	   /* bound to a device, cannot be sent to loopback */
	MESH_C_ORIGDST_LOST,	   /* the origdst map took no entry; that connection is reset */
	MESH_C_LISTENERS_FULL,	   /* reconciling will find the listener */
	MESH_C_EVENTS_LOST,	   /* ring buffer full */
	MESH_C_CLOSED,		   /* captured sockets closed */
	MESH_C_PASSED_NO_STORAGE,  /* failed open: no memory for what was asked for */
	MESH_C_PASSED_NO_ENDPOINT, /* a TCP service that nobody serves */
	MESH_C_REFUSED_LOST,	   /* refused, but not told whose: the map for that is full */
	MESH_C_SPLICE_FULL,	   /* not enrolled: no room or no memory */
	MESH_C_PASSED_PROTOCOL,	   /* MPTCP */
	MESH_C_STRANGER,	   /* nobody's connect() to what a workload offers */
	MESH_C_COVERAGE_LOST,	   /* a workload's connect() that has no place in `coverage` */
	MESH_C_RESOLVED,	   /* no worker: a virtual address, sent to an endpoint */
	MESH_C_PASSED_CROWDED,	   /* failed open: too many of that workload wait for a worker */
	MESH_C_MAX,
};

/* A worker writes its beat at least every MESH_BEAT_MS while it accepts; the hook sends nobody to
 * workers of which none has written for MESH_BEAT_MAX_NS. */
#define MESH_BEAT_MS	 100
#define MESH_BEAT_MAX_NS 500000000ULL

/*
 * Proof that the hook runs: a TCP connect() to this address and port (192.0.0.8 is the IPv4 dummy
 * address of RFC 7600, which nobody routes) from any cgroup under the attached one fails at once
 * with MESH_PROBE_UNKNOWN, or with MESH_PROBE_MANAGED when the caller is a workload that the kernel
 * knows. Without the hook it never gives either.
 */
#define MESH_PROBE_IP4	   0xc0000008 /* host order */
#define MESH_PROBE_PORT	   15009
#define MESH_PROBE_UNKNOWN 125 /* ECANCELED */
#define MESH_PROBE_MANAGED 120 /* EISNAM */

#endif
