/* SPDX-License-Identifier: Apache-2.0 */
/* Trials of when and where a connection begins: bytes before it is known, and addresses that exist
 * more than once. See trials_impl.h. */
#include "agent/kernel/trials_impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#define EARLY 50
#define APART 100000 /* how far apart the patterns of two streams begin */

/* There and back by whatever way, several times. */
static bool talk(struct trial_run *r, struct trial_pair *p, enum trial_way way)
{
	for (int i = 0; i < 4; i++)
		if (!trial_give(r, &p->a, 200, way) || !trial_take(r, &p->b, 200) ||
		    !trial_give(r, &p->b, 300, way) || !trial_take(r, &p->a, 300))
			return false;
	return true;
}

/* More is sent while the early bytes are unread, so that a swap would show. */
static bool early_by(struct trial_run *r, const struct trial_how *how)
{
	struct trial_pair p;

	return trial_steer(r, TRIAL_REDIRECT) && trial_pair_how(r, how, &p) &&
	       trial_give(r, &p.a, 70, TRIAL_ANY) && trial_give(r, &p.a, 80, TRIAL_ANY) &&
	       trial_take(r, &p.b, EARLY + 150) && talk(r, &p, TRIAL_ANY);
}

bool trial_early(struct trial_run *r)
{
	return early_by(r, &(struct trial_how){.early = EARLY}) &&
	       early_by(r, &(struct trial_how){.early = EARLY, .defer = true});
}

bool trial_fast_open(struct trial_run *r)
{
	return early_by(r, &(struct trial_how){.early = EARLY, .fast_open = true});
}

/* --- twins: the same four numbers in two namespaces --- */

static bool have_two(struct trial_run *r)
{
	return r->env->netns[1] >= 0 || trial_skip(r, "no second network namespace");
}

static uint16_t port_of(int fd, bool peer)
{
	struct sockaddr_in a = {0};
	socklen_t len = sizeof(a);

	if (peer)
		getpeername(fd, (struct sockaddr *)&a, &len);
	else
		getsockname(fd, (struct sockaddr *)&a, &len);
	return ntohs(a.sin_port);
}

static void start_at(struct trial_pair *p, uint64_t at)
{
	p->a.sent = p->a.got = p->b.sent = p->b.got = at;
}

/* Both clients are connected before either's peer exists (TCP_DEFER_ACCEPT), so whoever knows them
 * by address alone takes one for the other. */
static bool make_twins(struct trial_run *r, const char *ip, struct trial_pair p[2])
{
	struct trial_how how[2] = {{.ip = ip, .defer = true}, {.ip = ip, .defer = true}};
	int listener[2];

	how[1].netns_a = how[1].netns_b = 1;
	if (!trial_pair_begin(r, &how[0], &p[0], &listener[0]))
		return false;
	how[1].port_a = port_of(p[0].a.fd, false);
	how[1].port_b = port_of(p[0].a.fd, true);
	if (!trial_pair_begin(r, &how[1], &p[1], &listener[1]))
		return false;
	start_at(&p[1], APART);
	for (int i = 0; i < 2; i++)
		if (!trial_give(r, &p[i].a, EARLY, TRIAL_ANY) ||
		    !trial_pair_end(r, &how[i], &p[i], &listener[i]))
			return false;
	return true;
}

static bool twins(struct trial_run *r, const char *ip)
{
	struct trial_pair p[2];

	if (!have_two(r) || !trial_steer(r, TRIAL_REDIRECT) || !make_twins(r, ip, p))
		return false;
	for (int i = 0; i < 2; i++)
		if (!trial_give(r, &p[i].a, EARLY, TRIAL_ANY) ||
		    !trial_give(r, &p[i].b, 2 * EARLY, TRIAL_ANY))
			return false;
	for (int i = 0; i < 2; i++)
		if (!trial_take(r, &p[i].b, 2 * EARLY) || !trial_take(r, &p[i].a, 2 * EARLY) ||
		    !talk(r, &p[i], TRIAL_ANY))
			return false;
	return true;
}

bool trial_twins_loopback(struct trial_run *r)
{
	return twins(r, "127.0.0.1");
}

bool trial_twins_network(struct trial_run *r)
{
	return twins(r, TRIAL_NET_SAME);
}

bool trial_across(struct trial_run *r)
{
	struct trial_how how = {.ip = TRIAL_NET_B, .netns_b = 1};
	struct trial_pair p;

	if (!have_two(r))
		return false;
	if (!r->env->veth)
		return trial_skip(r, "no veth device");
	return trial_pair_how(r, &how, &p) && talk(r, &p, TRIAL_REDIRECT) &&
	       talk(r, &p, TRIAL_TCP) && talk(r, &p, TRIAL_REDIRECT);
}
