/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mesh's part in the kernel, as the supervisor sees it: check what this kernel can do, load and
 * attach the programs, fill the maps, read what comes back. The only header of agent/kernel that
 * others include besides sockdiag.h; libbpf is not visible through it. Not thread-safe; one owner.
 * Every function returns 0 or -errno unless it says otherwise.
 */
#ifndef AGENT_KERNEL_KERNEL_H
#define AGENT_KERNEL_KERNEL_H

#include "lib/loop.h"

#include <mesh/abi.h>
#include <mesh/coverage.h>
#include <mesh/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KERNEL_PIN_DIR	 "/sys/fs/bpf/sockmesh"
#define KERNEL_CHECKS	 16
#define KERNEL_ERROR_MAX 256

/* --- qualify.c: without loading anything of ours --- */

struct kernel_check {
	const char *name; /* "privileges", "BTF", "cgroup2", ... */
	bool ok;
	char missing[96];   /* what is not there; "" when ok */
	const char *remedy; /* what to do about it; "" when ok */
};

/* Fills out[KERNEL_CHECKS], in the order in which things are needed; returns how many. `cgroup`:
 * the directory to attach to, NULL for the cgroup2 root. Changes nothing, attaches nothing. */
size_t kernel_qualify(const char *cgroup, struct kernel_check out[KERNEL_CHECKS]);

/* --- load.c, attach.c, pin.c --- */

struct kernel_config {
	const char *cgroup;  /* NULL: the cgroup2 root */
	const char *pin_dir; /* NULL: KERNEL_PIN_DIR; must lie on a bpffs, which is mounted at
				/sys/fs/bpf if missing */
};

struct kernel;

/*
 * Loads the programs, attaches them to the cgroup, pins links and maps in pin_dir, and then proves
 * that they are effective: the kernel lists them as such for the cgroup, and a connect() from a
 * child cgroup made for that purpose meets the hook. Maps that an agent left there are adopted with
 * all that is in them if their layout and ABI version are ours (kernel_adopted), its links get our
 * programs at once; -EBUSY when that agent is alive. Those of another version stay attached until
 * kernel_settled() and kernel_sweep(). Until the maps are filled and workers write their beats,
 * every connection passes untouched.
 *
 * LISTEN events flow from here on, so sockets that are older are found by a scan made after this
 * call (sockdiag.h) without a gap. On failure nothing is left behind that was not there, and
 * error[] says in one line what is missing and what to do.
 */
int kernel_open(const struct kernel_config *cfg, struct kernel **out, char error[KERNEL_ERROR_MAX]);

/* Loads our programs with maps of their own, and drops them again: 0 when kernel_open() would not
 * fail for that. */
int kernel_try(char error[KERNEL_ERROR_MAX]);

/* Detaches, removes the pins, frees, sets *k to NULL. NULL inside is harmless. */
void kernel_close(struct kernel **k);
/* The same, but programs, maps and pins stay in force: workers that serve on need them, and the
 * next agent takes them over. */
void kernel_leave(struct kernel **k);

/*
 * Removes what an agent that is gone has left: first nothing more is captured, then `between` is
 * called (once, in any case), then everything goes. *spliced: connections whose sockets keep their
 * programs until they close. 0; -ENOENT: there was nothing; -EBUSY: that agent lives; -errno, with
 * one line in error[] but for -ENOENT.
 */
int kernel_remove(const char *pin_dir, void (*between)(void *arg), void *arg, uint32_t *spliced,
		  char error[KERNEL_ERROR_MAX]);

/* The maps were those of an agent that is gone: arrays and entries are what it wrote, and what its
 * workers, if they live, go by. */
bool kernel_adopted(const struct kernel *k);
/* The maps are filled: what another version has left captures nothing any more. The rest of it
 * stays for those who have passed its hook and not sent their SYN yet. */
void kernel_settled(struct kernel *k);
/* KERNEL_PASSED_HOOK_MS later: the rest goes, too. 0 or -errno. */
int kernel_sweep(struct kernel *k);
/* Whoever passed a hook before it went is in a listener's queue by then. */
#define KERNEL_PASSED_HOOK_MS 150
/* What is in the maps. Entries that come or go meanwhile may be missed; fn may delete the one that
 * it is given. Keys and values as of abi.h. 0 or -errno. */
int kernel_each_dest(struct kernel *k, void (*fn)(const void *key, const void *value, void *arg),
		     void *arg);
int kernel_each_workload(struct kernel *k,
			 void (*fn)(const void *key, const void *value, void *arg), void *arg);
int kernel_each_netns(struct kernel *k, void (*fn)(const void *key, const void *value, void *arg),
		      void *arg);

/* The directory that is attached to, and its id. */
const char *kernel_cgroup(const struct kernel *k);

/* Runs the proof again. 0, or -EPERM-like errno with one line in error[]. Forks; takes about a
 * millisecond. */
int kernel_verify(struct kernel *k, char error[KERNEL_ERROR_MAX]);
/* Whether the hooks run for this process, too: its cgroup is below the one that is attached to. */
bool kernel_sees_us(void);

/* --- maps.c --- */

/* The shared arrays, mapped read-write for as long as the kernel is open. Unless adopted all zero
 * at first, but for ctl->abi. */
