// SPDX-License-Identifier: Apache-2.0
// A task again and again: never twice at once, later and later while it fails, not at all while nobody looks.

const LONGEST_MS = 30000;

// task(signal) -> promise. { now(): at once (what runs is given up), stop() }
export function poll(task, everyMs) {
	let timer = 0, failures = 0, running = null, stopped = false;

	async function run() {
		const mine = new AbortController();

		clearTimeout(timer);
		running?.abort();
		running = mine;
		let failed = false;

		try {
			await task(mine.signal);
		} catch (error) {
			failed = true;
			if (!mine.signal.aborted && !(error instanceof TypeError && /fetch/i.test(error.message)) &&
			    error.name !== "TimeoutError" && error.name !== "Refused")
				console.error(error);
		}
		if (running !== mine) // another run has taken over
			return;
		running = null;
		failures = failed ? failures + 1 : 0;
		if (!stopped && !document.hidden)
			timer = setTimeout(run, Math.min(everyMs * 2 ** failures, Math.max(LONGEST_MS, everyMs)));
	}

	function seen() {
		clearTimeout(timer);
		if (!document.hidden && !running)
			run();
	}

	document.addEventListener("visibilitychange", seen);
	if (!document.hidden)
		run();
	return {
		now() {
			if (!stopped)
				run();
		},
		stop() {
			stopped = true;
			clearTimeout(timer);
			running?.abort();
			running = null;
			document.removeEventListener("visibilitychange", seen);
		},
	};
}
