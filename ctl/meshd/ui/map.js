// SPDX-License-Identifier: Apache-2.0
// The service map: who calls whom, how much, how well. The same as a table below it.
import * as api from "./api.js";
import { attribute, classes, empty, h, keyed, roving, s, table, text } from "./dom.js";
import * as format from "./format.js";
import { Layout, NODE } from "./layout.js";
import { currentWindow } from "./state.js";
import { Viewport } from "./viewport.js";

const EVERY_MS = 2000;
const NARROW_PX = 640;    // below that, calls go down instead of right
const LABELS_UP_TO = 40;  // above that, edges have their label only when they are looked at
const ROWS_MAX = 200;     // of the table
const VERSIONS_SHOWN = 2; // on a label
const layout = new Layout(); // outlives the view: who comes back finds everything where it was

function edgeId(e) {
	return `${e.source} ${e.destination} ${e.protocol ?? ""}`;
}

function edgeWidth(requestRate) {
	return Math.min(8, 1.5 + 1.7 * Math.log10(1 + (requestRate ?? 0)));
}

// Weights of a split, or versions that were seen: { v1: 90, v2: 10 } -> [["v1", 0.9], ["v2", 0.1]]. What was refused came
// to no version.
export function shares(versions) {
	const list = (Array.isArray(versions) ? versions.map(v => [v.version, v.requests]) : Object.entries(versions ?? {}))
		.filter(([v]) => v);
	const sum = list.reduce((n, [, x]) => n + x, 0);

	return sum ? list.map(([v, n]) => [v, n / sum]) : [];
}

function splitText(e) {
	const parts = shares(e.versions);

	if (parts.length < 2 && !e.split)
		return "";
	return parts.slice(0, VERSIONS_SHOWN).map(([v, n]) => `${v} ${format.percent(n)}`).join(" · ") +
		(parts.length > VERSIONS_SHOWN ? " …" : "");
}

function breakerOf(e) {
	return e.breaker && e.breaker !== "closed" ? e.breaker : "";
}

function edgeSummary(e) {
	return `${e.source} calls ${e.destination}: ${format.rate(e.rate)}, ${format.percent(e.errorRate)} errors, p50 ` +
		`${format.duration(e.p50)}, p99 ${format.duration(e.p99)}${breakerOf(e) ? `, breaker ${e.breaker}` : ""}` +
		`${splitText(e) ? `, ${splitText(e)}` : ""}`;
}

function nodeState(n) {
	if (n.endpoints > 0 && n.healthy < n.endpoints)
		return n.healthy > 0 ? "warn" : "bad";
	const severity = format.severity(n.errorRate);

	return severity === "slight" ? "fine" : severity;
}

function nodeSummary(n) {
	const up = n.endpoints ? `, ${n.healthy} of ${n.endpoints} endpoints healthy` : "";

	return `${n.name}${n.kind && n.kind !== "service" ? ` (${n.kind})` : ""}: ${format.rate(n.rate)}, ` +
		`${format.percent(n.errorRate)} errors${up}`;
}

/* --- drawing ------------------------------------------------------------------------- */

