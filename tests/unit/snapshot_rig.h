/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From what meshd says to a block as workers map it, without a kernel. Header only, for
 * tests/unit/test_snapshot.c and test_configuration.c. Single quotes in texts stand for double
 * ones.
 */
#ifndef TESTS_SNAPSHOT_RIG_H
#define TESTS_SNAPSHOT_RIG_H

#include "agent/control/compile.h"
#include "agent/control/configuration.h"
#include "agent/control/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define NOW_NS 1000000000000ULL /* 1000 s */

static struct registry *r;

static inline int sink_services(void *arg)
{
	return 0;
}
static inline void sink_endpoint(void *arg, uint32_t id, const struct mesh_endpoint *ep, bool fresh)
{
}
static inline void sink_upstream(void *arg, uint32_t id, const struct mesh_upstream *up, bool fresh)
{
}
static inline void sink_slots(void *arg, uint32_t subset, const struct mesh_slots *table)
{
}
static inline int sink_dest(void *arg, const struct mesh_dest_key *key,
			    const struct mesh_dest *dest)
{
	return 0;
}
static inline int sink_workload(void *arg, uint64_t cgroup, const struct mesh_workload *w)
{
	return 0;
}
static inline uint64_t sink_latency(void *arg, uint32_t endpoint)
{
	return 0;
}

static inline int make(void **state)
{
	const struct registry_sink sink = {.services = sink_services,
					   .endpoint = sink_endpoint,
					   .upstream = sink_upstream,
					   .slots = sink_slots,
					   .dest = sink_dest,
					   .workload = sink_workload,
					   .latency = sink_latency};

	return registry_new(&sink, 1, &r);
}

static inline int drop(void **state)
{
	registry_free(&r);
	return 0;
}

/* configuration_parse() of a text in single quotes. */
static inline int parse(const char *quoted, struct configuration *c, char *why)
{
	char *json = strdup(quoted);
	int err;

	assert_non_null(json);
	for (char *p = json; *p; p++)
		*p = *p == '\'' ? '"' : *p;
	err = configuration_parse(json, strlen(json), c, why);
	free(json);
	return err;
}

static inline void configure(const char *quoted)
{
	char why[CONFIGURATION_ERROR_MAX] = "";
	struct configuration c;

	if (parse(quoted, &c, why))
		fail_msg("%s", why);
	assert_int_equal(registry_configure(r, c.services, c.nservices, NOW_NS), 0);
	assert_int_equal(registry_externals(r, c.externals, c.nexternals, NOW_NS), 0);
	assert_int_equal(registry_faults(r, c.faults, c.nfaults, NOW_NS / 1000000), 0);
	assert_int_equal(registry_flush(r, NOW_NS), 0);
	configuration_done(&c);
}

static inline int compile(const char *gateway_default, uint64_t *size)
{
	struct snapshot_input in = {
		.registry = r, .gateway_default = gateway_default, .generation = 7, .revision = 9};
	int fd = snapshot_compile(&in, size);

	assert_true(fd >= 0);
	return fd;
}

static inline const struct snapshot *map(int fd, uint64_t size)
{
	const struct snapshot *s = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);

	assert_true(s != MAP_FAILED);
	assert_int_equal(snapshot_check(s, size), 0);
	return s;
}

static inline const struct snap_service *service_named(const struct snapshot *s, const char *name)
{
	const struct snap_service *v = snapshot_service(s, snapshot_find(s, name, strlen(name)));

	assert_non_null(v);
	return v;
}

#define story(fn) cmocka_unit_test_setup_teardown(fn, make, drop)

#endif
