/*-------------------------------------------------------------------------
 *
 * settle.c
 *	  The dispatcher's part in the end of attempts: executors that are gone,
 *	  timeouts, requests to abort, tasks that cannot start.
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
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "dispatcher.h"
#include "finish.h"
#include "registry.h"
#include "settings.h"
#include "store.h"
#include "worker.h"

#define EXPIRE_BATCH	500
#define EXPIRE_INTERVAL_MS 50	/* a sweep looks at all of memory */
#define CLEANUP_TRIES	2		/* executors that may be lost over it */

/*
 * One lost attempt: its outcome and what follows, in one transaction.
 * *next is the attempt that follows, to be taken in when no slot holds the
 * task any more; attempt 0 = none.  slot, if it is still there, has the last
 * report, else gtf.live one of some time ago.
 */
static void
settle_attempt(const GtfTaskRef *ref, TimestampTz started_at, int worker,
			   GtfSlotInfo *slot, GtfAbortCause cause, GtfTaskRef *next)
{
	GtfOutcome	outcome = {0};
	GtfTask    *task;
	GtfLive		live;
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
		if (slot)
		{
			Jsonb	   *payload = gtf_slot_payload(slot);

			gtf_finish_set_report(&outcome, &slot->progress, payload);
		}
		else if (gtf_store_live_fetch(&ref->id, &live) &&
				 live.attempt == ref->attempt)
			gtf_finish_set_report(&outcome, &live.progress, live.payload);
		written = gtf_finish_lost(&outcome, task,
								  gtf_type_by_version(task->type_version, true),
								  ref, cause, next);
	}
	if (!written)
	{
		/* it had committed; its row of gtf.live went with that commit */
		if (gtf_store_live_get(&ref->id, &live))
		{
			if (live.attempt == ref->attempt)
				gtf_store_live_delete(&ref->id);
			else if (live.state == GTF_LIVE_WAITING && live.attempt > ref->attempt)
			{
				/* and it did not get to hand over the next attempt */
				*next = *ref;
				next->attempt = live.attempt;
				next->due = live.since;
				next->lsn = GetXLogInsertRecPtr();
				next->flags |= GTF_REF_HAS_LIVE;
			}
		}
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
	else if (task && next->attempt == 0)
	{
		/* the executor may have died between its commit and telling so */
		gtf_finish_tell(&outcome, GetXLogInsertRecPtr());
	}
}

/*
 * Does the lost attempt have to wait for its cleanup handlers?  They run in
 * an executor of the owner (cleanup.c), which is sent for it like for a task;
 * while that goes on the lost slot keeps the task from everybody else.
 */
static bool
cleaning_up(Dispatcher *d, const GtfSlotInfo *info)
{
	/* what this process has sent an executor for, by slot */
	static struct
	{
		uint32		generation;
		int			try;
	}		   *sent = NULL;
	GtfTaskRef	ref = info->ref;
	TransactionId xid;
	GtfProbe	ended;

	if (info->kept_state == GTF_KEPT_CLAIMED)
		return true;
	if (info->kept_state == GTF_KEPT_OVER || info->num_kept == 0)
		return false;
	if (info->kept_tries >= CLEANUP_TRIES)
	{
		gtf_settle_no_cleanup(&info->ref, "its executor was lost, too");
		return false;
	}
	if (sent == NULL)
		sent = MemoryContextAllocZero(TopMemoryContext,
									  gtf_slot_count() * sizeof(*sent));
	if (sent[info->index].generation == info->generation &&
		sent[info->index].try == info->kept_tries + 1)
		return true;

	/* its executor may have committed before it died */
	gtf_tx_begin();
	ended = gtf_store_outcome_probe(&ref.id, ref.attempt, &xid);
	(void) gtf_tx_commit(false);
	if (ended == GTF_PROBE_EXISTS)
		return false;

	ref.flags = GTF_REF_CLEANUP;
	ref.priority = PG_INT32_MAX;
	ref.due = info->started_at;
	ref.expires_at = 0;
	gtf_queue_add(&ref, d->now, d->flushed);
	gtf_dispatcher_look_at(d, d->now);
	sent[info->index].generation = info->generation;
	sent[info->index].try = info->kept_tries + 1;
	return true;
}

void
gtf_settle_no_cleanup(const GtfTaskRef *ref, const char *why)
{
	ereport(WARNING,
			(errmsg("cleanup handlers of gtf task %s did not run: %s",
					gtf_id_text(&ref->id), why)));
	gtf_kept_over(&ref->id);
}

