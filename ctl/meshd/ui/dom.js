// SPDX-License-Identifier: Apache-2.0
// Elements. Text goes in as text nodes only, never as markup; the Content-Security-Policy (trusted types) refuses the rest.

const SVG = "http://www.w3.org/2000/svg";

function apply(element, properties) {
	for (const [key, value] of Object.entries(properties ?? {})) {
		if (value === null || value === undefined || value === false)
			continue;
		if (key === "style")
			for (const [name, v] of Object.entries(value))
				element.style.setProperty(name, v);
		else if (typeof value === "function")
			element.addEventListener(key, value);
		else
			element.setAttribute(key, value === true ? "" : value);
	}
}

function build(element, properties, children) {
	apply(element, properties);
	element.append(...children.flat(Infinity).filter(c => c !== null && c !== undefined && c !== false));
	return element;
}

// h("a", { href: "#/map", click: f, style: { width: "3px" } }, "text", element, [more])
export function h(tag, properties, ...children) {
	return build(document.createElement(tag), properties, children);
}

export function s(tag, properties, ...children) {
	return build(document.createElementNS(SVG, tag), properties, children);
}

// Changes the text only when it is another: what is selected or read aloud stays so.
export function text(element, value) {
	if (element.textContent !== String(value))
		element.textContent = value;
}

export function attribute(element, name, value) {
	if (element.getAttribute(name) !== String(value))
		element.setAttribute(name, value);
}

export function classes(element, value) {
	attribute(element, "class", value);
}

// Makes the children of `parent` those of `items`, in that order, and keeps the elements of keys that stay, so that
// focus and selection do. make(item) -> element; fill(element, item) each time.
export function keyed(parent, items, key, make, fill) {
	const known = new Map([...parent.children].map(e => [e.dataset.key, e]));
	const wanted = new Set(items.map(item => String(key(item))));
	const focus = document.activeElement;

	for (const [k, element] of known)
		if (!wanted.has(k))
			element.remove();
	let at = parent.firstElementChild;

	for (const item of items) {
		const k = String(key(item));
		const element = known.get(k) ?? make(item);

		element.dataset.key = k;
		fill?.(element, item);
		if (element === at)
			at = at.nextElementSibling;
		else
			parent.insertBefore(element, at);
	}
	if (focus !== document.activeElement && parent.contains(focus)) // what is moved loses it
		focus.focus({ preventScroll: true });
}

// The arrow keys, Home and End move among the elements of `selector` under `root`, of which one can be reached by Tab.
// `step(key, elements, index)` -> index, where up and down are not the only ways.
export function roving(root, selector, step = linear) {
	const all = () => [...root.querySelectorAll(selector)];

	root.addEventListener("focusin", event => {
		const element = event.target.closest(selector);

		if (element)
			for (const e of all())
				e.setAttribute("tabindex", e === element ? "0" : "-1");
	});
	root.addEventListener("keydown", event => {
		const elements = all();
		const index = elements.indexOf(event.target.closest(selector));

		if (index < 0 || event.altKey || event.ctrlKey || event.metaKey)
			return;
		const next = step(event.key, elements, index);

		if (next === undefined)
			return;
		event.preventDefault();
		elements[next]?.focus();
	});
	return function settle() { // after what is there has changed
		const elements = all();
		const current = elements.find(e => e.getAttribute("tabindex") === "0") ?? elements[0];

		for (const e of elements)
			e.setAttribute("tabindex", e === current ? "0" : "-1");
	};
}

function linear(key, elements, index) {
	switch (key) {
	case "ArrowDown": return Math.min(index + 1, elements.length - 1);
	case "ArrowUp": return Math.max(index - 1, 0);
	case "Home": return 0;
	case "End": return elements.length - 1;
	}
}

// What to do when there is nothing to show: a sentence, and commands to type.
export function empty(title, ...hints) {
	return h("div", { class: "empty" }, h("p", { class: "title" }, title),
		hints.map(hint => hint.includes("`") ? sentence(hint) : h("p", null, hint)));
}

// `code` in a sentence.
export function sentence(line) {
	return h("p", null, line.split("`").map((part, i) => i % 2 ? h("code", null, part) : part));
}

// A table of columns [{ name, class }]; in a frame that scrolls when it is too wide (kind "bounded": or too long), so that
// the page does not.
export function table(caption, columns, kind = "") {
	const body = h("tbody");
	const frame = h("div", { class: `frame ${kind}`, role: "region", "aria-label": caption, tabindex: "0" },
		h("table", null, h("caption", null, caption),
			h("thead", null, h("tr", null, columns.map(c => h("th", { scope: "col", class: c.class }, c.head ?? c.name)))),
			body));

	return { frame, body };
}
