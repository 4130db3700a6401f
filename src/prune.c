/*-------------------------------------------------------------------------
 *
 * prune.c
 *	  CALL gtf_prune: remove tasks that ended long ago.
 *
 * A pass over gtf.outcomes finds the tasks that ended first, in memory of
 * bounded size; they are removed in batches, each a transaction of its own, so
 * that neither a lock nor a snapshot is held for long; then comes the next
 * pass, until none is left.  Each task is looked at again under its lock: a
 * task that somebody is retrying right now, or has retried since the pass, is
 * left alone.  Interrupted in the middle, what was committed stays removed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "access.h"
#include "keys.h"
#include "locks.h"
#include "procedure.h"
#include "registry.h"
#include "store.h"

#define BATCH_TASKS 500			/* locks held at once */

PG_FUNCTION_INFO_V1(gtf_prune);

/* One transaction's worth; returns how many were removed. */
static int
remove_batch(const GtfEnded *ended, int n, TimestampTz before)
{
	int			removed = 0;
	GtfRemover *remover;

	PushActiveSnapshot(GetTransactionSnapshot());
	remover = gtf_store_remover_begin(before);
	for (int i = 0; i < n; i++)
	{
		GtfTask    *task;

		CHECK_FOR_INTERRUPTS();
		if (!gtf_lock_task_nowait(&ended[i].task_id))
			continue;
		if (!gtf_store_remover_remove(remover, &ended[i].task_id, &task))
			continue;
		removed++;
		if (task)
			gtf_key_forget(task, gtf_type_by_version(task->type_version, false));
	}
	gtf_store_remover_end(remover);
	PopActiveSnapshot();
	gtf_procedure_commit();
	return removed;
}

static int64
prune(TimestampTz before, int64 max_rows)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "gtf prune batch",
												  ALLOCSET_DEFAULT_SIZES);
	int64		pruned = 0;
	GtfEnded	last;
	bool		more = true;
	bool		first = true;

	while (more && pruned < max_rows)
	{
		int			n;
		GtfEnded   *ended = gtf_store_ended_before(before,
												   first ? NULL : &last,
												   max_rows - pruned, &n,
												   &more);

		for (int i = 0; i < n; i += BATCH_TASKS)
		{
			MemoryContext old = MemoryContextSwitchTo(context);

			pruned += remove_batch(ended + i, Min(n - i, BATCH_TASKS), before);
			MemoryContextSwitchTo(old);
			MemoryContextReset(context);
		}

		/* what is left of these is wanted, or being removed by somebody else */
		if (n > 0)
			last = ended[n - 1];
		first = false;
		pfree(ended);
	}
	MemoryContextDelete(context);
	return pruned;
}

/*
 * CALL gtf_prune(retention, max_rows, INOUT pruned)
 *
 * Administrators.  ERROR 2D000 where a procedure cannot commit, 22023 for
 * negative arguments, 22004 without a retention.
 */
Datum
gtf_prune(PG_FUNCTION_ARGS)
{
	TimestampTz before;
	int64		max_rows = PG_INT64_MAX;
	Datum		value;
	bool		isnull = false;

	gtf_require_admin();
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("retention must not be null")));
	if (gtf_interval_sign(PG_GETARG_INTERVAL_P(0)) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("retention must not be negative")));
	if (!PG_ARGISNULL(1))
		max_rows = PG_GETARG_INT64(1);
	if (max_rows < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_rows must not be negative")));
	PreventCommandIfReadOnly("gtf_prune()");
	if (!gtf_procedure_may_commit(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("%s cannot remove tasks inside a transaction block, a function or an exception block",
						"gtf_prune()"),
				 errdetail("It commits after each batch."),
				 errhint("Call it as a statement of its own.")));

	before = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
													 TimestampTzGetDatum(GetCurrentTimestamp()),
													 PG_GETARG_DATUM(0)));
	/* the caller's snapshot must not last as long as this takes */
	gtf_procedure_begin();
	value = Int64GetDatum(prune(before, max_rows));
	gtf_procedure_end();
	return gtf_procedure_row(fcinfo, &value, &isnull);
}
