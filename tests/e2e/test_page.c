/* SPDX-License-Identifier: Apache-2.0 */
/* The web page, in a real browser, of a real mesh: the demo's four services and their traffic. */
#include "tests/e2e/browser.h"

#include <limits.h>

#define PAGE	  "http://" MESHD_ADDRESS "/"
#define WIDE	  1280, 900
#define NARROW	  400, 800
#define TRACE	  "4bf92f3577b34da6" LAST_HALF
#define LAST_HALF "a3ce929d0e0e4736"
#define AWAITED	  20000 /* ms, for a browser on a busy machine */

static char database[64], cache[64], backend[64]; /* addresses */

/* Starts one of demo/'s services; where it listens. */
static void serve(const char *service, const char *environment, char address[64])
{
	char cmd[PATH_MAX];
	struct instance *i;

	snprintf(cmd, sizeof(cmd), "env %s \"${BUILD:-build}\"/demo/%s", environment, service);
	i = instance_ready(instance_start(service, service, "--netns", cmd));
	snprintf(address, 64, "%s", i->address);
}

static void demo(void)
{
	char environment[256], frontend[64];

	browser_need();
	serve("database", "", database);
	serve("cache", "", cache);
	snprintf(environment, sizeof(environment), "DATABASE_URL=http://%s CACHE_URL=http://%s",
		 database, cache);
	serve("backend", environment, backend);
	snprintf(environment, sizeof(environment), "BACKEND_URL=http://%s", backend);
	serve("frontend", environment, frontend);
}

/* That many requests through all four. */
static void traffic(int n)
{
	for (int i = 0; i < n; i++) {
		struct client *c = gateway();

		assert_int_equal(get(c, "/frontend/"), 200);
		hang_up(c);
	}
}

static void go(const char *hash)
{
	(void)page_text("location.hash = '%s'", hash);
}

static void assert_content(void)
{
	const char *complaints = page_complaints();

	if (*complaints)
		fail_msg("the page complains:\n%s", complaints);
}

#define NODES "[...document.querySelectorAll('a.node')]"
/* With a line that leads somewhere. */
#define EDGE(source, destination)                                                                  \
	"document.querySelector('.edge[data-source=" source "][data-destination=" destination      \
	"] .line')?.getTotalLength() > 20"

static void open_map(int width, int height)
{
	page_open(PAGE "#/map", width, height);
	page_awaits(AWAITED, EDGE("gateway", "frontend"));
	page_awaits(AWAITED, EDGE("frontend", "backend") " && " EDGE(
				     "backend", "database") " && " EDGE("backend", "cache"));
}

/* --- stories ------------------------------------------------------------------------- */

static void the_map_shows_the_services_and_who_calls_whom(void **state)
{
	demo();
	traffic(20);
	open_map(WIDE);
	for (int i = 0; i < 4; i++) {
		static const char *const four[] = {"frontend", "backend", "database", "cache"};

		assert_true(page_is(NODES ".some(n => n.dataset.name === '%s')", four[i]));
	}
	assert_true(page_is("/[1-9].*\\/s · 0 %%/.test(document.querySelector('.label')."
			    "textContent)"));
	assert_true(page_is("document.querySelectorAll('main tbody tr').length >= 4"));
	assert_string_equal(page_text("document.querySelector('#health').textContent"), "healthy");
	assert_content();
}

#define PLACES                                                                                     \
	NODES ".filter(n => n.dataset.name !== 'fifth')"                                           \
	      ".map(n => n.dataset.name + n.getAttribute('transform')).sort().join()"

static void the_map_stays_still_while_numbers_change_and_others_come(void **state)
{
	char places[4096], numbers[4096], other[64];
	struct client *c = NULL;

	demo();
	traffic(5);
	open_map(WIDE);
	snprintf(places, sizeof(places), "%s", page_text(PLACES));
	snprintf(numbers, sizeof(numbers), "%s",
		 page_text("document.querySelector('.map').textContent"));
	traffic(40);
	eventually(AWAITED,
		   strcmp(page_text("document.querySelector('.map').textContent"), numbers));
	assert_string_equal(page_text(PLACES), places);

	snprintf(other, sizeof(other), "%s",
		 instance_ready(instance_start("fifth", "fifth", "--netns", "origin --port 8000"))
			 ->address);
	c = gateway();
	assert_int_equal(get(c, "/fifth/"), 200);
	page_awaits(AWAITED, NODES ".some(n => n.dataset.name === 'fifth')");
	assert_string_equal(page_text(PLACES), places);
	assert_true(page_is("(boxes => boxes.every((a, i) => boxes.every((b, j) => i === j || "
			    "a.right <= b.left || "
			    "b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top)))("
			    "[...document.querySelectorAll('.node .box')].map(b => "
			    "b.getBoundingClientRect()))"));
	assert_content();
}

