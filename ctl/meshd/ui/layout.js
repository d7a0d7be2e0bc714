// SPDX-License-Identifier: Apache-2.0
// Where the nodes of the map are. They stay where they are when numbers change, edges come, or others go; a new one gets
// a place that is free. Only arrange() moves them.
import dagre from "./vendor/dagre.esm.js";

export const NODE = { width: 168, height: 58 };
const LABEL = { width: 128, height: 56 };
const LABELS_UP_TO = 40;  // edges; above that, labels would be all that there is
const DAGRE_UP_TO = 150;  // edges; it takes seconds for a thousand, and what it makes of them nobody can read
const GAP = 28;

function overlap(a, b) {
	return Math.abs(a.x - b.x) < NODE.width + GAP && Math.abs(a.y - b.y) < NODE.height + GAP;
}

// How many calls lead to each at most; calls that go round in a circle count once.
function depths(names, edges) {
	const callers = new Map(names.map(name => [name, []]));
	const depth = new Map(), under = new Set();

	for (const e of edges)
		if (e.source !== e.destination)
			callers.get(e.destination).push(e.source);

	function visit(name) {
		if (depth.has(name) || under.has(name))
			return depth.get(name) ?? 0;
		under.add(name);
		const found = Math.max(0, ...callers.get(name).map(caller => visit(caller) + 1));

		under.delete(name);
		depth.set(name, found);
		return found;
	}

	names.forEach(visit);
	return depth;
}

// Many edges: rows and columns, callers before those they call.
function grid(names, edges, direction) {
	const depth = depths(names, edges);
	const order = [...names].sort((a, b) => depth.get(a) - depth.get(b) || (a < b ? -1 : 1));
	const right = direction === "LR";
	const across = Math.max(1, Math.ceil(Math.sqrt(names.length * (right ? 0.8 : 0.3))));
	const at = new Map(order.map((name, i) => {
		const rank = Math.floor(i / across), place = i % across + (rank % 2) / 2; // shifted, or edges hide behind nodes

		return [name, right ? { x: rank * (NODE.width + 3 * GAP), y: place * (NODE.height + GAP) }
			: { x: place * (NODE.width + GAP), y: rank * (NODE.height + 3 * GAP) }];
	}));

	return { at, routes: new Map() };
}

// { at: name -> { x, y }, routes: edge id -> { points, label } }
function compute(names, edges, direction) {
	const graph = new dagre.graphlib.Graph();
	const labels = edges.length <= LABELS_UP_TO;
	const routes = new Map();

	if (edges.length > DAGRE_UP_TO)
		return grid(names, edges, direction);
	graph.setGraph({ rankdir: direction, nodesep: labels ? 32 : GAP, ranksep: labels ? 32 : 72, marginx: 16, marginy: 16 });
	graph.setDefaultEdgeLabel(() => ({}));
	for (const name of names)
		graph.setNode(name, { ...NODE });
	for (const e of edges)
		graph.setEdge(e.source, e.destination, labels ? { ...LABEL, labelpos: "c" } : {});
	dagre.layout(graph);
	for (const e of edges) {
		const { points, x, y } = graph.edge(e.source, e.destination);

		routes.set(e.id, { points: points ?? [], label: x === undefined ? null : { x, y } });
	}
	return { at: new Map(names.map(name => [name, { x: graph.node(name).x, y: graph.node(name).y }])), routes };
}

export class Layout {
	constructor() {
		this.at = new Map();     // name -> { x, y }, the middle; also of nodes that are gone, should they come back
		this.routes = new Map(); // edge id -> { points, label }, from the last arrange()
		this.direction = "LR";
	}

	// names: of the nodes; edges: [{ id, source, destination }].
	update(names, edges, direction) {
		const sortedNames = [...names].sort();
		const sortedEdges = [...edges].sort((a, b) => a.id < b.id ? -1 : 1);
		const fresh = sortedNames.filter(name => !this.at.has(name));

		if (direction !== this.direction || fresh.length === sortedNames.length) {
			this.direction = direction;
			this.arrange(sortedNames, sortedEdges);
		} else if (fresh.length) {
			this.place(fresh, sortedNames, sortedEdges);
		}
	}

	arrange(names, edges) {
		Object.assign(this, compute(names, edges, this.direction));
	}

	// Where they would be among the others, moved to where the others are; then aside until nobody is there.
	place(fresh, names, edges) {
		const { at } = compute(names, edges, this.direction);
		const known = names.filter(name => this.at.has(name));
		const mean = axis => known.reduce((sum, name) => sum + this.at.get(name)[axis] - at.get(name)[axis], 0) / known.length;
		const dx = mean("x"), dy = mean("y");

		for (const name of fresh) {
			const spot = { x: at.get(name).x + dx, y: at.get(name).y + dy };
			const taken = names.filter(n => this.at.has(n)).map(n => this.at.get(n));

			while (taken.some(other => overlap(spot, other))) {
				if (this.direction === "LR")
					spot.y += NODE.height + GAP;
				else
					spot.x += NODE.width + GAP;
			}
			this.at.set(name, spot);
		}
	}

	// { d, x, y }: the path of an edge, and where its label is.
	path(edge) {
		const from = this.at.get(edge.source), to = this.at.get(edge.destination);
		const route = this.routes.get(edge.id);

		if (edge.source === edge.destination)
			return loop(from);
		return curve(from, to, this.direction, route?.points.slice(1, -1) ?? [], route?.label);
	}

	bounds(names) {
		const boxes = names.map(name => this.at.get(name));
		const points = [...this.routes.values()].flatMap(r => r.points);
		const xs = boxes.flatMap(b => [b.x - NODE.width / 2, b.x + NODE.width / 2]).concat(points.map(p => p.x));
		const ys = boxes.flatMap(b => [b.y - NODE.height / 2, b.y + NODE.height / 2]).concat(points.map(p => p.y));
		const x = Math.min(...xs) - 20, y = Math.min(...ys) - 20;

		return { x, y, width: Math.max(...xs) + 20 - x, height: Math.max(...ys) + 20 - y };
	}
}

function loop({ x, y }) {
	const right = x + NODE.width / 2;

	return { d: `M${right} ${y - 12}C${right + 60} ${y - 40} ${right + 60} ${y + 40} ${right} ${y + 12}`, x: right + 45, y };
}

// From the middle of one side to the middle of the other, through the points between, always along the ranks there.
function curve(from, to, direction, between, label) {
	const right = direction === "LR";
	const sign = (right ? to.x > from.x : to.y > from.y) ? 1 : -1;
	const port = ({ x, y }, side) => right ? { x: x + side * NODE.width / 2, y } : { x, y: y + side * NODE.height / 2 };
	const points = [port(from, sign), ...between, port(to, -sign)];
	let d = `M${points[0].x} ${points[0].y}`;

	for (let i = 1; i < points.length; i++) {
		const a = points[i - 1], b = points[i];
		const half = right ? (b.x - a.x) / 2 : (b.y - a.y) / 2;

		d += right ? `C${a.x + half} ${a.y} ${b.x - half} ${b.y} ${b.x} ${b.y}` : `C${a.x} ${a.y + half} ${b.x} ${b.y - half} ${b.x} ${b.y}`;
	}
	const first = points[0], last = points.at(-1);
	const part = (a, b) => a + (b - a) * 0.72; // near where it arrives: lines that leave together have parted there

	return { d, x: label?.x ?? part(first.x, last.x), y: label?.y ?? part(first.y, last.y) };
}
