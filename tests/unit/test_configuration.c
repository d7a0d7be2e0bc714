/* SPDX-License-Identifier: Apache-2.0 */
/* What meshd says, key by key: where it arrives in the snapshot, and how it is refused. */
#include "tests/unit/snapshot_rig.h"

#include "agent/proxy/http1.h"
#include "lib/record.h"

#define ANSWER(members)	 "{'revision':1,'services':[],'endpoints':[]," members "}"
#define SERVICE(members) "{'revision':1,'services':[{'service':'s'," members "}],'endpoints':[]}"

/* The snapshot of one service. */
static const struct snapshot *snapshot_of(const char *answer, uint64_t *size)
{
	const struct snapshot *s;
	int fd;

	configure(answer);
	fd = compile(NULL, size);
	s = map(fd, *size);
	close(fd);
	return s;
}

static const struct snap_route *route(const struct snapshot *s, uint32_t i)
{
	const struct snap_service *v = service_named(s, "s");

	assert_true(i < v->nroutes);
	return &snapshot_routes(s, v)[i];
}

static void assert_pair(const struct snapshot *s, const struct snap_pair *p, const char *name,
			const char *value)
{
	assert_string_equal(snapshot_string(s, p->name), name);
	assert_string_equal(snapshot_string(s, p->value), value);
}

static void what_is_not_said_is_as_the_contract_says(void **state)
{
	uint64_t size;
	const struct snapshot *s =
		snapshot_of("{'revision':1,'services':[{'service':'s'}],'endpoints':[]}", &size);
	const struct snap_service *v = service_named(s, "s");

	assert_int_equal(v->retry.attempts, 2);
	assert_int_equal(v->retry.causes, 1 << CAUSE_CONNECT_FAILED | 1 << CAUSE_UPSTREAM_RESET);
	for (uint32_t status = 300; status < 700; status++)
		assert_int_equal(snap_retry_has_status(&v->retry, status),
				 status >= 502 && status <= 504);
	assert_int_equal(v->retry.methods, 1 << HTTP1_GET | 1 << HTTP1_HEAD | 1 << HTTP1_OPTIONS |
						   1 << HTTP1_PUT | 1 << HTTP1_DELETE);
	assert_int_equal(v->retry.backoff_ms, 25);
	assert_int_equal(v->retry.max_backoff_ms, 250);
	assert_int_equal(v->budget.percent_pm, 2000);
	assert_int_equal(v->budget.per_second, 10);
	assert_int_equal(v->breaker.error_pm, 5000);
	assert_int_equal(v->breaker.min_requests, 10);
	assert_int_equal(v->breaker.window_ms, 10000);
	assert_int_equal(v->breaker.open_ms, 30000);
	assert_int_equal(v->breaker.half_open, 1);
	assert_int_equal(v->breaker.consecutive, 5);
	assert_int_equal(v->breaker.max_ejected, 50);
	assert_int_equal(v->breaker.probe_ms, 15000);
	assert_int_equal(v->bulkhead.connections, 1024);
	assert_int_equal(v->bulkhead.requests, 1024);
	assert_int_equal(v->bulkhead.pending, 128);
	assert_int_equal(v->bulkhead.per_source, 512);
	assert_int_equal(v->fallback, SNAP_FALLBACK_SPLIT);
	assert_int_equal(v->fail_closed, 0);
	assert_int_equal(v->sticky.header | v->sticky.cookie | v->nroutes | v->routes, 0);
	assert_int_equal(v->fault.until_ms, 0);
	munmap((void *)s, size);
}

