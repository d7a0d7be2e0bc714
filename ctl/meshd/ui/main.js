// SPDX-License-Identifier: Apache-2.0
// The frame around the views: which one is shown (the address behind #), the choices for all of them, how meshd is.
//
// A view is open(root, argument, query, again) -> { title, every?, refresh(signal)?, redraw()?, close()? }; again() has it
// refreshed at once.
import * as banner from "./banner.js";
import { h, text } from "./dom.js";
import { poll } from "./poll.js";
import * as state from "./state.js";
import * as map from "./map.js";
import * as services from "./services.js";
import * as service from "./service.js";
import * as traces from "./traces.js";
import * as waterfall from "./waterfall.js";
import * as tap from "./tap.js";

const main = document.getElementById("main");
let view = null, poller = null;

function route() {
	const [path, query] = location.hash.replace(/^#\/?/, "").split("?", 2);
	const [name, ...rest] = path.split("/");
	let argument = rest.join("/");

	try {
		argument = decodeURIComponent(argument);
	} catch {
		// then it is as it stands
	}
	return { name: name || "map", argument, query: new URLSearchParams(query ?? "") };
}

function pick({ name, argument }) {
	switch (name) {
	case "services": return argument ? service : services;
	case "traces": return argument ? waterfall : traces;
	case "tap": return tap;
	default: return map;
	}
}

function markCurrent(name) {
	for (const link of document.querySelectorAll("nav a")) {
		if (link.hash === `#/${name}`)
			link.setAttribute("aria-current", "page");
		else
			link.removeAttribute("aria-current");
	}
}

function note(root, error) {
	let line = root.querySelector(":scope > .refusal");

	if (!error)
		return line?.remove();
	if (!line)
		root.prepend(line = h("p", { class: "note refusal", role: "alert" }));
	text(line, error.message);
}

async function refresh(current, root, signal) {
	try {
		await current.refresh(signal);
		note(root, null);
	} catch (error) {
		if (error.name === "Refused")
			note(root, error);
		else if (!signal.aborted)
			banner.suspect();
		throw error;
	}
}

function show() {
	const where = route();
	const first = view === null;

	if (location.hash === "#main") { // the skip link: no view
		main.focus();
		return;
	}
	poller?.stop();
	view?.close?.();
	const root = h("div", { class: "view" });
	const opened = pick(where).open(root, where.argument, where.query, () => poller?.now());

	view = opened;
	main.replaceChildren(root);
	document.title = `${opened.title} · sockmesh`;
	markCurrent(["services", "traces", "tap"].includes(where.name) ? where.name : "map");
	poller = opened.refresh ? poll(signal => refresh(opened, root, signal), opened.every) : null;
	if (!first) {
		main.focus({ preventScroll: true });
		scrollTo(0, 0);
	}
}

function drawTheme() {
	const button = document.getElementById("theme");
	const theme = state.currentTheme();

	text(button, { auto: "◐", light: "☀", dark: "☾" }[theme]);
	button.setAttribute("aria-label", `Theme: ${theme}`);
	button.title = `Theme: ${theme}`;
}

function chooseNextTheme() {
	const order = ["auto", "light", "dark"];

	state.chooseTheme(order[(order.indexOf(state.currentTheme()) + 1) % order.length]);
}

function start() {
	const select = document.getElementById("window");

	select.append(...[...state.WINDOWS.keys()].map(name => h("option", { value: name }, name === "168h" ? "7d" : name)));
	select.value = state.currentWindow();
	select.addEventListener("change", () => state.chooseWindow(select.value));
	document.getElementById("theme").addEventListener("click", chooseNextTheme);
	drawTheme();
	state.onChange(() => {
		drawTheme();
		view.redraw?.();
		poller?.now();
	});
	document.querySelector(".skip").addEventListener("click", event => {
		event.preventDefault();
		main.focus();
	});
	addEventListener("hashchange", show);
	banner.start(() => poller?.now());
	show();
}

start();
