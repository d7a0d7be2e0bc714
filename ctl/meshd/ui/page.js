// SPDX-License-Identifier: Apache-2.0
// Shows /api/services and /health, every two seconds. Text goes in as text only, never as markup.
"use strict";

const rows = document.getElementById("services");
const summary = document.getElementById("summary");
const empty = document.getElementById("empty");

function cell(row, text, className) {
	const td = row.insertCell();
	td.textContent = text;
	if (className)
		td.className = className;
}

function host(e) {
	return (e.address.includes(":") ? "[" + e.address + "]" : e.address) + ":" + e.port;
}

function draw(services) {
	const body = document.createDocumentFragment();
	for (const s of services) {
		s.endpoints.forEach((e, i) => {
			const row = document.createElement("tr");
			cell(row, i ? "" : s.name, "name");
			cell(row, e.status, "status " + e.status);
			cell(row, i ? "" : s.protocol);
			cell(row, e.id, "instance");
			cell(row, host(e), "address");
			cell(row, e.version);
			cell(row, e.node);
			cell(row, e.source);
			body.append(row);
		});
	}
	rows.replaceChildren(body);
	empty.hidden = services.length > 0;
}

function count(n, what) {
	return `${n} ${what}${n === 1 ? "" : "s"}`;
}

async function get(path) {
	const answer = await fetch(path, { cache: "no-store" });
	return answer.json();
}

async function refresh() {
	try {
		const [health, list] = await Promise.all([get("health"), get("api/services")]);
		draw(list.services);
		summary.textContent = `${health.status} · ${count(health.services, "service")} · ` +
			`${count(health.agents, "agent")} · revision ${health.revision} · meshd ${health.version}`;
		summary.className = health.status;
	} catch (error) {
		summary.textContent = "meshd does not answer";
		summary.className = "unhealthy";
	}
	setTimeout(refresh, 2000);
}

refresh();
