/* SPDX-License-Identifier: Apache-2.0 */
/* What meshd says becomes a checked configuration, and that a sealed block which workers can trust.
 */
#include "agent/control/compile.h"
#include "agent/control/configuration.h"
#include "agent/control/snapshot.h"
#include "lib/addr.h"

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

static struct registry *r;

static int sink_services(void *arg)
{
	return 0;
}
static void sink_endpoint(void *arg, uint32_t id, const struct mesh_endpoint *ep, bool fresh)
{
}
static void sink_upstream(void *arg, uint32_t id, const struct mesh_upstream *up, bool fresh)
{
}
static void sink_slots(void *arg, uint32_t subset, uint32_t n, uint32_t nendpoints,
		       const uint16_t *ep)
{
}
static int sink_dest(void *arg, const struct mesh_dest_key *key, const struct mesh_dest *dest)
{
	return 0;
}
static int sink_workload(void *arg, uint64_t cgroup, const struct mesh_workload *w)
{
	return 0;
}
static uint64_t sink_latency(void *arg, uint32_t endpoint)
{
	return 0;
}

static int make(void **state)
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

static int drop(void **state)
{
	registry_free(&r);
	return 0;
}

static void configure(const char *json)
{
	char why[CONFIGURATION_ERROR_MAX];
	struct configuration c;

	assert_int_equal(configuration_parse(json, strlen(json), &c, why), 0);
	assert_int_equal(registry_configure(r, c.services, c.nservices, 1), 0);
	assert_int_equal(registry_externals(r, c.externals, c.nexternals, 1), 0);
	assert_int_equal(registry_flush(r, 1), 0);
	configuration_done(&c);
}

static int compile(const char *gateway_default, uint64_t *size)
{
	struct snapshot_input in = {
		.registry = r, .gateway_default = gateway_default, .generation = 7, .revision = 9};
	int fd = snapshot_compile(&in, size);

	assert_true(fd >= 0);
	return fd;
}

static const struct snapshot *map(int fd, uint64_t size)
{
	const struct snapshot *s = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);

	assert_true(s != MAP_FAILED);
	assert_int_equal(snapshot_check(s, size), 0);
	return s;
}

static void names_policies_and_timeouts_arrive(void **state)
{
	const struct snapshot *s;
	const struct snap_service *v;
	uint64_t size;
	uint32_t id;
	int fd;

	configure("{\"revision\":9,\"services\":["
		  "{\"service\":\"zeta\",\"protocol\":\"tcp\"},"
		  "{\"service\":\"alpha\",\"loadBalancer\":{\"policy\":\"random\"},"
		  "\"timeouts\":{\"try\":\"250ms\",\"request\":\"1m\"}},"
		  "{\"service\":\"alph\"}],\"endpoints\":[]}");
	fd = compile("zeta", &size);
	s = map(fd, size);
	assert_int_equal(s->generation, 7);
	assert_int_equal(s->revision, 9);
	assert_int_equal(s->nnames, 3);
	id = snapshot_find(s, "alpha/rest", 5);
	v = snapshot_service(s, id);
	assert_non_null(v);
	assert_string_equal(snapshot_string(s, v->name), "alpha");
	assert_int_equal(v->policy, MESH_LB_RANDOM);
	assert_int_equal(v->timeouts.connect, 1000);
	assert_int_equal(v->timeouts.try, 250);
	assert_int_equal(v->timeouts.request, 60000);
	assert_int_equal(v->timeouts.idle, 60000);
	assert_int_equal(v->upstream, MESH_NONE);
	assert_int_equal(s->gateway_default, snapshot_find(s, "zeta", 4));
	assert_int_equal(snapshot_service(s, s->gateway_default)->protocol, MESH_PROTO_TCP);
	assert_int_equal(snapshot_find(s, "alphabet", 8), MESH_NONE);
	assert_int_equal(snapshot_find(s, "al", 2), MESH_NONE);
	assert_int_equal(snapshot_find(s, "", 0), MESH_NONE);
	assert_int_not_equal(snapshot_find(s, "alph", 4), id);
	munmap((void *)s, size);
	close(fd);
}

