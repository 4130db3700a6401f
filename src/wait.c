/*-------------------------------------------------------------------------
 *
 * wait.c
 *	  CALL gtf_wait, gtf_wait_any, gtf_wait_all.
 *
 * A waiter registers in shared memory and sleeps on its latch; between two
 * looks at the table it holds no snapshot, so it does not keep vacuum from
 * going on.  It sleeps in a transaction that never had one, because CREATE
 * INDEX CONCURRENTLY, which may be what it waits for, waits for the end of
 * each transaction that it has once seen with an old snapshot.  That takes a
 * commit of what the caller has done so far, which is only possible where a
 * procedure may commit.
 *
 * What is returned is durable: the flusher wakes waiters after the flush, and
 * an end that was found in the table is flushed here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "attempt.h"
#include "procedure.h"
#include "safepoint.h"
#include "settings.h"
#include "shmem.h"
#include "store.h"
#include "task.h"
#include "visible.h"
#include "wait.h"
#include "worker.h"

PG_FUNCTION_INFO_V1(gtf_wait);
PG_FUNCTION_INFO_V1(gtf_wait_any);
PG_FUNCTION_INFO_V1(gtf_wait_all);

#define MAX_AT_A_TIME	64		/* of those that are all waited for */

/* One task that is waited for. */
typedef struct Awaited
{
	pg_uuid_t	id;
	int			waiter;			/* registration, -1 = none */
	bool		unseen;			/* the caller need not see it */
	bool		ended;
	GtfStatus	status;
} Awaited;

/* Leave the caller's transaction and its snapshot behind. */
static void
leave_transaction(FunctionCallInfo fcinfo, const char *name)
{
	gtf_shmem_require();
	/* nothing ends here that we would be told of */
	PreventCommandDuringRecovery(name);
	if (!gtf_procedure_may_commit(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot wait inside a transaction block, a function or an exception block",
						name),
				 errdetail("Waiting there would hold a snapshot."),
				 errhint("Commit first and call it as a statement of its own, with autocommit in drivers that begin transactions; or look at gtf_status().")));
	gtf_procedure_begin();
}

/* ERROR P0002 unless the task is there and visible. */
static void
check_exists(const Awaited *awaited)
{
	/* for values that are toasted; one that does not last */
	Snapshot	snapshot = RegisterSnapshot(GetCatalogSnapshot(InvalidOid));
	GtfTask    *task = awaited->unseen ? gtf_store_task_head(&awaited->id) :
		gtf_visible_task(&awaited->id);

	UnregisterSnapshot(snapshot);
	if (task == NULL)
		gtf_error_no_task(&awaited->id);
	pfree(task);
}

/*
 * Look at the table; what it shows as ended is flushed before it is told.
 * ERROR P0002 if the task was removed: nobody would tell of its end again.
 */
static void
look(Awaited *task)
{
	XLogRecPtr	lsn;
	GtfOutcome *outcome = gtf_store_outcome_head(&task->id, &lsn);

	if (outcome == NULL)
		check_exists(task);
	if (outcome && gtf_status_is_final(outcome->status))
	{
		gtf_make_durable(lsn);
		task->ended = true;
		task->status = outcome->status;
	}
	if (outcome)
		pfree(outcome);
}

/* What to report of a task that has not ended. */
static GtfStatus
current_status(const pg_uuid_t *id)
{
	GtfSlotInfo info;
	GtfLive		live;

	if (gtf_slot_find(id, &info) && info.body_running)
		return info.abort_cause != GTF_CAUSE_NONE ? GTF_ABORTING : GTF_IN_PROGRESS;
	if (gtf_store_live_get(id, &live) && live.state == GTF_LIVE_RUNNING)
		return GTF_IN_PROGRESS;
	return GTF_PENDING;
}

/* All these tasks can be waited for, here. */
static void
check_tasks(const Awaited *tasks, int n)
{
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (gtf_attempt_is_here(&tasks[i].id))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("task \"%s\" cannot wait for itself",
							gtf_id_text(&tasks[i].id))));
		check_exists(&tasks[i]);
	}
}

/* Waiting is for those who leave executors to the ones that they wait for. */
static void
check_may_wait(void)
{
	if (gtf_my_executor_slot >= 0 && !gtf_slot_may_wait())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a task cannot wait when every other executor is held by a waiting task"),
				 errhint("Raise gtf.max_executors, or max_worker_processes and gtf.max_slots if the log tells of a shortage.")));
}

