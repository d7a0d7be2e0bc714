/* SPDX-License-Identifier: Apache-2.0 */
/* The registry: numbers for the versions that a configuration names, and their subsets; faults. */
#include "tests/unit/registry_rig.h"

static const char *const none[] = {NULL};

/* A configuration of s that names those versions, in that order, as routes would. */
static void configure_names(const char *const *names, uint8_t fallback)
{
	struct named_config c;
	uint32_t position;

	memset(&c, 0, sizeof(c));
	strcpy(c.service, "s");
	service_config_init(&c.config);
	c.config.fallback = fallback;
	for (; *names; names++)
		assert_int_equal(service_config_version(&c.config, *names, &position), 0);
	assert_int_equal(registry_configure(r, &c, 1, now), 0);
	service_config_done(&c.config);
}

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

static void configure_split(const char *a, const char *b, uint8_t fallback)
{
	struct named_config c;

	memset(&c, 0, sizeof(c));
	strcpy(c.service, "s");
	service_config_init(&c.config);
	c.config.fallback = fallback;
	c.config.split.n = 2;
	assert_int_equal(service_config_version(&c.config, a, &c.config.split.to[0].version), 0);
	assert_int_equal(service_config_version(&c.config, b, &c.config.split.to[1].version), 0);
	c.config.split.to[0].weight = SNAP_ALL / 2;
	c.config.split.to[1].weight = SNAP_ALL / 2;
	assert_int_equal(registry_configure(r, &c, 1, now), 0);
	service_config_done(&c.config);
}

static void find(struct service_view *v)
{
	for (uint32_t i = 0; i < MESH_MAX_SERVICES; i++)
		if (registry_service(r, i, v) && !strcmp(v->name, "s"))
			return;
	fail_msg("no service s");
}

/* The number of a version of s that its configuration names. */
static uint32_t number(const char *version)
{
	struct service_view v;

	find(&v);
	for (uint32_t i = 0; i < v.config->nversions; i++)
		if (!strcmp(service_config_at(v.config, v.config->versions[i]), version))
			return v.numbers[i];
	return MESH_NONE;
}

/* Ids of the endpoints of a subset, sorted, without spaces; "-": there is no such subset. */
static const char *members(uint32_t subset)
{
	static char text[64];
	bool seen[128] = {false};
	size_t n = 0;

	if (subset == MESH_NONE)
		return "-";
	for (uint32_t i = 0; i < k.slots[subset].n; i++)
		seen[k.endpoints[k.slots[subset].ep[i]].id[0] & 127] = true;
	for (char c = 'a'; c <= 'z'; c++)
		if (seen[(int)c])
			text[n++] = c;
	text[n] = 0;
	return text;
}

static const char *served(uint32_t n)
{
	struct service_view v;

	find(&v);
	return members(k.upstreams[v.upstream].version[n]);
}

static uint64_t serve(const char *id, const char *version)
{
	static uint16_t port = 2000;

	return listens(workload("s", id, version, 0, HOST_NS), "0.0.0.0", ++port);
}

static void a_number_stays_with_its_version_while_the_service_exists(void **state)
{
	configure_names(NAMES("v1", "v2"), 0);
	flush();
	assert_int_equal(number("v1"), 1);
	assert_int_equal(number("v2"), 2);
	configure_names(NAMES("v3", "v2"), 0);
	flush();
	assert_int_equal(number("v3"), 3);
	assert_int_equal(number("v2"), 2);
	now += 3600 * S;
	configure_names(NAMES("v1"), 0);
	flush();
	assert_int_equal(number("v1"), 1);
}

static void every_named_version_has_its_subset_and_number_0_is_everybody(void **state)
{
	uint64_t cookie;

	configure_names(NAMES("v1", "v2", "v3"), 0);
	serve("a", "v1");
	serve("b", "v1");
	cookie = serve("c", "v2");
	serve("d", "unnamed");
	flush();
	assert_string_equal(served(0), "abcd");
	assert_string_equal(served(1), "ab");
	assert_string_equal(served(2), "c");
	for (uint32_t i = 3; i < MESH_VERSIONS; i++)
		assert_string_equal(served(i), "-");
	registry_unlisten(r, cookie);
	serve("e", "v3");
	flush();
	assert_string_equal(served(0), "abde");
	assert_string_equal(served(2), "-");
	assert_string_equal(served(3), "e");
}

