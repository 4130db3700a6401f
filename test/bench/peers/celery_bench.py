"""Celery: submits, and runs workers.

  submit PROCESSES SECONDS    tasks per second, apply_async one by one
  drain NODES N               tasks per second, one node of the solo pool each
  latency N FILE STARTS       N tasks 5 ms apart: "a SENT DONE" of each, and
                              "a START" of each, by one node
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time

import redis


def connect():
    return redis.Redis(unix_socket_path=os.environ["BENCH_SOCKET"])


def nodes(count, **env):
    options = ["--pool", "solo", "--loglevel", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "-n", f"bench{i}@localhost"] + options,
            stdout=sys.stderr,
            env={**os.environ, **env},
        )
        for i in range(count)
    ]


def end(workers):
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.wait(30)


def wait_for(what, workers, seconds=120):
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until or any(w.poll() is not None for w in workers):
            end(workers)
            sys.exit("the workers have not done it")
        time.sleep(0.02)


def submitter(barrier, seconds, counts):
    from celery_tasks import noop

    noop.apply_async((1,))  # connects
    barrier.wait()
    count, start = 0, time.time()
    while time.time() < start + seconds:
        noop.apply_async((1,))
        count += 1
    counts.put((count, start, time.time()))


def submit(processes, seconds):
    barrier, counts = multiprocessing.Barrier(processes), multiprocessing.Queue()
    children = [
        multiprocessing.Process(target=submitter, args=(barrier, seconds, counts), daemon=True)
        for _ in range(processes)
    ]
    for child in children:
        child.start()
    return rate([counts.get(timeout=60) for _ in children])


def rate(results):
    count, first, last = zip(*results)
    return sum(count) / (max(last) - min(first))


def load(n):
    from celery_tasks import app, noop

    with app.producer_or_acquire() as producer:
        for _ in range(n):
            noop.apply_async((1,), producer=producer)


def drain(count, n):
    """All workers are up and waiting when they get the tasks."""
    server = connect()
    with tempfile.TemporaryDirectory() as folder:
        name = os.path.join(folder, "counts")
        # they take nothing while their queue has another name
        load(n)
        server.rename("celery", "kept")
        workers = nodes(count, BENCH_COUNTS=name)
        # a worker that is ready waits in BRPOP
        wait_for(lambda: sum(c["cmd"] == "brpop" for c in server.client_list()) >= count, workers)
        server.rename("kept", "celery")
        wait_for(lambda: server.llen("celery") == 0 and server.hlen("unacked") == 0, workers)
        end(workers)
        with open(name) as lines:
            results = [[float(field) for field in line.split()] for line in lines]
    if sum(r[0] for r in results) != n:
        sys.exit(f"{sum(r[0] for r in results)} tasks have run, not {n}")
    return rate(results)


def latency(n, sends, starts):
    """DONE is when the reply of Redis has come, which is its COMMIT."""
    from celery_tasks import noop

    lpush, done = redis.Redis.lpush, [0.0]

    def noting_lpush(self, *args):
        reply = lpush(self, *args)
        done[0] = time.time()
        return reply

    redis.Redis.lpush = noting_lpush
    server = connect()
    open(starts, "w").close()
    workers = nodes(1, BENCH_STARTS=starts)
    wait_for(lambda: any(c["cmd"] == "brpop" for c in server.client_list()), workers)
    with open(sends, "w") as out:
        noop.apply_async((0,))
        for a in range(1, n + 1):
            time.sleep(0.005)
            sent = time.time()
            noop.apply_async((a,))
            print(a, 1000 * sent, 1000 * done[0], file=out)
    wait_for(lambda: sum(1 for _ in open(starts)) == n + 1, workers)
    end(workers)


verb, args = sys.argv[1], sys.argv[2:]
if verb == "submit":
    print(submit(int(args[0]), float(args[1])))
elif verb == "drain":
    print(drain(int(args[0]), int(args[1])))
elif verb == "latency":
    latency(int(args[0]), args[1], args[2])
else:
    sys.exit(f"no such verb: {verb}")