static void every_policy_arrives(void **state)
{
	uint64_t size;
	const struct snapshot *s = snapshot_of(
		SERVICE("'failClosed':true,'fallback':'none','sticky':{'header':'X-User-Id'},"
			"'timeouts':{'request':'200ms'},"
			"'retry':{'attempts':7,'on':['connect-timeout','try-timeout','upstream-"
			"protocol','400','599'],'methods':['POST','PATCH','TRACE','PROPFIND'],"
			"'backoff':'1s','maxBackoff':'2s','budget':{'percent':0.5,'minPerSecond':0}"
			"},"
			"'circuitBreaker':{'errorPercent':0.001,'minRequests':3,'window':'1m',"
			"'openFor':'5s','halfOpenRequests':1000,'consecutiveErrors':0,"
			"'maxEjectedPercent':33.3},'bulkhead':{'maxConnections':1,'maxRequests':2,"
			"'maxPending':0,'maxRequestsPerSource':4}"),
		&size);
	const struct snap_service *v = service_named(s, "s");

	assert_int_equal(v->fail_closed, 1);
	assert_int_equal(v->fallback, SNAP_FALLBACK_NONE);
	assert_string_equal(snapshot_string(s, v->sticky.header), "x-user-id");
	assert_int_equal(v->sticky.cookie, 0);
	assert_int_equal(v->retry.attempts, 7);
	assert_int_equal(v->retry.causes, 1 << CAUSE_CONNECT_TIMEOUT | 1 << CAUSE_TRY_TIMEOUT |
						  1 << CAUSE_UPSTREAM_PROTOCOL);
	for (uint32_t status = 300; status < 700; status++)
		assert_int_equal(snap_retry_has_status(&v->retry, status),
				 status == 400 || status == 599);
	assert_int_equal(v->retry.methods, 1 << HTTP1_POST | 1 << HTTP1_PATCH | 1 << HTTP1_TRACE);
	assert_int_equal(v->retry.backoff_ms, 1000);
	assert_int_equal(v->retry.max_backoff_ms, 2000);
	assert_int_equal(v->budget.percent_pm, 50);
	assert_int_equal(v->budget.per_second, 0);
	assert_int_equal(v->breaker.error_pm, 1); /* never 0 when it was not */
	assert_int_equal(v->breaker.min_requests, 3);
	assert_int_equal(v->breaker.window_ms, 60000);
	assert_int_equal(v->breaker.open_ms, 5000);
	assert_int_equal(v->breaker.half_open, 255);
	assert_int_equal(v->breaker.consecutive, 0);
	assert_int_equal(v->breaker.max_ejected, 33);
	assert_int_equal(v->breaker.probe_ms, 1000); /* longer than a request may take */
	assert_int_equal(v->bulkhead.connections, 1);
	assert_int_equal(v->bulkhead.requests, 2);
	assert_int_equal(v->bulkhead.pending, 0);
	assert_int_equal(v->bulkhead.per_source, 4);
	munmap((void *)s, size);
}

static void a_probe_of_a_request_without_end_is_given_up_too(void **state)
{
	static const struct {
		const char *timeouts;
		uint32_t probe_ms;
	} cases[] = {{"'timeouts':{'request':'0s','try':'4s'}", 4000},
		     {"'timeouts':{'request':'0s','try':'0s'}", 15000},
		     {"'timeouts':{'request':'1h'}", 3600000}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char text[256], why[CONFIGURATION_ERROR_MAX];
		struct configuration c;

		snprintf(text, sizeof(text), SERVICE("%s"), cases[i].timeouts);
		assert_int_equal(parse(text, &c, why), 0);
		assert_int_equal(c.services[0].config.breaker.probe_ms, cases[i].probe_ms);
		configuration_done(&c);
	}
}

static void checks_and_slow_start_are_for_the_supervisor(void **state)
{
	char why[CONFIGURATION_ERROR_MAX];
	struct configuration c;
	const struct health_config *h;

	assert_int_equal(
		parse("{'revision':1,'endpoints':[],'services':[{'service':'a'},"
		      "{'service':'b','healthCheck':{},'loadBalancer':{'slowStart':'30s'}},"
		      "{'service':'c','healthCheck':{'type':'tcp','interval':'1m',"
		      "'timeout':'3s','unhealthyAfter':9,'healthyAfter':4}},"
		      "{'service':'d','healthCheck':{'path':'/ok'}}]}",
		      &c, why),
		0);
	assert_int_equal(c.services[0].config.health.type, HEALTH_AUTO);
	assert_int_equal(c.services[0].config.slow_start_ms, 0);
	assert_int_equal(c.services[1].config.slow_start_ms, 30000);
	h = &c.services[1].config.health;
	assert_int_equal(h->type, HEALTH_HTTP);
	assert_string_equal(h->path, "/health");
	assert_int_equal(h->interval_ms, 2000);
	assert_int_equal(h->timeout_ms, 1000);
	h = &c.services[2].config.health;
	assert_int_equal(h->type, HEALTH_TCP);
	assert_int_equal(h->interval_ms, 60000);
	assert_int_equal(h->timeout_ms, 3000);
	assert_int_equal(h->unhealthy_after, 9);
	assert_int_equal(h->healthy_after, 4);
	assert_string_equal(c.services[3].config.health.path, "/ok");
	configuration_done(&c);
}

