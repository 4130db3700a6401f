/*-------------------------------------------------------------------------
 *
 * cancel.c
 *	  gtf_cancel and gtf_revoke.
 *
 * Transactional: everything takes effect at the caller's commit.
 *
 * A task that has not started is ended by the caller itself, by writing its
 * outcome.  While that is not committed, executors that meet the task put it
 * back (gtf_db_cancel_begin), so nobody waits for the caller.
 *
 * A running attempt gets a row of gtf.abort_requests, which survives a crash,
 * and at commit the flag in its slot and the doorbell (wakeup.c).  Should the
 * attempt have moved on by then, the dispatcher resolves the row: it aborts
 * what is pending again and drops the request when the task has ended.
 *
 * Who leaves a shared task that others want goes without any of that: his row
 * of gtf.task_subscribers is deleted.
 *
 * The task's lock makes cancels, retries and joins of one task go one after
 * the other; executors never take it, and the dispatcher never waits for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "access.h"
#include "finish.h"
#include "safepoint.h"
#include "settings.h"
#include "shmem.h"
#include "store.h"
#include "visible.h"
#include "wakeup.h"
#include "worker.h"

PG_FUNCTION_INFO_V1(gtf_cancel);
PG_FUNCTION_INFO_V1(gtf_cancel_text);
PG_FUNCTION_INFO_V1(gtf_cancel_many);
PG_FUNCTION_INFO_V1(gtf_revoke);

#define FINISHING_MS	1000	/* to wait for an attempt that is ending */

static void
check_call(const char *function)
{
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
	gtf_shmem_require();
	(void) gtf_safe_point();
}

/* The slot of who cleans up after this task right now, if anybody does. */
static bool
find_cleaner(const pg_uuid_t *id, GtfSlotInfo *slot)
{
	GtfSlotInfo info;

	for (int i = 0; i < gtf_slot_count(); i++)
	{
		if (gtf_slot_info(i, &info) && info.database == MyDatabaseId &&
			info.state == GTF_SLOT_RUNNING &&
			(info.ref.flags & GTF_REF_CLEANUP) != 0 &&
			gtf_id_equal(&info.ref.id, id))
		{
			*slot = info;
			return true;
		}
	}
	return false;
}

static void
error_ended(const pg_uuid_t *id, GtfStatus status)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("task \"%s\" has already ended", gtf_id_text(id)),
			 errdetail("Its status is %s.", gtf_status_text(status))));
}

/* ERROR unless the attempt in this slot listens to aborts. */
static void
check_abortable(const pg_uuid_t *id, const GtfSlotInfo *slot)
{
	if (slot->body_ended)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("task \"%s\" is ending and cannot be aborted any more",
						gtf_id_text(id))));
	if (slot->body_running && !slot->abortable)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("task \"%s\" is running and cannot be aborted",
						gtf_id_text(id)),
				 errhint("Its code must call gtf_on_abort(), or its type be registered with abort => 'poll' or 'interrupt'. An administrator can end it with gtf_revoke() and terminate => true.")));
}

/* Have the attempt in this slot stopped at the commit. */
static void
stop_attempt(const pg_uuid_t *id, GtfSlotInfo *slot, GtfForce force)
{
	if (slot->state != GTF_SLOT_LOST && force == GTF_FORCE_NONE)
	{
		/* it is stopping */
		if (slot->abort_cause != GTF_CAUSE_NONE)
			return;
		check_abortable(id, slot);
	}
	gtf_store_request_put(id, GTF_CAUSE_CANCEL, force);

	/* of a lost attempt only its cleanup handlers are left to be stopped */
	if (slot->state == GTF_SLOT_LOST && force != GTF_FORCE_NONE)
		(void) find_cleaner(id, slot);
	gtf_wakeup_abort(slot->index, slot->serial, force);
}

/*
 * Cancel a task that the caller may cancel and has the lock of.  Returns its
 * status after the commit: aborted, or aborting for a running one.
 */
