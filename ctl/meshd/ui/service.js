// SPDX-License-Identifier: Apache-2.0
// One service: what passes, its endpoints, how its calls are shared out, what protects it.
import * as api from "./api.js";
import { classes, empty, h, keyed, sentence, table, text } from "./dom.js";
import * as format from "./format.js";
import { shares } from "./map.js";
import { plot, points } from "./plots.js";
import { currentGranularity, currentWindow } from "./state.js";

const EVERY_MS = 2000;

const ENDPOINTS = [{ name: "Endpoint" }, { name: "Status" }, { name: "Version" }, { name: "Address", class: "wide" },
	{ name: "Weight", class: "number wide" }, { name: "Node", class: "wide" }, { name: "Breaker", class: "words" }];
const CALLS = [{ name: "Other side" }, { name: "Direction" }, { name: "Rate", class: "number" },
	{ name: "Errors", class: "number" }, { name: "p50", class: "number wide" }, { name: "p99", class: "number" }];

function figures() {
	const names = ["Requests", "Errors", "p50", "p95", "p99"];
	const values = names.map(() => h("dd", null, "–"));

	return {
		element: h("dl", { class: "figures" }, names.map((name, i) => h("div", null, h("dt", null, name), values[i]))),
		fill(m) {
			const any = m?.requests > 0;

			[format.rate(m?.rate), any ? format.percent(m.errorRate) : "–", ...["p50Latency", "p95Latency", "p99Latency"]
				.map(key => any ? format.duration(m[key]) : "–")].forEach((value, i) => text(values[i], value));
			classes(values[1], any ? format.severity(m.errorRate) : "");
		},
	};
}

function makeCells(columns) {
	return () => h("tr", null, columns.map((c, i) => h(i ? "td" : "th", { class: c.class, scope: i ? null : "row" })));
}

function endpointCell(e, breakers) {
	const mine = breakers.filter(b => b.endpoint === e.id && b.state !== "closed");

	return mine.length ? mine.map(breakerText).join("; ") : "closed";
}

function fillEndpoint(row, [e, breakers]) {
	[e.id, e.status, e.version, format.address(e), e.weight ?? "", e.node || e.source, endpointCell(e, breakers)]
		.forEach((value, i) => text(row.children[i], value));
	classes(row.children[1], `state ${e.status}`);
}

function fillCall(row, c) {
	const cell = row.children;
	let link = cell[0].querySelector("a");

	if (!link)
		cell[0].append(link = h("a"));
	link.href = `#/services/${encodeURIComponent(c.other)}`;
	text(link, c.other);
	[c.direction, format.rate(c.rate), format.percent(c.errorRate), format.duration(c.p50), format.duration(c.p99)]
		.forEach((value, i) => text(cell[i + 1], value));
	classes(cell[3], `number ${format.severity(c.errorRate)}`);
}

function breakerText(b) {
	const since = b.sinceMs ? ` for ${format.countdown(b.sinceMs)}` : "";
	const next = b.state === "open" && b.forMs ? `, tries again in ${format.countdown(b.forMs)}` : "";

	return `${b.state}${b.held ? " (held by hand)" : ""}${since}${next}`;
}

function breakerLine(b) {
	return h("li", null, h("span", { class: `state breaker-${b.state}` }, breakerText(b)),
		h("span", { class: "quiet" }, ` on ${b.node}: ${b.failures} of ${b.requests} failed, opened ${format.count(b.opened, "time")}`));
}

// Weights as a bar of parts with their names.
function splitBar(title, list) {
	return h("div", { class: "split" }, h("h4", null, title),
		h("div", { class: "bar", "aria-hidden": "true" }, list.map(([v, share], i) =>
			h("span", { class: `part part-${i % 5}`, style: { "flex-grow": Math.max(share, 0.001) } }))),
		h("ul", { class: "parts" }, list.map(([v, share], i) => h("li", { class: `part-${i % 5}` }, `${v} ${format.percent(share)}`))));
}

// What was seen by all callers together.
function seenShares(edges) {
	const sum = {};

	for (const e of edges)
		for (const [v, share] of shares(e.versions))
			sum[v] = (sum[v] ?? 0) + share * (e.requests ?? 0);
	return shares(sum).sort(([a], [b]) => a < b ? -1 : 1);
}

function matchText(match) {
	const parts = [];

	if (match?.method)
		parts.push([match.method].flat().join("|"));
	if (match?.path)
		parts.push(Object.entries(match.path).map(([how, what]) => `path ${how} ${what}`).join(", "));
	for (const [name, value] of Object.entries(match?.headers ?? {}))
		parts.push(`${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`);
	return parts.join(" · ") || "everything";
}

function routeItem(route) {
	const does = Object.entries(route).filter(([key]) => !["name", "match"].includes(key))
		.map(([key, value]) => h("li", null, h("b", null, key), " ", h("code", null, JSON.stringify(value))));

	return h("li", null, h("b", null, route.name ?? "route"), ` ${matchText(route.match)}`, h("ul", null, does));
}

function resilience(breakers, fault) {
	const own = breakers.filter(b => b.endpoint === null);
	const list = own.length ? h("ul", { class: "plain" }, own.map(breakerLine))
		: h("p", { class: "quiet" }, "The breaker is closed: nothing has failed lately.");

	return [h("h3", null, "Breaker"), list, h("h3", null, "Faults"),
		fault ? h("p", { class: "warn" }, `Injected by hand, see above; ${format.countdown(fault.leftMs)} left.`)
			: h("p", { class: "quiet" }, "None injected.")];
}