struct kernel_arrays {
	struct mesh_ctl *ctl;
	struct mesh_upstream *upstreams;	/* [MESH_MAX_UPSTREAMS] */
	struct mesh_endpoint *endpoints;	/* [MESH_MAX_ENDPOINTS] */
	struct mesh_ep_stat *ep_stats;		/* [MESH_MAX_ENDPOINTS] */
	struct mesh_ep_inflight *ep_inflight;	/* [MESH_MAX_ENDPOINTS] */
	struct mesh_up_stat *up_stats;		/* [MESH_MAX_UPSTREAMS] */
	struct mesh_svc_stat *svc_stats;	/* [MESH_MAX_SERVICES] */
	struct mesh_svc_inflight *svc_inflight; /* [MESH_MAX_SERVICES] */
	struct mesh_edge *edges;		/* [MESH_MAX_EDGES] */
	struct mesh_beats *beats;
};
const struct kernel_arrays *kernel_arrays(struct kernel *k);

/* The process (which does not beat yet) is worker `worker`: at its end the kernel clears its beat.
 */
int kernel_worker_started(struct kernel *k, int pidfd, uint32_t worker);

/* A slot table. By system call: all of them, mapped, would be a seventh of the supervisor's memory.
 */
int kernel_slots_set(struct kernel *k, uint32_t subset, const struct mesh_slots *t);
/* What the kernel knows of a service; likewise. */
int kernel_service_set(struct kernel *k, uint32_t service, const struct mesh_service *s);

/* What an id means, for the next agent. Get: -ENOENT when nobody said. */
int kernel_names_set(struct kernel *k, uint32_t service, const struct mesh_names *n);
int kernel_names_get(struct kernel *k, uint32_t service, struct mesh_names *n);

/* Set: inserts or replaces; -E2BIG when the map is full. Delete: -ENOENT when it is not there. */
int kernel_workload_set(struct kernel *k, uint64_t cgroup, const struct mesh_workload *w);
int kernel_workload_delete(struct kernel *k, uint64_t cgroup);
int kernel_dest_set(struct kernel *k, const struct mesh_dest_key *key, const struct mesh_dest *d);
/* -ENOENT: nothing is captured there. */
int kernel_dest_get(struct kernel *k, const struct mesh_dest_key *key, struct mesh_dest *d);
int kernel_dest_delete(struct kernel *k, const struct mesh_dest_key *key);
int kernel_netns_set(struct kernel *k, uint64_t cookie, const struct mesh_netns *n);
int kernel_netns_delete(struct kernel *k, uint64_t cookie);

/* A listener that the kernel's event did not report (older, or lost): from now on its end is
 * reported. -EEXIST when it is known already. If it closed before this call, no event will tell:
 * the next scan does, and then it is to be deleted here. */
int kernel_listener_add(struct kernel *k, uint64_t cookie, const struct mesh_listener *l);
int kernel_listener_delete(struct kernel *k, uint64_t cookie);
/* Which endpoint stands on that socket; MESH_NONE: none. *was: as before (MESH_NONE, 0), to be
 * taken into account. 0; -EALREADY: nothing changed; -ENOENT: it does not listen any more; -E2BIG:
 * it is not known, as the map was full once: only a scan sees its end. */
int kernel_listener_stand(struct kernel *k, uint64_t cookie, uint32_t endpoint, uint32_t gen,
			  uint32_t *was, uint32_t *was_gen);

/* What became of the connect() calls of a workload. -ENOENT when it is none. */
int kernel_coverage(struct kernel *k, uint64_t cgroup, struct mesh_coverage *out);
/* What was counted up to now, by an agent before us, is not in it from here on. -ENOMEM: it is. */
int kernel_coverage_reset(struct kernel *k);
/* Each cgroup that is no workload and connected to what a workload offers; an entry may come twice
 * when others go meanwhile. 0 or -errno. */
int kernel_strangers(struct kernel *k,
		     void (*fn)(uint64_t cgroup, const struct mesh_stranger *s, void *arg),
		     void *arg);

/* What the kernel itself has refused since the last call: n connects for each caller, upstream and
 * reason, which are forgotten then. One that is being counted at that very moment may be lost;
 * MESH_C_REFUSED has it. 0 or -errno. */
int kernel_refusals(struct kernel *k,
		    void (*fn)(const struct mesh_refusal_key *key, uint64_t n, void *arg),
		    void *arg);

/* Sums over the CPUs, by enum mesh_counter. */
int kernel_counters(struct kernel *k, uint64_t out[MESH_C_MAX]);
/* "captured", "passed", ...; NULL beyond MESH_C_MAX. */
const char *kernel_counter_name(unsigned counter);

/* How full the maps with entries are, for mesh_bpf_map_entries. Returns the number filled in, at
 * most cap. Entries that the kernel writes are counted by reading the map: a few ms when it is
 * full. */
struct kernel_map_use {
	const char *name;
	uint32_t entries, max_entries;
};
size_t kernel_map_use(struct kernel *k, struct kernel_map_use *out, size_t cap);

/* The descriptors that a worker gets, in the order of enum ipc_init_fd up to and with
 * IPC_FD_ORIGDST: the arrays (read-write as
 * mmap needs it; the worker maps what steers PROT_READ, and closes them), origdst (read-only:
 * look-ups only). They stay the kernel's. */
#define KERNEL_WORKER_FDS 12
void kernel_worker_fds(const struct kernel *k, int out[KERNEL_WORKER_FDS]);
/* What tells these maps from all others that live: the kernel's id of the first. */
uint32_t kernel_maps_id(const struct kernel *k);

/* --- events.c --- */

/* Delivers events from the loop until kernel_close(). fn must not call kernel_close(). LISTEN and
 * UNLISTEN arrive at once; CLOSE does not wake anybody up, so kernel_events_drain() is to be called
 * from a timer every 100 ms or so. */
int kernel_events_start(struct kernel *k, struct loop *l,
			void (*fn)(const struct mesh_event *e, void *arg), void *arg);
/* Delivers what is there, at most what a round of the loop has time for (20 ms); the rest follows
 * by itself. Returns the number of events or -errno. */
int kernel_events_drain(struct kernel *k);

#endif
