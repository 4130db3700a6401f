// graphile-worker.  Jobs are added in SQL, by the functions that it offers.
//
//   setup                                           its schema
//   drain PROCESSES CONCURRENCY LOCAL_QUEUE N       jobs per second; a local
//                                                   queue of 0: no batches
//   latency N FILE                                  one worker as shipped, until it
//                                                   has had N jobs; "a START" each

import { writeFileSync } from "node:fs";
import { run, runMigrations } from "graphile-worker";
import pg from "pg";
import { answers, begin, fail, now, rate, sleep, start, tell } from "./common.mjs";

process.env.NO_LOG_SUCCESS = "1";
const [verb, ...args] = process.argv.slice(2);
const numbers = args.map(Number);
const quiet = { noHandleSignals: true, parsedCronItems: [] };

if (verb === "setup") {
	await runMigrations({});
} else if (verb === "drain") {
	const [processes, , , n] = numbers;
	const children = await start(process.argv[1], processes, ["drainer", ...args]);
	const counts = new Map();
	children.forEach((child) => child.on("message", (count) => counts.set(child, count)));
	const client = new pg.Client();
	await client.connect();
	tell(children, "begin");
	while ([...counts.values()].reduce((sum, count) => sum + count, 0) < n) await sleep(5);
	// all have run; a completed job is deleted
	const left = "SELECT EXISTS (SELECT FROM graphile_worker._private_jobs) AS yes";
	while ((await client.query(left)).rows[0].yes) await sleep(2);
	const end = now();
	await client.end();
	children.forEach((child) => child.removeAllListeners("message"));
	tell(children, "end");
	const results = await answers(children);
	console.log(rate(results.map((r) => ({ ...r, last: end })), n));
} else if (verb === "drainer") {
	const [, concurrentJobs, size] = numbers;
	const worker = { concurrentJobs, maxPoolSize: concurrentJobs + 1 };
	if (size > 0) Object.assign(worker, { localQueue: { size }, completeJobBatchDelay: 0, failJobBatchDelay: 0 });
	let count = 0, first, told = 0;
	await begin();
	const runner = await run({
		...quiet,
		preset: { worker },
		taskList: {
			noop: () => {
				if (count++ === 0) first = now();
			},
		},
	});
	const timer = setInterval(() => count > told && process.send((told = count)), 5);
	process.once("message", async () => {
		clearInterval(timer);
		await runner.stop();
		process.send({ count, first }, () => process.exit());
	});
} else if (verb === "latency") {
	const n = numbers[0];
	const lines = [];
	const runner = await run({
		...quiet,
		taskList: {
			noop: (payload) => {
				lines.push(`${payload.a} ${now()}`);
				if (lines.length === n) setTimeout(() => runner.stop(), 100);
			},
		},
	});
	console.log("ready");
	await runner.promise;
	writeFileSync(args[1], lines.join("\n") + "\n");
} else {
	fail(`no such verb: ${verb}`);
}
