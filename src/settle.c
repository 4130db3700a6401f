/*-------------------------------------------------------------------------
 *
 * settle.c
 *	  The dispatcher's part in the life of attempts: executors that are gone,
 *	  starts to be recorded, tasks that cannot start.
 *
 * A slot is LOST only after its process has rolled back (the exit callback is
 * registered before the connection, so it runs after the transaction is
 * aborted).  The guarded write then tells whether the attempt had committed:
 * if so it loses and there is nothing to do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "dispatcher.h"
#include "finish.h"
#include "registry.h"
#include "settings.h"
#include "store.h"
#include "worker.h"

#define LONG_RUNNING_MS 100
#define EXPIRE_BATCH	500
#define EXPIRE_INTERVAL_MS 50	/* a sweep looks at all of memory */

/*
 * One lost attempt: its outcome and what follows, in one transaction.
 * *next is the attempt that follows, to be taken in when no slot holds the
 * task any more; attempt 0 = none.
 */
static void
settle_attempt(const GtfTaskRef *ref, TimestampTz started_at, int worker,
			   GtfTaskRef *next)
{
	GtfOutcome	outcome = {0};
	GtfTask    *task;
	XLogRecPtr	lsn;
	bool		written = false;

	memset(next, 0, sizeof(GtfTaskRef));
	gtf_tx_begin();
	task = gtf_store_task_fetch(&ref->id, (ItemPointer) &ref->tid);
	if (task)
	{
		outcome.task_id = ref->id;
		outcome.attempt = ref->attempt;
		outcome.started_at = started_at;
		outcome.ended_at = GetCurrentTimestamp();
		outcome.worker = worker;
		written = gtf_finish_lost(&outcome, task,
								  gtf_type_by_version(task->type_version, true),
								  ref, next);
	}
	if (!written)
	{
		GtfLive		live;

		/* it had committed; its row of gtf.live went with that commit */
		if (gtf_store_live_get(&ref->id, &live) && live.attempt == ref->attempt)
			gtf_store_live_delete(&ref->id);
	}
	lsn = gtf_tx_commit(false);

	gtf_count(MyDatabaseId, GTF_COUNT_LOST, 1);
	if (written)
	{
		ereport(LOG,
				(errmsg("gtf task %s lost its executor in attempt %d",
						gtf_id_text(&ref->id), ref->attempt)));
		if (next->attempt > 0)
			next->lsn = lsn;
		else
			gtf_finish_tell(&outcome, lsn);
	}
	else if (task)
	{
		/* the executor may have died between its commit and telling so */
		gtf_finish_tell(&outcome, GetXLogInsertRecPtr());
	}
}

void
gtf_settle_lost(Dispatcher *d)
{
	GtfSlotInfo info;

	for (int i = 0; i < gtf_slot_count(); i++)
	{
		if (!gtf_slot_info(i, &info) || info.database != MyDatabaseId ||
			info.state != GTF_SLOT_LOST)
			continue;
		if (info.body_running)
		{
			GtfTaskRef	next;

			settle_attempt(&info.ref, info.started_at, info.last_pid, &next);
			gtf_slot_free_lost(i, info.generation);
			if (next.attempt > 0)
			{
				gtf_queue_add(&next, d->now, d->flushed);
				gtf_dispatcher_look_at(d, d->now);
			}
		}
		else
		{
			/* it had not begun: the same attempt again */
			gtf_slot_free_lost(i, info.generation);
			gtf_queue_add(&info.ref, d->now, d->flushed);
			gtf_dispatcher_look_at(d, d->now);
		}
	}
}

void
gtf_settle_long_running(Dispatcher *d)
{
	GtfSlotInfo info;

	for (int i = 0; i < gtf_slot_count(); i++)
	{
		TimestampTz due;

		if (!gtf_slot_info(i, &info) || info.database != MyDatabaseId ||
			info.state != GTF_SLOT_RUNNING || info.live_written)
			continue;
		if (!info.body_running)
		{
			gtf_dispatcher_look_at(d, TimestampTzPlusMilliseconds(d->now, LONG_RUNNING_MS));
			continue;
		}
		due = TimestampTzPlusMilliseconds(info.started_at, LONG_RUNNING_MS);
		if (due > d->now)
			gtf_dispatcher_look_at(d, due);
		else if (gtf_slot_live_begin(i, info.serial))
		{
			GtfLive		live = {0};

			PG_TRY();
			{
				live.task_id = info.ref.id;
				live.attempt = info.ref.attempt;
				live.state = GTF_LIVE_RUNNING;
				live.since = info.started_at;
				live.worker = info.pid;
				gtf_tx_begin();
				gtf_store_live_put(&live);
				(void) gtf_tx_commit(false);
			}
			PG_FINALLY();
			{
				gtf_slot_live_end(i);
			}
			PG_END_TRY();
		}
	}
}

