/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * One case of the decision code, inputs and outputs, and the function that works it out: compiled
 * into decide.test.bpf.c for the kernel and into tests/bpf/test_decide.c natively; the outputs must
 * be the same.
 */
#ifndef BPF_DECIDE_H
#define BPF_DECIDE_H

#include <mesh/ewma.h>
#include <mesh/pick.h>

#define DECIDE_BATCH 1024

struct decide_in {
	__u64 word, latency_ns, now_ns;
	__u64 cost_a, cost_b;
	__u32 failed, inflight, rnd, dt;
	struct mesh_upstream up;
};

struct decide_out {
	__u64 fade, read, update, cost;
	__u32 stamp, age, split, slot_a, slot_b, p2c;
};

struct decide_case {
	struct decide_in in;
	struct decide_out out;
};

static inline void decide(const struct decide_in *in, struct decide_out *out)
{
	out->fade = mesh_ewma_fade(in->word >> 32, in->dt);
	out->read = mesh_ewma_read(in->word, in->now_ns);
	out->update = mesh_ewma_update(in->word, in->latency_ns, in->now_ns, in->failed);
	out->stamp = mesh_ewma_stamp(in->now_ns);
	out->age = mesh_ewma_age(in->word, in->now_ns);
	out->cost = mesh_pick_cost(in->latency_ns, in->inflight);
	out->split = mesh_pick_split(&in->up, in->rnd);
	out->slot_a = mesh_pick_slot_a(in->rnd);
	out->slot_b = mesh_pick_slot_b(in->rnd);
	out->p2c = mesh_pick_p2c(out->slot_a, in->cost_a, out->slot_b, in->cost_b);
}

#endif