static void a_service_opens_with_its_plots_and_endpoints(void **state)
{
	demo();
	configure("backend",
		  "{\"split\":{\"v1\":90,\"v2\":10},\"routes\":[{\"name\":\"beta\","
		  "\"match\":{\"headers\":{\"x-user-group\":\"beta\"}},\"split\":{\"v2\":100}}]}");
	traffic(20);
	open_map(WIDE);
	page_click("a.node[data-name=backend] .box");
	page_awaits(AWAITED, "location.hash === '#/services/backend'");
	page_awaits(AWAITED, "document.querySelectorAll('.plot canvas').length === 3");
	page_awaits(AWAITED,
		    "/[1-9].*\\/s/.test(document.querySelector('.figures dd').textContent)");
	page_awaits(AWAITED, "[...document.querySelectorAll('tbody th')].some(e => e.textContent "
			     "=== 'backend')");
	page_awaits(AWAITED, "document.querySelector('.parts')?.textContent.includes('v1 90')");
	page_awaits(AWAITED, "/beta.*x-user-group: beta.*split.*v2/.test("
			     "document.querySelector('.routes')?.textContent)");
	page_awaits(AWAITED, "document.querySelector('.guard')?.textContent.includes('closed')");
	go("#/services/gateway"); /* calls others only */
	page_awaits(AWAITED,
		    "document.querySelector('main .note:not([hidden])') && "
		    "[...document.querySelectorAll('tbody a')].some(e => e.textContent === "
		    "'frontend')");
	go("#/services");
	page_awaits(AWAITED, "document.querySelectorAll('a.service').length === 4");
	page_awaits(AWAITED,
		    "document.querySelector('.spark path').getAttribute('d').includes('L')");
	assert_content();
}

static void every_window_can_be_chosen_and_the_theme_is_remembered(void **state)
{
	int windows;

	demo();
	traffic(10);
	page_open(PAGE "#/services/backend", WIDE);
	page_awaits(AWAITED,
		    "/[1-9].*\\/s/.test(document.querySelector('.figures dd')?.textContent)");
	windows = atoi(page_text("document.querySelector('#window').options.length"));
	assert_true(windows >= 5);
	for (int i = windows - 1; i >= 0; i--) {
		(void)page_text("performance.clearResourceTimings()");
		(void)page_text(
			"(w => { w.selectedIndex = %d; w.dispatchEvent(new Event('change')); })("
			"document.querySelector('#window'))",
			i);
		page_awaits(AWAITED, "performance.getEntriesByType('resource').some(e => "
				     "e.responseStatus === 200 && "
				     "e.name.includes('/api/metrics/backend?window=' + "
				     "document.querySelector('#window').value))");
	}
	page_click("#theme");
	page_awaits(AWAITED, "document.documentElement.dataset.theme === 'light'");
	page_click("#theme");
	page_awaits(AWAITED, "document.documentElement.dataset.theme === 'dark'");
	assert_true(
		page_is("getComputedStyle(document.body).backgroundColor === 'rgb(14, 17, 23)'"));
	page_open(PAGE, WIDE);
	assert_true(page_is("document.documentElement.dataset.theme === 'dark'"));
	(void)page_text("localStorage.clear()");
	assert_content();
}

static void a_trace_opens_as_a_waterfall_of_four_bars(void **state)
{
	struct client *c;

	demo();
	c = gateway();
	assert_int_equal(get_with(c, "traceparent: 00-" TRACE "-00f067aa0ba902b7-01", "/frontend/"),
			 200);
	page_open(PAGE "#/traces?service=frontend", WIDE);
	page_click("a.trace[href$=" LAST_HALF "]");
	page_awaits(AWAITED, "document.querySelectorAll('.waterfall .span').length === 4");
	assert_true(page_is("location.hash === '#/traces/" TRACE "'"));
	assert_string_equal(
		page_text("[...document.querySelectorAll('.waterfall b')].slice(0, 2).map(e => "
			  "e.textContent).join(' ')"),
		"frontend backend");
	assert_string_equal(
		page_text("[...document.querySelectorAll('.waterfall li')].map(e => e.ariaLevel)"
			  ".join('')"),
		"1233");
	/* on one axis; each lies within the one that caused it */
	assert_true(page_is("new Set([...document.querySelectorAll('.lane')].map(e => "
			    "e.getBoundingClientRect().width)).size === 1"));
	assert_true(page_is("(([root, ...rest]) => rest.every(r => r.left >= root.left - 1 && "
			    "r.right <= root.right + 1))"
			    "([...document.querySelectorAll('.waterfall .span')].map(e => "
			    "e.getBoundingClientRect()))"));
	assert_true(page_is("document.querySelectorAll('.try').length >= 4"));
	assert_content();
}

