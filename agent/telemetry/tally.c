/* SPDX-License-Identifier: Apache-2.0 */
/* See tally.h. */
#include "agent/telemetry/tally.h"
#include "agent/telemetry/ring.h"

#include <mesh/abi.h>

/* Of a key, from the lowest bit. */
#define STATUS_BITS   10
#define CAUSE_BITS    5
#define BULKHEAD_BITS 3
#define SERVICE_BITS  11
#define CALLER_BITS   13
#define IN_USE	      (1ULL << 63)
#define LEAVING	      1ULL /* a key that is none: the reader gives the entry back */

#define PLACE_BITS    36 /* of a bucket's word, above them the number */
#define PLACES	      256
#define PROBES	      16
#define LOW_EXP	      10 /* the first bucket ends at 2^10 ns */
#define HIGH_EXP      36 /* the last begins at 2^36 ns */
#define BYTES_MAX     (1ULL << 50)

_Static_assert(sizeof(struct tally) == RING_TALLY_SIZE, "the layout of a ring");
_Static_assert(2 * (HIGH_EXP - LOW_EXP) + 2 == TALLY_BUCKETS, "half octaves");
_Static_assert(MESH_MAX_WORKLOADS < 1 << CALLER_BITS, "ids fit");
_Static_assert(MESH_MAX_SERVICES < 1 << SERVICE_BITS, "ids fit");
_Static_assert(CAUSE_MAX <= 1 << CAUSE_BITS, "causes fit");

static const uint16_t counted_flags[] = {RECORD_GATEWAY, RECORD_DELAYED, RECORD_ABORTED,
					 RECORD_NO_BUDGET};
#define FLAGS (sizeof(counted_flags) / sizeof(*counted_flags))

/* --- keys --- */

static void push(uint64_t *key, uint32_t *at, uint32_t bits, uint64_t value)
{
	*key |= (value & ((1ULL << bits) - 1)) << *at;
	*at += bits;
}

static uint32_t pull(uint64_t *key, uint32_t bits)
{
	uint32_t value = (uint32_t)(*key & ((1ULL << bits) - 1));

	*key >>= bits;
	return value;
}

static uint64_t key_of(const struct tally_sum *s)
{
	uint64_t key = IN_USE;
	uint32_t at = 0;

	push(&key, &at, STATUS_BITS, s->status);
	push(&key, &at, CAUSE_BITS, s->cause);
	push(&key, &at, BULKHEAD_BITS, s->bulkhead);
	push(&key, &at, 1, s->tunnel);
	for (uint32_t i = 0; i < FLAGS; i++)
		push(&key, &at, 1, (s->flags & counted_flags[i]) != 0);
	push(&key, &at, SERVICE_BITS, s->service);
	push(&key, &at, CALLER_BITS, s->caller);
	return key;
}

/* MESH_NONE was cut to bits that are no id. */
static void key_read(uint64_t key, struct tally_sum *s)
{
	s->status = (uint16_t)pull(&key, STATUS_BITS);
	s->cause = (uint8_t)pull(&key, CAUSE_BITS);
	s->bulkhead = (uint8_t)pull(&key, BULKHEAD_BITS);
	s->tunnel = pull(&key, 1);
	for (uint32_t i = 0; i < FLAGS; i++)
		s->flags |= pull(&key, 1) ? counted_flags[i] : 0;
	s->service = pull(&key, SERVICE_BITS);
	s->caller = pull(&key, CALLER_BITS);
	if (s->status > 999)
		s->status = 0;
	if (s->cause >= CAUSE_MAX)
		s->cause = CAUSE_NONE;
	if (s->service >= MESH_MAX_SERVICES)
		s->service = MESH_NONE;
	if (s->caller >= MESH_MAX_WORKLOADS)
		s->caller = MESH_NONE;
}

static uint32_t other_of(const struct tally_sum *s)
{
	if (s->tunnel)
		return s->cause ? 7 : 6;
	return s->status < 600 ? s->status / 100 : 0;
}

static void other_read(uint32_t i, struct tally_sum *s)
{
	s->other = true;
	s->caller = s->service = MESH_NONE;
	s->tunnel = i >= 6;
	s->cause = i == 7 ? CAUSE_CONNECT_FAILED : CAUSE_NONE;
	s->status = (uint16_t)(s->tunnel ? 0 : i * 100);
}

/* --- buckets --- */

static uint32_t bucket_of(uint64_t ns)
{
	uint32_t e;

	if (ns < 1ULL << LOW_EXP)
		return 0;
	if (ns >= 1ULL << HIGH_EXP)
		return TALLY_BUCKETS - 1;
	e = 63 - (uint32_t)__builtin_clzll(ns);
	return 1 + 2 * (e - LOW_EXP) + (uint32_t)(ns >> (e - 1) & 1);
}

static void bucket_bounds(uint32_t b, uint64_t *low, uint64_t *width)
{
	uint32_t e = LOW_EXP + (b - 1) / 2;

	if (!b) {
		*low = 0;
		*width = 1ULL << LOW_EXP;
		return;
	}
	*low = (2ULL + (b - 1) % 2) << (e - 1);
	*width = 1ULL << (e - 1);
}

/* --- writing --- */

static void add(uint64_t *word, uint64_t value)
{
	if (value)
		__atomic_fetch_add(word, value, __ATOMIC_RELAXED);
}

