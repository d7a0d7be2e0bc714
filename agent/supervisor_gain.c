/* SPDX-License-Identifier: Apache-2.0 */
/* See supervisor_gain.h. */
#include "agent/supervisor_gain.h"

#include "agent/kernel/splice.h"
#include "agent/supervisor.h"
#include "lib/log.h"

#include <arpa/inet.h>
#include <string.h>

#define LOOK_NS 200000000ULL /* at those that were busy at the last look */
#define IDLE	5	     /* looks after which the others are looked at, too */

_Static_assert(MESH_GAIN_CONTROL == MESH_SPLICE_CONTROL, "the control group");

/* --- measuring --- */

static uint16_t port_of(const struct supervisor *s, uint32_t upstream)
{
	return ntohs(s->arrays->upstreams[upstream].port);
}

/* Messages until the other side says something. */
static double in_a_row(const struct mesh_gain *e)
{
	return (double)e->messages / (double)(e->turns ? e->turns : 1);
}

static void say(const struct supervisor *s, uint32_t upstream, const char *service,
		const struct accelerate_row *row)
{
	const struct mesh_gain *e = &row->evidence;
	uint32_t state = mesh_gain_said(&row->gain);
	unsigned port = port_of(s, upstream);

	if (state == MESH_GAIN_ONE_WAY)
		log_info("%s:%u gains nothing by skipping TCP: %.1f messages in a row, of %.0f "
			 "bytes; new connections use plain TCP, some are measured on",
			 service, port, in_a_row(e),
			 (double)e->bytes / (double)(e->messages ? e->messages : 1));
	else if (state == MESH_GAIN_NEW)
		log_info("%s:%u gains nothing by skipping TCP: less than %d messages on a "
			 "connection; new ones use plain TCP, some are measured on",
			 service, port, MESH_BRIEF_FEW);
	else if (state == MESH_GAIN_BY_TCP)
		log_info("%s:%u gains nothing by skipping TCP: its streams fill the queue, %.0f%% "
			 "of "
			 "the bytes went by TCP; new connections use plain TCP, some are measured "
			 "on",
			 service, port,
			 100 - 100 * (double)e->redirected / (double)(e->bytes ? e->bytes : 1));
	else if (state == MESH_GAIN_SLOWER)
		log_info("%s:%u is slower when it skips TCP, or no faster, in comparison; new "
			 "connections use plain TCP, some are measured on",
			 service, port);
	else
		log_info("%s:%u gains by skipping TCP again", service, port);
}

static void steer(struct supervisor *s, uint32_t upstream, struct accelerate_row *row)
{
	struct mesh_splice_steer word = {.hold_back = (uint16_t)row->hold_back};
	int err;

	if (row->told == row->hold_back + 1)
		return;
	err = kernel_splice_steer(s->kernel, upstream, &word);
	if (!err)
		row->told = (uint16_t)(row->hold_back + 1);
	else if (!s->gain.said_error)
		log_error("cannot steer acceleration: %s", strerror(-err));
	s->gain.said_error |= err != 0;
}

static void look_at(struct supervisor *s, uint32_t upstream, const char *service)
{
	struct accelerate_row *row;
	struct mesh_accel now;
	bool changed;

	if (kernel_splice_accel(s->kernel, upstream, &now))
		return;
	row = accelerate_beat(&s->gain.books, upstream, &now, s->loop.now_ns / 1000000, &changed);
	if (!row)
		return;
	steer(s, upstream, row);
	if (!changed)
		return;
	say(s, upstream, service, row);
	if (s->session)
		session_changed(s->session);
}

/* What is not known yet is. */
static bool is_busy(const struct gain_watch *w, uint32_t upstream)
{
	return !w->books.row[upstream] || w->books.row[upstream]->busy;
}

void gain_beat(struct supervisor *s)
{
	bool all;

	if (s->stopping_ns || s->loop.now_ns - s->gain.looked_ns < LOOK_NS)
		return;
	s->gain.looked_ns = s->loop.now_ns;
	all = ++s->gain.looks % IDLE == 0;
	for (uint32_t i = 0; i < MESH_MAX_UPSTREAMS; i++) {
		uint32_t service = registry_upstream_service(s->registry, i);

		if (service == MESH_NONE)
			accelerate_forget(&s->gain.books, i);
		else if (all || is_busy(&s->gain, i))
			look_at(s, i, registry_service_name(s->registry, service));
	}
}

void gain_fresh(struct supervisor *s, uint32_t upstream)
{
	int err = kernel_splice_upstream(s->kernel, upstream);

	accelerate_forget(&s->gain.books, upstream);
	if (err)
		log_error("cannot clear what was counted of an upstream: %s", strerror(-err));
}

