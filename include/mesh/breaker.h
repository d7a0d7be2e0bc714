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
 *              open, with a longer wait. Probes are leases, taken in rounds: probe_ms after its
 *              first lease a round is over, and what has not come back by then is lost. Whoever
 *              took a lease and died blocks nobody for longer than that; what comes back later
 *              says nothing
 *
 * Longer waits for repeat offenders: tripping again before it was closed for as long as it was open
 * raises the level, up to MESH_BREAKER_LEVELS; closed for longer, the next begins at 0.
 *
 * Word: 2 bits state, 1 bit held (by hand), 4 bits level, 8 bits leases, 8 bits good probes, 41
 * bits time of the last transition, half-open of the round's first lease, in ms of CLOCK_MONOTONIC.
 * 0 is closed since ever.
 *
 *   old = word                                  old = word
 *   s = admit(old, ...), s.word by CAS          add to the window, t = tally(word, ...)
 *   s.verdict == PROBE: remember s.lease        trip(old, ..., t, ...) by CAS
 *   ... probed or dropped(old, s.lease) by CAS  (again with the new old when the CAS fails)
 */
#ifndef MESH_BREAKER_H
#define MESH_BREAKER_H

#include <mesh/window.h>

enum mesh_breaker_state { MESH_CLOSED = 0, MESH_HALF_OPEN = 1, MESH_OPEN = 2 };
enum mesh_breaker_verdict { MESH_REFUSE = 0, MESH_PASS = 1, MESH_PROBE = 2 };
enum mesh_breaker_hand { MESH_HAND_RESET = 0, MESH_HAND_OPEN = 1, MESH_HAND_CLOSE = 2 };

#define MESH_BREAKER_LEVELS  4
#define MESH_BREAKER_MAX_MS  3600000U /* the longest wait */
#define MESH_BREAKER_TIME    0x1ffffffffffULL
#define MESH_BREAKER_SKEW_MS 60000 /* a word that is less than this ahead: a reading behind */
#define MESH_BREAKER_HELD    (1ULL << 61)

