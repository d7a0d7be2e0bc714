/* The decision code gives the same answers in the kernel and natively: random and extreme inputs,
 * worked out by BPF_PROG_TEST_RUN and here. */
#include "bpf/decide.h"
#include "bpf/decide.skel.h"

#include <bpf/bpf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
/* after the types that it needs */
#include <cmocka.h>

#define BATCHES 128 /* of DECIDE_BATCH: 131,072 cases */
#define SEED	0x9e3779b97f4a7c15ULL

static __u64 rng_state = SEED;

static __u64 rng(void) /* xorshift64* */
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return rng_state * 0x2545f4914f6cdd1dULL;
}

/* Any magnitude with equal likelihood, and the edges of the words often. */
static __u64 any64(void)
{
	static const __u64 edges[] = {0,	  1,	      63,	   64,	 0x7fffffff,
				      0x80000000, 0xffffffff, 0x100000000, ~0ULL};
	__u64 r = rng();

	if (r % 8 == 0)
		return edges[(r >> 8) % (sizeof(edges) / sizeof(edges[0]))];
	return rng() >> (r >> 8) % 64;
}

static void fill(struct decide_in *in)
{
	__u32 upto = 0;

	in->word = any64();
	in->latency_ns = any64();
	in->now_ns = any64();
	in->cost_a = any64();
	in->cost_b = rng() % 4 ? any64() : in->cost_a;
	in->failed = rng() & 1;
	in->inflight = (__u32)any64();
	in->rnd = (__u32)rng();
	in->dt = (__u32)any64();
	in->up.nsplit = rng() % 8 ? (__u32)(rng() % (MESH_SPLITS + 1)) : (__u32)any64();
	for (int i = 0; i < MESH_SPLITS; i++)
		in->up.split[i].upto = upto += (__u32)(rng() % (65536 / MESH_SPLITS));
}

static void kernel_and_native_agree(void **state)
{
	struct decide_bpf *skel = decide_bpf__open_and_load();
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	struct decide_case *cases;
	struct decide_out native;
	size_t len = DECIDE_BATCH * sizeof(*cases);

	assert_non_null(skel);
	assert_int_equal(sizeof(*cases) % 8, 0); /* as array elements are padded */
	cases = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(skel->maps.cases),
		     0);
	assert_true(cases != MAP_FAILED);
	for (int b = 0; b < BATCHES; b++) {
		for (int i = 0; i < DECIDE_BATCH; i++) {
			fill(&cases[i].in);
			memset(&cases[i].out, 0xa5, sizeof(cases[i].out));
		}
		assert_int_equal(
			bpf_prog_test_run_opts(bpf_program__fd(skel->progs.decide_all), &opts), 0);
		assert_int_equal(opts.retval, DECIDE_BATCH);
		for (int i = 0; i < DECIDE_BATCH; i++) {
			decide(&cases[i].in, &native);
			assert_memory_equal(&cases[i].out, &native, sizeof(native));
		}
	}
	munmap(cases, len);
	decide_bpf__destroy(skel);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(kernel_and_native_agree)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
