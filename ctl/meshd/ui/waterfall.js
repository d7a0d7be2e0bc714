// SPDX-License-Identifier: Apache-2.0
// One trace: a bar for each span on a common axis of time, below the one that caused it, with its tries as marks.
import * as api from "./api.js";
import { classes, empty, h, keyed, text } from "./dom.js";
import * as format from "./format.js";

const EVERY_MS = 2000;
const TICKS = 4;

// Depth first, children by their start: [{ span, depth, children }]. A span whose parent is not there stands at the top;
// so does one of those that are their own ancestors.
export function arrange(spans) {
	const byParent = new Map();
	const ids = new Set(spans.map(span => span.id));
	const out = [], seen = new Set();

	for (const span of spans) {
		const parent = ids.has(span.parentId) && span.parentId !== span.id ? span.parentId : null;

		byParent.set(parent, [...byParent.get(parent) ?? [], span]);
	}
	for (const list of byParent.values())
		list.sort((a, b) => a.startTime - b.startTime);

	function visit(span, depth) {
		if (seen.has(span))
			return;
		seen.add(span);
		const children = byParent.get(span.id) ?? [];

		out.push({ span, depth, children: children.length });
		for (const child of children)
			visit(child, depth + 1);
	}

	for (const span of [...byParent.get(null) ?? [], ...spans])
		visit(span, 0);
	return out;
}

function extent(spans) {
	const from = Math.min(...spans.map(s => s.startTime));

	return { from, length: Math.max(...spans.map(s => s.startTime + (s.duration ?? 0))) - from || 1 };
}

const share = (ms, length) => `${Math.min(100, Math.max(0, ms / length * 100)).toFixed(3)}%`;

function tries(span) {
	return (span.events ?? []).filter(e => e.name === "try");
}

function mark(event, length) {
	const failed = event.cause || event.statusCode >= 500 || !event.statusCode;

	return h("span", { class: `try ${failed ? "bad" : "fine"}`, title: tryText(event),
		style: { left: share(event.time, length), width: share(event.duration ?? 0, length) } });
}

function tryText(e) {
	return `${e.endpoint || e.name}: ${[format.status(e), e.cause, format.duration(e.duration),
		e.reused ? "reused connection" : ""].filter(Boolean).join(", ")}`;
}

function spanText({ span, depth }) {
	return `${span.service}, ${span.operation || "request"}, level ${depth + 1}, ${format.duration(span.duration)}, ` +
		`${format.status(span)}${span.cause ? `, ${span.cause}` : ""}${span.tries > 1 ? `, ${span.tries} tries` : ""}`;
}

function makeRow() {
	return h("li", { role: "treeitem", tabindex: "-1" },
		h("span", { class: "who" }, h("b"), h("span", { class: "quiet" })),
		h("span", { class: "lane" }, h("span", { class: "span" })), h("span", { class: "length" }));
}

function fillRow(whole) {
	return (row, item) => {
		const { span, depth } = item;
		const [who, lane, length] = row.children;
		const bar = lane.firstElementChild;
		const start = span.startTime - whole.from;

		classes(row, `row ${span.error ? "bad" : "fine"}`);
		row.setAttribute("aria-level", depth + 1);
		row.setAttribute("aria-label", spanText(item));
		row.style.setProperty("--depth", depth);
		text(who.firstElementChild, span.service);
		text(who.lastElementChild, span.operation ?? "");
		bar.style.setProperty("left", share(start, whole.length));
		bar.style.setProperty("width", share(span.duration ?? 0, whole.length));
		bar.replaceChildren(...tries(span).map(e => mark(e, span.duration || 1)));
		text(length, `${span.tries > 1 ? `${span.tries} tries · ` : ""}${span.error ? `${format.status(span)} · ` : ""}` +
			format.duration(span.duration));
	};
}

function axis(whole) {
	return h("div", { class: "axis", "aria-hidden": "true" }, h("span", { class: "who" }), h("span", { class: "lane" },
		Array.from({ length: TICKS + 1 }, (_, i) => h("span", { class: `tick tick-${i}`, style: { left: `${i * 100 / TICKS}%` } },
			format.duration(whole.length * i / TICKS)))), h("span", { class: "length" }));
}

function pair(name, value) {
	return value === "" || value === null || value === undefined ? [] : h("div", null, h("dt", null, name), h("dd", null, String(value)));
}