/* A word and what it means for the caller. */
struct mesh_breaker_step {
	__u64 word;
	__u64 lease;   /* of a probe: for mesh_breaker_probed or _dropped */
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

/* How long it is open at that level: at most MESH_BREAKER_MAX_MS, or open_ms if that is longer. */
static inline __u64 mesh_breaker_wait_ms(const struct mesh_breaker_policy *p, __u32 level)
{
	__u64 ms = (__u64)p->open_ms << (level > MESH_BREAKER_LEVELS ? MESH_BREAKER_LEVELS : level),
	      most = p->open_ms > MESH_BREAKER_MAX_MS ? p->open_ms : MESH_BREAKER_MAX_MS;

	return ms < most ? ms : most;
}

/* ms since the word's time; 0 when another's clock reading was ahead of ours. A time that cannot be
 * is very long ago, so that nothing waits for it. */
static inline __u64 mesh_breaker_age(__u64 word, __u64 now_ms)
{
	__u64 age = (now_ms - mesh_breaker_since(word)) & MESH_BREAKER_TIME;

	return ((0 - age) & MESH_BREAKER_TIME) < MESH_BREAKER_SKEW_MS ? 0 : age;
}

/* How many good probes close it. */
static inline __u32 mesh_breaker_need(const struct mesh_breaker_policy *p)
{
	return p->half_open > 255 ? 255 : p->half_open ? p->half_open : 1;
}

/* May one more request pass? Each probe must be followed by mesh_breaker_probed or _dropped. */
MESH_INLINE struct mesh_breaker_step
mesh_breaker_admit(__u64 word, const struct mesh_breaker_policy *p, __u64 now_ms)
{
	struct mesh_breaker_step s = {word, 0, MESH_PASS};
	__u32 state = mesh_breaker_state(word), leases = mesh_breaker_leases(word),
	      level = mesh_breaker_level(word), wins = mesh_breaker_wins(word),
	      need = mesh_breaker_need(p);
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
	if (wins >= need) /* the policy asked for more when they were won */
		wins = need - 1;
	if (leases + wins >= need)
		return s;
	s.lease = leases || !age ? mesh_breaker_since(word) : now_ms & MESH_BREAKER_TIME;
	s.word = mesh_breaker_word(MESH_HALF_OPEN, level, leases + 1, wins, s.lease);
	s.verdict = MESH_PROBE;
	return s;
}

/* Is that lease still out? */
static inline __u32 mesh_breaker_leased(__u64 word, __u64 lease)
{
	return mesh_breaker_state(word) == MESH_HALF_OPEN && mesh_breaker_leases(word) &&
	       !(word & MESH_BREAKER_HELD) && mesh_breaker_since(word) == lease;
}

/* The word after a probe has come back. Late ones, of a round that is over, change nothing. */
static inline __u64 mesh_breaker_probed(__u64 word, const struct mesh_breaker_policy *p,
					__u64 lease, __u32 failed, __u64 now_ms)
{
	__u32 leases = mesh_breaker_leases(word), level = mesh_breaker_level(word),
	      wins = mesh_breaker_wins(word) + 1;

	if (!mesh_breaker_leased(word, lease))
		return word;
	if (!mesh_breaker_age(word, now_ms))
		now_ms = lease;
	if (failed)
		return mesh_breaker_word(MESH_OPEN, level < MESH_BREAKER_LEVELS ? level + 1 : level,
					 0, 0, now_ms);
	if (wins >= mesh_breaker_need(p))
		return mesh_breaker_word(MESH_CLOSED, level, 0, 0, now_ms);
	return mesh_breaker_word(MESH_HALF_OPEN, level, leases - 1, wins, lease);
}

/* The word after a probe that came to nothing: the callee never had the request. */
static inline __u64 mesh_breaker_dropped(__u64 word, __u64 lease)
{
	if (!mesh_breaker_leased(word, lease))
		return word;
	return mesh_breaker_word(MESH_HALF_OPEN, mesh_breaker_level(word),
				 mesh_breaker_leases(word) - 1, mesh_breaker_wins(word), lease);
}

/*
 * What the window w (a copy of its words) says about a closed breaker: nothing that was counted
 * before it closed, that bucket included. Otherwise what made it open would do so again at once,
 * whenever the window is longer than the wait. Not closed: the whole window, to be shown.
 */
MESH_INLINE struct mesh_tally mesh_breaker_tally(__u64 word, const struct mesh_breaker_policy *p,
						 const __u64 w[MESH_WINDOW], __u64 now_ms)
{
	__u32 bucket = mesh_window_bucket_ms(p->window_ms);
	__u64 turns = MESH_WINDOW;

	if (word && mesh_breaker_state(word) == MESH_CLOSED) {
		turns = now_ms / bucket - (now_ms - mesh_breaker_age(word, now_ms)) / bucket;
		if (turns > MESH_WINDOW)
			turns = MESH_WINDOW;
	}
	return mesh_window_sum(w, mesh_window_turn(p->window_ms, now_ms), (__u32)turns);
}

/* The word after a request: t as mesh_breaker_tally says, that request included, and so many
 * failures in a row (0 where these do not count). */
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
	if (word && !mesh_breaker_age(word, now_ms))
		now_ms = mesh_breaker_since(word);
	return mesh_breaker_word(MESH_OPEN, level, 0, 0, now_ms);
}

/* By hand: held open or closed until the next such command. Reset: as if nothing had been; whoever
 * does it clears the window and the failures in a row as well. */
static inline __u64 mesh_breaker_hand(__u32 hand, __u64 now_ms)
{
	if (hand == MESH_HAND_OPEN)
		return mesh_breaker_word(MESH_OPEN, 0, 0, 0, now_ms) | MESH_BREAKER_HELD;
	if (hand == MESH_HAND_CLOSE)
		return mesh_breaker_word(MESH_CLOSED, 0, 0, 0, now_ms) | MESH_BREAKER_HELD;
	return 0;
}

#endif
