/*-------------------------------------------------------------------------
 *
 * finish.c
 *	  How an attempt ends.
 *
 * A success is written by the executor itself in the body's transaction.
 * Everything else goes through here, in a transaction of its own, by the
 * executor or, when that is gone, by the dispatcher; by a session, if it runs
 * or cancels the task.  Of several at once the unique key of gtf.outcomes lets
 * one win.  Who dies before its commit has written nothing, and the attempt is
 * settled by the dispatcher; who dies after it and has told nobody is found by
 * its slot (settle.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "common/pg_prng.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "finish.h"
#include "on_abort.h"
#include "settings.h"
#include "signal.h"
#include "store.h"
#include "worker.h"

#define MAX_ERROR_TEXT	65536	/* bytes of a message, a detail and so on */

/*
 * Delay before the attempt after `attempt`: retry_delay doubled for each
 * earlier failure, +-50 % at random, never above gtf.retry_delay_max.
 */
static int64
retry_delay_usecs(const GtfType *type, int32 attempt)
{
	int64		cap = (int64) gtf_retry_delay_max * USECS_PER_SEC;
	double		delay = USECS_PER_SEC;

	if (type && type->retry_delay)
		delay = type->retry_delay->time +
			((double) type->retry_delay->month * DAYS_PER_MONTH +
			 type->retry_delay->day) * USECS_PER_DAY;
	for (int i = 1; i < attempt && delay < cap; i++)
		delay *= 2;
	delay = Min(delay, (double) cap);
	delay *= 0.5 + pg_prng_double(&pg_global_prng_state);
	return (int64) Min(delay, (double) cap);
}

static int32
max_attempts(const GtfTask *task, const GtfType *type)
{
	if (task->max_attempts > 0)
		return task->max_attempts;
	return type ? type->max_attempts : 1;
}

/* A payload that the attempt has not replaced stays that of the last one. */
static void
keep_payload(GtfOutcome *outcome)
{
	if (outcome->payload == NULL && outcome->attempt > 1)
	{
		GtfOutcome *last = gtf_store_outcome_last(&outcome->task_id, NULL);

		if (last)
			outcome->payload = last->payload;
	}
}

void
gtf_finish_set_report(GtfOutcome *outcome, const GtfProgress *progress,
					  Jsonb *payload)
{
	outcome->progress_kind = progress->kind;
	outcome->progress_current = progress->current;
	outcome->progress_total = progress->total;
	outcome->progress_fraction = progress->fraction;
	outcome->payload = payload;
	keep_payload(outcome);
}

static bool
put_outcome(GtfOutcome *outcome)
{
	keep_payload(outcome);
	return gtf_store_outcome_put(outcome, true);
}

/* The attempt after that of ref waits, as this row of gtf.live says. */
static void
set_next(const GtfTaskRef *ref, const GtfLive *live, GtfTaskRef *next)
{
	*next = *ref;
	next->attempt = live->attempt;
	next->due = live->since;
	next->flags |= GTF_REF_HAS_LIVE;
}

static bool
write_outcome(GtfOutcome *outcome, GtfStatus again, const GtfTaskRef *ref,
			  TimestampTz next_due, GtfTaskRef *next)
{
	outcome->status = next_due != 0 ? again : GTF_FAILURE;
	next->attempt = 0;
	if (!put_outcome(outcome))
		return false;

	if (next_due != 0)
	{
		GtfLive		live = {0};

		live.task_id = outcome->task_id;
		live.attempt = outcome->attempt + 1;
		live.state = GTF_LIVE_WAITING;
		live.since = next_due;
		gtf_store_live_put(&live);
		set_next(ref, &live, next);
	}
	else
		gtf_store_live_delete(&outcome->task_id);
	return true;
}

bool
gtf_finish_failed(GtfOutcome *outcome, const GtfTask *task,
				  const GtfType *type, const GtfTaskRef *ref,
				  bool may_retry, GtfTaskRef *next)
{
	TimestampTz next_due = 0;

	if (may_retry && outcome->attempt < max_attempts(task, type))
		next_due = GetCurrentTimestamp() +
			retry_delay_usecs(type, outcome->attempt);
	return write_outcome(outcome, GTF_RETRIED, ref, next_due, next);
}

bool
gtf_finish_aborted(GtfOutcome *outcome, GtfAbortCause cause,
				   const ErrorData *edata)
{
	if (cause == GTF_CAUSE_TIMEOUT)
	{
		outcome->status = GTF_TIMED_OUT;
		outcome->error_message = "Task timed out";
	}
	else
	{
		outcome->status = GTF_ABORTED;
		if (edata && edata->sqlerrcode != ERRCODE_QUERY_CANCELED)
			gtf_finish_set_errors(outcome, edata, NIL);
	}
	outcome->result = NULL;
	if (!put_outcome(outcome))
		return false;
	gtf_store_live_delete(&outcome->task_id);
	(void) gtf_store_request_delete(&outcome->task_id);
	return true;
}