static void a_share_of_traces_is_in_the_snapshot(void **state)
{
	uint64_t size;
	const struct snapshot *s =
		snapshot_of("{'revision':1,'endpoints':[],'services':[{'service':'all'},"
			    "{'service':'none','tracing':{'sampling':0}},"
			    "{'service':'tenth','tracing':{'sampling':0.1}},"
			    "{'service':'hardly','tracing':{'sampling':1e-9}},"
			    "{'service':'usual','tracing':{}}]}",
			    &size);

	assert_int_equal(service_named(s, "all")->sampling, SNAP_ALL);
	assert_int_equal(service_named(s, "usual")->sampling, SNAP_ALL);
	assert_int_equal(service_named(s, "none")->sampling, 0);
	assert_int_equal(service_named(s, "tenth")->sampling, SNAP_ALL / 10);
	assert_int_equal(service_named(s, "hardly")->sampling, 1);
	munmap((void *)s, size);
}

static void a_route_says_what_it_matches_and_what_is_different_there(void **state)
{
	uint64_t size;
	const struct snapshot *s = snapshot_of(
		SERVICE("'fallback':'none','timeouts':{'try':'1s'},'retry':{'attempts':5,'on':['"
			"429']"
			"},'split':{'v1':90,'v2':10},'routes':["
			"{'name':'beta','match':{'path':{'prefix':'/a'},'method':'GET',"
			"'headers':{'X-Group':'Beta','x-b':''},'query':{'Q':'1 2'}},"
			"'split':{'v3':99.5,'v2':0.5},'fallback':'split',"
			"'timeouts':{'request':'2s','idle':'0s'},'retry':{'attempts':1},"
			"'mirror':{'version':'v4','percent':12.5},"
			"'fault':{'delay':{'percent':0.0001,'duration':'500ms'},"
			"'abort':{'percent':5,'status':418}}},"
			"{'match':{'path':{'template':'/u/{id}/**'}}},"
			"{'match':{'path':{'exact':'/x'}},'mirror':{'version':'v1','percent':0},"
			"'fault':{'abort':{}}}]"),
		&size);
	const struct snap_route *way = route(s, 0);

	assert_string_equal(snapshot_string(s, way->name), "beta");
	assert_int_equal(way->match.path_kind, SNAP_PATH_PREFIX);
	assert_string_equal(snapshot_string(s, way->match.path), "/a");
	assert_string_equal(snapshot_string(s, way->match.method), "GET");
	assert_int_equal(way->match.nheaders, 2);
	assert_pair(s, snapshot_pairs(s, way->match.headers), "x-group", "Beta");
	assert_pair(s, snapshot_pairs(s, way->match.headers) + 1, "x-b", "");
	assert_int_equal(way->match.nqueries, 1);
	assert_pair(s, snapshot_pairs(s, way->match.queries), "Q", "1 2");
	assert_int_equal(way->split.n, 2);
	assert_int_equal(way->split.to[0].version, 3); /* v1, v2 were named before */
	assert_int_equal(way->split.to[0].weight, 995000);
	assert_int_equal(way->split.to[1].version, 2);
	assert_int_equal(way->split.to[1].weight, 5000);
	assert_int_equal(way->fallback, SNAP_FALLBACK_SPLIT);
	assert_int_equal(way->mirror_version, 4);
	assert_int_equal(way->mirror_share, 125000);
	assert_int_equal(way->timeouts.connect, 1000);
	assert_int_equal(way->timeouts.try, 1000);
	assert_int_equal(way->timeouts.request, 2000);
	assert_int_equal(way->timeouts.idle, 0);
	assert_int_equal(way->retry.attempts, 1);
	assert_true(snap_retry_has_status(&way->retry, 429));
	assert_int_equal(way->fault.delay_share, 1);
	assert_int_equal(way->fault.delay_ms, 500);
	assert_int_equal(way->fault.abort_share, 50000);
	assert_int_equal(way->fault.abort_status, 418);

	way = route(s, 1);
	assert_int_equal(way->name, 0);
	assert_int_equal(way->match.path_kind, SNAP_PATH_TEMPLATE);
	assert_string_equal(snapshot_string(s, way->match.path), "/u/{id}/**");
	assert_int_equal(way->match.method | way->match.nheaders | way->match.nqueries, 0);
	assert_int_equal(way->split.n, 0);
	assert_int_equal(way->fallback, SNAP_FALLBACK_NONE);
	assert_int_equal(way->mirror_share, 0);
	assert_int_equal(way->retry.attempts, 5);
	assert_int_equal(way->fault.delay_share | way->fault.abort_share, 0);

	way = route(s, 2);
	assert_int_equal(way->match.path_kind, SNAP_PATH_EXACT);
	assert_int_equal(way->mirror_share, 0);
	assert_int_equal(way->fault.abort_share, SNAP_ALL);
	assert_int_equal(way->fault.abort_status, 503);
	munmap((void *)s, size);
}

