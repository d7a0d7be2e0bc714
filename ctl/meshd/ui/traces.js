// SPDX-License-Identifier: Apache-2.0
// Traces that were kept, the newest first, filtered; the filter is part of the address.
import * as api from "./api.js";
import { classes, empty, h, keyed, roving, table, text } from "./dom.js";
import * as format from "./format.js";

const EVERY_MS = 3000;
const LIMITS = ["25", "50", "100", "500"];
const COLUMNS = [{ name: "Time" }, { name: "Request" }, { name: "Services", class: "wide" }, { name: "Spans", class: "number wide" },
	{ name: "Duration", class: "number" }, { name: "Status" }];

function makeRow(t) {
	const link = h("a", { class: "trace", href: `#/traces/${encodeURIComponent(t.traceId)}` });

	return h("tr", null, h("td"), h("th", { scope: "row" }, h("b"), " ", link), h("td", { class: "wide" }), h("td", { class: "number wide" }),
		h("td", { class: "number" }, h("span"), h("meter", { min: 0, "aria-hidden": "true" })), h("td", null, h("span")));
}

// The longest of what is shown is the length of the bars.
function fillRow(longest) {
	return (row, t) => {
		const [time, request, services, spans, duration, status] = row.children;
		text(time, format.clockMs(t.startTime));
		text(request.firstElementChild, t.root.service);
		text(request.lastElementChild, t.root.operation || t.traceId);
		text(services, t.services.join(", "));
		text(spans, t.spans);
		text(duration.firstElementChild, format.duration(t.duration));
		duration.lastElementChild.max = longest || 1;
		duration.lastElementChild.value = t.duration ?? 0;
		text(status.firstElementChild, `${t.statusCode || "ok"}${t.errors ? ` · ${format.count(t.errors, "error")}` : ""}`);
		classes(status.firstElementChild, `code ${t.error ? "bad" : "fine"}`);
	};
}

export function open(root, argument, query, again) {
	const service = h("select", { name: "service" }, h("option", { value: "" }, "all"));
	const min = h("input", { name: "min", placeholder: "100ms", size: 7, value: query.get("min") ?? "", pattern: "\\d+(ms|s|m)?" });
	const error = h("input", { type: "checkbox", name: "error", checked: query.get("error") === "true" });
	const limit = h("select", { name: "limit" }, LIMITS.map(n => h("option", { value: n }, n)));
	const byId = h("input", { name: "id", type: "search", placeholder: "trace id", size: 18 });
	const { frame, body } = table("Traces", COLUMNS);
	const settle = roving(body, "a.trace");
	const nothing = h("div", { hidden: true }, empty("No trace here",
		"Send a request through the mesh: `curl http://127.0.0.1:8080/`",
		"or loosen the filter. Sampling is `tracing.sampling` of a service's configuration; errors and slow ones are kept in any case."));
	const form = h("form", { class: "toolbar", role: "search", change: apply, submit: go },
		h("h2", null, "Traces"),
		h("label", { class: "field" }, h("span", null, "Service"), service),
		h("label", { class: "field" }, h("span", null, "At least"), min),
		h("label", { class: "field check" }, error, h("span", null, "Errors only")),
		h("label", { class: "field" }, h("span", null, "Limit"), limit),
		h("label", { class: "field" }, h("span", null, "Open"), byId),
		h("button", { class: "unseen" }, "Open"));

	limit.value = LIMITS.includes(query.get("limit")) ? query.get("limit") : "50";
	root.append(h("div", { class: "card" }, form, frame, nothing));
	offer(query.get("service") ?? "", []);

	// The services there are, and the one that was chosen in any case.
	function offer(chosen, names) {
		const all = ["", ...new Set([...names, chosen].filter(Boolean))].sort();

		keyed(service, all, n => n, n => h("option", { value: n }, n || "all"));
		service.value = chosen;
	}

	function wanted() {
		return { service: service.value, min: format.least(min), error: error.checked ? "true" : "", limit: limit.value };
	}

	function apply(event) {
		if (event.target === byId)
			return;
		const chosen = new URLSearchParams(Object.entries(wanted()).filter(([, value]) => value));

		history.replaceState(null, "", `#/traces?${chosen}`);
		again();
	}

	function go(event) {
		event.preventDefault();
		if (byId.value.trim())
			location.hash = `#/traces/${encodeURIComponent(byId.value.trim())}`;
	}

	return {
		title: "Traces",
		every: EVERY_MS,
		async refresh(signal) {
			const [list, services] = await Promise.all([api.traces(wanted(), signal), api.services(signal)]);

			offer(service.value, services.map(s => s.name));
			nothing.hidden = list.length > 0;
			frame.hidden = !nothing.hidden;
			keyed(body, list, t => t.traceId, makeRow, fillRow(Math.max(0, ...list.map(t => t.duration ?? 0))));
			settle();
		},
	};
}