bool
gtf_finish_cancelled(const pg_uuid_t *id, int32 attempt)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	GtfOutcome	outcome = {0};
	GtfSlotInfo slot;
	volatile bool written = false;

	outcome.task_id = *id;
	outcome.attempt = attempt;
	outcome.ended_at = GetCurrentTimestamp();

	/*
	 * Write, then look: an executor publishes its slot before it looks for an
	 * outcome.  If it has, the task is its, and what was written goes.  The
	 * other rows of the task are touched only when it is ours.
	 */
	outcome.status = GTF_ABORTED;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		written = put_outcome(&outcome) && !gtf_slot_find(id, &slot);
		if (written)
		{
			gtf_store_live_delete(id);
			(void) gtf_store_request_delete(id);
		}
	}
	PG_CATCH();
	{
		/* or the caller's transaction would be left half aborted */
		MemoryContextSwitchTo(context);
		RollbackAndReleaseCurrentSubTransaction();
		CurrentResourceOwner = owner;
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (written)
		ReleaseCurrentSubTransaction();
	else
		RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return written;
}

GtfProbe
gtf_finish_unstarted(GtfOutcome *outcome)
{
	GtfProbe	found;

	keep_payload(outcome);
	found = gtf_store_outcome_try(outcome);
	if (found == GTF_PROBE_NONE)
		gtf_store_live_delete(&outcome->task_id);
	return found;
}

/* Is there nothing left of a body whose process is gone? */
static bool
is_undone(const GtfOutcome *outcome, const GtfType *type)
{
	GtfLive		live;

	if (type == NULL)
		return false;
	if (type->kind != GTF_TYPE_HOOK)
		return gtf_type_is_atomic(type);

	/* only its executor knew the hook, and has written it down */
	return gtf_store_live_get(&outcome->task_id, &live) &&
		live.attempt == outcome->attempt && live.atomic;
}

bool
gtf_finish_lost(GtfOutcome *outcome, const GtfTask *task,
				const GtfType *type, const GtfTaskRef *ref,
				GtfAbortCause cause, GtfTaskRef *next)
{
	bool		again;
	int			losses = 0;
	TimestampTz next_due = 0;
	GtfRequest	request;

	/* asked to stop, and stopped it has */
	if (cause == GTF_CAUSE_NONE && gtf_store_request_get(&outcome->task_id, &request))
		cause = request.cause;
	if (cause != GTF_CAUSE_NONE)
	{
		next->attempt = 0;
		return gtf_finish_aborted(outcome, cause, NULL);
	}

	/*
	 * What a session ran was for its caller.  An atomic body has left nothing
	 * behind and runs again, unless it keeps losing its executors; others may
	 * have, and do so only as often as their submitter said.
	 */
	if (task->is_sync && outcome->attempt == 1)
	{
		again = false;
		outcome->stack_trace =
			pstrdup("DETAIL:  The session that ran the task has ended.\n"
					"HINT:  gtf_retry() runs the task again, in an executor.");
	}
	else if (is_undone(outcome, type))
	{
		losses = gtf_store_lost_count(&outcome->task_id) + 1;
		again = losses < gtf_crash_limit;
		if (!again)
			outcome->stack_trace =
				psprintf("DETAIL:  It was lost %d times, the limit is gtf.crash_limit.\n"
						 "HINT:  See the server's log for the reason. gtf_retry() runs the task again.",
						 losses);
	}
	else
	{
		again = outcome->attempt < max_attempts(task, type);
		if (again)
			losses = gtf_store_lost_count(&outcome->task_id) + 1;
		else
			outcome->stack_trace =
				psprintf("DETAIL:  %s may have left something behind. They run again only while attempts remain.\n"
						 "HINT:  See the server's log for the reason. gtf_retry() runs the task again.",
						 type && type->kind == GTF_TYPE_HOOK ? "Hooks that are not atomic" : "Procedures and commands");
	}

	if (outcome->error_message == NULL)
		outcome->error_message = pstrdup("executor lost");
	outcome->exception_type = pstrdup("executor_lost");
	if (again)
	{
		next_due = GetCurrentTimestamp();
		/* or it would keep the server busy with starting processes */
		if (losses >= gtf_crash_limit)
			next_due += retry_delay_usecs(type, losses - gtf_crash_limit + 1);
	}
	return write_outcome(outcome, GTF_LOST, ref, next_due, next);
}