/* How many tasks one session may be registered for. */
static int
max_registered(void)
{
	return gtf_max_waiters / 4;
}

/* Register for a task first, look afterwards. */
static void
begin_waiting(Awaited *task)
{
	task->waiter = gtf_waiter_add(&task->id);
	if (task->waiter < 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many tasks are being waited for"),
				 errhint("Raise gtf.max_waiters.")));
	look(task);
}

static void
end_waiting(Awaited *tasks, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (tasks[i].waiter >= 0)
			gtf_waiter_remove(tasks[i].waiter);
		tasks[i].waiter = -1;
	}
}

/* Wait until all (or any) of these have ended, or the time is over. */
static void
wait_for_some(Awaited *tasks, int n, bool any, TimestampTz deadline)
{
	for (int i = 0; i < n; i++)
		begin_waiting(&tasks[i]);

	for (bool fresh = false;;)
	{
		int			ended = 0;
		long		left = -1;

		for (int i = 0; i < n; i++)
		{
			if (!tasks[i].ended && gtf_waiter_told(tasks[i].waiter))
			{
				look(&tasks[i]);
				fresh = false;
			}
			if (tasks[i].ended)
				ended++;
		}
		if (ended == n || (any && ended > 0))
			break;
		if (deadline != 0)
		{
			left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
												   deadline);
			if (left <= 0)
			{
				/* it may have ended and nobody have come to tell */
				for (int i = 0; i < n; i++)
				{
					if (!tasks[i].ended)
						look(&tasks[i]);
				}
				break;
			}
		}
		check_may_wait();

		/* what an abort handler has done, a cancel for example, counts now */
		if (gtf_current_task && gtf_safe_point())
			fresh = false;

		/* leave behind the transaction that has looked into catalogs */
		if (!fresh)
		{
			gtf_procedure_commit();
			fresh = true;
			/* what has waited in there may have been woken for us: look again */
			continue;
		}
		gtf_backend_wait(left);
	}
}

/*
 * Wait until all (or any) of the tasks have ended, or the time is over.  For
 * all, so many at a time as leave others room among the waiters.
 */
static void
wait_for(Awaited *tasks, int n, bool any, const Interval *timeout)
{
	TimestampTz deadline = 0;
	int			step = any ? n : Min(MAX_AT_A_TIME, max_registered());

	if (timeout)
		deadline = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
														   TimestampTzGetDatum(GetCurrentTimestamp()),
														   IntervalPGetDatum(timeout)));
	check_tasks(tasks, n);
	if (gtf_my_executor_slot >= 0)
		gtf_slot_wait_begin();
	PG_TRY();
	{
		check_may_wait();
		for (int at = 0; at < n; at += step)
		{
			wait_for_some(tasks + at, Min(step, n - at), any, deadline);
			end_waiting(tasks + at, Min(step, n - at));
		}
	}
	PG_FINALLY();
	{
		end_waiting(tasks, n);
		if (gtf_my_executor_slot >= 0)
			gtf_slot_wait_end();
	}
	PG_END_TRY();
	for (int i = 0; i < n; i++)
	{
		if (!tasks[i].ended)
			tasks[i].status = current_status(&tasks[i].id);
	}
}

GtfStatus
gtf_wait_for_end(const pg_uuid_t *id, bool unseen)
{
	Awaited		task = {.waiter = -1,.id = *id,.unseen = unseen};

	wait_for(&task, 1, false, NULL);
	return task.status;
}