static void an_empty_configuration_is_a_valid_snapshot(void **state)
{
	const struct snapshot *s;
	uint64_t size;
	int fd = compile("nobody", &size);

	s = map(fd, size);
	assert_int_equal(s->nnames, 0);
	assert_int_equal(s->gateway_default, MESH_NONE);
	assert_int_equal(snapshot_find(s, "x", 1), MESH_NONE);
	munmap((void *)s, size);
	close(fd);
}

static void the_block_can_no_longer_be_written(void **state)
{
	uint64_t size;
	int fd = compile(NULL, &size);

	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_true(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
	close(fd);
}

static void a_block_that_was_tampered_with_is_refused(void **state)
{
	uint64_t size;
	const struct snapshot *s;
	char *copy;
	int fd, refused = 0;

	configure("{\"revision\":1,\"services\":[{\"service\":\"a\"},{\"service\":\"b\"}],"
		  "\"endpoints\":["
		  "{\"service\":\"a\",\"id\":\"x\",\"address\":\"192.0.2.1\",\"port\":80}]}");
	fd = compile(NULL, &size);
	s = map(fd, size);
	copy = malloc(size);
	assert_non_null(copy);
	for (size_t len = 0; len < size; len++) {
		memcpy(copy, s, size);
		assert_int_equal(snapshot_check(copy, len), -EINVAL);
	}
	for (size_t i = 0; i < size; i++) { /* any byte: refused, or harmless to read */
		uint32_t id;

		memcpy(copy, s, size);
		copy[i] ^= 0xff;
		if (snapshot_check(copy, size)) {
			refused++;
			continue;
		}
		id = snapshot_find((struct snapshot *)copy, "b", 1);
		assert_true(id == MESH_NONE || snapshot_service((struct snapshot *)copy, id));
	}
	assert_true(refused > 40);
	free(copy);
	munmap((void *)s, size);
	close(fd);
}

static void a_bad_configuration_is_refused_with_its_place(void **state)
{
	static const struct {
		const char *json, *why;
	} cases[] = {
		{"", "not a JSON object"},
		{"[]", "not a JSON object"},
		{"{\"services\":[]}", "answer: revision: a number is expected"},
		{"{\"revision\":1,\"services\":[{}]}", "answer: service: a string is expected"},
		{"{\"revision\":1,\"services\":[{\"service\":\"s\",\"protocol\":\"udp\"}]}",
		 "s: protocol: not one of the known values"},
		{"{\"revision\":1,\"services\":[{\"service\":\"s\",\"loadBalancer\":{\"policy\":7}}"
		 "]}",
		 "s: loadBalancer.policy: not one of the known values"},
		{"{\"revision\":1,\"services\":[{\"service\":\"s\",\"split\":{\"v1\":-1}}]}",
		 "s: split.v1: a number from 0 to 100 is expected"},
		{"{\"revision\":1,\"services\":[{\"service\":\"s\",\"split\":{\"v1\":0}}]}",
		 "s: split: all weights are 0"},
		{"{\"revision\":1,\"services\":[{\"service\":\"s\",\"split\":"
		 "{\"1\":1,\"2\":1,\"3\":1,\"4\":1,\"5\":1,\"6\":1,\"7\":1,\"8\":1,\"9\":1}}]}",
		 "s: split: more than 8 versions"},
		{"{\"revision\":1,\"services\":[{\"service\":\"s\",\"timeouts\":{\"try\":5}}]}",
		 "s: timeouts.try: a duration like 500ms, a day at most, is expected"},
		{"{\"revision\":1}", "answer: services: a list is expected"},
		{"{\"revision\":1,\"services\":{\"s\":{\"service\":\"s\"}}}",
		 "answer: services: a list is expected"},
		{"{\"revision\":1,\"services\":[{\"service\":\"a\\nb\"}]}",
		 "answer: service: printable ASCII is expected"},
		{"{\"revision\":1,\"services\":[{\"service\":\"s\",\"split\":{\"v1\":100.5}}]}",
		 "s: split.v1: a number from 0 to 100 is expected"},
		{"{\"revision\":1,\"services\":[{\"service\":\"s\",\"split\":{\"v1\":1,"
		 "\"v1\":2}}]}",
		 "s: split.v1: stands there twice"},
		{"{\"revision\":1,\"services\":[],\"endpoints\":[{\"service\":\"s\",\"id\":\"i\","
		 "\"address\":"
		 "\"localhost\",\"port\":1}]}",
		 "s: endpoint i: address: an IP address is expected"},
		{"{\"revision\":1,\"services\":[],\"endpoints\":[{\"service\":\"s\",\"id\":\"i\","
		 "\"address\":\"::"
		 "1\",\"port\":65536}]}",
		 "s: endpoint i: port: 1 to 65535 is expected"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char why[CONFIGURATION_ERROR_MAX] = "";
		struct configuration c;

		assert_int_equal(configuration_parse(cases[i].json, strlen(cases[i].json), &c, why),
				 -EINVAL);
		assert_string_equal(why, cases[i].why);
	}
}

static void what_is_too_long_is_refused_not_cut(void **state)
{
	char json[512], name[80], why[CONFIGURATION_ERROR_MAX];
	struct configuration c;

	memset(name, 'n', sizeof(name));
	for (int len = MESH_NAME_MAX - 1; len <= MESH_NAME_MAX; len++) {
		snprintf(json, sizeof(json),
			 "{\"revision\":1,\"services\":[{\"service\":\"%.*s\"}],\"endpoints\":[]}",
			 len, name);
		assert_int_equal(configuration_parse(json, strlen(json), &c, why),
				 len < MESH_NAME_MAX ? 0 : -EINVAL);
		if (len < MESH_NAME_MAX)
			configuration_done(&c);
	}
}

static void what_is_more_than_fits_is_refused_as_a_whole(void **state)
{
	char *json = malloc(64 + (MESH_MAX_SERVICES + 1) * 24), why[CONFIGURATION_ERROR_MAX];
	struct configuration c;
	int at = sprintf(json, "{\"revision\":1,\"endpoints\":[],\"services\":[");

	for (int i = 0; i <= MESH_MAX_SERVICES; i++)
		at += sprintf(json + at, "%s{\"service\":\"s%d\"}", i ? "," : "", i);
	sprintf(json + at, "]}");
	assert_int_equal(configuration_parse(json, strlen(json), &c, why), -EINVAL);
	assert_string_equal(why, "answer: services: more than 1024");
	free(json);
}

static void an_answer_that_brings_nothing_new_is_recognised(void **state)
{
	const char *json = "{\"revision\":5,\"epoch\":\"e1\"}";

	assert_true(configuration_is(json, strlen(json), 5, "e1"));
	assert_false(configuration_is(json, strlen(json), 5, "e2"));
	assert_false(configuration_is(json, strlen(json), 4, "e1"));
	assert_false(configuration_is("x", 1, 5, "e1"));
}

#define story(fn) cmocka_unit_test_setup_teardown(fn, make, drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		story(names_policies_and_timeouts_arrive),
		story(an_empty_configuration_is_a_valid_snapshot),
		story(the_block_can_no_longer_be_written),
		story(a_block_that_was_tampered_with_is_refused),
		cmocka_unit_test(a_bad_configuration_is_refused_with_its_place),
		cmocka_unit_test(what_is_too_long_is_refused_not_cut),
		cmocka_unit_test(what_is_more_than_fits_is_refused_as_a_whole),
		cmocka_unit_test(an_answer_that_brings_nothing_new_is_recognised),
	};

	return cmocka_run_group_tests_name("snapshot", tests, NULL, NULL);
}
