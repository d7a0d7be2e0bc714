/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of agent/kernel share. Included by nobody else. */
#ifndef AGENT_KERNEL_IMPL_H
#define AGENT_KERNEL_IMPL_H

#include "agent/kernel/kernel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/limits.h>
#include <stdarg.h>

enum kernel_map {
	/* the first ones in the order of enum ipc_init_fd; arrays up to KM_ORIGDST */
	KM_CTL,
	KM_UPSTREAMS,
	KM_SLOTS,
	KM_ENDPOINTS,
	KM_EP_STATS,
	KM_EP_INFLIGHT,
	KM_UP_STATS,
	KM_SVC_STATS,
	KM_SVC_INFLIGHT,
	KM_EDGES,
	KM_BEATS,
	KM_ORIGDST,
	KM_WORKLOADS,
	KM_DESTS,
	KM_NETNS,
	KM_LISTENERS,
	KM_EVENTS,
	KM_COUNTERS,
	KM_SERVICES,
	KM_REFUSALS,
	KM_REACH,
	KM_SOCKETS,
	KM_WORKER_TASKS,
	KM_NAMES,
	KM_COVERAGE,
	KM_STRANGERS,
	KM_ESCAPES,
	KM_SPLICE_SOCKS,
	KM_SPLICE_PAIRS,
	KM_SPLICE_ENDS,
	KM_SPLICE_CTL,
	KM_SPLICE_STEER,
	KM_SPLICE_TASKS,
	KM_SPLICE_STYLE,
	KM_ACCEL,
	KM_SPLICERS,
	KM_SPLICED,
	KM_MAPS,
};
#define KM_ARRAYS KM_ORIGDST

/* Attached to the cgroup, in this order, and then the tracepoints. */
enum kernel_link {
	KL_SOCKOPS,
	KL_CONNECT4,
	KL_CONNECT6,
	KL_GETPEERNAME4,
	KL_GETPEERNAME6,
	KL_SET_STATE,
	KL_EXIT,
	KL_NOTICE,
	KL_KILL,
	KL_LINKS,
};
#define KL_CGROUP_LINKS KL_SET_STATE

/* On the map of sockets, which is not a link: splice.c puts them there. */
enum kernel_splice_prog { KS_MSG, KS_VERDICT, KS_PROGS };

struct kernel {
	char cgroup[PATH_MAX];
	char pin_dir[PATH_MAX];
	int cgroup_fd;
	uint64_t cgroup_id;
	int pin_fd; /* pin_dir, locked: it is ours while this is open; -1: not made */
	int map[KM_MAPS];
	int origdst_ro;
	int link[KL_LINKS];
	bool link_is_new[KL_LINKS]; /* and not pinned yet */
	bool adopted;		    /* the maps were an agent's before us */
	bool filling;		    /* what is in pin_dir is ours alone */
	uint32_t prog_id[KL_LINKS];
	int splice[KS_PROGS];
	void *mapped[KM_ARRAYS];
	size_t mapped_len[KM_ARRAYS];
	struct kernel_arrays arrays;
	uint32_t entries[KM_MAPS]; /* of maps that only we write */
	struct counted *counted;   /* counted.c: by agents before us, sorted */
	uint32_t ncounted;
	struct ring_buffer *ring;
	struct loop *loop;
	struct watch watch;
	struct timer rest; /* armed while a round has left some */
	uint32_t taken;	   /* events of this round */
	uint64_t round_end_ns;
	void (*fn)(const struct mesh_event *e, void *arg);
	void *arg;
};

extern const char *const kernel_map_names[KM_MAPS];
extern const char *const kernel_link_names[KL_LINKS];
extern const char *const kernel_splice_names[KS_PROGS];
extern const enum bpf_attach_type kernel_attach_types[KL_CGROUP_LINKS];

/* counted.c: that workload's entry is gone, and begins at 0 if it comes again. */
void kernel_counted_forget(struct kernel *k, uint64_t cgroup);

/* Formats a line into error[] and returns err. */
__attribute__((format(printf, 3, 4))) int kernel_fail(char error[KERNEL_ERROR_MAX], int err,
						      const char *fmt, ...);

/* attach.c: links progs (descriptors in the order of enum kernel_link), filling k->link and
 * k->prog_id. */
int kernel_attach(struct kernel *k, const int prog[KL_LINKS], char error[KERNEL_ERROR_MAX]);

/* adopt.c. Maps: 1 when all that are pinned became the object's, before it is loaded; 0 when there
 * are none, or of another layout; -errno. Link: the pinned one with that program in it, or -ENOENT:
 * there is none that would do. */
int kernel_adopt_maps(struct kernel *k, struct bpf_object *obj);
int kernel_adopt_link(struct kernel *k, enum kernel_link i, int prog);

/* pin.c. Lock: makes the directory if need be; -EBUSY: the agent that has it lives. Aside: what is
 * in it is another version's, or not whole; ours begins empty. kernel_unpin removes everything that
 * kernel_pin makes, and what was put aside. */
#define KERNEL_LINK_PREFIX "link_"
#define KERNEL_OLD_SUFFIX  "-old"
int kernel_mount_bpffs(char error[KERNEL_ERROR_MAX]);
int kernel_pins_lock(struct kernel *k, char error[KERNEL_ERROR_MAX]);
int kernel_pins_aside(struct kernel *k, char error[KERNEL_ERROR_MAX]);
/* A start that failed: as if it had not been. */
void kernel_pins_undo(struct kernel *k);
/* A descriptor of what is pinned as kind + name, or -errno. */
int kernel_pinned(const struct kernel *k, const char *kind, const char *name);
int kernel_pin(struct kernel *k, char error[KERNEL_ERROR_MAX]);
/* What fails to go is left for the next start to report. */
int kernel_unpin(struct kernel *k);
/* That link, in either directory: its program is off its cgroup at once. */
void kernel_pins_detach(struct kernel *k, const char *link);

/* maps.c */
int kernel_map_arrays(struct kernel *k);
void kernel_unmap_arrays(struct kernel *k);
/* Of adopted maps: how many entries there are already. */
void kernel_count_adopted(struct kernel *k);
/* Entries of a hash map, by reading it. */
uint32_t kernel_count_entries(int fd, size_t key_size, size_t value_size);

/* events.c */
void kernel_events_stop(struct kernel *k);

#endif
