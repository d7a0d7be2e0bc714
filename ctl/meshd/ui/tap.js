// SPDX-License-Identifier: Apache-2.0
// Requests as they pass. A bounded number of lines, put in once a frame however many come.
import * as api from "./api.js";
import { empty, h, table, text } from "./dom.js";
import * as format from "./format.js";

const ROWS_MAX = 200;
const COLUMNS = [{ name: "Time" }, { name: "Caller", class: "wide" }, { name: "Called" }, { name: "Request" }, { name: "Status" },
	{ name: "Duration", class: "number" }, { name: "Instance", class: "wide" }];

function row(span) {
	const time = format.clockMs(span.startTime);
	const bad = span.error ? "bad" : "fine";
	const what = span.operation || `${span.method ?? ""} ${span.path ?? ""}`;

	return h("tr", null, h("td", null, time.slice(0, -4), h("span", { class: "millis" }, time.slice(-4))), h("td", { class: "wide" }, span.source),
		h("td", null, h("b", null, span.service)),
		h("td", { class: "long" }, span.traceId ? h("a", { href: `#/traces/${encodeURIComponent(span.traceId)}` }, what) : what),
		h("td", null, h("span", { class: `code ${bad}` }, `${format.status(span)}${span.cause ? ` ${span.cause}` : ""}`)),
		h("td", { class: "number" }, format.duration(span.duration)), h("td", { class: "wide" }, span.instance));
}

export function open(root, argument, query) {
	const service = h("input", { name: "service", size: 14, placeholder: "all", value: query.get("service") ?? "", change: connect });
	const min = h("input", { name: "min", size: 7, placeholder: "0ms", pattern: "\\d+(ms|s|m)?", change: connect });
	const error = h("input", { name: "error", type: "checkbox", change: connect });
	const words = h("input", { type: "search", size: 14, placeholder: "any text", input: filter });
	const pause = h("button", { type: "button", "aria-pressed": "false", click: toggle }, "Pause");
	const clear = h("button", { type: "button", click: () => body.replaceChildren() }, "Clear");
	const state = h("span", { class: "quiet", role: "status" }, "connecting");
	const { frame, body } = table("Requests as they pass", COLUMNS, "bounded");
	const nothing = empty("Waiting for requests", "Send one: `curl http://127.0.0.1:8080/`");
	let source = null, waiting = [], frameAsked = 0, paused = false, missed = 0, seen = 0;

	root.append(h("div", { class: "card" },
		h("form", { class: "toolbar", role: "search", submit: event => event.preventDefault() }, h("h2", null, "Tap"),
			h("label", { class: "field" }, h("span", null, "Service"), service),
			h("label", { class: "field" }, h("span", null, "At least"), min),
			h("label", { class: "field check" }, error, h("span", null, "Errors only")),
			h("label", { class: "field" }, h("span", null, "Containing"), words), pause, clear, state),
		frame, nothing));
	frame.hidden = true;

	function show() {
		const lost = missed ? ` · ${missed} not shown` : "";

		text(state, paused ? `paused · ${seen} passed${lost}` : source?.readyState === EventSource.OPEN ? `live · ${seen} passed${lost}` : "connecting");
	}

	function fits(element) {
		return element.textContent.toLowerCase().includes(words.value.toLowerCase());
	}

	function filter() {
		for (const element of body.children)
			element.hidden = !fits(element);
	}

	function flush() {
		cancelAnimationFrame(frameAsked);
		frameAsked = 0;
		for (const span of waiting) {
			const element = row(span);

			element.hidden = !fits(element);
			body.prepend(element);
		}
		waiting = [];
		while (body.childElementCount > ROWS_MAX)
			body.lastElementChild.remove();
		frame.hidden = seen === 0;
		nothing.hidden = seen > 0;
		show();
	}

	function take(event) {
		seen++;
		if (paused) {
			missed++;
		} else {
			waiting.push(JSON.parse(event.data));
			if (waiting.length > ROWS_MAX)
				waiting.shift();
		}
		frameAsked ||= requestAnimationFrame(flush);
	}

	function disconnect() {
		source?.close();
		source = null;
	}

	// The address in the browser says what is tapped, so that it can be passed on.
	function connect() {
		disconnect();
		if (document.hidden)
			return;
		source = api.tap({ service: service.value.trim(), error: error.checked ? "true" : "", min: format.least(min) });
		source.addEventListener("message", take);
		source.addEventListener("lost", event => {
			missed += JSON.parse(event.data).count ?? 0;
			show();
		});
		source.addEventListener("open", show);
		source.addEventListener("error", () => {
			show();
			if (source?.readyState === EventSource.CLOSED)
				text(state, "refused: too many taps, or the filter is not valid");
		});
		show();
	}

	function toggle() {
		flush(); // what came before is shown
		paused = !paused;
		pause.setAttribute("aria-pressed", String(paused));
		text(pause, paused ? "Go on" : "Pause");
		show();
	}

	const visible = () => document.hidden ? disconnect() : connect();

	document.addEventListener("visibilitychange", visible);
	connect();
	return {
		title: "Tap",
		close() {
			document.removeEventListener("visibilitychange", visible);
			cancelAnimationFrame(frameAsked);
			disconnect();
		},
	};
}
