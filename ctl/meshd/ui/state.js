// SPDX-License-Identifier: Apache-2.0
// What was chosen and outlives a view: the window that numbers are taken over, and the theme.

// A window (as meshd understands it), and the granularity that gives some sixty points of it.
export const WINDOWS = new Map([
	["1m", "1s"],
	["5m", "5s"],
	["15m", "15s"],
	["1h", "1m"],
	["6h", "5m"],
	["24h", "30m"],
	["168h", "3h"],
]);

const listeners = new Set();

function recall(key, fallback) {
	try {
		return localStorage.getItem(key) ?? fallback;
	} catch {
		return fallback;
	}
}

function keep(key, value) {
	try {
		localStorage.setItem(key, value);
	} catch {
		// then it is for this visit
	}
}

let chosen = recall("window", "1m");
if (!WINDOWS.has(chosen))
	chosen = "1m";

export function currentWindow() {
	return chosen;
}

export function currentGranularity() {
	return WINDOWS.get(chosen);
}

export function chooseWindow(name) {
	chosen = name;
	keep("window", name);
	changed();
}

// "light", "dark", or "auto": as the system has it.
export function currentTheme() {
	return document.documentElement.dataset.theme ?? "auto";
}

export function chooseTheme(name) {
	if (name === "auto")
		delete document.documentElement.dataset.theme;
	else
		document.documentElement.dataset.theme = name;
	keep("theme", name);
	changed();
}

// Calls back when something was chosen. Returns what ends that.
export function onChange(listener) {
	listeners.add(listener);
	return () => listeners.delete(listener);
}

function changed() {
	for (const listener of [...listeners])
		listener();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