function arrowheads() {
	return s("defs", null, ["fine", "slight", "warn", "bad", "idle"].map(name =>
		s("marker", { id: `arrow-${name}`, class: `arrow ${name}`, viewBox: "0 0 10 10", refX: 9, refY: 5, markerWidth: 9,
			markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto-start-reverse" },
		s("path", { d: "M0 0L10 5L0 10z" }))));
}

function makeEdge(e) {
	return s("g", { "data-source": e.source, "data-destination": e.destination },
		s("title"), s("path", { class: "hit" }), s("path", { class: "line" }));
}

function fillEdge(g, e) {
	const severity = e.requests === 0 ? "idle" : format.severity(e.errorRate);
	const { d } = layout.path(e);
	const [title, hit, line] = g.children;

	classes(g, `edge ${severity}${e.protocol === "tcp" ? " tcp" : ""}${breakerOf(e) ? " broken" : ""}`);
	text(title, edgeSummary(e));
	attribute(hit, "d", d);
	attribute(line, "d", d);
	attribute(line, "marker-end", `url(#arrow-${severity})`);
	attribute(line, "stroke-width", edgeWidth(e.rate).toFixed(1));
}

function makeLabel(e) {
	return s("g", { "data-source": e.source, "data-destination": e.destination },
		s("rect", { rx: 6, y: -17 }), s("text", { class: "flow", y: -3 }), s("text", { class: "latency", y: 12 }),
		s("text", { class: "extra", y: 27 }), s("text", { class: "extra", y: 42 }));
}

function fillLabel(g, e) {
	const { x, y } = layout.path(e);
	const extra = [breakerOf(e) && `breaker ${e.breaker}`, splitText(e)].filter(Boolean);
	const flow = `${format.rate(e.rate)} · ${format.percent(e.errorRate)}`;
	const widest = Math.max(flow.length, ...extra.map(line => line.length), 12);
	const [rect, first, second, third, fourth] = g.children;

	classes(g, `label ${format.severity(e.errorRate)}${breakerOf(e) ? " broken" : ""}`);
	attribute(g, "transform", `translate(${x} ${y - 7 * extra.length})`);
	text(first, flow);
	text(second, `p99 ${format.duration(e.p99)}`);
	text(third, extra[0] ?? "");
	text(fourth, extra[1] ?? "");
	attribute(rect, "x", -widest * 3.3 - 6);
	attribute(rect, "width", widest * 6.6 + 12);
	attribute(rect, "height", 36 + 15 * extra.length);
}

function makeNode(n) {
	const link = s("a", { href: `#/services/${encodeURIComponent(n.name)}`, "data-name": n.name, tabindex: "-1" },
		s("rect", { class: "box", width: NODE.width, height: NODE.height, rx: 12, x: -NODE.width / 2, y: -NODE.height / 2 }),
		s("circle", { class: "dot", r: 5, cx: -NODE.width / 2 + 18, cy: -9 }),
		s("text", { class: "name", x: -NODE.width / 2 + 31, y: -4 }),
		s("text", { class: "numbers", x: -NODE.width / 2 + 14, y: 17 }));

	link.addEventListener("click", event => link.closest("svg").dataset.dragged && event.preventDefault());
	return link;
}

function shorten(name) {
	return name.length > 15 ? `${name.slice(0, 13)}…` : name;
}

function fillNode(link, n) {
	const { x, y } = layout.at.get(n.name);
	const [, , name, numbers] = link.children;
	const up = n.endpoints ? ` · ${n.healthy}/${n.endpoints} up` : n.kind && n.kind !== "service" ? ` · ${n.kind}` : "";

	classes(link, `node ${nodeState(n)} ${n.kind ?? "service"}`);
	attribute(link, "transform", `translate(${x} ${y})`);
	attribute(link, "aria-label", nodeSummary(n));
	text(name, shorten(n.name));
	text(numbers, `${format.rate(n.rate)}${up}`);
}

/* --- keys ---------------------------------------------------------------------------- */

// The nearest node in the direction of the arrow key.
function neighbour(key, elements, index) {
	const axis = { ArrowRight: ["x", "y", 1], ArrowLeft: ["x", "y", -1], ArrowDown: ["y", "x", 1], ArrowUp: ["y", "x", -1] }[key];

	if (!axis)
		return { Home: 0, End: elements.length - 1 }[key];
	const [along, across, sign] = axis;
	const from = layout.at.get(elements[index].dataset.name);
	let best = index, least = Infinity;

	elements.forEach((element, i) => {
		const to = layout.at.get(element.dataset.name);
		const ahead = (to[along] - from[along]) * sign;
		const distance = ahead + 2 * Math.abs(to[across] - from[across]);

		if (ahead > 1 && distance < least)
			[best, least] = [i, distance];
	});
	return best;
}

/* --- the table ----------------------------------------------------------------------- */

const COLUMNS = [
	{ name: "Caller" }, { name: "Called" }, { name: "Rate", class: "number" }, { name: "Errors", class: "number" },
	{ name: "p50", class: "number wide" }, { name: "p95", class: "number wide" }, { name: "p99", class: "number" },
	{ name: "Breaker", class: "wide" }, { name: "Versions", class: "wide" },
];

function makeRow(e) {
	const link = name => h("a", { href: `#/services/${encodeURIComponent(name)}` }, name);

	return h("tr", null, h("td", null, link(e.source)), h("td", null, link(e.destination)),
		COLUMNS.slice(2).map(c => h("td", { class: c.class })));
}

function fillRow(row, e) {
	const [, , ...cells] = row.children;
	const values = [format.rate(e.rate), format.percent(e.errorRate), format.duration(e.p50), format.duration(e.p95),
		format.duration(e.p99), e.breaker ?? "closed", splitText(e) || shares(e.versions).map(([v]) => v).join()];

	values.forEach((value, i) => text(cells[i], value));
	classes(cells[1], `number ${format.severity(e.errorRate)}`);
	classes(cells[5], `wide ${breakerOf(e) ? "bad" : ""}`);
}

// What is worst and most, when there is too much for a table.
function foremost(edges) {
	if (edges.length <= ROWS_MAX)
		return edges;
	return [...edges].sort((a, b) => b.errorRate - a.errorRate || b.rate - a.rate).slice(0, ROWS_MAX).sort(byName);
}

function hint() {
	return empty("No traffic yet",
		"Start services in the mesh: `meshctl run --service web -- COMMAND`",
		"and send them something: `curl http://127.0.0.1:8080/web/`");
}

function byName(a, b) {
	return a.id < b.id ? -1 : a.id > b.id ? 1 : 0;
}

/* --- the view ------------------------------------------------------------------------ */

export function open(root) {
	const edges = s("g"), labels = s("g"), nodes = s("g");
	const svg = s("svg", { class: "map", role: "group", "aria-label": "Service map. Arrow keys move between services, Enter opens one." },
		arrowheads(), edges, labels, nodes);
	const viewport = new Viewport(svg);
	const calls = table("Calls", COLUMNS, "bounded");
	const more = h("p", { class: "quiet" });
	const nothing = h("div", { hidden: true }, hint());
	const tools = h("div", { class: "toolbar" },
		h("h2", null, "Service map"),
		h("span", { class: "legend" }, "width: rate, colour: errors", [["fine", "none"], ["slight", "< 1 %"], ["warn", "< 5 %"], ["bad", "more"]]
			.map(([severity, meaning]) => h("span", { class: `key ${severity}` }, meaning))),
		h("button", { type: "button", "aria-label": "Enlarge", click: () => viewport.zoom(1 / 1.25) }, "+"),
		h("button", { type: "button", "aria-label": "Shrink", click: () => viewport.zoom(1.25) }, "−"),
		h("button", { type: "button", click: () => viewport.fit() }, "Fit"),
		h("button", { type: "button", click: arrange }, "Arrange"));
	const content = h("div", { hidden: true }, h("div", { class: "card" }, tools, svg), h("div", { class: "card" }, calls.frame, more));
	const settle = roving(nodes, "a.node", neighbour);
	const resized = new ResizeObserver(() => root.clientWidth !== width && draw());
	let seen = null, near = null; // near: the service that is looked at
	let width = 0; // when it was drawn; its height follows from what is drawn

	root.append(nothing, content);
	resized.observe(root);

	function arrange() {
		if (!seen)
			return;
		layout.arrange(seen.nodes.map(n => n.name).sort(), [...seen.edges].sort(byName));
		viewport.fit();
		draw();
	}

	// Labels: of all, or, when they are too many, of what is looked at, which stands out in any case.
	function drawLabels() {
		const close = seen.edges.length > LABELS_UP_TO ? seen.edges.filter(e => e.source === near || e.destination === near) : seen.edges;

		keyed(labels, close.length > LABELS_UP_TO ? [] : close, e => e.id, makeLabel, fillLabel);
		for (const e of svg.querySelectorAll(".edge, .label"))
			e.toggleAttribute("data-near", Boolean(near) && (e.dataset.source === near || e.dataset.destination === near));
		svg.toggleAttribute("data-focus", Boolean(near));
	}

	function highlight(name) {
		if (name === near)
			return;
		near = name;
		drawLabels();
	}

	for (const [on, off] of [["focusin", "focusout"], ["pointerover", "pointerout"]]) {
		nodes.addEventListener(on, event => highlight(event.target.closest("a")?.dataset.name));
		nodes.addEventListener(off, () => highlight(document.activeElement?.closest?.("a.node")?.dataset.name));
	}

	function draw() {
		if (!seen)
			return;

		width = root.clientWidth;
		nothing.hidden = seen.nodes.length > 0;
		content.hidden = !nothing.hidden;
		if (content.hidden)
			return;
		layout.update(seen.nodes.map(n => n.name), seen.edges, width < NARROW_PX ? "TB" : "LR");
		svg.toggleAttribute("data-many", seen.edges.length > LABELS_UP_TO);
		keyed(edges, seen.edges, e => e.id, makeEdge, fillEdge);
		drawLabels();
		keyed(nodes, seen.nodes, n => n.name, makeNode, fillNode);
		settle();
		keyed(calls.body, foremost(seen.edges), e => e.id, makeRow, fillRow);
		more.hidden = seen.edges.length <= ROWS_MAX;
		text(more, `The ${ROWS_MAX} with most errors and requests, of ${seen.edges.length}; meshctl edges shows all.`);
		const bounds = layout.bounds(seen.nodes.map(n => n.name));

		svg.style.setProperty("aspect-ratio", `${bounds.width} / ${bounds.height}`);
		viewport.fit(bounds);
	}

	return {
		title: "Map",
		every: EVERY_MS,
		redraw: draw,
		async refresh(signal) {
			const graph = await api.graph(currentWindow(), signal);
			const known = new Set(graph.nodes.map(n => n.name));
			const all = graph.edges.map(e => ({ ...e, id: edgeId(e) }));

			for (const e of all) // an edge has two ends, whatever else is known of them
				for (const name of [e.source, e.destination])
					if (!known.has(name) && known.add(name))
						graph.nodes.push({ name, kind: "other" });
			seen = { nodes: graph.nodes, edges: all.sort(byName) };
			draw();
		},
		close: () => resized.disconnect(),
	};
}
