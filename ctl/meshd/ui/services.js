// SPDX-License-Identifier: Apache-2.0
// All services, a line each: what they are, and what passes.
import * as api from "./api.js";
import { classes, empty, h, keyed, roving, table, text } from "./dom.js";
import * as format from "./format.js";
import { points, sparkline, sparklineNew } from "./plots.js";
import { currentGranularity, currentWindow } from "./state.js";

const EVERY_MS = 3000;
const AT_ONCE = 4; // questions to meshd

// What a column sorts by, and which way first.
const COLUMNS = [
	{ name: "Service", by: r => r.name, first: 1 },
	{ name: "Status", by: r => r.status, first: -1 },
	{ name: "Endpoints", class: "number wide", by: r => r.endpoints.length, first: -1 },
	{ name: "Rate", class: "number", by: r => r.seen?.rate ?? 0, first: -1 },
	{ name: "Errors", class: "number", by: r => r.seen?.errorRate ?? 0, first: -1 },
	{ name: "p50", class: "number wide", by: r => r.seen?.p50 ?? 0, first: -1 },
	{ name: "p99", class: "number", by: r => r.seen?.p99 ?? 0, first: -1 },
	{ name: "Versions", class: "wide", by: r => r.versions, first: 1 },
];

function makeRow(row) {
	const cell = (name, ...children) => h("td", { class: name }, ...children);

	return h("tr", null,
		h("th", { scope: "row" }, h("a", { class: "service", href: `#/services/${encodeURIComponent(row.name)}` }, row.name)),
		cell("status", h("span")), cell("number wide"),
		cell("number", h("span"), sparklineNew("rate")), cell("number", h("span"), sparklineNew("errors")),
		cell("number wide"), cell("number", h("span"), sparklineNew("latency")), cell("wide"));
}

function fillRow(element, row) {
	const [, status, endpoints, rate, errors, p50, p99, versions] = element.children;
	const up = row.endpoints.filter(e => e.status === "healthy").length;
	const { seen } = row;

	classes(status.firstElementChild, `state ${row.status}`);
	text(status.firstElementChild, row.status);
	text(endpoints, `${up}/${row.endpoints.length}`);
	text(rate.firstElementChild, format.rate(seen?.rate));
	text(errors.firstElementChild, seen?.requests ? format.percent(seen.errorRate) : "–");
	classes(errors, `number ${format.severity(seen?.errorRate)}`);
	text(p50, seen?.requests ? format.duration(seen.p50) : "–");
	text(p99.firstElementChild, seen?.requests ? format.duration(seen.p99) : "–");
	text(versions, row.versions);
	const list = points(row.metrics);

	sparkline(rate.lastElementChild, list.map(p => p.rate));
	sparkline(errors.lastElementChild, list.map(p => p.errorRate), 0.05);
	sparkline(p99.lastElementChild, list.map(p => p.p99));
}

function onScreen(element) {
	const { top, bottom } = element.getBoundingClientRect();

	return bottom > 0 && top < innerHeight;
}

// job(item) for each, a few at a time.
async function each(items, job) {
	const left = [...items];

	await Promise.all(Array.from({ length: AT_ONCE }, async () => {
		for (let item = left.shift(); item !== undefined; item = left.shift())
			await job(item);
	}));
}

export function open(root) {
	const filter = h("input", { type: "search", placeholder: "filter by name", "aria-label": "Filter by name", input: draw });
	const heads = COLUMNS.map((c, i) => h("button", { type: "button", click: () => sortBy(i) }, c.name));
	const { frame, body } = table("Services", COLUMNS.map((c, i) => ({ ...c, head: heads[i] })));
	const nothing = h("div", { hidden: true }, empty("Nothing listens yet",
		"Start a program in the mesh: `meshctl run --service web --netns -- COMMAND`",
		"It appears here when it begins to listen. Nothing has to be registered."));
	const content = h("div", { class: "card", hidden: true },
		h("div", { class: "toolbar" }, h("h2", null, "Services"), filter), frame);
	const settle = roving(body, "a.service");
	let rows = [], column = 0, direction = 1;

	root.append(nothing, content);

	function sortBy(i) {
		direction = i === column ? -direction : COLUMNS[i].first;
		column = i;
		draw();
	}

	function draw() {
		const { by } = COLUMNS[column];
		const wanted = rows.filter(r => r.name.toLowerCase().includes(filter.value.toLowerCase()));

		wanted.sort((a, b) => (by(a) < by(b) ? -direction : by(a) > by(b) ? direction : 0) || (a.name < b.name ? -1 : 1));
		heads.forEach((head, i) => head.closest("th").setAttribute("aria-sort",
			i !== column ? "none" : direction > 0 ? "ascending" : "descending"));
		nothing.hidden = rows.length > 0;
		content.hidden = !nothing.hidden;
		keyed(body, wanted, r => r.name, makeRow, fillRow);
		settle();
	}

	return {
		title: "Services",
		every: EVERY_MS,
		async refresh(signal) {
			const [services, graph] = await Promise.all([api.services(signal), api.graph(currentWindow(), signal)]);
			const metrics = new Map(rows.map(r => [r.name, r.metrics]));
			const seen = new Map(graph.nodes.map(n => [n.name, n]));

			rows = services.map(s => ({ ...s, metrics: metrics.get(s.name), seen: seen.get(s.name),
				versions: [...new Set(s.endpoints.map(e => e.version))].sort().join(", ") }));
			draw();
			const visible = new Set([...body.children].filter(onScreen).map(e => e.dataset.key));

			await each(rows.filter(r => visible.has(r.name)), async row => {
				row.metrics = await api.metrics(row.name, currentWindow(), currentGranularity(), signal);
			});
			draw();
		},
	};
}
