/* SPDX-License-Identifier: Apache-2.0 */
/* The forms of what the registry takes in, as tables; docs/api.md is their prose. */
#include "ctl/meshd/registry_forms.h"
#include "lib/addr.h"
#include "lib/json.h"
#include "lib/weight.h"

static bool address_valid(const char *s)
{
	uint8_t ip[16];

	return addr_parse_ip(s, ip) == 0 && !addr_is_any(ip);
}

/* clang-format off: the tables are read as tables */
static const struct schema name = {SCHEMA_TEXT, .min = 1, .max = 63, .valid = name_valid,
				   .what = NAME_WHAT};
static const struct schema label = {SCHEMA_TEXT, .min = 1, .max = 63};
static const struct schema text = {SCHEMA_TEXT, .min = 0, .max = 1024};
static const struct schema address = {
	SCHEMA_TEXT, .min = 2, .max = 64, .valid = address_valid,
	.what = "an IPv4 or IPv6 address of one host (names are not resolved)"};
static const struct schema port = {SCHEMA_INTEGER, .min = 1, .max = 65535};
static const struct schema ports = {SCHEMA_LIST, .min = 0, .max = 65535, .item = &port};
static const struct schema number = {SCHEMA_INTEGER, .min = 0, .max = JSON_WHOLE_MAX};
static const struct schema weight = {SCHEMA_INTEGER, .min = 1, .max = WEIGHT_MOST};
static const struct schema boolean = {SCHEMA_BOOL};
static const struct schema ttl = {SCHEMA_DURATION, .min = 1000, .max = 24 * 3600e3};
static const struct schema metadata_item = {SCHEMA_TEXT, .min = 0, .max = 256};

static int metadata_check(const cJSON *v, struct schema_error *e)
{
	const char *version = json_str(v, "version", "v1");

	return name_valid(version) ? 0 : schema_fail(e, ".version", "must be %s", NAME_WHAT);
}

static const struct schema metadata = {SCHEMA_MAP,
				       .min = 0,
				       .max = 16,
				       .valid = name_valid,
				       .what = NAME_WHAT,
				       .item = &metadata_item,
				       .check = metadata_check};

const struct schema registry_register_form = {
	SCHEMA_OBJECT, .fields = (const struct schema_field[]){
			       {"name", &name, .required = true},
			       {"port", &port, .required = true},
			       {"address", &address, .fallback = "\"127.0.0.1\""},
			       {"instance", &name},
			       {"sidecarPort", &port}, /* of older clients; there are no sidecars */
			       {"metadata", &metadata},
			       {"ttl", &ttl},
			       {NULL}}};

static const struct schema status = {
	SCHEMA_WORD,
	.words = (const char *const[]){"healthy", "unhealthy", "ejected", "draining", NULL}};
static const struct schema endpoint_form = {
	SCHEMA_OBJECT, .open = true,
	.fields = (const struct schema_field[]){{"service", &label, .required = true},
						{"id", &label, .required = true},
						{"address", &address, .required = true},
						{"port", &port, .required = true},
						{"version", &label},
						{"weight", &weight},
						{"protocol", &label},
						{"status", &status},
						{"primary", &boolean},
						{"registered", &boolean},
						{"ports", &ports},
						{"cgroup", &text},
						{"pid", &number},
						{NULL}}};
static const struct schema endpoints_form = {SCHEMA_LIST, .min = 0, .max = 65536,
					     .item = &endpoint_form};
static const struct schema workload_form = {
	SCHEMA_OBJECT, .open = true,
	.fields = (const struct schema_field[]){{"service", &label, .required = true},
						{"instance", &label},
						{"version", &label},
						{"cgroup", &text},
						{"address", &text},
						{"listens", &boolean},
						{NULL}}};
static const struct schema workloads_form = {SCHEMA_LIST, .min = 0, .max = 65536,
					     .item = &workload_form};

static const struct schema breaker_state = {
	SCHEMA_WORD, .words = (const char *const[]){"closed", "half-open", "open", NULL}};
static const struct schema breaker_form = {
	SCHEMA_OBJECT, .open = true,
	.fields = (const struct schema_field[]){{"service", &label, .required = true},
						{"endpoint", &label},
						{"state", &breaker_state, .required = true},
						{"held", &boolean},
						{"sinceMs", &number},
						{"forMs", &number},
						{"level", &number},
						{"requests", &number},
						{"failures", &number},
						{"consecutive", &number},
						{"opened", &number},
						{NULL}}};
static const struct schema breakers_form = {SCHEMA_LIST, .min = 0, .max = 65536,
					    .item = &breaker_form};

/* Open: an agent that is newer than this meshd may say more. */
const struct schema registry_agent_form = {
	SCHEMA_OBJECT, .open = true,
	.fields = (const struct schema_field[]){{"epoch", &label},
						{"version", &label},
						{"pid", &number},
						{"cgroup", &text},
						{"workers", &number},
						{"workersAnswering", &number},
						{"gateway", &text},
						{"gatewayError", &text},
						{"admin", &text},
						{"configRevision", &number},
						{"configError", &text},
						{"endpoints", &endpoints_form, .required = true},
						{"workloads", &workloads_form},
						{"breakers", &breakers_form},
						{NULL}}};
/* clang-format on */