/* Offsets of one service must not be those of another. */
static void services_with_much_behind_them_stand_side_by_side(void **state)
{
	static char text[1 << 20];
	const struct snapshot *s;
	uint64_t size;
	int at = sprintf(text, "{'revision':1,'endpoints':[],'services':[");

	for (int i = 0; i < 40; i++) {
		at += sprintf(text + at, "%s{'service':'s%d','sticky':{'cookie':'c%d'},'routes':[",
			      i ? "," : "", i, i);
		for (int j = 0; j < i; j++)
			at += sprintf(text + at,
				      "%s{'name':'r%d-%d','match':{'headers':{'h%d':'%0*d'}}}",
				      j ? "," : "", i, j, j, 1 + i % 7, j);
		at += sprintf(text + at, "]}");
	}
	sprintf(text + at, "]}");
	s = snapshot_of(text, &size);
	for (int i = 0; i < 40; i++) {
		char name[32];
		const struct snap_service *v;

		sprintf(name, "s%d", i);
		v = service_named(s, name);
		sprintf(name, "c%d", i);
		assert_string_equal(snapshot_string(s, v->sticky.cookie), name);
		assert_int_equal(v->nroutes, i);
		for (int j = 0; j < i; j++) {
			const struct snap_route *way = &snapshot_routes(s, v)[j];
			char value[32], header[32];

			sprintf(name, "r%d-%d", i, j);
			sprintf(header, "h%d", j);
			sprintf(value, "%0*d", 1 + i % 7, j);
			assert_string_equal(snapshot_string(s, way->name), name);
			assert_pair(s, snapshot_pairs(s, way->match.headers), header, value);
		}
	}
	munmap((void *)s, size);
}

static void a_registered_endpoint_has_the_usual_weight_unless_it_says_another(void **state)
{
	char why[CONFIGURATION_ERROR_MAX];
	struct configuration c;

	assert_int_equal(parse("{'revision':1,'services':[],'endpoints':["
			       "{'service':'s','id':'a','address':'192.0.2.7','port':80},"
			       "{'service':'s','id':'b','address':'::1','port':81,'weight':1000}]}",
			       &c, why),
			 0);
	assert_int_equal(c.nexternals, 2);
	assert_int_equal(c.externals[0].weight, 100);
	assert_int_equal(c.externals[1].weight, 1000);
	assert_int_equal(c.externals[1].port, 81);
	configuration_done(&c);
}

