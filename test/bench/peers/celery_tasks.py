"""Celery's side: the app and its task, for the workers and for celery_bench.py.

BENCH_SOCKET is the socket of Redis.  With BENCH_STARTS, each task notes there
when it has started; else a worker process writes into BENCH_COUNTS at its end
how many there were, and when the first and the last one started.
"""

import atexit
import os
import time

from celery import Celery

app = Celery("bench", broker="redis+socket://" + os.environ["BENCH_SOCKET"])
app.conf.update(
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_prefetch_multiplier=128,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)

starts = open(os.environ["BENCH_STARTS"], "a", buffering=1) if "BENCH_STARTS" in os.environ else None
count, first, last = 0, 0, 0


@app.task(name="noop")
def noop(a):
    global count, first, last
    last = time.time()
    count += 1
    if count == 1:
        first = last
    if starts:
        print(a, 1000 * last, file=starts)


@atexit.register
def note_counts():
    if count and "BENCH_COUNTS" in os.environ:
        with open(os.environ["BENCH_COUNTS"], "a") as out:
            print(count, first, last, file=out)
