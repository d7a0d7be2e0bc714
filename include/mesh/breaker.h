/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The circuit breaker of a service and the ejection of an endpoint, which are the same machine: one
 * 64-bit word, changed by compare-and-swap of these pure functions. Envoy calls the second "outlier
 * detection".
 *
 *   closed     everything passes. Trips when the window holds at least min_requests of which
 *              error_pm or more failed, or after `consecutive` failures in a row -> open
 *   open       nothing passes, for open_ms << level; the first to come after that -> half-open
 *   half-open  half_open probes pass, the rest is refused. All of them good -> closed; one bad ->
 *              open, with a longer wait. A probe is a lease: whoever took it and died blocks
 *              nobody for longer than probe_ms
 *
 * Longer waits for repeat offenders: tripping again before it was closed for as long as it was open
 * raises the level, up to MESH_BREAKER_LEVELS.
 *
 * Word: 2 bits state, 1 bit held (by hand), 4 bits level, 8 bits leases, 8 bits good probes, 41
 * bits time of the last transition or lease in ms of CLOCK_MONOTONIC. 0 is closed since ever.
 */
#ifndef MESH_BREAKER_H
#define MESH_BREAKER_H

#include <mesh/window.h>

enum mesh_breaker_state { MESH_CLOSED = 0, MESH_HALF_OPEN = 1, MESH_OPEN = 2 };
enum mesh_breaker_verdict { MESH_REFUSE = 0, MESH_PASS = 1, MESH_PROBE = 2 };
enum mesh_breaker_hand { MESH_HAND_RESET = 0, MESH_HAND_OPEN = 1, MESH_HAND_CLOSE = 2 };

#define MESH_BREAKER_LEVELS 4
#define MESH_BREAKER_MAX_MS 3600000U /* the longest wait */
#define MESH_BREAKER_TIME   0x1ffffffffffULL
#define MESH_BREAKER_HELD   (1ULL << 61)

struct mesh_breaker_policy {
	__u32 error_pm; /* hundredths of a percent; 5000: half */
	__u32 min_requests;
	__u32 window_ms;
	__u32 open_ms;
	__u32 half_open;   /* 1 to 255 */
	__u32 consecutive; /* 0: does not count */
	__u32 max_ejected; /* percent of a service's endpoints */
	__u32 probe_ms;	   /* life of a lease */
};

/* A word and what it means for the caller. */
struct mesh_breaker_step {
	__u64 word;
	__u32 verdict; /* enum mesh_breaker_verdict */
};

static inline __u32 mesh_breaker_state(__u64 word)
{
	return (__u32)(word >> 62);
}
static inline __u32 mesh_breaker_level(__u64 word)
{
	return (__u32)(word >> 57) & 15;
}
static inline __u32 mesh_breaker_leases(__u64 word)
{
	return (__u32)(word >> 49) & 255;
}
static inline __u32 mesh_breaker_wins(__u64 word)
{
	return (__u32)(word >> 41) & 255;
}
static inline __u64 mesh_breaker_since(__u64 word)
{
	return word & MESH_BREAKER_TIME;
}

static inline __u64 mesh_breaker_word(__u32 state, __u32 level, __u32 leases, __u32 wins,
				      __u64 now_ms)
{
	return (__u64)state << 62 | (__u64)(level & 15) << 57 | (__u64)(leases & 255) << 49 |
	       (__u64)(wins & 255) << 41 | (now_ms & MESH_BREAKER_TIME);
}

/* How long it is open at that level. */
static inline __u64 mesh_breaker_wait_ms(const struct mesh_breaker_policy *p, __u32 level)
{
	__u64 ms = (__u64)p->open_ms << (level > MESH_BREAKER_LEVELS ? MESH_BREAKER_LEVELS : level);

	return ms > MESH_BREAKER_MAX_MS && p->open_ms <= MESH_BREAKER_MAX_MS ? MESH_BREAKER_MAX_MS
									     : ms;
}

/* ms since the word's time; 0 when another's clock reading was ahead of ours. */
static inline __u64 mesh_breaker_age(__u64 word, __u64 now_ms)
{
	__u64 since = mesh_breaker_since(word);

	return now_ms > since ? now_ms - since : 0;
}

