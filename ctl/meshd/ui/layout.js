// SPDX-License-Identifier: Apache-2.0
// Where the nodes of the map are. They stay where they are when numbers change, edges come, or others go; a new one gets
// a place that is free. Only arrange() moves them.
import dagre from "./vendor/dagre.esm.js";

export const NODE = { width: 156, height: 58 };
const LABEL = { width: 128, height: 56 };
const LABELS_UP_TO = 60;  // edges; above that, labels would be all that there is
const BACKBONE_UP_TO = 200; // edges that are laid out; dagre takes seconds for a thousand
const GAP = 28;

function overlap(a, b) {
	return Math.abs(a.x - b.x) < NODE.width + GAP && Math.abs(a.y - b.y) < NODE.height + GAP;
}

// Of too many edges, some of each node: which ones does not depend on numbers that change.
function backbone(edges) {
	if (edges.length <= BACKBONE_UP_TO)
		return edges;
	const seen = new Map();
	const each = Math.max(1, Math.floor(BACKBONE_UP_TO / new Set(edges.map(e => e.destination)).size));

	return edges.filter(e => {
		const n = seen.get(e.destination) ?? 0;

		seen.set(e.destination, n + 1);
		return n < each;
	});
}

function compute(names, edges, direction) {
	const graph = new dagre.graphlib.Graph();
	const labels = edges.length <= LABELS_UP_TO;

	graph.setGraph({ rankdir: direction, nodesep: labels ? 32 : GAP, ranksep: labels ? 32 : 72, marginx: 16, marginy: 16 });
	graph.setDefaultEdgeLabel(() => ({}));
	for (const name of names)
		graph.setNode(name, { ...NODE });
	for (const e of backbone(edges))
		graph.setEdge(e.source, e.destination, labels ? { ...LABEL, labelpos: "c" } : {});
	dagre.layout(graph);
	return graph;
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
		const graph = compute(names, edges, this.direction);

		this.at = new Map(names.map(name => [name, { x: graph.node(name).x, y: graph.node(name).y }]));
		this.routes = new Map();
		for (const e of edges) {
			const route = graph.edge(e.source, e.destination);

			if (route?.points)
				this.routes.set(e.id, { points: route.points, label: route.x === undefined ? null : { x: route.x, y: route.y } });
		}
	}

	// Where they would be among the others, moved to where the others are; then aside until nobody is there.
	place(fresh, names, edges) {
		const graph = compute(names, edges, this.direction);
		const known = names.filter(name => this.at.has(name));
		const mean = axis => known.reduce((sum, name) => sum + this.at.get(name)[axis] - graph.node(name)[axis], 0) / known.length;
		const dx = mean("x"), dy = mean("y");

		for (const name of fresh) {
			const spot = { x: graph.node(name).x + dx, y: graph.node(name).y + dy };
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

	return { d, x: label?.x ?? (first.x + last.x) / 2, y: label?.y ?? (first.y + last.y) / 2 };
}