static void keys_are_enough(void **state)
{
	demo();
	traffic(5);
	open_map(WIDE);
	page_key("Tab");
	page_awaits(AWAITED, "document.activeElement.className === 'skip'");
	page_key("Enter");
	page_awaits(AWAITED, "document.activeElement.id === 'main'");
	for (int i = 0; i < 12 && !page_is("document.activeElement.matches('a.node')"); i++)
		page_key("Tab");
	page_key("Home");
	for (int i = 0; i < 8 && !page_is("document.activeElement.dataset.name === 'gateway'"); i++)
		page_key("ArrowLeft");
	page_awaits(AWAITED, "document.activeElement.dataset.name === 'gateway'");
	page_key("ArrowRight");
	page_awaits(AWAITED, "document.activeElement.dataset.name === 'frontend'");
	page_key("ArrowRight");
	page_awaits(AWAITED, "document.activeElement.dataset.name === 'backend'");
	page_key("Enter");
	page_awaits(AWAITED, "location.hash === '#/services/backend'");
	page_awaits(AWAITED, "document.activeElement.id === 'main'");

	go("#/traces");
	page_awaits(AWAITED, "document.querySelector('a.trace')");
	(void)page_text("document.querySelector('a.trace').focus()");
	page_key("ArrowDown");
	page_awaits(AWAITED, "document.activeElement === document.querySelectorAll('a.trace')[1]");
	(void)page_text("window.chosen = document.activeElement.href");
	(void)page_text("window.first = document.querySelector('a.trace').href");
	traffic(2);
	page_awaits(AWAITED, "document.querySelector('a.trace').href !== window.first");
	page_awaits(AWAITED, "document.activeElement.href === window.chosen");
	page_key("Enter");
	page_awaits(AWAITED, "document.querySelectorAll('.waterfall li').length === 4");
	(void)page_text("document.querySelector('.waterfall li').focus()");
	page_key("ArrowDown");
	page_awaits(AWAITED, "document.activeElement.getAttribute('aria-selected') === 'true'");
	page_key("ArrowLeft");
	page_awaits(AWAITED, "document.querySelectorAll('.waterfall li').length === 2");
	page_key("ArrowRight");
	page_awaits(AWAITED, "document.querySelectorAll('.waterfall li').length === 4");
	assert_content();
}

static void a_tap_shows_requests_as_they_pass(void **state)
{
	demo();
	page_open(PAGE "#/tap?service=backend", WIDE);
	page_awaits(AWAITED, "document.querySelector('[role=status].quiet').textContent."
			     "startsWith('live')");
	for (uint64_t until = mono_ms() + 10000;
	     page_is("!document.querySelector('main tbody tr')");) {
		traffic(1); /* agents hear of the tap a moment later */
		assert_true(mono_ms() < until);
	}
	assert_true(page_is("[...document.querySelectorAll('main tbody b')].every(e => "
			    "e.textContent === 'backend')"));
	(void)page_text("document.querySelector('[aria-pressed]').click()");
	(void)page_text("window.seen = document.querySelectorAll('main tbody tr').length");
	traffic(3);
	page_awaits(AWAITED,
		    "/ [1-9].* not "
		    "shown/.test(document.querySelector('[role=status].quiet').textContent)");
	assert_true(page_is("document.querySelectorAll('main tbody tr').length === window.seen"));
	assert_content();
}

static void a_fault_is_announced_and_counts_down(void **state)
{
	demo();
	page_open(PAGE, WIDE);
	api("PUT", "/api/faults/backend",
	    "{\"abort\":{\"percent\":5,\"status\":503},\"for\":\"30s\"}");
	assert_int_equal(api_status, 200);
	page_awaits(AWAITED, "document.querySelector('.banner.fault')");
	assert_true(page_is("document.querySelector('.banner').textContent.includes('backend: 5 %% "
			    "answered 503')"));
	(void)page_text("window.first = document.querySelector('.banner .left').textContent");
	assert_true(page_is("/^ends in [0-9]+ s$/.test(first)"));
	page_awaits(AWAITED,
		    "parseInt(document.querySelector('.banner .left').textContent.slice(8)) < "
		    "parseInt(first.slice(8))");
	api("DELETE", "/api/faults/backend", NULL);
	page_awaits(AWAITED, "!document.querySelector('.banner')");
	assert_content();
}

static void that_meshd_is_gone_is_said_and_what_was_known_stays(void **state)
{
	demo();
	traffic(5);
	open_map(WIDE);
	meshd_stop(SIGKILL);
	page_awaits(AWAITED, "document.querySelector('.banner.lost') && "
			     "document.body.matches('.stale')");
	assert_true(page_is("document.querySelectorAll('a.node').length >= 4"));
	meshd_start();
	(void)page_text("document.querySelector('.banner button').click()");
	page_awaits(AWAITED, "!document.querySelector('.banner.lost') && "
			     "!document.body.matches('.stale')");
}

