/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the shared words have in common: threads that begin together, and the
 * compare-and-swap loop that workers, supervisor and kernel change such a word with. */
#ifndef TESTS_UNIT_THREADS_H
#define TESTS_UNIT_THREADS_H

#include <linux/types.h>
#include <pthread.h>

#define THREADS 4

/* Changes *word to `after`, an expression of `old`; it may be evaluated several times. */
#define change(word, old, after)                                                                   \
	do {                                                                                       \
		old = __atomic_load_n(word, __ATOMIC_RELAXED);                                     \
	} while (!__atomic_compare_exchange_n(word, &(old), after, 1, __ATOMIC_RELAXED,            \
					      __ATOMIC_RELAXED))

struct threads_start {
	pthread_barrier_t barrier;
	void (*run)(void *arg, int number);
	void *arg;
};

struct threads_one {
	struct threads_start *start;
	pthread_t thread;
	int number;
};

static void *threads_main(void *arg)
{
	struct threads_one *one = arg;

	pthread_barrier_wait(&one->start->barrier);
	one->start->run(one->start->arg, one->number);
	return NULL;
}

/* Calls run(arg, 0 to THREADS - 1) in as many threads and waits for their end. */
static void in_threads(void (*run)(void *arg, int number), void *arg)
{
	struct threads_start start = {.run = run, .arg = arg};
	struct threads_one all[THREADS];

	assert_int_equal(pthread_barrier_init(&start.barrier, NULL, THREADS), 0);
	for (int i = 0; i < THREADS; i++) {
		all[i] = (struct threads_one){.start = &start, .number = i};
		assert_int_equal(pthread_create(&all[i].thread, NULL, threads_main, &all[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(all[i].thread, NULL), 0);
	pthread_barrier_destroy(&start.barrier);
}

#endif