static GtfStatus
cancel_task(const pg_uuid_t *id, GtfForce force)
{
	int			waited = 0;

	for (;;)
	{
		GtfOutcome *last;
		GtfSlotInfo slot;
		GtfRequest	request;
		GtfLive		live;

		/* the slot first: what has just left it is found in the table */
		if (gtf_slot_find(id, &slot))
		{
			/*
			 * A matter of microseconds, unless its commit has to wait:
			 * perhaps for this very transaction, and then not for ever.
			 */
			if (slot.state == GTF_SLOT_FINISHING && slot.index != gtf_my_slot &&
				waited++ < FINISHING_MS)
			{
				gtf_backend_wait(1);
				continue;
			}
			stop_attempt(id, &slot, force);
			return GTF_ABORTING;
		}

		last = gtf_store_outcome_head(id, NULL);
		if (last && gtf_status_is_final(last->status))
			error_ended(id, last->status);
		if (gtf_store_request_get(id, &request))
			return GTF_ABORTING;

		/* its executor is gone and the dispatcher has not settled that yet */
		if (gtf_store_live_get(id, &live) && live.state == GTF_LIVE_RUNNING)
		{
			gtf_store_request_put(id, GTF_CAUSE_CANCEL, force);
			gtf_wakeup_abort(-1, 0, force);
			return GTF_ABORTING;
		}

		gtf_wakeup_cancelling();
		if (gtf_finish_cancelled(id, last ? last->attempt + 1 : 1))
		{
			gtf_wakeup_ended(id, GTF_ABORTED, false);
			return GTF_ABORTED;
		}
		/* an executor was faster: look again */
		CHECK_FOR_INTERRUPTS();
	}
}

/* ERROR 42501 unless the caller may stop the task for all. */
static void
check_force(const GtfTask *task)
{
	if (!gtf_is_admin(GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only an administrator can force a cancel"),
				 errdetail("Administrators are superusers and the members of role \"%s\" (gtf.admin_role).",
						   gtf_admin_role)));
	/* visible to who has joined it */
	if (!gtf_may_administer(task->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only a superuser can force a cancel of a superuser's task")));
}

/* Does the caller of a cancel leave the task to others?  ERROR 42501. */
static bool
leaves(const GtfTask *task)
{
	if (task->scope != GTF_SCOPE_SHARED ||
		gtf_store_subscriber_count(&task->id, 2) < 2)
		return false;
	if (!gtf_is_subscribed(&task->id, task->scope, task->owner, task->app_user))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("not subscribed to shared task \"%s\"",
						gtf_id_text(&task->id)),
				 errdetail("It has subscribers who want its outcome."),
				 errhint("Use force => true to abort it for all of them.")));
	return true;
}

/* The table of the rules is in docs/sql-reference.md. */
static const char *
cancel(const pg_uuid_t *id, bool force)
{
	GtfTask    *task = gtf_visible_task_locked(id);
	GtfSlotInfo slot;

	/* that it has ended is said first; one in a slot has not */
	if (!gtf_slot_find(id, &slot))
	{
		GtfOutcome *last = gtf_store_outcome_head(id, NULL);

		if (last && gtf_status_is_final(last->status))
			error_ended(id, last->status);
	}
	if (force)
		check_force(task);
	else if (leaves(task))
	{
		(void) gtf_store_subscriber_delete(id, GetUserId(), gtf_app_user);
		return "unsubscribed";
	}
	(void) cancel_task(id, GTF_FORCE_NONE);
	return "aborted";
}

/*
 * gtf_cancel(task_id, force) RETURNS text
 *
 * Returns "aborted" or "unsubscribed".  ERROR P0002 if the caller does not
 * see the task, 55000 if it has ended or is running and cannot be aborted,
 * 42501 if force is asked for by others than administrators, or missing where
 * an administrator would abort a task that others want.
 */
Datum
gtf_cancel(PG_FUNCTION_ARGS)
{
	check_call("gtf_cancel()");
	PG_RETURN_TEXT_P(cstring_to_text(cancel(PG_GETARG_UUID_P(0),
											PG_GETARG_BOOL(1))));
}

/*
 * gtf_cancel(task_id text, force) RETURNS text
 *
 * Exists because an untyped literal could be a uuid or an array of them.
 */
Datum
gtf_cancel_text(PG_FUNCTION_ARGS)
{
	char	   *id = text_to_cstring(PG_GETARG_TEXT_PP(0));

	/* one id in braces is a uuid, too, but not as arrays are written */
	if (id[0] == '{' && (id[1] == '}' || strpbrk(id, ",\"") != NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid input syntax for type %s: \"%s\"", "uuid", id),
				 errhint("To cancel several tasks, cast their ids to uuid[].")));
	return DirectFunctionCall2(gtf_cancel,
							   DirectFunctionCall1(uuid_in, CStringGetDatum(id)),
							   PG_GETARG_DATUM(1));
}

