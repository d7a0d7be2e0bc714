/* SPDX-License-Identifier: Apache-2.0 */
/* See supervisor_splice.h. */
#include "agent/supervisor_splice.h"
#include "agent/kernel/splice.h"
#include "agent/supervisor.h"

#include "lib/cgroup.h"
#include "lib/clock.h"
#include "lib/log.h"

#include <string.h>

enum mesh_splice_mode splice_start(struct supervisor *s, enum mesh_splice_mode mode)
{
	struct mesh_splice_ctl c = {.mode = mode, .uid = s->uid};
	char error[KERNEL_ERROR_MAX];
	uint64_t cgroup = 0;
	int r;

	s->arrays->ctl->splice_ns = 0;
	if (mode == MESH_SPLICE_OFF) { /* a predecessor may have had it on */
		r = kernel_splice_set(s->kernel, &c, error);
		if (r)
			log_error("acceleration cannot be switched off: %s", error);
		return mode;
	}
	r = cgroup_own(&cgroup);
	if (r || !kernel_sees_us()) {
		cgroup = 0;
		log_warn("connections from and to the workers are not accelerated: %s",
			 r ? strerror(-r) : "the agent runs outside of --cgroup");
	}
	c.cgroup = cgroup;
	if (mode == MESH_SPLICE_REDIRECT) /* before the first connection that needs it */
		__atomic_store_n(&s->arrays->ctl->splice_bare, 1, __ATOMIC_RELEASE);
	r = kernel_splice_set(s->kernel, &c, error);
	if (r) {
		log_warn("connections are not accelerated: %s", error);
		return MESH_SPLICE_OFF;
	}
	s->arrays->ctl->splice_ns = cgroup ? clock_mono_ns() : 0;
	log_info("connections on this host skip TCP (%s)",
		 mode == MESH_SPLICE_VERDICT ? "redirect with verdict" : "redirect");
	return mode;
}

void splice_metrics(struct supervisor *s, struct buf *out)
{
	const struct mesh_accel_group *g;
	struct mesh_accel a;

	if (kernel_splice_total(s->kernel, &a))
		return;
	g = &a.group[MESH_ACCEL_ENROLLED];
	exposition_head(out, "mesh_splice_bytes_total", "counter",
			"Bytes sent on enrolled connections, by the way they took.");
	buf_printf(out,
		   "mesh_splice_bytes_total{path=\"redirect\"} %llu\n"
		   "mesh_splice_bytes_total{path=\"tcp\"} %llu\n",
		   (unsigned long long)g->redirected, (unsigned long long)g->tcp);
	exposition_head(out, "mesh_splice_connections_total", "counter",
			"Connections that could skip TCP, by what became of them.");
	buf_printf(out,
		   "mesh_splice_connections_total{group=\"enrolled\"} %llu\n"
		   "mesh_splice_connections_total{group=\"control\"} %llu\n"
		   "mesh_splice_connections_total{group=\"unfit\"} %llu\n",
		   (unsigned long long)g->opened,
		   (unsigned long long)a.group[MESH_ACCEL_CONTROL].opened,
		   (unsigned long long)a.group[MESH_ACCEL_UNFIT].opened);
}
