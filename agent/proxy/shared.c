/* SPDX-License-Identifier: Apache-2.0 */
/* See shared.h. */
#include "agent/proxy/shared.h"
#include "agent/ipc.h"

#include <errno.h>
#include <linux/bpf.h>
#include <mesh/ewma.h>
#include <mesh/seq.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int map_array(int fd, size_t n, size_t value, int prot, void *out)
{
	void *at = mmap(NULL, n * ((value + 7) / 8 * 8), prot, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED)
		return -errno;
	*(void **)out = at;
	return 0;
}

int shared_map(struct shared *s, const int *fds)
{
	const int ro = PROT_READ, rw = PROT_READ | PROT_WRITE;
	const struct {
		void *out;
		size_t n, value;
		int fd, prot;
	} arrays[] = {
		{&s->ctl, 1, sizeof(*s->ctl), IPC_FD_CTL, ro},
		{&s->upstreams, MESH_MAX_UPSTREAMS, sizeof(*s->upstreams), IPC_FD_UPSTREAMS, ro},
		{&s->slots, MESH_MAX_SUBSETS, sizeof(*s->slots), IPC_FD_SLOTS, ro},
		{&s->endpoints, MESH_MAX_ENDPOINTS, sizeof(*s->endpoints), IPC_FD_ENDPOINTS, ro},
		{&s->ep_stats, MESH_MAX_ENDPOINTS, sizeof(*s->ep_stats), IPC_FD_EP_STATS, rw},
		{&s->ep_inflight, MESH_MAX_ENDPOINTS, sizeof(*s->ep_inflight), IPC_FD_EP_INFLIGHT,
		 rw},
		{&s->up_stats, MESH_MAX_UPSTREAMS, sizeof(*s->up_stats), IPC_FD_UP_STATS, rw},
		{&s->svc_stats, MESH_MAX_SERVICES, sizeof(*s->svc_stats), IPC_FD_SVC_STATS, rw},
		{&s->svc_inflight, MESH_MAX_SERVICES, sizeof(*s->svc_inflight), IPC_FD_SVC_INFLIGHT,
		 rw},
		{&s->edges, MESH_MAX_EDGES, sizeof(*s->edges), IPC_FD_EDGES, rw},
		{&s->beats, 1, sizeof(*s->beats), IPC_FD_BEATS, rw},
	};
	int r = 0;

	for (size_t i = 0; !r && i < sizeof(arrays) / sizeof(arrays[0]); i++) {
		r = map_array(fds[arrays[i].fd], arrays[i].n, arrays[i].value, arrays[i].prot,
			      arrays[i].out);
		close(fds[arrays[i].fd]);
	}
	s->origdst_fd = fds[IPC_FD_ORIGDST];
	return r;
}

bool shared_upstream(const struct shared *s, uint32_t id, struct mesh_upstream *out)
{
	const struct mesh_upstream *u = &s->upstreams[id];

	if (id >= MESH_MAX_UPSTREAMS)
		return false;
	for (int i = 0; i < MESH_SEQ_TRIES; mesh_seq_pause(i++)) {
		__u32 seq = mesh_seq_begin(&u->seq);

		*out = *(const volatile struct mesh_upstream *)u;
		if (!mesh_seq_retry(&u->seq, seq))
			return out->service != MESH_NONE && seq;
	}
	return false;
}

bool shared_endpoint(const struct shared *s, uint32_t id, struct mesh_endpoint *out)
{
	const struct mesh_endpoint *e = &s->endpoints[id];

	if (id >= MESH_MAX_ENDPOINTS)
		return false;
	for (int i = 0; i < MESH_SEQ_TRIES; mesh_seq_pause(i++)) {
		__u32 seq = mesh_seq_begin(&e->seq);

		*out = *(const volatile struct mesh_endpoint *)e;
		if (!mesh_seq_retry(&e->seq, seq))
			return out->flags & MESH_EP_USED;
	}
	return false;
}

uint32_t shared_inflight(const struct shared *s, uint32_t endpoint)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < MESH_MAX_WORKERS; i++)
		sum += __atomic_load_n(&s->ep_inflight[endpoint].worker[i], __ATOMIC_RELAXED);
	return sum;
}

void shared_latency(struct shared *s, uint32_t endpoint, uint64_t latency_ns, uint64_t now_ns,
		    bool failed)
{
	__u64 *word = &s->ep_stats[endpoint].ewma, old = __atomic_load_n(word, __ATOMIC_RELAXED);

	while (!__atomic_compare_exchange_n(word, &old,
					    mesh_ewma_update(old, latency_ns, now_ns, failed), true,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

void shared_learn(struct shared *s, uint32_t upstream, uint64_t what)
{
	__u64 *word = &s->up_stats[upstream].learned;

	if (__atomic_load_n(word, __ATOMIC_RELAXED) != what) /* all workers read it all the time */
		__atomic_store_n(word, what, __ATOMIC_RELAXED);
}

int shared_origdst(const struct shared *s, const struct mesh_origdst_key *key,
		   struct mesh_origdst *out)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = (uint32_t)s->origdst_fd;
	attr.key = (uint64_t)(uintptr_t)key;
	attr.value = (uint64_t)(uintptr_t)out;
	return syscall(SYS_bpf, BPF_MAP_LOOKUP_ELEM, &attr, sizeof(attr)) < 0 ? -errno : 0;
}