static void nothing_sticks_out_at_400_pixels(void **state)
{
	static const char *const views[] = {"#/map",	"#/services",	   "#/services/backend",
					    "#/traces", "#/traces/" TRACE, "#/tap"};
	struct client *c;

	demo();
	traffic(10);
	c = gateway();
	assert_int_equal(get_with(c, "traceparent: 00-" TRACE "-00f067aa0ba902b7-01", "/frontend/"),
			 200);
	api("PUT", "/api/faults/backend",
	    "{\"delay\":{\"percent\":1,\"duration\":\"1ms\"},\"for\":\"10m\"}");
	open_map(NARROW);
	for (size_t i = 0; i < sizeof(views) / sizeof(*views); i++) {
		go(views[i]);
		page_awaits(AWAITED,
			    "location.hash === '%s' && "
			    "document.querySelector('.banner.fault') && "
			    "document.querySelector('main .card')",
			    views[i]);
		page_awaits(AWAITED, "document.querySelector('main').querySelector('tbody tr, "
				     ".waterfall li, .empty')");
		assert_string_equal(page_text("document.documentElement.scrollWidth"), "400");
	}
	/* text is dark on light, and light on dark */
	page_prefers("dark");
	assert_true(
		page_is("getComputedStyle(document.body).backgroundColor === 'rgb(14, 17, 23)'"));
	page_prefers("light");
	assert_true(page_is(
		"getComputedStyle(document.body).backgroundColor === 'rgb(245, 246, 250)'"));
	assert_content();
}

static void what_strangers_chose_is_text_and_markup_is_refused(void **state)
{
	browser_need();
	api("POST", "/api/spans",
	    "{\"traceId\":\"evil\",\"id\":\"00f067aa0ba902b7\",\"service\":\"web\","
	    "\"operation\":\"<img src=x "
	    "onerror=alert(1)>\",\"startTime\":1763868000123,\"duration\":1,"
	    "\"statusCode\":200,\"error\":false}");
	assert_int_equal(api_status, 200);
	page_open(PAGE "#/traces/evil", WIDE);
	page_awaits(AWAITED, "document.querySelector('.waterfall li')");
	assert_true(page_is(
		"document.querySelector('.waterfall').textContent.includes('<img src=x onerror')"));
	assert_true(page_is("!document.querySelector('main img')"));
	assert_content();
	assert_true(page_is("(() => { try { document.createElement('p').innerHTML = '<b>'; } catch "
			    "{ return true; } })()"));
	assert_non_null(strstr(page_complaints(), "TrustedHTML"));
}

static void assets_are_sent_once(void **state)
{
	struct output *o = sh("curl -s -o " SCRATCH "/page -D - -H 'Accept-Encoding: gzip' " PAGE
			      "ui/main.js");
	char *etag = strstr(o->out, "ETag: "), *end = etag ? strchr(etag, '\r') : NULL;
	char known[64];

	assert_non_null(end);
	assert_non_null(strstr(o->out, "Content-Encoding: gzip"));
	assert_non_null(strstr(o->out, "Content-Security-Policy: default-src 'none'"));
	*end = 0;
	snprintf(known, sizeof(known), "%s", etag + 6);
	assert_int_equal(sh("gzip -dc " SCRATCH "/page | cmp - ctl/meshd/ui/main.js")->status, 0);
	o = sh("curl -s -o " SCRATCH
	       "/none -w '%%{http_code} %%{size_download}' -H 'Accept-Encoding: gzip' "
	       "-H 'If-None-Match: %s' " PAGE "ui/main.js",
	       known);
	assert_string_equal(o->out, "304 0");
	o = sh("curl -s -o /dev/null -w '%%{http_code}' -H 'Host: evil.example' " PAGE);
	assert_string_equal(o->out, "403");
	assert_int_equal(sh("curl -s " PAGE "ui/main.js | cmp - ctl/meshd/ui/main.js")->status, 0);
}

int main(void)
{
	const struct CMUnitTest stories[] = {
		STORY(the_map_shows_the_services_and_who_calls_whom),
		STORY(a_service_opens_with_its_plots_and_endpoints),
		STORY(every_window_can_be_chosen_and_the_theme_is_remembered),
		STORY(a_trace_opens_as_a_waterfall_of_four_bars),
		STORY(keys_are_enough),
		STORY(a_tap_shows_requests_as_they_pass),
		STORY(a_fault_is_announced_and_counts_down),
		STORY(that_meshd_is_gone_is_said_and_what_was_known_stays),
		STORY(nothing_sticks_out_at_400_pixels),
		STORY(the_map_stays_still_while_numbers_change_and_others_come),
		STORY(what_strangers_chose_is_text_and_markup_is_refused),
		STORY(assets_are_sent_once),
	};
	int status = RUN(stories);

	browser_end();
	return status;
}
