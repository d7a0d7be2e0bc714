// SPDX-License-Identifier: Apache-2.0
// Before the first paint: the theme that was chosen. A script of its own, as modules run later.
"use strict";

try {
	const theme = localStorage.getItem("theme");

	if (theme === "light" || theme === "dark")
		document.documentElement.dataset.theme = theme;
} catch {
	// storage is forbidden here: the system's theme it is
}
