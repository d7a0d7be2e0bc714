// SPDX-License-Identifier: Apache-2.0
// meshd's REST API, of which this page only reads.

const PATIENCE_MS = 8000;

// meshd answered, and refused.
export class Refused extends Error {
	constructor(status, message) {
		super(message);
		this.name = "Refused";
		this.status = status;
	}
}

async function ask(path, query, signal) {
	const parameters = new URLSearchParams();

	for (const [key, value] of Object.entries(query ?? {}))
		if (value !== "" && value !== null && value !== undefined && value !== false)
			parameters.set(key, value);
	const address = parameters.size ? `${path}?${parameters}` : path;
	const limit = AbortSignal.timeout(PATIENCE_MS);

	const options = { cache: "no-store", signal: signal ? AbortSignal.any([signal, limit]) : limit };

	try {
		return await fetch(address, options);
	} catch (error) {
		if (!(error instanceof TypeError))
			throw error;
		return fetch(address, options); // browsers give up what is under way when a network interface comes or goes
	}
}

async function get(path, query, signal) {
	const answer = await ask(path, query, signal);

	if (answer.ok)
		return answer.json();
	const why = await answer.json().catch(() => ({}));

	throw new Refused(answer.status, why.error ?? `meshd answers ${answer.status}`);
}

const name = encodeURIComponent;

// 503 when the store failed: with a body that says so.
export async function health(signal) {
	return (await ask("health", null, signal)).json();
}
export const services = signal => get("api/services", null, signal).then(a => a.services);
export const agents = signal => get("api/agents", null, signal).then(a => a.agents);
export const faults = signal => get("api/faults", null, signal).then(a => a.faults);
export const breakers = signal => get("api/breakers", null, signal).then(a => a.breakers);
export const graph = (window, signal) => get("api/graph", { window }, signal);
export const metrics = (service, window, granularity, signal) =>
	get(`api/metrics/${name(service)}`, { window, granularity }, signal);
// What is configured for the service; null when nothing is.
export const config = (service, signal) => get("api/config", null, signal)
	.then(a => a.services.find(c => c.service === service) ?? null);
export const traces = (query, signal) => get("api/traces", query, signal).then(a => a.traces);
export const trace = (id, signal) => get(`api/traces/${name(id)}`, null, signal);

// Server-sent events, one a request.
export function tap(query) {
	const parameters = new URLSearchParams(Object.entries(query).filter(([, value]) => value));

	return new EventSource(parameters.size ? `api/tap?${parameters}` : "api/tap");
}
