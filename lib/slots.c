/* SPDX-License-Identifier: Apache-2.0 */
/* See mesh/slots.h. Integers only: the same table everywhere. */
#include <mesh/slots.h>

#include <stdbool.h>
#include <string.h>

struct share {
	__u64 part;  /* weight / latency, scaled */
	__u64 rest;  /* of the division, for the largest remainder */
	__u32 floor; /* at least so many slots */
	__u32 slots;
	bool fixed; /* gets its floor and nothing else */
};

/* Whether there is anybody to share what those marked `least` leave. */
static bool anybody_more(const struct mesh_slot_input *in, __u32 n)
{
	for (__u32 i = 0; i < n; i++)
		if (in[i].weight && !in[i].least)
			return true;
	return false;
}

static __u64 lowest_latency(const struct mesh_slot_input *in, __u32 n, bool more)
{
	__u64 lowest = 0;

	for (__u32 i = 0; i < n; i++)
		if (in[i].weight && in[i].latency_ns && !(more && in[i].least) &&
		    (!lowest || in[i].latency_ns < lowest))
			lowest = in[i].latency_ns;
	return lowest ? lowest : 1;
}

/* lowest / latency in 16 binary places, at least one unit: bounds every sum below. */
static __u64 quickness(__u64 lowest, __u64 latency)
{
	__u64 q;

	if (!latency)
		return 65536;
	while (lowest >> 47) {
		lowest >>= 1;
		latency >>= 1;
	}
	q = (lowest << 16) / latency;
	return q ? q : 1;
}

/* The floor keeps an endpoint in touch whatever its latency; what an operator weighted down stays
 * down. */
static __u32 prepare(const struct mesh_slot_input *in, __u32 n, struct share *s)
{
	bool more = anybody_more(in, n);
	__u64 lowest = lowest_latency(in, n, more);
	__u32 used = 0, heaviest = 0, floor;

	for (__u32 i = 0; i < n; i++) {
		used += in[i].weight > 0;
		heaviest = in[i].weight > heaviest ? in[i].weight : heaviest;
	}
	if (!used)
		return 0;
	floor = MESH_SLOTS / (2 * used);
	if (floor > MESH_SLOTS_FLOOR)
		floor = MESH_SLOTS_FLOOR;
	for (__u32 i = 0; i < n; i++) {
		s[i] = (struct share){.fixed = !in[i].weight};
		if (!in[i].weight)
			continue;
		if (!more || !in[i].least)
			s[i].part = in[i].weight * quickness(lowest, in[i].latency_ns);
		s[i].floor = floor * in[i].weight / heaviest;
		if (!s[i].floor)
			s[i].floor = 1;
	}
	return used;
}

/* Whoever would get less than its floor gets the floor; the others share what is left, which may
 * push more of them below theirs: until nobody moves. */
static void divide(struct share *s, __u32 n)
{
	bool moved = true;

	while (moved) {
		__u64 total = 0, left = MESH_SLOTS;

		moved = false;
		for (__u32 i = 0; i < n; i++) {
			if (s[i].fixed)
				left -= s[i].slots;
			else
				total += s[i].part;
		}
		for (__u32 i = 0; i < n; i++) {
			if (s[i].fixed)
				continue;
			s[i].slots = (__u32)(s[i].part * left / total);
			s[i].rest = s[i].part * left % total;
			if (s[i].slots < s[i].floor) {
				s[i].slots = s[i].floor;
				s[i].rest = 0;
				s[i].fixed = true;
				moved = true;
			}
		}
	}
}

/* The slots that rounding left over, one each, to the largest remainders; the first wins a tie. */
static void round_up(struct share *s, __u32 n)
{
	__u32 given = 0, best;

	for (__u32 i = 0; i < n; i++)
		given += s[i].slots;
	for (; given < MESH_SLOTS; given++) {
		best = n;
		for (__u32 i = 0; i < n; i++)
			if (s[i].part && (best == n || s[i].rest > s[best].rest))
				best = i;
		s[best].slots++;
		s[best].rest = 0;
	}
}

__u32 mesh_slots_build(const struct mesh_slot_input *in, __u32 n, __u16 *out)
{
	struct share s[MESH_SLOTS];
	__u32 used, at = 0;

	if (n > MESH_SLOTS)
		n = MESH_SLOTS;
	used = prepare(in, n, s);
	if (!used)
		return 0;
	divide(s, n);
	round_up(s, n);
	for (__u32 i = 0; i < n; i++)
		for (__u32 j = 0; j < s[i].slots; j++)
			out[at++] = in[i].ep;
	return used;
}

static __u32 common_divisor(__u32 a, __u32 b)
{
	while (b) {
		__u32 rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/* What each endpoint weighs in an order; returns how many are in it. */
static __u32 rotating(const struct mesh_slot_input *in, __u32 n, __u32 *weight)
{
	bool more = anybody_more(in, n);
	__u32 used = 0, rest = 0, least = 0;

	for (__u32 i = 0; i < n; i++) {
		used += in[i].weight > 0;
		weight[i] = in[i].weight;
		if (more && in[i].weight && in[i].least)
			least++;
		else
			rest += in[i].weight;
	}
	for (__u32 i = 0; least && i < n; i++)
		if (in[i].weight && in[i].least)
			weight[i] = rest / (20 * least) ? rest / (20 * least) : 1;
	return used;
}

__u32 mesh_slots_rotate(const struct mesh_slot_input *in, __u32 n, __u16 *out, __u32 *turn)
{
	__s32 credit[MESH_SLOTS] = {0};
	__u32 weight[MESH_SLOTS], used, sum = 0, divisor = 0, round;

	if (n > MESH_SLOTS)
		n = MESH_SLOTS;
	used = rotating(in, n, weight);
	for (__u32 i = 0; i < n; i++) {
		sum += weight[i];
		divisor = common_divisor(weight[i], divisor);
	}
	if (!used)
		return 0;
	for (__u32 at = 0; at < MESH_SLOTS; at++) {
		__u32 best = n;

		for (__u32 i = 0; i < n; i++) {
			credit[i] += (__s32)weight[i];
			if (weight[i] && (best == n || credit[i] > credit[best]))
				best = i;
		}
		credit[best] -= (__s32)sum;
		out[at] = in[best].ep;
	}
	round = sum / divisor;
	*turn = round > MESH_SLOTS ? MESH_SLOTS : MESH_SLOTS / round * round;
	return used;
}