void gain_stop(struct supervisor *s)
{
	accelerate_done(&s->gain.books);
}

/* --- what is said of it --- */

/* "on", "off": whatever was measured. */
static const char *mode_name(uint32_t flags)
{
	return flags & MESH_SVC_ACCEL_OFF ? "off" : flags & MESH_SVC_ACCEL_ON ? "on" : "auto";
}

/* What holds: the configuration comes before what was measured. */
static const char *state_name(uint32_t flags, const struct accelerate_row *row)
{
	return flags & MESH_SVC_ACCEL_OFF  ? "off"
	       : flags & MESH_SVC_ACCEL_ON ? "enrolled"
					   : accelerate_state_name(mesh_gain_said(&row->gain));
}

/* The row of an upstream of which anything is to be said, NULL: none. */
static const struct accelerate_row *row_of(const struct supervisor *s, uint32_t upstream,
					   struct service_view *v)
{
	const struct accelerate_row *row = s->gain.books.row[upstream];
	uint64_t opened = 0;

	if (!row ||
	    !registry_service(s->registry, registry_upstream_service(s->registry, upstream), v))
		return NULL;
	for (int i = 0; i < MESH_ACCEL_GROUPS; i++)
		opened += row->sum.group[i].opened;
	return opened ? row : NULL;
}

/* A switched service has none, though one may stand still in the books. */
static const char *contest_name(uint32_t flags, const struct accelerate_row *row)
{
	return accelerate_contest_name(flags & (MESH_SVC_ACCEL_OFF | MESH_SVC_ACCEL_ON)
					       ? MESH_GAIN_NO_CONTEST
					       : row->gain.contest);
}

static void one_json(const struct supervisor *s, uint32_t upstream, const struct service_view *v,
		     const struct accelerate_row *row, struct buf *b)
{
	const struct mesh_accel_group *g = row->sum.group;
	const struct mesh_gain *e = &row->evidence;
	struct compare_ratio r;

	buf_comma(b);
	buf_str(b, "{\"service\":");
	buf_json(b, v->name, strlen(v->name));
	buf_printf(b,
		   ",\"port\":%u,\"accelerate\":\"%s\",\"state\":\"%s\","
		   "\"connections\":{\"enrolled\":%llu,\"control\":%llu,\"unfit\":%llu}",
		   port_of(s, upstream), mode_name(acceleration_flags(s, v->config->accelerate)),
		   state_name(acceleration_flags(s, v->config->accelerate), row),
		   (unsigned long long)g[MESH_ACCEL_ENROLLED].opened,
		   (unsigned long long)g[MESH_ACCEL_CONTROL].opened,
		   (unsigned long long)g[MESH_ACCEL_UNFIT].opened);
	buf_printf(b, ",\"judgements\":%u,\"contest\":\"%s\"", row->gain.judged,
		   contest_name(acceleration_flags(s, v->config->accelerate), row));
	if (e->messages)
		buf_printf(b, ",\"messagesInARow\":%.1f,\"messageBytes\":%.0f", in_a_row(e),
			   (double)e->bytes / (double)e->messages);
	if (e->closed)
		buf_printf(b, ",\"messagesPerConnection\":%.1f",
			   (double)e->messages / (double)e->closed);
	if (compare_groups(&row->enrolled, &row->control, &r))
		buf_printf(b, ",\"gain\":{\"ratio\":%.3f,\"low\":%.3f,\"high\":%.3f}", r.ratio,
			   r.low, r.high);
	buf_char(b, '}');
}

void gain_json(struct supervisor *s, struct buf *b)
{
	buf_char(b, '[');
	for (uint32_t i = 0; i < MESH_MAX_UPSTREAMS; i++) {
		struct service_view v;
		const struct accelerate_row *row = row_of(s, i, &v);

		if (row)
			one_json(s, i, &v, row, b);
	}
	buf_char(b, ']');
}

/* NAME{service="..",port="..",LABEL="VALUE"}; without the last when LABEL is NULL. */
static void sample(struct buf *out, const char *name, const char *service, unsigned port,
		   const char *label, const char *value)
{
	buf_printf(out, "%s{", name);
	exposition_label(out, "service", service);
	buf_printf(out, ",port=\"%u\"", port);
	if (label)
		buf_printf(out, ",%s=\"%s\"", label, value);
	buf_str(out, "} ");
}