static void a_split_without_versions_served_falls_back_as_configured(void **state)
{
	struct service_view v;
	const struct mesh_upstream *u;

	configure_split("v1", "v2", SNAP_FALLBACK_SPLIT);
	serve("a", "v1");
	serve("b", "v3");
	flush();
	find(&v);
	u = &k.upstreams[v.upstream];
	assert_int_equal(u->nsplit, 1);
	assert_string_equal(members(u->split[0].subset), "a");
	configure_split("v1", "v2", SNAP_FALLBACK_NONE);
	flush();
	assert_int_equal(u->nsplit, 2);
	assert_string_equal(members(u->split[0].subset), "a");
	assert_int_equal(u->split[0].upto, 32768);
	assert_int_equal(u->split[1].subset, MESH_NONE);
	configure_split("v4", "v5", SNAP_FALLBACK_SPLIT);
	flush();
	assert_int_equal(u->nsplit, 1);
	assert_string_equal(members(u->split[0].subset), "ab");
}

static uint32_t watched; /* the number that was to be there when the snapshot was sent */

static void look(void)
{
	assert_string_not_equal(served(watched), "-");
}

/* A route in force that names a version whose subset is not there yet would send requests astray,
 * and one that is gone while the old snapshot is still obeyed, too. */
static void a_version_is_there_before_the_snapshot_and_stays_after_it(void **state)
{
	serve("a", "v1");
	serve("b", "v2");
	flush();
	watched = 1;
	k.at_snapshot = look;
	configure_names(NAMES("v2"), 0);
	flush();
	configure_names(none, 0);
	flush();
	assert_string_equal(served(1), "b");
	now += 60 * S;
	serve("c", "v1");
	k.at_snapshot = NULL;
	flush();
	assert_string_equal(served(1), "-");
}

static void a_number_is_given_again_only_when_nobody_can_remember_it(void **state)
{
	char name[CONFIG_VERSIONS][8];
	const char *names[CONFIG_VERSIONS + 1] = {NULL};
	uint32_t before;

	for (int i = 0; i < CONFIG_VERSIONS; i++) {
		sprintf(name[i], "v%d", i + 1);
		names[i] = name[i];
	}
	configure_names(names, 0);
	serve("a", "new");
	flush();
	assert_int_equal(number("v15"), 15);
	names[3] = "new";
	configure_names(names, 0);
	assert_int_equal(registry_flush(r, now), -ENOSPC);
	assert_int_equal(number("new"), 0); /* everybody, for the time being */
	assert_true(registry_dirty(r));
	now += 5 * S;
	assert_int_equal(registry_flush(r, now), -ENOSPC);
	before = k.snapshots;
	now += 6 * S;
	flush();
	assert_int_equal(number("new"), 4);
	assert_int_equal(number("v5"), 5);
	assert_string_equal(served(4), "a");
	assert_true(k.snapshots > before);
}

static void a_service_that_names_what_it_did_makes_no_new_snapshot(void **state)
{
	uint32_t before;

	configure_names(NAMES("v1", "v2"), 0);
	flush();
	before = k.snapshots;
	configure_names(NAMES("v1", "v2"), 0);
	flush();
	assert_int_equal(k.snapshots, before);
	configure_names(NAMES("v2", "v1"), 0);
	flush();
	assert_true(k.snapshots > before);
	assert_int_equal(number("v2"), 2);
}