static void what_was_ordered_by_hand_is_read(void **state)
{
	char why[CONFIGURATION_ERROR_MAX];
	struct configuration c;

	assert_int_equal(
		parse(ANSWER("'faults':[{'service':'a','delay':{'percent':50,'durationMs':250},"
			     "'leftMs':5000},{'service':'b','abort':{'status':500},'delay':null,"
			     "'leftMs':1}],"
			     "'drains':[{'service':'a','endpoint':'i1'}],"
			     "'hands':[{'serial':4,'service':'a','action':'open'},"
			     "{'serial':5,'service':'a','endpoint':'i1','action':'close'},"
			     "{'serial':6,'service':'a','endpoint':null,'action':'reset'}]"),
		      &c, why),
		0);
	assert_int_equal(c.nfaults, 2);
	assert_string_equal(c.faults[0].service, "a");
	assert_int_equal(c.faults[0].fault.delay_share, SNAP_ALL / 2);
	assert_int_equal(c.faults[0].fault.delay_ms, 250);
	assert_int_equal(c.faults[0].fault.abort_share, 0);
	assert_int_equal(c.faults[0].left_ms, 5000);
	assert_int_equal(c.faults[1].fault.abort_share, SNAP_ALL);
	assert_int_equal(c.faults[1].fault.abort_status, 500);
	assert_int_equal(c.faults[1].fault.delay_share, 0);
	assert_int_equal(c.ndrains, 1);
	assert_string_equal(c.drains[0].endpoint, "i1");
	assert_int_equal(c.nhands, 3);
	assert_int_equal(c.hands[0].serial, 4);
	assert_string_equal(c.hands[0].endpoint, "");
	assert_int_equal(c.hands[0].action, MESH_HAND_OPEN);
	assert_string_equal(c.hands[1].endpoint, "i1");
	assert_int_equal(c.hands[1].action, MESH_HAND_CLOSE);
	assert_int_equal(c.hands[2].action, MESH_HAND_RESET);
	configuration_done(&c);
}

static void a_fault_reaches_the_workers_with_its_end(void **state)
{
	uint64_t size;
	const struct snapshot *s = snapshot_of(
		"{'revision':1,'endpoints':[],'services':[{'service':'s'},{'service':'t'}],"
		"'faults':[{'service':'s','abort':{'percent':10,'status':500},'leftMs':2500},"
		"{'service':'unheard-of','abort':{},'leftMs':2500}]}",
		&size);

	assert_int_equal(service_named(s, "s")->fault.abort_share, SNAP_ALL / 10);
	assert_int_equal(service_named(s, "s")->fault.until_ms, NOW_NS / 1000000 + 2500);
	assert_int_equal(service_named(s, "t")->fault.abort_share, 0);
	munmap((void *)s, size);
}

