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
#include "errors.h"
#include "finish.h"
#include "registry.h"
#include "settings.h"
#include "stats.h"
#include "store.h"
#include "worker.h"

#define EXPIRE_BATCH	500
#define EXPIRE_INTERVAL_MS 50	/* a sweep looks at all of memory */
#define BROKEN_RETRY_MS	1000
#define BROKEN_TRIES	2		/* then it is no bad luck */
#define START_TRIES		5		/* executors that may be lost before the body */
#define CLEANUP_TRIES	2		/* executors that may be lost over it */

/* What is done for one task, as an argument. */
typedef struct Step
{
	Dispatcher *d;
	GtfSlotInfo slot;			/* a lost one, or ... */
	const pg_uuid_t *id;		/* ... a task without one, or ... */
	const GtfRequest *request;
	List	   *requests;		/* ... all of them, to be put ... */
	MemoryContext context;		/* ... there, or ... */
	const GtfTaskRef *ref;		/* ... a task that has not started */
	int			sqlerrcode;
	const char *message;
	bool		done;
	bool		not_started;
} Step;

/*
 * An attempt that cannot be settled because something that belongs to its
 * task is broken: it fails for good, and nothing more is read for that.
 */
static void
settle_broken(const GtfTaskRef *ref, TimestampTz started_at, int worker,
			  int sqlerrcode, const char *message)
{
	GtfOutcome	outcome = {0};
	XLogRecPtr	lsn;
	bool		written;

	gtf_tx_begin();
	outcome.task_id = ref->id;
	outcome.attempt = ref->attempt;
	outcome.status = GTF_FAILURE;
	outcome.started_at = started_at;
	outcome.ended_at = GetCurrentTimestamp();
	outcome.worker = worker;
	outcome.error_message = psprintf("executor lost, and the task is broken: %s",
									 message);
	outcome.exception_type = (char *) gtf_condition_name(sqlerrcode);
	written = gtf_store_outcome_put(&outcome, true);
	lsn = gtf_tx_commit(false);
	if (written)
	{
		gtf_stats_ended(&outcome);
		gtf_finish_tell(&outcome, lsn);
	}

	gtf_tx_begin();
	gtf_store_live_delete_attempt(&ref->id, ref->attempt);
	(void) gtf_tx_commit(false);
}

/*
 * An attempt whose outcome was there already, or whose task is gone: what is
 * left of it in gtf.live, and the attempt after it, see settle_attempt.  True
 * if the task has ended with it; then *status is how.
 */
static bool
take_over(const GtfTaskRef *ref, const GtfTask *task, GtfTaskRef *next,
		  GtfStatus *status, XLogRecPtr *ended_lsn)
{
	GtfLive		live;
	GtfOutcome *last;

	/* it had committed; its row of gtf.live went with that commit */
	if (gtf_store_live_get(&ref->id, &live))
	{
		if (live.attempt == ref->attempt)
			gtf_store_live_delete_attempt(&ref->id, ref->attempt);
		else if (task)
		{
			/* and it did not get to hand over the next attempt */
			gtf_finish_follow(ref, task, &live, next);
		}
	}
	last = gtf_store_outcome_head(&ref->id, ended_lsn);
	if (last == NULL || last->attempt != ref->attempt ||
		!gtf_status_is_final(last->status))
		return false;
	*status = last->status;
	return true;
}

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
	XLogRecPtr	ended_lsn = InvalidXLogRecPtr;
	bool		written = false;
	bool		ended = false;
	const char *trouble;
	int			sqlerrcode;

	memset(next, 0, sizeof(GtfTaskRef));
	trouble = gtf_dispatcher_gives_up(GTF_TROUBLE_SETTLE, &ref->id,
									  BROKEN_TRIES, &sqlerrcode);
	if (trouble)
	{
		settle_broken(ref, started_at, worker, sqlerrcode, trouble);
		gtf_count(MyDatabaseId, GTF_COUNT_LOST, 1);
		return;
	}

	gtf_tx_begin();
	task = gtf_store_task_head(&ref->id);
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
		ended = take_over(ref, task, next, &outcome.status, &ended_lsn);
	lsn = gtf_tx_commit(false);

	gtf_count(MyDatabaseId, GTF_COUNT_LOST, 1);
	if (written)
	{
		ereport(LOG,
				(errmsg("gtf task %s lost its executor in attempt %d",
						gtf_id_text(&ref->id), ref->attempt)));
		gtf_stats_ended(&outcome);
		if (next->attempt > 0)
			next->lsn = lsn;
		else
			gtf_finish_tell(&outcome, lsn);
	}
	else if (ended)
	{
		/* the executor may have died between its commit and telling so */
		gtf_finish_tell(&outcome, ended_lsn);
	}
	else
	{
		next->lsn = ended_lsn;
		/* who waits for a task that was removed learns that */
		if (task == NULL)
			gtf_waiters_wake(&ref->id);
	}
}

