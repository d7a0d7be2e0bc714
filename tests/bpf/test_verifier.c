/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verifier of the kernel that runs accepts each program of the mesh by itself, and what it had
 * to look at: a line "verifier: PROGRAM N" each, which tests/kernels/run.sh makes the table of
 * docs/performance.md from. Nothing is attached.
 */
#include "bpf/decide.skel.h"
#include "bpf/mesh.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define PROGRAMS_MAX 64
#define LIMIT	     1000000 /* the kernel's own, BPF_COMPLEXITY_LIMIT_INSNS */
#define LOG_MAX	     (1 << 20)
#define TAIL	     1500 /* of the verifier's log, where it says why */

static char words[LOG_MAX];
static size_t words_len;

static int keep_words(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	int n;

	if (level == LIBBPF_DEBUG || words_len >= LOG_MAX)
		return 0;
	n = vsnprintf(words + words_len, LOG_MAX - words_len, fmt, ap);
	if (n > 0)
		words_len += (size_t)n < LOG_MAX - words_len ? (size_t)n : LOG_MAX - words_len;
	return 0;
}

/* Of the open object: loads the program of that number and no other. The instructions that the
 * verifier processed, or -errno. *name lives as long as the object; NULL: there is none. */
static long load_one(struct bpf_object *obj, int number, const char **name)
{
	struct bpf_program *p, *chosen = NULL;
	struct bpf_prog_info info = {0};
	__u32 len = sizeof(info);
	int i = 0, r;

	bpf_object__for_each_program (p, obj) {
		if (i == number)
			chosen = p;
		bpf_program__set_autoload(p, i++ == number);
	}
	*name = chosen ? bpf_program__name(chosen) : NULL;
	if (!chosen)
		return 0;
	words_len = words[0] = 0;
	r = bpf_object__load(obj);
	if (!r && bpf_obj_get_info_by_fd(bpf_program__fd(chosen), &info, &len))
		r = -errno;
	return r ? r : (long)info.verified_insns;
}

/* A fresh object for each program: libbpf loads one once. */
static int verify_all(const char *what, struct bpf_object *(*open)(void **skel),
		      void (*destroy)(void *skel))
{
	int refused = 0;

	for (int i = 0; i < PROGRAMS_MAX; i++) {
		struct bpf_object *obj;
		const char *name;
		void *skel;
		long n;

		obj = open(&skel);
		assert_non_null(obj);
		n = load_one(obj, i, &name);
		if (name && n > 0) {
			printf("verifier: %s %ld\n", name, n);
			assert_true(n < LIMIT);
		} else if (name) {
			refused++;
			printf("%s: %s is refused: %s\n%s\n", what, name, strerror((int)-n),
			       words_len > TAIL ? words + words_len - TAIL : words);
		}
		destroy(skel);
		if (!name)
			return refused;
	}
	fail_msg("more than %d programs", PROGRAMS_MAX);
	return refused;
}

static struct bpf_object *open_mesh(void **skel)
{
	struct mesh_bpf *s = mesh_bpf__open();

	*skel = s;
	return s ? s->obj : NULL;
}

static void destroy_mesh(void *skel)
{
	mesh_bpf__destroy(skel);
}

static struct bpf_object *open_decide(void **skel)
{
	struct decide_bpf *s = decide_bpf__open();

	*skel = s;
	return s ? s->obj : NULL;
}

static void destroy_decide(void *skel)
{
	decide_bpf__destroy(skel);
}

static void every_program_loads_by_itself(void **state)
{
	assert_int_equal(verify_all("mesh", open_mesh, destroy_mesh), 0);
}

static void the_shared_rules_load_as_programs(void **state)
{
	assert_int_equal(verify_all("decide", open_decide, destroy_decide), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_program_loads_by_itself),
		cmocka_unit_test(the_shared_rules_load_as_programs),
	};

	libbpf_set_print(keep_words);
	setvbuf(stdout, NULL, _IOLBF, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