static int
compare_ids(const void *a, const void *b, void *ids)
{
	const Datum *datums = ids;

	return gtf_id_compare(DatumGetUUIDP(datums[*(const int *) a]),
						  DatumGetUUIDP(datums[*(const int *) b]));
}

/*
 * gtf_cancel(task_ids[], force) RETURNS TABLE (task_id, outcome)
 *
 * Each in a subtransaction of its own; an error becomes the outcome's text.
 * In the order of their ids, lest two callers wait for each other; reported
 * in the order of the array.
 */
Datum
gtf_cancel_many(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		force = PG_GETARG_BOOL(1);
	Datum	   *ids;
	bool	   *nulls;
	char	  **outcomes;
	int		   *order;
	int			n;

	check_call("gtf_cancel()");
	InitMaterializedSRF(fcinfo, 0);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), UUIDOID, UUID_LEN, false,
					  TYPALIGN_CHAR, &ids, &nulls, &n);

	outcomes = palloc0(Max(n, 1) * sizeof(char *));
	order = palloc(Max(n, 1) * sizeof(int));
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("task_ids must not contain nulls")));
		order[i] = i;
	}
	qsort_arg(order, n, sizeof(int), compare_ids, ids);

	for (int o = 0; o < n; o++)
	{
		MemoryContext context = CurrentMemoryContext;
		ResourceOwner owner = CurrentResourceOwner;
		int			i = order[o];
		char	   *volatile outcome = NULL;

		CHECK_FOR_INTERRUPTS();
		BeginInternalSubTransaction(NULL);
		MemoryContextSwitchTo(context);
		PG_TRY();
		{
			outcome = unconstify(char *, cancel(DatumGetUUIDP(ids[i]), force));
			ReleaseCurrentSubTransaction();
		}
		PG_CATCH();
		{
			ErrorData  *edata;
			int			category;

			MemoryContextSwitchTo(context);
			edata = CopyErrorData();
			FlushErrorState();
			RollbackAndReleaseCurrentSubTransaction();
			MemoryContextSwitchTo(context);
			CurrentResourceOwner = owner;
			category = ERRCODE_TO_CATEGORY(edata->sqlerrcode);
			/* what concerns the caller and not the task */
			if (category == ERRCODE_OPERATOR_INTERVENTION ||
				category == ERRCODE_INSUFFICIENT_RESOURCES ||
				category == ERRCODE_TRANSACTION_ROLLBACK ||
				category == ERRCODE_INTERNAL_ERROR)
				ReThrowError(edata);
			outcome = edata->message;
		}
		PG_END_TRY();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		outcomes[i] = outcome;
	}

	for (int i = 0; i < n; i++)
	{
		Datum		values[2] = {ids[i], CStringGetTextDatum(outcomes[i])};
		bool		isnull[2] = {false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
	}
	PG_RETURN_NULL();
}

/*
 * gtf_revoke(task_id, terminate, signal) RETURNS text
 *
 * For administrators.  Returns the status after the commit: aborted, or
 * aborting for a running attempt.  With terminate a running attempt is ended
 * even if it is not abortable: SIGINT cancels its statement, SIGTERM ends its
 * executor.  No other attempt is ever hit.
 */
Datum
gtf_revoke(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = PG_GETARG_UUID_P(0);
	bool		terminate = PG_GETARG_BOOL(1);
	char	   *signal = text_to_cstring(PG_GETARG_TEXT_PP(2));
	GtfForce	force = GTF_FORCE_NONE;
	GtfTask    *task;

	check_call("gtf_revoke()");
	gtf_require_admin();
	if (strcmp(signal, "SIGINT") == 0)
		force = GTF_FORCE_INTERRUPT;
	else if (strcmp(signal, "SIGTERM") == 0)
		force = GTF_FORCE_TERMINATE;
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unsupported signal: \"%s\"", signal),
				 errhint("Use SIGINT to cancel the statement or SIGTERM to end the executor.")));
	task = gtf_visible_task_locked(id);
	check_force(task);
	PG_RETURN_TEXT_P(cstring_to_text(gtf_status_text(cancel_task(id,
																 terminate ? force : GTF_FORCE_NONE))));
}