static void write_state(const struct supervisor *s, uint32_t upstream, const struct service_view *v,
			const struct accelerate_row *row, struct buf *out)
{
	sample(out, "mesh_splice_service_state", v->name, port_of(s, upstream), "state",
	       state_name(acceleration_flags(s, v->config->accelerate), row));
	buf_str(out, "1\n");
}

static void write_connections(const struct supervisor *s, uint32_t upstream,
			      const struct service_view *v, const struct accelerate_row *row,
			      struct buf *out)
{
	static const char *const groups[MESH_ACCEL_GROUPS] = {
		[MESH_ACCEL_CONTROL] = "control",
		[MESH_ACCEL_ENROLLED] = "enrolled",
		[MESH_ACCEL_UNFIT] = "unfit",
	};

	for (int i = 0; i < MESH_ACCEL_GROUPS; i++) {
		sample(out, "mesh_splice_service_connections_total", v->name, port_of(s, upstream),
		       "group", groups[i]);
		buf_printf(out, "%llu\n", (unsigned long long)row->sum.group[i].opened);
	}
}

static void write_gain(const struct supervisor *s, uint32_t upstream, const struct service_view *v,
		       const struct accelerate_row *row, struct buf *out)
{
	struct compare_ratio r;

	if (!compare_groups(&row->enrolled, &row->control, &r))
		return;
	for (int i = 0; i < 3; i++) {
		sample(out, "mesh_splice_gain_ratio", v->name, port_of(s, upstream), "bound",
		       i == 0	? "estimate"
		       : i == 1 ? "low"
				: "high");
		buf_printf(out, "%.4f\n", i == 0 ? r.ratio : i == 1 ? r.low : r.high);
	}
}

static void write_changes(const struct supervisor *s, uint32_t upstream,
			  const struct service_view *v, const struct accelerate_row *row,
			  struct buf *out)
{
	static const char *const to[] = {"plain", "enrolled"};

	/* it begins enrolled, so every odd one led away */
	for (uint64_t i = 0; i < 2; i++) {
		sample(out, "mesh_splice_service_changes_total", v->name, port_of(s, upstream),
		       "to", to[i]);
		buf_printf(out, "%llu\n", (unsigned long long)((row->changes + 1 - i) / 2));
	}
}

static void write_judgements(const struct supervisor *s, uint32_t upstream,
			     const struct service_view *v, const struct accelerate_row *row,
			     struct buf *out)
{
	sample(out, "mesh_splice_service_judgements_total", v->name, port_of(s, upstream), NULL,
	       NULL);
	buf_printf(out, "%u\n", row->gain.judged);
}

static void write_held_back(const struct supervisor *s, uint32_t upstream,
			    const struct service_view *v, const struct accelerate_row *row,
			    struct buf *out)
{
	sample(out, "mesh_splice_service_held_back_ratio", v->name, port_of(s, upstream), NULL,
	       NULL);
	buf_printf(out, "%.3f\n", (double)row->hold_back / 1000);
}

void gain_metrics(struct supervisor *s, struct buf *out)
{
	static const struct {
		const char *name, *type, *help;
		void (*write)(const struct supervisor *s, uint32_t upstream,
			      const struct service_view *v, const struct accelerate_row *row,
			      struct buf *out);
	} families[] = {
		{"mesh_splice_service_state", "gauge",
		 "1: who may skip TCP does (enrolled), or does not, and why.", write_state},
		{"mesh_splice_service_connections_total", "counter",
		 "Connections that could skip TCP: those that do, the control group, and those of "
		 "programs that block.",
		 write_connections},
		{"mesh_splice_gain_ratio", "gauge",
		 "Bytes a second of connections that skip TCP, to those of the control group; none "
		 "without enough samples. low and high hold the true value in 95 of 100 cases.",
		 write_gain},
		{"mesh_splice_service_changes_total", "counter",
		 "Times that measuring has switched it on or off.", write_changes},
		{"mesh_splice_service_judgements_total", "counter",
		 "Times that its traffic was judged.", write_judgements},
		{"mesh_splice_service_held_back_ratio", "gauge",
		 "What part of its new connections measuring keeps from skipping TCP: 0.01 or 0.99 "
		 "when that is settled, 0.5 in a contest, 0 in a trial.",
		 write_held_back},
	};

	for (size_t f = 0; f < sizeof(families) / sizeof(families[0]); f++) {
		exposition_head(out, families[f].name, families[f].type, families[f].help);
		for (uint32_t i = 0; i < MESH_MAX_UPSTREAMS; i++) {
			struct service_view v;
			const struct accelerate_row *row = row_of(s, i, &v);

			if (row)
				families[f].write(s, i, &v, row, out);
		}
	}
}