static void a_bad_configuration_is_refused_with_its_place(void **state)
{
	static const struct {
		const char *json, *why;
	} cases[] = {
		{"", "not a JSON object"},
		{"[]", "not a JSON object"},
		{"{'services':[]}", "answer: revision: a number is expected"},
		{"{'revision':1,'services':[{}]}", "answer: service: a string is expected"},
		{"{'revision':1,'services':[{'service':'s','protocol':'udp'}]}",
		 "s: protocol: not one of the known values"},
		{"{'revision':1,'services':[{'service':'s','loadBalancer':{'policy':7}}"
		 "]}",
		 "s: loadBalancer.policy: not one of the known values"},
		{"{'revision':1,'services':[{'service':'s','tracing':{'sampling':1.5}}]}",
		 "s: tracing.sampling: a number from 0 to 1 is expected"},
		{"{'revision':1,'services':[{'service':'s','tracing':1}]}",
		 "s: tracing: an object is expected"},
		{"{'revision':1,'services':[{'service':'s','split':{'v1':-1}}]}",
		 "s: split.v1: a number from 0 to 100 is expected"},
		{"{'revision':1,'services':[{'service':'s','split':{'v1':0}}]}",
		 "s: split: all weights are 0"},
		{"{'revision':1,'services':[{'service':'s','split':"
		 "{'1':1,'2':1,'3':1,'4':1,'5':1,'6':1,'7':1,'8':1,'9':1}}]}",
		 "s: split: more than 8 versions"},
		{"{'revision':1,'services':[{'service':'s','timeouts':{'try':5}}]}",
		 "s: timeouts.try: a duration like 500ms, a day at most, is expected"},
		{"{'revision':1}", "answer: services: a list is expected"},
		{"{'revision':1,'services':{'s':{'service':'s'}}}",
		 "answer: services: a list is expected"},
		{"{'revision':1,'services':[{'service':'a\\nb'}]}",
		 "answer: service: printable ASCII is expected"},
		{"{'revision':1,'services':[{'service':'s','split':{'v1':100.5}}]}",
		 "s: split.v1: a number from 0 to 100 is expected"},
		{"{'revision':1,'services':[{'service':'s','split':{'v1':1,"
		 "'v1':2}}]}",
		 "s: split.v1: stands there twice"},
		{"{'revision':1,'services':[],'endpoints':[{'service':'s','id':'i',"
		 "'address':"
		 "'localhost','port':1}]}",
		 "s: endpoint i: address: an IP address is expected"},
		{"{'revision':1,'services':[],'endpoints':[{'service':'s','id':'i',"
		 "'address':'::"
		 "1','port':65536}]}",
		 "s: endpoint i: port: 1 to 65535 is expected"},
		{"{'revision':1,'services':[],'endpoints':[{'service':'s','id':'i',"
		 "'address':'::1','port':1,'weight':0}]}",
		 "s: endpoint i: weight: a whole number from 1 to 1000 is expected"},
		{SERVICE("'failClosed':1"), "s: failClosed: true or false is expected"},
		{SERVICE("'accelerate':'maybe'"), "s: accelerate: not one of the known values"},
		{SERVICE("'addresses':['127.0.0.1:80']"),
		 "s: addresses: ADDR:PORT is expected, of no loopback address"},
		{SERVICE("'addresses':['10.0.0.1:80',1]"),
		 "s: addresses: ADDR:PORT is expected, of no loopback address"},
		{SERVICE("'retry':[]"), "s: retry: an object is expected"},
		{SERVICE("'retry':{'attempts':11}"),
		 "s: retry.attempts: a whole number from 0 to 10 is expected"},
		{SERVICE("'retry':{'on':['5xx']}"), "s: retry.on: not one of the known values"},
		{SERVICE("'retry':{'on':'503'}"), "s: retry.on: a list is expected"},
		{SERVICE("'retry':{'methods':[1]}"), "s: retry.methods: strings are expected"},
		{SERVICE("'retry':{'budget':{'percent':101}}"),
		 "s: retry.budget.percent: a number from 0 to 100 is expected"},
		{SERVICE("'circuitBreaker':{'window':10}"),
		 "s: circuitBreaker.window: a duration like 500ms, a day at most, is expected"},
		{SERVICE("'circuitBreaker':{'minRequests':0}"),
		 "s: circuitBreaker.minRequests: a whole number from 1 to 1000000 is expected"},
		{SERVICE("'bulkhead':{'maxPending':-1}"),
		 "s: bulkhead.maxPending: a whole number from 0 to 1000000 is expected"},
		{SERVICE("'healthCheck':{'type':'grpc'}"),
		 "s: healthCheck.type: not one of the known values"},
		{SERVICE("'healthCheck':{'interval':'0s'}"),
		 "s: healthCheck.interval and timeout: more than 0 is expected"},
		{SERVICE("'sticky':{}"), "s: sticky: either header or cookie is expected"},
		{SERVICE("'sticky':{'header':'a','cookie':'b'}"),
		 "s: sticky: either header or cookie is expected"},
		{SERVICE("'sticky':{'header':''}"),
		 "s: sticky.header: the name of a header is 1 to 128 bytes long"},
		{SERVICE("'split':{'':100}"),
		 "s: split: the name of a version is 1 to 63 bytes long"},
		{SERVICE("'fallback':'all'"), "s: fallback: not one of the known values"},
		{SERVICE("'routes':{}"), "s: routes: a list is expected"},
		{SERVICE("'routes':[{},7]"), "s: routes[1]: an object is expected"},
		{SERVICE("'routes':[{'match':{'path':{}}}]"),
		 "s: routes[0].match.path: prefix, exact or template is expected"},
		{SERVICE("'routes':[{'match':{'path':{'exact':'a'}}}]"),
		 "s: routes[0].match.path: one that begins with / is expected"},
		{SERVICE("'routes':[{'match':{'path':{'exact':'/a','prefix':'/a'}}}]"),
		 "s: routes[0].match.path: one that begins with / is expected"},
		{SERVICE("'routes':[{'match':{'headers':{'x':'a\\nb'}}}]"),
		 "s: routes[0].match.headers.x: control characters are not expected"},
		{SERVICE("'routes':[{'match':{'query':{'x':1}}}]"),
		 "s: routes[0].match.query.x: a string is expected"},
		{SERVICE("'routes':[{},{'mirror':{}}]"),
		 "s: routes[1].mirror.version: the name of a version is 1 to 63 bytes long"},
		{SERVICE("'routes':[{'fault':{'abort':{'status':99}}}]"),
		 "s: routes[0].fault.abort.status: a whole number from 200 to 599 is expected"},
		{ANSWER("'faults':[{'service':'s'}]"),
		 "answer: faults: leftMs: a number is expected"},
		{ANSWER("'faults':[{'service':'s','leftMs':1,'delay':{'percent':-1}}]"),
		 "answer: faults: delay.percent: a number from 0 to 100 is expected"},
		{ANSWER("'drains':[{'service':'s'}]"),
		 "answer: drains: endpoint: a string is expected"},
		{ANSWER("'hands':[{'service':'s','serial':1}]"),
		 "answer: hands: action: a string is expected"},
		{ANSWER("'hands':[{'service':'s','serial':1,'action':'kick'}]"),
		 "answer: hands: action: not one of the known values"},
		{ANSWER("'hands':{}"), "answer: hands: a list is expected"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char why[CONFIGURATION_ERROR_MAX] = "";
		struct configuration c;

		assert_int_equal(parse(cases[i].json, &c, why), -EINVAL);
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
			 "{'revision':1,'services':[{'service':'%.*s'}],'endpoints':[]}", len,
			 name);
		assert_int_equal(parse(json, &c, why), len < MESH_NAME_MAX ? 0 : -EINVAL);
		if (len < MESH_NAME_MAX)
			configuration_done(&c);
	}
}

