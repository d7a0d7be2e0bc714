// SPDX-License-Identifier: Apache-2.0
// The part of a drawing (SVG) that is looked at: all of it, or what was chosen by dragging and by the buttons.
import { attribute } from "./dom.js";

const LARGEST = 1.15; // how much a small one may be enlarged

// Fits until somebody moves or enlarges it; then it stays as it was put.
export class Viewport {
	constructor(svg) {
		this.svg = svg;
		this.box = null; // as chosen; null: fits
		this.bounds = { x: 0, y: 0, width: 100, height: 100 };
		svg.addEventListener("wheel", event => {
			if (!event.ctrlKey && !event.metaKey)
				return; // the page scrolls
			event.preventDefault();
			this.zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15);
		}, { passive: false });
		svg.addEventListener("pointerdown", event => this.drag(event));
	}

	fit(bounds) {
		this.bounds = bounds ?? this.bounds;
		if (bounds === undefined)
			this.box = null;
		this.apply();
	}

	apply() {
		const b = this.box ?? this.fitted();

		attribute(this.svg, "viewBox", `${b.x} ${b.y} ${b.width} ${b.height}`);
	}

	fitted() {
		const b = this.bounds;
		const width = Math.max(b.width, this.svg.clientWidth / LARGEST), height = Math.max(b.height, this.svg.clientHeight / LARGEST);

		return { x: b.x - (width - b.width) / 2, y: b.y - (height - b.height) / 2, width, height };
	}

	zoom(factor) {
		const b = this.box ?? this.fitted();

		this.box = { x: b.x + b.width * (1 - factor) / 2, y: b.y + b.height * (1 - factor) / 2,
			width: b.width * factor, height: b.height * factor };
		this.apply();
	}

	drag(start) {
		if (start.button !== 0)
			return;
		const { svg } = this;
		const from = this.box ?? this.fitted();
		const scale = Math.max(from.width / svg.clientWidth, from.height / svg.clientHeight);
		const ended = new AbortController();

		delete svg.dataset.dragged;
		addEventListener("pointermove", event => {
			const dx = event.clientX - start.clientX, dy = event.clientY - start.clientY;

			if (!svg.dataset.dragged && Math.hypot(dx, dy) < 5)
				return;
			svg.dataset.dragged = "yes";
			this.box = { ...from, x: from.x - dx * scale, y: from.y - dy * scale };
			this.apply();
		}, { signal: ended.signal });
		for (const name of ["pointerup", "pointercancel"])
			addEventListener(name, () => ended.abort(), { signal: ended.signal });
	}
}