/* Each task once, where it comes first; returns how many. */
static int
drop_repeated(Awaited *tasks, int n)
{
	HASHCTL		ctl = {0};
	HTAB	   *seen;
	int			kept = 0;

	ctl.keysize = ctl.entrysize = sizeof(pg_uuid_t);
	ctl.hcxt = CurrentMemoryContext;
	seen = hash_create("gtf_wait_any", n, &ctl,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (int i = 0; i < n; i++)
	{
		bool		found;

		(void) hash_search(seen, &tasks[i].id, HASH_ENTER, &found);
		if (!found)
			tasks[kept++] = tasks[i];
	}
	hash_destroy(seen);
	return kept;
}

static void
check_timeout(FunctionCallInfo fcinfo, int arg)
{
	if (!PG_ARGISNULL(arg) && gtf_interval_sign(PG_GETARG_INTERVAL_P(arg)) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must not be negative")));
}

/* The ids of an array argument, in memory that survives the commit. */
static Awaited *
read_ids(FunctionCallInfo fcinfo, int arg, int *n)
{
	Datum	   *elements;
	bool	   *nulls;
	Awaited    *tasks;

	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("task_ids must not be null")));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(arg), UUIDOID, UUID_LEN, false,
					  TYPALIGN_CHAR, &elements, &nulls, n);
	tasks = MemoryContextAllocHuge(CurrentMemoryContext,
								   Max(*n, 1) * sizeof(Awaited));
	memset(tasks, 0, Max(*n, 1) * sizeof(Awaited));
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("task_ids must not contain nulls")));
		tasks[i].id = *DatumGetUUIDP(elements[i]);
		tasks[i].waiter = -1;
	}
	return tasks;
}

/*
 * CALL gtf_wait(task_id, timeout, INOUT status)
 */
Datum
gtf_wait(PG_FUNCTION_ARGS)
{
	Awaited		task = {.waiter = -1};
	Interval	timeout;
	bool		has_timeout = !PG_ARGISNULL(1);
	Datum		value;
	bool		isnull = false;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("task_id must not be null")));
	check_timeout(fcinfo, 1);
	task.id = *PG_GETARG_UUID_P(0);
	if (has_timeout)
		timeout = *PG_GETARG_INTERVAL_P(1);
	leave_transaction(fcinfo, "gtf_wait()");
	wait_for(&task, 1, false, has_timeout ? &timeout : NULL);
	gtf_procedure_end();

	value = CStringGetTextDatum(gtf_status_text(task.status));
	return gtf_procedure_row(fcinfo, &value, &isnull);
}

/*
 * CALL gtf_wait_any(task_ids, timeout, INOUT task_id, INOUT status)
 *
 * The first of the array that has ended; nulls if the time is over first.
 */
Datum
gtf_wait_any(PG_FUNCTION_ARGS)
{
	int			n;
	Awaited    *tasks;
	Interval	timeout;
	bool		has_timeout = !PG_ARGISNULL(1);
	Datum		values[2] = {0};
	bool		nulls[2] = {true, true};

	check_timeout(fcinfo, 1);
	tasks = read_ids(fcinfo, 0, &n);
	n = drop_repeated(tasks, n);
	if (has_timeout)
		timeout = *PG_GETARG_INTERVAL_P(1);
	leave_transaction(fcinfo, "gtf_wait_any()");
	if (n > max_registered())
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("cannot wait for any of more than %d tasks",
						max_registered()),
				 errhint("Raise gtf.max_waiters, of which one session may take a quarter.")));
	if (n > 0)
		wait_for(tasks, n, true, has_timeout ? &timeout : NULL);
	gtf_procedure_end();

	for (int i = 0; i < n; i++)
	{
		if (tasks[i].ended)
		{
			values[0] = UUIDPGetDatum(&tasks[i].id);
			values[1] = CStringGetTextDatum(gtf_status_text(tasks[i].status));
			nulls[0] = nulls[1] = false;
			break;
		}
	}
	return gtf_procedure_row(fcinfo, values, nulls);
}

/*
 * CALL gtf_wait_all(task_ids, timeout, INOUT statuses)
 */
Datum
gtf_wait_all(PG_FUNCTION_ARGS)
{
	int			n;
	Awaited    *tasks;
	Interval	timeout;
	bool		has_timeout = !PG_ARGISNULL(1);
	Datum	   *statuses;
	Datum		value;
	bool		isnull = false;

	check_timeout(fcinfo, 1);
	tasks = read_ids(fcinfo, 0, &n);
	if (has_timeout)
		timeout = *PG_GETARG_INTERVAL_P(1);
	leave_transaction(fcinfo, "gtf_wait_all()");
	if (n > 0)
		wait_for(tasks, n, false, has_timeout ? &timeout : NULL);
	gtf_procedure_end();

	statuses = palloc(Max(n, 1) * sizeof(Datum));
	for (int i = 0; i < n; i++)
		statuses[i] = CStringGetTextDatum(gtf_status_text(tasks[i].status));
	value = PointerGetDatum(construct_array(statuses, n, TEXTOID, -1, false,
											TYPALIGN_INT));
	return gtf_procedure_row(fcinfo, &value, &isnull);
}