static void what_is_more_than_fits_is_refused_as_a_whole(void **state)
{
	char *json = malloc(64 + (MESH_MAX_SERVICES + 1) * 24), why[CONFIGURATION_ERROR_MAX];
	struct configuration c;
	int at = sprintf(json, "{'revision':1,'endpoints':[],'services':[");

	for (int i = 0; i <= MESH_MAX_SERVICES; i++)
		at += sprintf(json + at, "%s{'service':'s%d'}", i ? "," : "", i);
	sprintf(json + at, "]}");
	assert_int_equal(parse(json, &c, why), -EINVAL);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		story(what_is_not_said_is_as_the_contract_says),
		story(every_policy_arrives),
		cmocka_unit_test(a_probe_of_a_request_without_end_is_given_up_too),
		cmocka_unit_test(checks_and_slow_start_are_for_the_supervisor),
		story(a_share_of_traces_is_in_the_snapshot),
		story(a_route_says_what_it_matches_and_what_is_different_there),
		story(services_with_much_behind_them_stand_side_by_side),
		cmocka_unit_test(a_registered_endpoint_has_the_usual_weight_unless_it_says_another),
		cmocka_unit_test(what_was_ordered_by_hand_is_read),
		story(a_fault_reaches_the_workers_with_its_end),
		cmocka_unit_test(a_bad_configuration_is_refused_with_its_place),
		cmocka_unit_test(what_is_too_long_is_refused_not_cut),
		cmocka_unit_test(what_is_more_than_fits_is_refused_as_a_whole),
		cmocka_unit_test(an_answer_that_brings_nothing_new_is_recognised),
	};

	return cmocka_run_group_tests_name("configuration", tests, NULL, NULL);
}
