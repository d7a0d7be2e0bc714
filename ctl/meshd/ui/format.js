// SPDX-License-Identifier: Apache-2.0
// Numbers as people read them.

const NONE = "–";

function known(x) {
	return typeof x === "number" && Number.isFinite(x);
}

function digits(x) {
	const a = Math.abs(x);

	return x.toFixed(a >= 100 || a === 0 ? 0 : a >= 10 ? 1 : 2);
}

export function rate(x) {
	if (!known(x))
		return NONE;
	if (x >= 1e6)
		return digits(x / 1e6) + "M/s";
	if (x >= 1e4)
		return digits(x / 1e3) + "k/s";
	return (x > 0 && x < 0.01 ? "<0.01" : digits(x)) + "/s";
}

// Of a fraction.
export function percent(x) {
	if (!known(x))
		return NONE;
	const p = x * 100;

	if (p > 0 && p < 0.1)
		return "<0.1 %";
	return p.toFixed(p === 0 || p >= 10 ? 0 : 1) + " %";
}

// Of milliseconds.
export function duration(ms) {
	if (!known(ms))
		return NONE;
	if (ms >= 60000)
		return digits(ms / 60000) + " min";
	if (ms >= 1000)
		return digits(ms / 1000) + " s";
	if (ms >= 1 || ms === 0)
		return digits(ms) + " ms";
	return (ms * 1000).toFixed(0) + " µs";
}

// "1 min 05 s": what is left, rounded up.
export function countdown(ms) {
	const seconds = Math.max(0, Math.ceil(ms / 1000));
	const minutes = Math.floor(seconds / 60);
	const hours = Math.floor(minutes / 60);
	const two = n => String(n).padStart(2, "0");

	if (hours)
		return `${hours} h ${two(minutes % 60)} min`;
	return minutes ? `${minutes} min ${two(seconds % 60)} s` : `${seconds} s`;
}

export function clock(time) {
	const d = new Date(time);

	return Number.isNaN(d.getTime()) ? NONE : d.toLocaleTimeString([], { hour12: false });
}

export function clockMs(time) {
	const d = new Date(time);

	return Number.isNaN(d.getTime()) ? NONE : `${clock(time)}.${String(d.getMilliseconds()).padStart(3, "0")}`;
}

export function bytes(n) {
	if (!known(n))
		return NONE;
	if (n < 1024)
		return `${n} B`;
	return n < 1 << 20 ? `${digits(n / 1024)} KiB` : `${digits(n / (1 << 20))} MiB`;
}

export function count(n, what) {
	return `${n} ${what}${n === 1 ? "" : "s"}`;
}

// How bad an error rate is: a class, as colour alone says nothing to some.
export function severity(errorRate) {
	if (!known(errorRate) || errorRate <= 0)
		return "fine";
	return errorRate < 0.01 ? "slight" : errorRate < 0.05 ? "warn" : "bad";
}

export function address(e) {
	return `${e.address.includes(":") ? `[${e.address}]` : e.address}:${e.port}`;
}

// Spans of applications need not have a code.
export function status({ statusCode, error }) {
	return statusCode ? String(statusCode) : error === false ? "ok" : "no answer";
}

// What was typed as a duration, for the API: milliseconds when no unit is said, "" when it is none.
export function least(input) {
	const value = input.value.trim();

	if (!input.validity.valid)
		return "";
	return /^\d+$/.test(value) ? `${value}ms` : value;
}
