// SPDX-License-Identifier: Apache-2.0
// What everybody must see: that meshd does not answer, that something is wrong with the mesh, that faults are injected.
import * as api from "./api.js";
import { classes, h, keyed, text } from "./dom.js";
import { clock, count, countdown } from "./format.js";
import { poll } from "./poll.js";

const EVERY_MS = 2000;
const pill = document.getElementById("health");
const area = document.getElementById("banners");
let poller = null, ticker = 0, recovered = null;
let lostAt = 0; // when meshd was heard of last, since it is not any more
let heardAt = Date.now();
let faults = []; // with `ends`, by performance.now()
let troubles = []; // [key, text]

function describe(fault) {
	const parts = [];

	if (fault.delay)
		parts.push(`${fault.delay.percent} % delayed by ${fault.delay.duration}`);
	if (fault.abort)
		parts.push(`${fault.abort.percent} % answered ${fault.abort.status}`);
	return parts.join(", ");
}

function makeFault(fault) {
	return h("div", { class: "banner fault", role: "status" },
		h("strong", null, "Fault injected"),
		h("span", { class: "what" }),
		h("span", { class: "left", role: "timer", "aria-live": "off" }),
		h("code", null, `meshctl chaos reset ${fault.service}`));
}

function fillFault(element, fault) {
	const what = `${fault.service}: ${describe(fault)}`;

	text(element.querySelector(".what"), what);
	text(element.querySelector(".left"), `ends in ${countdown(fault.ends - performance.now())}`);
}

function makeTrouble() {
	return h("div", { class: "banner trouble", role: "alert" }, h("span", { class: "what" }));
}

function makeLost() {
	return h("div", { class: "banner lost", role: "alert" },
		h("strong", null, "meshd does not answer"),
		h("span", { class: "what" }, `since ${clock(lostAt)}. What is shown is from then; traffic does not depend on it.`),
		h("span", { class: "left", "aria-live": "off" }),
		h("button", { type: "button", click: () => poller.now() }, "Try now"));
}

function fill(element, item) {
	if (item.fault)
		fillFault(element, item.fault);
	else if (item.trouble)
		text(element.querySelector(".what"), item.trouble);
	else
		text(element.querySelector(".left"), `${countdown(Date.now() - lostAt)} ago`);
}

function draw() {
	const now = performance.now();
	const items = [];

	if (lostAt)
		items.push({ key: "lost", make: makeLost });
	else
		items.push(...troubles.map(([key, trouble]) => ({ key, trouble, make: makeTrouble })));
	faults = faults.filter(f => f.ends > now);
	items.push(...faults.map(fault => ({ key: `fault ${fault.service}`, fault, make: () => makeFault(fault) })));
	keyed(area, items, item => item.key, item => item.make(), fill);
	tick(items.length > 0);
}

// One timer, as long as something counts.
function tick(wanted) {
	if (wanted && !ticker)
		ticker = setInterval(draw, 500);
	else if (!wanted && ticker)
		ticker = clearInterval(ticker) ?? 0;
}

function judge(health, agents) {
	const stale = agents.filter(a => a.status !== "live");

	troubles = [];
	if (health.status !== "healthy")
		troubles.push(["health", `meshd is ${health.status}`]);
	if (health.storeError)
		troubles.push(["store", `meshd cannot write to its disk: ${health.storeError}`]);
	if (health.configError)
		troubles.push(["config", `The configuration files were refused, the last good ones are in use: ${health.configError}`]);
	if (!health.agents)
		troubles.push(["agents", "No agent is connected: start mesh-agent, or look at meshctl check."]);
	for (const a of stale)
		troubles.push([`agent ${a.node}`, `Nothing was heard of the agent on ${a.node} since ${clock(a.lastSeen)}.`]);
}

function drawHealth(health) {
	const good = !troubles.length;

	classes(pill, `pill ${good ? "good" : "bad"}`);
	text(pill.firstElementChild, good ? "healthy" : "attention");
	text(document.getElementById("about"), `meshd ${health.version} · ${count(health.services, "service")} · ` +
		`${count(health.agents, "agent")} · revision ${health.revision}`);
}

async function refresh(signal) {
	try {
		const [health, agents, list] = await Promise.all([api.health(signal), api.agents(signal), api.faults(signal)]);

		heardAt = Date.now();
		faults = list.map(f => ({ ...f, ends: performance.now() + f.leftMs }));
		judge(health, agents);
		drawHealth(health);
		found();
	} catch (error) {
		if (!signal.aborted)
			lost();
		throw error;
	} finally {
		draw();
	}
}

function lost() {
	lostAt ||= heardAt;
	classes(pill, "pill bad");
	text(pill.firstElementChild, "unreachable");
	document.body.classList.add("stale");
}

function found() {
	if (!lostAt)
		return;
	lostAt = 0;
	document.body.classList.remove("stale");
	recovered();
}

// Something did not answer: look at once whether all is lost.
export function suspect() {
	if (!lostAt)
		poller?.now();
}

// recovered(): meshd answers again.
export function start(onRecovered) {
	recovered = onRecovered;
	poller = poll(refresh, EVERY_MS);
}