function details(span, whole) {
	const list = tries(span);

	return [h("h3", null, `${span.service} · ${span.operation ?? ""}`),
		h("dl", { class: "facts" },
			pair("Status", format.status(span)), pair("Cause", span.cause), pair("Duration", format.duration(span.duration)),
			pair("Starts after", format.duration(span.startTime - whole.from)), pair("Response head after", span.head && format.duration(span.head)),
			pair("Upstream", span.upstream && format.duration(span.upstream)), pair("Caller", span.source), pair("Instance", span.instance),
			pair("Version", span.version), pair("Node", span.node), pair("Host", span.host), pair("Path", span.path),
			pair("Bytes in", format.bytes(span.bytesIn)), pair("Bytes out", format.bytes(span.bytesOut)),
			pair("Request id", span.requestId), pair("Span", span.id), pair("Parent", span.parentId ?? span.remoteParentId)),
		list.length ? [h("h4", null, "Tries"), h("ol", null, list.map(e => h("li", { class: e.cause || e.statusCode >= 500 ? "bad" : "" },
			`at ${format.duration(e.time)}: ${tryText(e)}`)))] : []];
}

export function open(root, id) {
	const head = h("div", { class: "title" }, h("a", { href: "#/traces" }, "Traces"), h("span", { "aria-hidden": "true" }, "/"),
		h("h2", { class: "id" }, id), h("span", { class: "quiet" }));
	const scale = h("div");
	const tree = h("ul", { class: "waterfall", role: "tree", "aria-label": "Spans. Arrow keys move, left and right fold and unfold.", keydown: key,
		click: event => choose(event.target.closest("li")?.dataset.key) });
	const panel = h("div", { class: "card details", "aria-live": "polite" });
	const content = h("div", { hidden: true }, h("div", { class: "card" }, scale, tree), panel);
	const folded = new Set();
	let spans = null, chosen = null, whole = null, rows = [], last = "";

	root.append(head, content);

	// What is below something folded is not there.
	function visible() {
		const out = [];
		let hiddenBelow = Infinity;

		for (const row of arrange(spans)) {
			if (row.depth > hiddenBelow)
				continue;
			hiddenBelow = folded.has(row.span.id) ? row.depth : Infinity;
			out.push(row);
		}
		return out;
	}

	function draw() {
		rows = visible();
		whole = extent(spans);
		chosen ??= rows[0].span.id;
		scale.replaceChildren(axis(whole));
		keyed(tree, rows, r => r.span.id, makeRow, fillRow(whole));
		for (const row of rows) {
			const element = find(row.span.id);

			if (row.children)
				element.setAttribute("aria-expanded", String(!folded.has(row.span.id)));
			element.setAttribute("aria-selected", String(row.span.id === chosen));
			element.setAttribute("tabindex", row.span.id === chosen ? "0" : "-1");
		}
		panel.replaceChildren(...details(spans.find(s => s.id === chosen), whole).flat());
	}

	const find = span => [...tree.children].find(e => e.dataset.key === span);

	function choose(span) {
		if (span === undefined)
			return;
		chosen = span;
		draw();
		find(span)?.focus();
	}

	function fold(row, wanted) {
		if (!row.children || folded.has(row.span.id) === wanted)
			return false;
		folded[wanted ? "add" : "delete"](row.span.id);
		draw();
		return true;
	}

	// As ARIA's pattern of a tree has it.
	function key(event) {
		const at = rows.findIndex(r => r.span.id === chosen), row = rows[at];
		const parent = () => rows.slice(0, at).findLast(r => r.depth < row.depth);
		const moves = {
			ArrowDown: () => choose(rows[at + 1]?.span.id),
			ArrowUp: () => choose(rows[at - 1]?.span.id),
			Home: () => choose(rows[0].span.id),
			End: () => choose(rows.at(-1).span.id),
			ArrowLeft: () => fold(row, true) || choose(parent()?.span.id),
			ArrowRight: () => fold(row, false) || row.children && choose(rows[at + 1]?.span.id),
			Enter: () => panel.scrollIntoView({ block: "nearest" }),
		};

		if (at < 0 || !moves[event.key] || event.ctrlKey || event.altKey || event.metaKey)
			return;
		event.preventDefault();
		moves[event.key]();
	}

	return {
		title: `Trace ${id}`,
		every: EVERY_MS, // spans may still come
		async refresh(signal) {
			const found = await api.trace(id, signal);

			if (JSON.stringify(found) === last)
				return;
			last = JSON.stringify(found);
			spans = found.spans;
			if (!spans.length)
				return root.replaceChildren(head, empty("No span of this trace is kept"));
			content.hidden = false;
			draw();
			text(head.lastElementChild, `${format.clockMs(whole.from)} · ${format.duration(whole.length)} · ${format.count(spans.length, "span")}` +
				`${found.lost ? ` · ${found.lost} more were too many` : ""}${found.aliases?.length ? ` · also ${found.aliases.join(", ")}` : ""}`);
		},
	};
}