static struct tally_entry *place_for(struct tally *t, const struct tally_sum *one)
{
	uint64_t key = key_of(one);
	uint32_t from = (uint32_t)((key * 0x9e3779b97f4a7c15ULL) >> 40);

	for (uint32_t i = 0; i < PROBES; i++) {
		struct tally_entry *e = &t->entry[(from + i) % TALLY_ENTRIES];
		uint64_t there = __atomic_load_n(&e->key, __ATOMIC_SEQ_CST);

		if (!there)
			__atomic_store_n(&e->key, key, __ATOMIC_RELEASE);
		if (!there || there == key)
			return e;
	}
	return &t->entry[TALLY_ENTRIES + other_of(one)];
}

static void add_latency(struct tally_entry *e, uint64_t ns)
{
	uint32_t b = bucket_of(ns);
	uint64_t low, width, place;

	bucket_bounds(b, &low, &width);
	place = (ns - low) / (width / PLACES);
	if (place >= PLACES)
		place = PLACES - 1;
	if (__atomic_load_n(&e->bucket[b], __ATOMIC_RELAXED) >> PLACE_BITS < TALLY_MOST)
		__atomic_fetch_add(&e->bucket[b], (1ULL << PLACE_BITS) + place, __ATOMIC_RELEASE);
}

/* `busy` and the keys are a Dekker lock: either we see that the reader gives the entry back, or it
 * sees that we are at it. */
void tally_add(struct tally *t, const struct tally_sum *one)
{
	struct tally_entry *e;

	__atomic_store_n(&t->busy, 1, __ATOMIC_SEQ_CST);
	e = place_for(t, one);
	add(&e->bytes_in, one->bytes_in);
	add(&e->bytes_out, one->bytes_out);
	add(&e->retries, one->retries);
	add_latency(e, one->duration_ns);
	__atomic_store_n(&t->busy, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&t->news, 1, __ATOMIC_RELEASE);
}

/* --- reading --- */

struct taker {
	void (*fn)(const struct tally_sum *sum, void *arg);
	void *arg;
	uint32_t calls;
};

/* Most words are 0, and must not be written for that. */
static uint64_t take(uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED)
		       ? __atomic_exchange_n(word, 0, __ATOMIC_ACQUIRE)
		       : 0;
}

static uint64_t take_bytes(uint64_t *word)
{
	uint64_t n = take(word);

	return n < BYTES_MAX ? n : BYTES_MAX;
}

static void take_bucket(struct tally_entry *e, uint32_t b, struct tally_sum *s, struct taker *to)
{
	uint64_t word = take(&e->bucket[b]), low, width, sum;

	s->n = word >> PLACE_BITS;
	if (!s->n)
		return;
	bucket_bounds(b, &low, &width);
	sum = word & ((1ULL << PLACE_BITS) - 1);
	if (sum > s->n * (PLACES - 1))
		sum = s->n * (PLACES - 1);
	s->duration_ns = low + sum * (width / PLACES) / s->n + width / PLACES / 2;
	s->bytes_in = take_bytes(&e->bytes_in);
	s->bytes_out = take_bytes(&e->bytes_out);
	s->retries = take_bytes(&e->retries);
	to->fn(s, to->arg);
	to->calls++;
}

/* Was there anything? */
static bool take_entry(struct tally_entry *e, struct tally_sum *s, struct taker *to)
{
	uint32_t before = to->calls;

	for (uint32_t b = 0; b < TALLY_BUCKETS; b++)
		take_bucket(e, b, s, to);
	return to->calls != before;
}

/* Nothing can be added while it is LEAVING, so what it has now is the last. */
static void give_back(struct tally *t, struct tally_entry *e, uint64_t key, struct tally_sum *s,
		      struct taker *to)
{
	__atomic_store_n(&e->key, LEAVING, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&t->busy, __ATOMIC_SEQ_CST)) {
		__atomic_store_n(&e->key, key, __ATOMIC_SEQ_CST);
		return;
	}
	take_entry(e, s, to);
	e->bytes_in = e->bytes_out = e->retries = 0; /* of one that died in between */
	__atomic_store_n(&e->key, 0, __ATOMIC_RELEASE);
}

static void take_keyed(struct tally *t, struct tally_entry *e, struct taker *to)
{
	uint64_t key = __atomic_load_n(&e->key, __ATOMIC_ACQUIRE);
	struct tally_sum s = {0};

	if (key == LEAVING) /* a reader died there: what may be left is the next one's */
		__atomic_store_n(&e->key, 0, __ATOMIC_RELEASE);
	if (!(key & IN_USE))
		return;
	key_read(key, &s);
	if (!take_entry(e, &s, to))
		give_back(t, e, key, &s, to);
}

uint32_t tally_take(struct tally *t, void (*fn)(const struct tally_sum *sum, void *arg), void *arg)
{
	struct taker to = {.fn = fn, .arg = arg};

	if (!__atomic_load_n(&t->news, __ATOMIC_RELAXED))
		return 0;
	__atomic_store_n(&t->news, 0, __ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < TALLY_ENTRIES; i++)
		take_keyed(t, &t->entry[i], &to);
	for (uint32_t i = 0; i < TALLY_OTHERS; i++) {
		struct tally_sum s = {0};

		other_read(i, &s);
		take_entry(&t->entry[TALLY_ENTRIES + i], &s, &to);
	}
	return to.calls;
}