void
gtf_settle_no_room(Dispatcher *d)
{
	GtfSlotInfo info;

	for (int i = 0; i < gtf_slot_count(); i++)
	{
		if (gtf_slot_info(i, &info) && info.database == MyDatabaseId &&
			info.state != GTF_SLOT_LOST)
			return;
	}
	for (int i = 0; i < gtf_slot_count(); i++)
	{
		if (gtf_slot_info(i, &info) && info.database == MyDatabaseId &&
			info.kept_state == GTF_KEPT_WAITING && info.num_kept > 0)
			gtf_settle_no_cleanup(&info.ref, "no slot is free for an executor");
	}
	gtf_dispatcher_look_at(d, d->now);
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
		if (info.ref.flags & GTF_REF_CLEANUP)
		{
			/* it was cleaning up after another one */
			gtf_kept_return(i, &info.ref.id);
			gtf_slot_free_lost(i, info.generation);
			gtf_dispatcher_look_at(d, d->now);
		}
		else if (info.body_running)
		{
			GtfTaskRef	next;

			if (cleaning_up(d, &info))
				continue;

			settle_attempt(&info.ref, info.started_at, info.last_pid,
						   &info, info.abort_cause, &next);
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
gtf_settle_deadlines(Dispatcher *d)
{
	GtfSlotInfo info;

	for (int i = 0; i < gtf_slot_count(); i++)
	{
		TimestampTz kill_at;

		if (!gtf_slot_info(i, &info) || info.database != MyDatabaseId ||
			info.state != GTF_SLOT_RUNNING || !info.body_running)
			continue;

		if (info.timeout_at != 0 && info.abort_cause == GTF_CAUSE_NONE &&
			!info.timeout_exceeded)
		{
			if (info.timeout_at > d->now)
				gtf_dispatcher_look_at(d, info.timeout_at);
			else if (gtf_slot_abort(i, info.serial, GTF_CAUSE_TIMEOUT,
									false) != GTF_ABORT_REFUSED)
			{
				/* it stops, or is over */
			}
			else if (!gtf_slot_set_timeout_exceeded(i, info.serial))
				gtf_dispatcher_look_at(d, d->now);
			else
				ereport(WARNING,
						(errmsg("gtf task %s has exceeded its timeout and cannot be aborted",
								gtf_id_text(&info.ref.id))));
		}

		if (info.hard_timeout_at == 0)
			continue;
		if (info.hard_timeout_at > d->now)
		{
			gtf_dispatcher_look_at(d, info.hard_timeout_at);
			continue;
		}
		kill_at = TimestampTzPlusMilliseconds(info.hard_timeout_at,
											  gtf_kill_grace * INT64CONST(1000));
		if (kill_at > d->now)
		{
			/*
			 * Again in each round: the body may have caught the first one. Its
			 * handlers have the time that is left.
			 */
			if (!info.body_ended)
				(void) gtf_slot_abort(i, info.serial, GTF_CAUSE_TIMEOUT, true);
			gtf_dispatcher_look_at(d, Min(kill_at,
										  TimestampTzPlusMilliseconds(d->now, 1000)));
		}
		else
		{
			gtf_slot_terminate(i, info.serial, GTF_CAUSE_TIMEOUT);
			gtf_dispatcher_look_at(d, TimestampTzPlusMilliseconds(d->now, 1000));
		}
	}
}

/*
 * One request whose task is not (any more) where the canceller has seen it.
 * True when it is done with.
 */
static bool
resolve_request(const GtfRequest *request)
{
	GtfSlotInfo slot;
	GtfOutcome *last;
	GtfDone		done = {0};
	bool		ended = false;
	bool		gone = false;
	XLogRecPtr	lsn;

	if (gtf_slot_find(&request->task_id, &slot))
	{
		/*
		 * Its executor, or who settles it, deletes the row.  When it has
		 * ended its handlers are left alone.
		 */
		if (slot.state != GTF_SLOT_RUNNING || slot.body_ended)
			return false;
		if (request->force == GTF_FORCE_TERMINATE)
			gtf_slot_terminate(slot.index, slot.serial, request->cause);
		else
			(void) gtf_slot_abort(slot.index, slot.serial, request->cause,
								  request->force == GTF_FORCE_INTERRUPT &&
								  !slot.interrupted);
		return false;
	}

	/* only the dispatcher ends the looking for outcomes that this begins */
	gtf_db_cancel_begin(MyDatabaseId);
	gtf_db_cancel_end(MyDatabaseId);
	gtf_tx_begin();
	last = gtf_store_outcome_head(&request->task_id, NULL);
	if ((last && gtf_status_is_final(last->status)) ||
		gtf_store_task_fetch(&request->task_id, NULL) == NULL)
		gone = gtf_store_request_delete(&request->task_id);
	else
		ended = gtf_finish_cancelled(&request->task_id,
									 last ? last->attempt + 1 : 1);
	lsn = gtf_tx_commit(false);
	if (ended)
	{
		done.id = request->task_id;
		done.lsn = lsn;
		done.status = GTF_ABORTED;
		if (!gtf_done_push(MyDatabaseId, &done))
			gtf_waiters_wake(&request->task_id);
	}
	return ended || gone;
}

void
gtf_settle_requests(Dispatcher *d)
{
	static TimestampTz look_again = 0;
	List	   *requests;
	ListCell   *lc;
	MemoryContext context = CurrentMemoryContext;
	bool		left = false;

	if (!gtf_requests_take(d->db))
	{
		if (look_again == 0)
			return;
		if (look_again > d->now)
		{
			gtf_dispatcher_look_at(d, look_again);
			return;
		}
	}
	/* should what follows raise an error */
	look_again = TimestampTzPlusMilliseconds(d->now, 200);
	gtf_tx_begin();
	MemoryContextSwitchTo(context);
	requests = gtf_store_request_all();
	(void) gtf_tx_commit(false);
	MemoryContextSwitchTo(context);

	foreach(lc, requests)
	{
		if (!resolve_request(lfirst(lc)))
			left = true;
		MemoryContextSwitchTo(context);
	}
	if (left)
		gtf_dispatcher_look_at(d, look_again);
	else
		look_again = 0;
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
		if (!gtf_queue_known_add(&live->task_id))
			continue;
		/* with an executor */
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

			settle_attempt(&ref, live->since, live->worker, NULL,
						   GTF_CAUSE_NONE, &next);
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
 * expired when message is NULL.  Those that a transaction is about to cancel
 * are left to a later round.
 */
static void
end_unstarted(const GtfTaskRef *refs, int n, int sqlerrcode, const char *message)
{
	GtfOutcome *outcomes = palloc0(n * sizeof(GtfOutcome));
	GtfProbe   *found = palloc0(n * sizeof(GtfProbe));
	XLogRecPtr	lsn;

	gtf_tx_begin();
	for (int i = 0; i < n; i++)
	{
		GtfSlotInfo slot;

		found[i] = GTF_PROBE_EXISTS;
		if (refs[i].flags & GTF_REF_CLEANUP)
		{
			gtf_settle_no_cleanup(&refs[i], message);
			continue;
		}
		/* a scan has met it on its way, and it has started since */
		if (gtf_slot_find(&refs[i].id, &slot))
			continue;
		if (gtf_store_task_fetch(&refs[i].id, (ItemPointer) &refs[i].tid) == NULL)
			continue;
		outcomes[i].task_id = refs[i].id;
		outcomes[i].attempt = refs[i].attempt;
		outcomes[i].ended_at = GetCurrentTimestamp();
		if (message == NULL)
		{
			outcomes[i].status = GTF_ABORTED;
			outcomes[i].error_message = "Task expired";
		}
		else
		{
			outcomes[i].status = GTF_FAILURE;
			outcomes[i].error_message = (char *) message;
			outcomes[i].exception_type = (char *) gtf_condition_name(sqlerrcode);
		}
		found[i] = gtf_finish_unstarted(&outcomes[i]);
	}
	lsn = gtf_tx_commit(false);
	for (int i = 0; i < n; i++)
	{
		if (found[i] == GTF_PROBE_NONE)
			gtf_finish_tell(&outcomes[i], lsn);
		else if (found[i] == GTF_PROBE_IN_PROGRESS)
		{
			TimestampTz now = GetCurrentTimestamp();
			GtfTaskRef	ref = refs[i];

			ref.due = Max(ref.due, TimestampTzPlusMilliseconds(now, EXPIRE_INTERVAL_MS));
			gtf_queue_add(&ref, now, GetFlushRecPtr(NULL));
		}
	}
	pfree(outcomes);
	pfree(found);
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