function sharing(service, config, edges) {
	const seen = seenShares(edges), wanted = shares(config?.split), routes = config?.routes ?? [];
	const parts = [h("h3", null, "Split")];

	if (wanted.length)
		parts.push(splitBar("Configured", wanted));
	if (seen.length)
		parts.push(splitBar("Seen", seen));
	if (!wanted.length && !seen.length)
		parts.push(h("p", { class: "quiet" }, "All versions by their weight."));
	parts.push(h("h3", null, "Routes"), routes.length ? h("ul", { class: "plain routes" }, routes.map(routeItem))
		: h("p", { class: "quiet" }, "None: every request is treated the same."));
	if (config)
		parts.push(h("details", null, h("summary", null, "Configuration"), h("pre", { tabindex: "0" }, JSON.stringify(config, null, 2))));
	else
		parts.push(sentence(`Nothing is configured, defaults apply. \`meshctl split set ${service} v1=90 v2=10\``));
	return parts;
}

// Puts in what was made anew only when it is something else: what is open or selected stays so.
function settled(element) {
	let last = "";

	return (key, make) => {
		const now = JSON.stringify(key);

		if (now !== last)
			element.replaceChildren(...make());
		last = now;
	};
}

function calls(graph, service) {
	return graph.edges.filter(e => e.source === service || e.destination === service).map(e => ({ ...e,
		direction: e.destination === service ? "calls it" : "is called", other: e.destination === service ? e.source : e.destination }));
}

export function open(root, service) {
	const state = h("span", { class: "state" });
	const numbers = figures();
	const plots = [
		plot("Requests per second", [{ key: "rate", label: "rate", ink: "accent" }], format.rate),
		plot("Errors", [{ key: "errorRate", label: "errors", ink: "bad" }], format.percent),
		plot("Latency", [{ key: "p50", label: "p50", ink: "fine" }, { key: "p95", label: "p95", ink: "accent" },
			{ key: "p99", label: "p99", ink: "warn" }], format.duration),
	];
	const drawings = h("div", { class: "plots" }, plots.map(p => p.element));
	const endpoints = table("Endpoints", ENDPOINTS), others = table("Calls", CALLS);
	const share = h("div", { class: "card" }), guard = h("div", { class: "card guard" });
	const shareOnce = settled(share), guardOnce = settled(guard);
	const quiet = h("div", { hidden: true }, empty("No traffic in this window",
		`Send it something: \`curl http://127.0.0.1:8080/${service}/\`, or choose a longer window.`));
	const gone = h("p", { class: "note", hidden: true }, `Nothing listens as ${service}: it calls others only, or it is not running.`);

	root.append(
		h("div", { class: "title" }, h("a", { href: "#/services" }, "Services"), h("span", { "aria-hidden": "true" }, "/"),
			h("h2", null, service), state,
			h("span", { class: "actions" }, ["traces", "tap"].map(view =>
				h("a", { class: "button", href: `#/${view}?service=${encodeURIComponent(service)}` }, view === "tap" ? "Tap" : "Traces")))),
		gone, numbers.element, quiet, drawings,
		h("div", { class: "card", hidden: true }, endpoints.frame), h("div", { class: "card" }, others.frame),
		h("div", { class: "columns" }, share, guard));

	function drawMetrics(m) {
		const list = points(m);

		numbers.fill(m);
		quiet.hidden = m.requests > 0;
		plots[0].draw(list, format.rate(m.rate));
		plots[1].draw(list, format.percent(m.errorRate));
		plots[2].draw(list, `p50 ${format.duration(m.p50Latency)}, p99 ${format.duration(m.p99Latency)}`);
	}

	function drawService(found, breakers) {
		const status = found?.status ?? "absent";

		gone.hidden = Boolean(found);
		endpoints.frame.parentElement.hidden = !found;
		classes(state, `state ${status}`);
		text(state, status);
		keyed(endpoints.body, (found?.endpoints ?? []).map(e => [e, breakers]), ([e]) => e.id, makeCells(ENDPOINTS), fillEndpoint);
	}

	return {
		title: service,
		every: EVERY_MS,
		async refresh(signal) {
			const [list, graph, configured, all, faults] = await Promise.all([api.services(signal),
				api.graph(currentWindow(), signal), api.config(service, signal), api.breakers(signal), api.faults(signal)]);
			const breakers = all.filter(b => b.service === service);
			const fault = faults.find(f => f.service === service);
			const found = calls(graph, service);
			const incoming = found.filter(e => e.destination === service);
			const known = list.find(s => s.name === service);
			const called = Boolean(known) || incoming.length > 0; // a mere caller has no numbers of its own

			drawService(known, breakers);
			keyed(others.body, found, e => `${e.source} ${e.destination} ${e.protocol}`, makeCells(CALLS), fillCall);
			others.frame.parentElement.hidden = !found.length;
			shareOnce([configured, seenShares(incoming).map(([v, n]) => [v, n.toFixed(3)])],
				() => sharing(service, configured?.config, incoming));
			guardOnce([breakers, fault], () => resilience(breakers, fault));
			for (const element of [numbers.element, drawings, share, guard])
				element.hidden = !called;
			if (called)
				drawMetrics(await api.metrics(service, currentWindow(), currentGranularity(), signal));
		},
		close() {
			for (const p of plots)
				p.close();
		},
	};
}