/* Fifteen versions of each service until there is no room for more. */
static void when_subsets_run_out_everybody_is_called_and_it_is_counted(void **state)
{
	const uint32_t services = 140;
	struct named_config *c = calloc(services, sizeof(*c));
	struct external_info *x = calloc(services * CONFIG_VERSIONS, sizeof(*x));
	struct registry_usage usage;
	struct service_view v;
	uint32_t degraded = 0, own = 0, n = 0, position;

	assert_true(c && x);
	for (uint32_t i = 0; i < services; i++) {
		sprintf(c[i].service, "s%u", i);
		service_config_init(&c[i].config);
		for (uint32_t j = 0; j < CONFIG_VERSIONS; j++, n++) {
			sprintf(x[n].service, "s%u", i);
			sprintf(x[n].version, "v%u", j);
			sprintf(x[n].id, "e%u", n);
			memcpy(x[n].ip + 10, "\xff\xff\x0a\x01\x01\x01", 6);
			x[n].port = (uint16_t)(1000 + n);
			assert_int_equal(
				service_config_version(&c[i].config, x[n].version, &position), 0);
		}
	}
	assert_int_equal(registry_configure(r, c, services, now), 0);
	assert_int_equal(registry_externals(r, x, n, now), 0);
	k.max_dests = 0; /* not what this is about */
	assert_int_equal(registry_flush(r, now), -E2BIG);
	registry_usage(r, &usage);
	assert_int_equal(usage.endpoints, services * CONFIG_VERSIONS);
	assert_int_equal(usage.subsets, MESH_MAX_SUBSETS - MESH_MAX_UPSTREAMS + services);
	for (uint32_t i = 0; registry_service(r, i, &v); i++) {
		const struct mesh_upstream *u = &k.upstreams[v.upstream];

		assert_int_not_equal(u->version[0], MESH_NONE);
		assert_int_equal(k.slots[u->version[0]].nendpoints, CONFIG_VERSIONS);
		for (uint32_t j = 1; j <= CONFIG_VERSIONS; j++) {
			degraded += u->version[j] == u->version[0];
			own += k.slots[u->version[j]].nendpoints == 1;
		}
	}
	assert_int_equal(own, MESH_MAX_SUBSETS - MESH_MAX_UPSTREAMS);
	assert_int_equal(own + degraded, services * CONFIG_VERSIONS);
	assert_in_range(usage.full, degraded, UINT32_MAX);
	for (uint32_t i = 0; i < services; i++)
		service_config_done(&c[i].config);
	free(c);
	free(x);
}

static void a_fault_ends_by_itself_and_makes_a_snapshot_each_time(void **state)
{
	struct fault_info f = {.service = "s", .fault.abort_share = 7, .left_ms = 1000};
	struct service_view v;
	uint32_t before;

	configure_names(none, 0);
	assert_int_equal(registry_faults(r, &f, 1, 5000), 0);
	flush();
	find(&v);
	assert_non_null(v.fault);
	assert_int_equal(v.fault->abort_share, 7);
	assert_int_equal(v.fault->until_ms, 6000);
	registry_faults_end(r, 5999);
	assert_false(registry_dirty(r));
	before = k.snapshots;
	registry_faults_end(r, 6000);
	flush();
	assert_int_equal(k.snapshots, before + 1);
	find(&v);
	assert_null(v.fault);
	f.left_ms = 0; /* over when it arrives */
	assert_int_equal(registry_faults(r, &f, 1, 7000), 0);
	find(&v);
	assert_null(v.fault);
	f.left_ms = 10;
	assert_int_equal(registry_faults(r, &f, 1, 7000), 0);
	assert_int_equal(registry_faults(r, NULL, 0, 7001), 0);
	find(&v);
	assert_null(v.fault);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		story(a_number_stays_with_its_version_while_the_service_exists),
		story(every_named_version_has_its_subset_and_number_0_is_everybody),
		story(a_split_without_versions_served_falls_back_as_configured),
		story(a_version_is_there_before_the_snapshot_and_stays_after_it),
		story(a_number_is_given_again_only_when_nobody_can_remember_it),
		story(a_service_that_names_what_it_did_makes_no_new_snapshot),
		story(when_subsets_run_out_everybody_is_called_and_it_is_counted),
		story(a_fault_ends_by_itself_and_makes_a_snapshot_each_time),
	};

	return cmocka_run_group_tests_name("registry versions", tests, NULL, NULL);
}