void
gtf_finish_follow(const GtfTaskRef *ref, const GtfTask *task,
				  const GtfLive *live, GtfTaskRef *next)
{
	if (live->state != GTF_LIVE_WAITING || live->attempt <= ref->attempt)
		return;
	set_next(ref, live, next);
	next->expires_at = gtf_live_expires_at(live, task);
}

void
gtf_finish_again(const GtfTaskRef *next, XLogRecPtr lsn)
{
	GtfTaskRef	ref = *next;

	ref.lsn = lsn;
	ref.flags |= GTF_REF_RETURNED;
	gtf_submitted_push(MyDatabaseId, &ref, 1);
}

/*
 * While there is no flusher: what it has left, and requests to stop, which are
 * heard of before the ends that follow them.
 */
static void
tell_what_is_left(void)
{
	int			db = gtf_db_find(MyDatabaseId);
	GtfDatabaseInfo info;
	GtfDone		done;

	if (!gtf_db_info(db, &info) || info.flusher_pid != 0)
		return;
	while (gtf_done_pop(db, &done, 1) > 0)
	{
		gtf_make_durable(done.lsn);
		if (done.status != (int32) GTF_ABORTING)
			gtf_waiters_wake(&done.id);
		gtf_signal_now(&done);
	}
}

void
gtf_finish_tell(const GtfOutcome *outcome, XLogRecPtr lsn)
{
	GtfDone		done;

	done.id = outcome->task_id;
	done.lsn = lsn;
	done.status = outcome->status;
	done.attempt = outcome->attempt;
	if (!gtf_done_push(MyDatabaseId, &done))
	{
		tell_what_is_left();
		gtf_make_durable(lsn);
		gtf_waiters_wake(&outcome->task_id);
		gtf_signal_now(&done);
	}
}

/*
 * Texts of errors have no limit of their own, but are shown in the lists of
 * all who see the task.
 */
static void
add_text(StringInfo buf, const char *text)
{
	size_t		length = strlen(text);

	if (length <= MAX_ERROR_TEXT)
		appendBinaryStringInfo(buf, text, length);
	else
	{
		appendBinaryStringInfo(buf, text,
							   pg_mbcliplen(text, (int) length, MAX_ERROR_TEXT));
		appendStringInfoString(buf, " ...");
	}
}

static void
add_field(StringInfo trace, const char *name, const char *text)
{
	if (text == NULL)
		return;
	appendStringInfo(trace, "%s:  ", name);
	add_text(trace, text);
	appendStringInfoChar(trace, '\n');
}

/* What is known of an error besides its message. */
static void
add_trace(StringInfo trace, const ErrorData *edata)
{
	add_field(trace, "DETAIL", edata->detail);
	add_field(trace, "HINT", edata->hint);
	add_field(trace, "CONTEXT", edata->context);
	add_field(trace, "QUERY", edata->internalquery);
}

static const char *
message_of(const ErrorData *edata)
{
	return edata->message ? edata->message : "missing error text";
}

void
gtf_finish_set_errors(GtfOutcome *outcome, const ErrorData *edata,
					  List *handler_errors)
{
	StringInfoData message;
	StringInfoData trace;
	const ErrorData *first = edata;
	ListCell   *lc;

	initStringInfo(&message);
	initStringInfo(&trace);
	if (edata)
	{
		add_text(&message, message_of(edata));
		add_trace(&trace, edata);
		if (handler_errors != NIL)
			appendStringInfoString(&message, " | ");
	}
	if (list_length(handler_errors) > 1)
		appendStringInfoString(&message, "Handler(s) failed: ");
	foreach(lc, handler_errors)
	{
		GtfHandlerError *error = lfirst(lc);

		if (list_length(handler_errors) == 1)
			appendStringInfo(&message, "%s handler failed: ",
							 error->is_abort ? "Abort" : "Cleanup");
		else if (foreach_current_index(lc) > 0)
			appendStringInfoString(&message, "; ");
		add_text(&message, message_of(error->edata));
		appendStringInfo(&trace, "HANDLER:  %s (%s)\n", error->name,
						 error->is_abort ? "abort" : "cleanup");
		add_trace(&trace, error->edata);
		if (first == NULL)
			first = error->edata;
	}

	outcome->error_message = message.data;
	outcome->exception_type = list_length(handler_errors) > 1 ?
		pstrdup("MultipleHandlerFailures") :
		pstrdup(gtf_condition_name(first->sqlerrcode));
	if (trace.len > 0)
	{
		trace.data[--trace.len] = '\0';
		outcome->stack_trace = trace.data;
	}
}
