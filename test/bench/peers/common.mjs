// What the drivers for Node share.  PGHOST and so on come from bench.sh.

import { fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

export { sleep };

// The clock that PostgreSQL has, too, in ms, finer than Date.now().
export const now = () => performance.timeOrigin + performance.now();

export const fail = (text) => {
	console.error(text);
	process.exit(1);
};

// In the parent: this script again, so many times, with other arguments.  They
// have loaded everything when they get the word to begin, so that none has a
// head start.
export async function start(script, count, args) {
	const children = [];
	for (let i = 0; i < count; i++) {
		const child = fork(script, args);
		child.on("exit", (code) => code && fail(`a process of ${script} failed`));
		children.push(child);
	}
	await Promise.all(children.map((child) => once(child, "message")));
	return children;
}

export const tell = (children, word) => children.forEach((child) => child.send(word));

// What each of them says next.
export async function answers(children) {
	return (await Promise.all(children.map((child) => once(child, "message")))).map(([answer]) => answer);
}

// In a child: waits for the word.
export async function begin() {
	process.on("disconnect", () => process.exit(1));
	process.send("ready");
	await once(process, "message");
}

// The tasks from the first start to the end of the last, per second.
export function rate(results, expected) {
	const count = results.reduce((sum, r) => sum + r.count, 0);
	if (count !== expected) fail(`${count} tasks have run, not ${expected}`);
	const first = Math.min(...results.filter((r) => r.count).map((r) => r.first));
	const last = Math.max(...results.filter((r) => r.count).map((r) => r.last));
	return (1000 * count) / (last - first);
}
