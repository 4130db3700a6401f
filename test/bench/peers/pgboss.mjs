// pg-boss.  Queue "bench" is an ordinary one, queue "notify" wakes its workers.
//
//   setup                                           its schema and queues
//   load N                                          N jobs into "bench"
//   drain PROCESSES LOOPS BATCH N                   jobs per second, by so many
//                                                   loops of fetch and complete
//   send PROCESSES LOOPS SECONDS                    jobs per second, one by one
//   insert PROCESSES LOOPS BATCH SECONDS            the same, BATCH in a call
//   worker N FILE                                   a worker of "notify" until it
//                                                   has had N jobs; "a START" each
//   latency N FILE                                  N jobs for it, 5 ms apart;
//                                                   "a SENT DONE" each

import { writeFileSync } from "node:fs";
import { PgBoss } from "pg-boss";
import { answers, begin, fail, now, rate, sleep, start, tell } from "./common.mjs";

const [verb, ...args] = process.argv.slice(2);
const numbers = args.map(Number);

async function connect(loops, options = {}) {
	const { PGHOST: host, PGPORT: port, PGUSER: user, PGDATABASE: database } = process.env;
	const boss = new PgBoss({
		host, port: Number(port), user, database, max: Math.max(loops + 1, 4),
		supervise: false, schedule: false, migrate: verb === "setup", ...options,
	});
	boss.on("error", (error) => fail(error));
	return boss.start();
}

const payload = { a: 1 };
const batch = (size) => Array.from({ length: size }, () => ({ data: payload }));

// This script's children do the work, all at the same time.
async function measure(kind, processes, expected) {
	const children = await start(process.argv[1], processes, [kind, ...args]);
	tell(children, "begin");
	const results = await answers(children);
	console.log(rate(results, expected ?? results.reduce((sum, r) => sum + r.count, 0)));
}

async function child(loops, body) {
	const boss = await connect(loops);
	const result = { count: 0, first: undefined, last: undefined };
	await boss.getQueue("bench");
	await begin();
	await Promise.all(Array.from({ length: loops }, () => body(boss, result)));
	process.send(result, () => process.exit());
}

async function submitting(boss, result, seconds, each, submit) {
	result.first ??= now();
	while (now() < result.first + 1000 * seconds) {
		await submit(boss);
		result.count += each;
		result.last = now();
	}
}

if (verb === "setup") {
	const boss = await connect(1);
	await boss.createQueue("bench");
	await boss.createQueue("notify", { notify: true });
	await boss.stop({ graceful: false });
} else if (verb === "load") {
	const boss = await connect(1);
	for (let left = numbers[0]; left > 0; left -= 10000)
		await boss.insert("bench", batch(Math.min(left, 10000)));
	await boss.stop({ graceful: false });
} else if (verb === "drain") {
	await measure("drainer", numbers[0], numbers[3]);
} else if (verb === "drainer") {
	const [, loops, batchSize] = numbers;
	await child(loops, async (boss, result) => {
		for (;;) {
			const jobs = await boss.fetch("bench", { batchSize });
			if (jobs.length === 0) break;
			result.first ??= now();
			// the task: nothing
			await boss.complete("bench", jobs.map((job) => job.id));
			result.count += jobs.length;
			result.last = now();
		}
	});
} else if (verb === "send") {
	await measure("sender", numbers[0]);
} else if (verb === "sender") {
	const [, loops, seconds] = numbers;
	await child(loops, (boss, result) =>
		submitting(boss, result, seconds, 1, () => boss.send("bench", payload)));
} else if (verb === "insert") {
	await measure("inserter", numbers[0]);
} else if (verb === "inserter") {
	const [, loops, size, seconds] = numbers;
	const jobs = batch(size);
	await child(loops, (boss, result) =>
		submitting(boss, result, seconds, size, () => boss.insert("bench", jobs)));
} else if (verb === "worker") {
	const n = numbers[0];
	const lines = [];
	const boss = await connect(2, { useListenNotify: true });
	// a notification that comes while it fetches may not wake it again
	const options = { batchSize: 10, pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5 };
	await boss.work("notify", options, async (jobs) => {
		const at = now();
		lines.push(...jobs.map((job) => `${job.data.a} ${at}`));
		if (lines.length === n)
			setTimeout(async () => {
				writeFileSync(args[1], lines.join("\n") + "\n");
				await boss.stop({ graceful: false });
				process.exit();
			}, 100);
	});
	console.log("ready");
} else if (verb === "latency") {
	const lines = [];
	const boss = await connect(1, { useListenNotify: true });
	for (let a = 1; a <= numbers[0]; a++) {
		await sleep(5);
		const sent = now();
		await boss.send("notify", { a });
		lines.push(`${a} ${sent} ${now()}`);
	}
	writeFileSync(args[1], lines.join("\n") + "\n");
	await boss.stop({ graceful: false });
} else {
	fail(`no such verb: ${verb}`);
}