void
gtf_settle_live(Dispatcher *d)
{
	List	   *all;
	ListCell   *lc;
	MemoryContext context = CurrentMemoryContext;

	gtf_tx_begin();
	MemoryContextSwitchTo(context);
	all = gtf_store_live_all();
	(void) gtf_tx_commit(false);
	MemoryContextSwitchTo(context);

	foreach(lc, all)
	{
		GtfLive    *live = lfirst(lc);
		GtfSlotInfo info;
		GtfTask    *task;
		GtfTaskRef	ref = {0};
		TransactionId xid;
		bool		ended;

		CHECK_FOR_INTERRUPTS();
		(void) gtf_queue_known_add(&live->task_id);
		/* with an executor that outlived the last dispatcher */
		if (gtf_slot_find(&live->task_id, &info))
			continue;

		gtf_tx_begin();
		MemoryContextSwitchTo(context);
		task = gtf_store_task_fetch(&live->task_id, NULL);
		ended = task == NULL ||
			gtf_store_outcome_probe(&live->task_id, live->attempt, &xid) == GTF_PROBE_EXISTS;
		if (ended)
			gtf_store_live_delete(&live->task_id);
		(void) gtf_tx_commit(false);
		MemoryContextSwitchTo(context);
		if (ended)
			continue;

		ref.id = task->id;
		ref.tid = task->tid;
		ref.owner = task->owner;
		ref.type_version = task->type_version;
		ref.priority = task->priority;
		/* gtf_retry() after the expiry overrides it */
		if (live->since < task->expires_at)
			ref.expires_at = task->expires_at;
		ref.attempt = live->attempt;
		ref.due = live->since;
		ref.flags = GTF_REF_HAS_LIVE;
		if (live->state == GTF_LIVE_RUNNING)
		{
			GtfTaskRef	next;

			settle_attempt(&ref, live->since, live->worker, &next);
			ref = next;
		}
		if (ref.attempt > 0)
		{
			/* lost or failed before: let it not crash us unseen */
			ref.flags |= GTF_REF_DURABLE_START;
			gtf_queue_add(&ref, d->now, d->flushed);
		}
	}
}

/*
 * End tasks that have not started: as failures with this error, or as
 * expired when message is NULL.
 */
static void
end_unstarted(const GtfTaskRef *refs, int n, int sqlerrcode, const char *message)
{
	GtfOutcome *outcomes = palloc0(n * sizeof(GtfOutcome));
	bool	   *written = palloc0(n * sizeof(bool));
	XLogRecPtr	lsn;

	gtf_tx_begin();
	for (int i = 0; i < n; i++)
	{
		GtfTask    *task = gtf_store_task_fetch(&refs[i].id,
												(ItemPointer) &refs[i].tid);
		GtfTaskRef	next;

		if (task == NULL)
			continue;
		outcomes[i].task_id = refs[i].id;
		outcomes[i].attempt = refs[i].attempt;
		outcomes[i].ended_at = GetCurrentTimestamp();
		if (message == NULL)
			written[i] = gtf_finish_expired(&outcomes[i]);
		else
		{
			outcomes[i].error_message = (char *) message;
			outcomes[i].exception_type = (char *) gtf_condition_name(sqlerrcode);
			written[i] = gtf_finish_failed(&outcomes[i], task, NULL, &refs[i],
										   false, &next);
		}
	}
	lsn = gtf_tx_commit(false);
	for (int i = 0; i < n; i++)
	{
		if (written[i])
			gtf_finish_tell(&outcomes[i], lsn);
	}
	pfree(outcomes);
	pfree(written);
}

void
gtf_settle_fail(const GtfTaskRef *refs, int n, int sqlerrcode,
				const char *message)
{
	end_unstarted(refs, n, sqlerrcode, message);
	gtf_count(MyDatabaseId, GTF_COUNT_FAILED, n);
}

void
gtf_settle_expired(Dispatcher *d)
{
	static TimestampTz next_sweep = 0;
	TimestampTz next = gtf_queue_next_expiry();
	GtfTaskRef *refs;
	int			n;

	if (next == 0)
		return;
	if (next <= d->now && d->now < next_sweep)
		next = next_sweep;
	if (next <= d->now)
	{
		next_sweep = TimestampTzPlusMilliseconds(d->now, EXPIRE_INTERVAL_MS);

		/* those in the lanes, too: executors may be busy for long */
		gtf_pool_recall();
		refs = palloc(EXPIRE_BATCH * sizeof(GtfTaskRef));
		n = gtf_queue_take_expired(d->now, refs, EXPIRE_BATCH);
		PG_TRY();
		{
			end_unstarted(refs, n, 0, NULL);
		}
		PG_CATCH();
		{
			for (int i = 0; i < n; i++)
				gtf_queue_return(&refs[i]);
			PG_RE_THROW();
		}
		PG_END_TRY();
		pfree(refs);
		next = gtf_queue_next_expiry();
	}
	if (next != 0)
		gtf_dispatcher_look_at(d, Max(next, d->now));
}