/* The cleanup handlers of a lost attempt are given up. */
static void
no_cleanup(const GtfTaskRef *ref, const char *why)
{
	ereport(WARNING,
			(errmsg("cleanup handlers of gtf task %s did not run: %s",
					gtf_id_text(&ref->id), why)));
	gtf_kept_over(&ref->id);
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
		no_cleanup(&info->ref, "its executor was lost, too");
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
gtf_settle_no_room(Dispatcher *d)
{
	GtfSlotInfo info;

	/* whose it is does not matter: it makes room when it can (pool.c) */
	for (int i = 0; i < gtf_slot_count(); i++)
	{
		if (gtf_slot_info(i, &info) && info.state != GTF_SLOT_LOST &&
			!info.is_inline)
			return;
	}
	for (int i = 0; i < gtf_slot_count(); i++)
	{
		if (gtf_slot_info(i, &info) && info.database == MyDatabaseId &&
			info.state == GTF_SLOT_LOST &&
			info.kept_state == GTF_KEPT_WAITING && info.num_kept > 0)
		{
			no_cleanup(&info.ref, "no slot is free for an executor");
			gtf_dispatcher_look_at(d, d->now);
		}
	}
}

/* What a lost slot held is in the next place before the slot is free. */
static void
settle_slot(void *arg)
{
	Step	   *step = arg;
	Dispatcher *d = step->d;
	GtfSlotInfo *info = &step->slot;

	if (info->ref.flags & GTF_REF_CLEANUP)
	{
		/* it was cleaning up after another one */
		gtf_kept_return(info->index, &info->ref.id);
	}
	else if (info->told)
	{
		/* its end is committed, and whoever may care has heard of it */
	}
	else if (info->body_running || info->is_inline)
	{
		GtfTaskRef	next;

		if (cleaning_up(d, info))
			return;
		settle_attempt(&info->ref, info->started_at, info->last_pid,
					   info, info->abort_cause, &next);
		if (next.attempt > 0)
			gtf_queue_add(&next, d->now, d->flushed);
	}
	else
	{
		/* it had not begun: the same attempt again, but not for ever */
		GtfTaskRef	ref = info->ref;
		int			n = gtf_dispatcher_failures(GTF_TROUBLE_START, &ref.id);

		if (n > 1)
			ref.due = TimestampTzPlusMilliseconds(d->now, BROKEN_RETRY_MS);
		if (n < START_TRIES)
			gtf_queue_add(&ref, d->now, d->flushed);
		else
			step->not_started = true;
	}
	gtf_slot_free_lost(info->index, info->generation);
	gtf_dispatcher_look_at(d, d->now);
}

void
gtf_settle_lost(Dispatcher *d)
{
	static Step step;

	step.d = d;
	for (int i = 0; i < gtf_slot_count(); i++)
	{
		if (!gtf_slot_info(i, &step.slot) ||
			step.slot.database != MyDatabaseId ||
			step.slot.state != GTF_SLOT_LOST)
			continue;
		step.not_started = false;
		if (!gtf_dispatcher_try(d, GTF_TROUBLE_SETTLE, &step.slot.ref.id,
								settle_slot, &step) ||
			!step.not_started)
			continue;
		PG_TRY();
		{
			gtf_settle_unstarted(d, &step.slot.ref, 1, ERRCODE_INTERNAL_ERROR,
								 "executors were lost before the task could begin");
		}
		PG_CATCH();
		{
			gtf_queue_return(&step.slot.ref, d->now);
			PG_RE_THROW();
		}
		PG_END_TRY();
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
			info.state != GTF_SLOT_RUNNING ||
			(!info.body_running && (info.ref.flags & GTF_REF_CLEANUP) == 0))
			continue;

		if (info.timeout_at != 0 && info.abort_cause == GTF_CAUSE_NONE &&
			!info.timeout_exceeded)
		{
			if (info.timeout_at > d->now)
				gtf_dispatcher_look_at(d, info.timeout_at);
			else if (gtf_slot_abort(i, info.serial, GTF_CAUSE_TIMEOUT,
									GTF_INTERRUPT_LISTENING) != GTF_ABORT_REFUSED)
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
			 * Again in each round: the body may have caught the first one.
			 * Its handlers have the time that is left.
			 */
			(void) gtf_slot_abort(i, info.serial, GTF_CAUSE_TIMEOUT,
								  GTF_INTERRUPT_BODY);
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
	GtfTask    *task;
	bool		ended = false;
	bool		gone = false;
	GtfStatus	status = GTF_ABORTED;
	XLogRecPtr	lsn;
	GtfRequest	now;
	bool		there;

	/* since all were listed the task may have ended, and been retried */
	if (gtf_slot_find(&request->task_id, &slot))
	{
		gtf_tx_begin();
		there = gtf_store_request_get(&request->task_id, &now);
		(void) gtf_tx_commit(false);
		if (!there)
			return true;

		/*
		 * Its executor, or who settles it, deletes the row.  When it has
		 * ended its handlers are left alone.
		 */
		if (slot.state != GTF_SLOT_RUNNING || slot.body_ended)
			return false;
		if (request->force == GTF_FORCE_TERMINATE && !slot.is_inline)
			gtf_slot_terminate(slot.index, slot.serial, request->cause);
		else
			(void) gtf_slot_abort(slot.index, slot.serial, request->cause,
								  request->force != GTF_FORCE_NONE && !slot.interrupted ?
								  GTF_INTERRUPT_ANYTHING : GTF_INTERRUPT_LISTENING);
		return false;
	}

	/* only the dispatcher ends the looking for outcomes that this begins */
	gtf_db_cancel_begin(MyDatabaseId);
	gtf_db_cancel_end(MyDatabaseId);
	gtf_tx_begin();
	last = gtf_store_outcome_head(&request->task_id, NULL);
	/* it was there when the outcome was looked at, or last is final */
	if (!gtf_store_request_get(&request->task_id, &now))
	{
		(void) gtf_tx_commit(false);
		return true;
	}
	task = gtf_store_task_head(&request->task_id);
	if (last && gtf_status_is_final(last->status))
	{
		gone = gtf_store_request_delete(&request->task_id);
		/* by a transaction that was prepared, which could tell nobody */
		ended = gone && last && request->cause == GTF_CAUSE_ENDED;
		if (ended)
			status = last->status;
	}
	else if (task == NULL || task->foreign)
	{
		/* a restore is going on, which brings the task later */
		(void) gtf_tx_commit(false);
		return true;
	}
	else
		ended = gtf_finish_cancelled(&request->task_id,
									 last ? last->attempt + 1 : 1);
	lsn = gtf_tx_commit(false);
	if (ended)
	{
		GtfOutcome	outcome = {0};

		outcome.task_id = request->task_id;
		outcome.status = status;
		gtf_stats_ended(&outcome);
		gtf_finish_tell(&outcome, lsn);
	}
	return ended || gone;
}

static void
request_step(void *arg)
{
	Step	   *step = arg;

	step->done = resolve_request(step->request);
}

static void
list_requests(void *arg)
{
	Step	   *step = arg;

	gtf_tx_begin();
	MemoryContextSwitchTo(step->context);
	step->requests = gtf_store_request_all();
	(void) gtf_tx_commit(false);
}

void
gtf_settle_requests(Dispatcher *d)
{
	static TimestampTz look_again = 0;
	static const pg_uuid_t all = {{0}};
	static Step step;
	ListCell   *lc;
	bool		left = false;

	if (!gtf_news_take(d->db, GTF_NEWS_REQUESTS))
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
	step.requests = NIL;
	step.context = CurrentMemoryContext;
	if (!gtf_dispatcher_try(d, GTF_TROUBLE_REQUEST, &all, list_requests, &step))
		left = true;

	foreach(lc, step.requests)
	{
		step.request = lfirst(lc);
		if (!gtf_dispatcher_try(d, GTF_TROUBLE_REQUEST, &step.request->task_id,
								request_step, &step) || !step.done)
			left = true;
	}
	if (left)
		gtf_dispatcher_look_at(d, look_again);
	else
		look_again = 0;
}

/*
 * Is this attempt in a slot?  A slot whose attempt has ended can hold the task
 * a little longer, when gtf_retry() has announced the next one already.
 */
static bool
in_slot(const pg_uuid_t *id, int32 attempt)
{
	GtfSlotInfo slot;

	return gtf_slot_find(id, &slot) && slot.ref.attempt >= attempt;
}

/* A row of gtf.live, unless a slot stands for it. */
static void
live_step(void *arg)
{
	Step	   *step = arg;
	Dispatcher *d = step->d;
	GtfLive		live;
	GtfTask    *task;
	GtfTaskRef	ref = {0};
	TransactionId xid;
	bool		has_prerequisites;

	ref.id = *step->id;
	gtf_tx_begin();
	/* the row first: who writes it has a slot before, and ends after */
	if (!gtf_store_live_get(&ref.id, &live) || in_slot(&ref.id, live.attempt))
	{
		(void) gtf_tx_commit(false);
		return;
	}
	task = gtf_store_task_head(&ref.id);
	if (task == NULL || task->foreign)
	{
		/* a restore is going on, which brings the task later */
		(void) gtf_tx_commit(false);
		return;
	}
	if (gtf_store_outcome_probe(&ref.id, live.attempt, &xid) == GTF_PROBE_EXISTS)
	{
		/* if it is still that attempt */
		gtf_store_live_delete_attempt(&ref.id, live.attempt);
		(void) gtf_tx_commit(false);
		return;
	}
	gtf_ref_set_task(&ref, task);
	ref.expires_at = gtf_live_expires_at(&live, task);
	has_prerequisites = task->has_prerequisites;
	(void) gtf_tx_commit(false);

	ref.attempt = live.attempt;
	ref.due = live.since;
	ref.flags = GTF_REF_HAS_LIVE;
	if (live.state == GTF_LIVE_RUNNING)
	{
		GtfTaskRef	next;

		settle_attempt(&ref, live.since, live.worker, NULL,
					   GTF_CAUSE_NONE, &next);
		ref = next;
	}
	if (ref.attempt > 0)
	{
		/* lost or failed before: let it not crash us unseen */
		ref.flags |= GTF_REF_DURABLE_START;
		/* it has run before, or was retried */
		if (has_prerequisites)
		{
			ref.flags |= GTF_REF_DEPENDS;
			gtf_depend_add(&ref);
		}
		else
			gtf_queue_add(&ref, d->now, d->flushed);
	}
}

/* Not even the row can be read. */
static void
live_unread_step(void *arg)
{
	Step	   *step = arg;
	GtfTaskRef	ref = {0};
	GtfOutcome *last;
	bool		ended;

	ref.id = *step->id;
	gtf_tx_begin();
	last = gtf_store_outcome_head(&ref.id, NULL);
	ended = last != NULL && gtf_status_is_final(last->status);
	ref.attempt = last ? last->attempt + 1 : 1;
	(void) gtf_tx_commit(false);
	if (!ended)
		settle_broken(&ref, 0, 0, step->sqlerrcode, step->message);
}

void
gtf_settle_live(Dispatcher *d)
{
	static Step step;
	pg_uuid_t  *ids;
	int			n;
	bool		left = false;
	MemoryContext context = CurrentMemoryContext;

	gtf_tx_begin();
	MemoryContextSwitchTo(context);
	ids = gtf_store_live_ids(&n);
	(void) gtf_tx_commit(false);

	step.d = d;
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		/* waiting in memory */
		if (gtf_queue_known(&ids[i]))
			continue;
		step.id = &ids[i];
		if (!gtf_dispatcher_try(d, GTF_TROUBLE_SETTLE, &ids[i], live_step, &step))
		{
			/* not to be found by the scan, as if it had never started */
			gtf_queue_known_add(&ids[i]);
			left = true;

			step.message = gtf_dispatcher_gives_up(GTF_TROUBLE_SETTLE, &ids[i],
												   BROKEN_TRIES + 1,
												   &step.sqlerrcode);
			if (step.message)
				(void) gtf_dispatcher_try(d, GTF_TROUBLE_END, &ids[i],
										  live_unread_step, &step);
		}
	}
	pfree(ids);
	d->live_again = left ? TimestampTzPlusMilliseconds(d->now, 1000) : 0;
}

/*
 * End tasks that have not started: as failures with this error, or as
 * expired when message is NULL.  Those that a transaction is about to cancel
 * are left to a later round.  unread: nothing is read of the task, so
 * that it can be broken.
 */
static void
end_together(const GtfTaskRef *refs, int n, int sqlerrcode,
			 const char *message, bool unread)
{
	GtfOutcome *outcomes = palloc0(n * sizeof(GtfOutcome));
	GtfProbe   *found = palloc0(n * sizeof(GtfProbe));
	XLogRecPtr	lsn;

	gtf_tx_begin();
	for (int i = 0; i < n; i++)
	{
		found[i] = GTF_PROBE_EXISTS;
		if (refs[i].flags & GTF_REF_CLEANUP)
		{
			no_cleanup(&refs[i], message);
			continue;
		}
		/* a scan has met it on its way, and it has started since */
		if (in_slot(&refs[i].id, refs[i].attempt))
			continue;
		if (!unread && gtf_store_task_head(&refs[i].id) == NULL)
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
		if (!unread)
			found[i] = gtf_finish_unstarted(&outcomes[i]);
		else
		{
			found[i] = gtf_store_outcome_try(&outcomes[i]);
			gtf_store_live_delete_attempt(&refs[i].id, refs[i].attempt);
		}
	}
	lsn = gtf_tx_commit(false);
	for (int i = 0; i < n; i++)
	{
		if (found[i] == GTF_PROBE_NONE)
		{
			gtf_stats_ended(&outcomes[i]);
			gtf_finish_tell(&outcomes[i], lsn);
		}
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

static void
end_step(void *arg)
{
	Step	   *step = arg;

	end_together(step->ref, 1, step->sqlerrcode, step->message, false);
}

static void
end_unread_step(void *arg)
{
	Step	   *step = arg;

	end_together(step->ref, 1, step->sqlerrcode, step->message, true);
}

/* One that is broken does not keep the others from being ended. */
void
gtf_settle_unstarted(Dispatcher *d, const GtfTaskRef *refs, int n,
					 int sqlerrcode, const char *message)
{
	static Step step;
	MemoryContext context = CurrentMemoryContext;
	volatile bool ok = true;

	PG_TRY();
	{
		end_together(refs, n, sqlerrcode, message, false);
	}
	PG_CATCH();
	{
		if (gtf_error_is_transient(geterrcode()))
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		gtf_worker_recover(false);
		ok = false;
	}
	PG_END_TRY();
	if (ok)
		return;

	step.sqlerrcode = sqlerrcode;
	step.message = message;
	for (int i = 0; i < n; i++)
	{
		step.ref = &refs[i];
		if (!gtf_dispatcher_try(d, GTF_TROUBLE_SETTLE, &refs[i].id,
								end_step, &step) &&
			!gtf_dispatcher_try(d, GTF_TROUBLE_END, &refs[i].id,
								end_unread_step, &step))
		{
			GtfTaskRef	ref = refs[i];

			ref.due = TimestampTzPlusMilliseconds(d->now, BROKEN_RETRY_MS);
			gtf_queue_add(&ref, d->now, d->flushed);
		}
	}
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
			gtf_settle_unstarted(d, refs, n, 0, NULL);
		}
		PG_CATCH();
		{
			for (int i = 0; i < n; i++)
				gtf_queue_return(&refs[i], d->now);
			PG_RE_THROW();
		}
		PG_END_TRY();
		pfree(refs);
		next = gtf_queue_next_expiry();
	}
	if (next != 0)
		gtf_dispatcher_look_at(d, Max(next, d->now));
}