/* May one more request pass? A probe must be followed by mesh_breaker_probed or _dropped. */
static inline struct mesh_breaker_step
mesh_breaker_admit(__u64 word, const struct mesh_breaker_policy *p, __u64 now_ms)
{
	struct mesh_breaker_step s = {word, MESH_PASS};
	__u32 state = mesh_breaker_state(word), leases = mesh_breaker_leases(word),
	      level = mesh_breaker_level(word), wins = mesh_breaker_wins(word);
	__u64 age = mesh_breaker_age(word, now_ms);

	if (state == MESH_CLOSED)
		return s;
	s.verdict = MESH_REFUSE;
	if (word & MESH_BREAKER_HELD)
		return s;
	if (state == MESH_OPEN) {
		if (age < mesh_breaker_wait_ms(p, level))
			return s;
		leases = wins = 0;
	} else if (age >= p->probe_ms) {
		leases = 0;
	}
	if (leases + wins >= p->half_open)
		return s;
	s.word = mesh_breaker_word(MESH_HALF_OPEN, level, leases + 1, wins, now_ms);
	s.verdict = MESH_PROBE;
	return s;
}

/* The word after a probe has come back. Late ones, of a lease that is over, change nothing. */
static inline __u64 mesh_breaker_probed(__u64 word, const struct mesh_breaker_policy *p,
					__u32 failed, __u64 now_ms)
{
	__u32 leases = mesh_breaker_leases(word), level = mesh_breaker_level(word),
	      wins = mesh_breaker_wins(word) + 1;

	if (mesh_breaker_state(word) != MESH_HALF_OPEN || !leases || word & MESH_BREAKER_HELD)
		return word;
	if (failed)
		return mesh_breaker_word(MESH_OPEN, level < MESH_BREAKER_LEVELS ? level + 1 : level,
					 0, 0, now_ms);
	if (wins >= p->half_open)
		return mesh_breaker_word(MESH_CLOSED, level, 0, 0, now_ms);
	return mesh_breaker_word(MESH_HALF_OPEN, level, leases - 1, wins, now_ms);
}

/* The word after a probe that came to nothing: the callee never had the request. */
static inline __u64 mesh_breaker_dropped(__u64 word)
{
	__u32 leases = mesh_breaker_leases(word);

	if (mesh_breaker_state(word) != MESH_HALF_OPEN || !leases || word & MESH_BREAKER_HELD)
		return word;
	return mesh_breaker_word(MESH_HALF_OPEN, mesh_breaker_level(word), leases - 1,
				 mesh_breaker_wins(word), mesh_breaker_since(word));
}

/* The word after a request of the window `t` (it included) and so many failures in a row. */
static inline __u64 mesh_breaker_trip(__u64 word, const struct mesh_breaker_policy *p,
				      struct mesh_tally t, __u32 consecutive, __u64 now_ms)
{
	__u32 level = mesh_breaker_level(word);

	if (mesh_breaker_state(word) != MESH_CLOSED || word & MESH_BREAKER_HELD)
		return word;
	if ((t.total < p->min_requests || !t.failed ||
	     (__u64)t.failed * 10000 < (__u64)p->error_pm * t.total) &&
	    (!p->consecutive || consecutive < p->consecutive))
		return word;
	if (!word || mesh_breaker_age(word, now_ms) >= mesh_breaker_wait_ms(p, level))
		level = 0;
	else if (level < MESH_BREAKER_LEVELS)
		level++;
	return mesh_breaker_word(MESH_OPEN, level, 0, 0, now_ms);
}

/* By hand: held open or closed until the next such command; reset: as if nothing had been. */
static inline __u64 mesh_breaker_hand(__u32 hand, __u64 now_ms)
{
	if (hand == MESH_HAND_OPEN)
		return mesh_breaker_word(MESH_OPEN, 0, 0, 0, now_ms) | MESH_BREAKER_HELD;
	if (hand == MESH_HAND_CLOSE)
		return mesh_breaker_word(MESH_CLOSED, 0, 0, 0, now_ms) | MESH_BREAKER_HELD;
	return 0;
}

#endif
