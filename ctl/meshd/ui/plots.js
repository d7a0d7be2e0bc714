// SPDX-License-Identifier: Apache-2.0
// Lines over time: small ones in tables (SVG), large ones by uPlot.
import { h, s } from "./dom.js";
import { onChange } from "./state.js";

const WIDTH = 96, HEIGHT = 24;

const SETTLED_MS = 10000;

// Of a time that is not over less has come than will: by what there is, or, when that is too short to say, nothing.
function rateOf(p, step, to) {
	const gone = to - p.time;

	return !step || gone >= step ? p.rate : gone < SETTLED_MS ? null : p.rate * step / gone;
}

// A series of /api/metrics as it is drawn: [{ time (s), rate, errorRate, p50, p95, p99 }]; where nothing passed, there is no
// latency.
export function points(metrics) {
	const series = metrics?.series ?? [];
	const step = series.length > 1 ? series[1].time - series[0].time : 0;

	return series.map(p => ({
		time: p.time / 1000,
		rate: rateOf(p, step, metrics.to),
		errorRate: p.requests === 0 ? null : p.errorRate,
		p50: p.requests === 0 ? null : p.p50,
		p95: p.requests === 0 ? null : p.p95,
		p99: p.requests === 0 ? null : p.p99,
	}));
}

// A line of values, of which some may be null; from 0 to the largest, or to `least` when all are smaller.
export function sparkline(svg, values, least = 0) {
	const top = Math.max(least, ...values.map(v => v ?? 0)) || 1;
	const step = WIDTH / Math.max(1, values.length - 1);
	let line = "", pen = false;

	values.forEach((v, i) => {
		if (v !== null)
			line += `${pen ? "L" : "M"}${(i * step).toFixed(1)} ${(HEIGHT - 2 - v / top * (HEIGHT - 4)).toFixed(1)}`;
		pen = v !== null;
	});
	svg.firstElementChild.setAttribute("d", line || "M0 0");
}

export function sparklineNew(name) {
	return s("svg", { class: `spark ${name}`, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT,
		"aria-hidden": "true", preserveAspectRatio: "none" }, s("path"));
}

// The canvas knows no custom properties: what the style sheet makes of them now.
function colour(name) {
	const probe = h("i", { class: `ink ${name}`, hidden: true });

	document.body.append(probe);
	const found = getComputedStyle(probe).color;
	probe.remove();
	return found;
}

function times(u, ticks) {
	const length = u.scales.x.max - u.scales.x.min;
	const how = { hour: "2-digit", minute: "2-digit", hour12: false, ...length < 600 ? { second: "2-digit" } : {},
		...length > 90000 ? { day: "numeric", month: "short" } : {} };

	return ticks.map(t => new Date(t * 1000).toLocaleString([], how));
}

const sync = () => window.uPlot.sync("window");

// A plot under a heading: { element, draw(points), close() }. series: [{ key, label, ink }]; show(value) -> text.
export function plot(title, series, show) {
	const canvas = h("div", { class: "plot" });
	const element = h("figure", { class: "card", role: "img" }, h("figcaption", null, title), canvas);
	const resized = new ResizeObserver(() => chart?.setSize(size()));
	let chart = null, data = null;

	function size() {
		return { width: Math.max(200, canvas.clientWidth), height: 170 };
	}

	function make() {
		const axis = { stroke: colour("quiet"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false },
			font: "12px system-ui, sans-serif" };

		chart?.destroy();
		chart = new window.uPlot({
			...size(),
			cursor: { sync: { key: sync().key }, drag: { x: false, y: false } },
			legend: { live: true },
			scales: { y: { range: (u, min, max) => [0, max > 0 ? max * 1.1 : 1] } },
			axes: [{ ...axis, size: 28, space: 70, values: times }, { ...axis, size: 62, values: (u, ticks) => ticks.map(v => v === null ? "" : show(v)) }],
			series: [{ value: (u, v) => v === null ? "" : new Date(v * 1000).toLocaleTimeString([], { hour12: false }) },
				...series.map(x => ({ label: x.label, stroke: colour(x.ink), width: 2, points: { size: 4 }, spanGaps: false,
					value: (u, v) => v === null || v === undefined ? "–" : show(v) }))],
		}, data, canvas);
	}

	const unsubscribe = onChange(() => data && make());

	resized.observe(canvas);
	return {
		element,
		draw(list, summary) {
			data = [list.map(p => p.time), ...series.map(x => list.map(p => p[x.key]))];
			element.setAttribute("aria-label", `${title}: ${summary}`);
			if (chart)
				chart.setData(data);
			else
				make();
		},
		close() {
			unsubscribe();
			resized.disconnect();
			chart?.destroy();
		},
	};
}
