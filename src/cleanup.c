/*-------------------------------------------------------------------------
 *
 * cleanup.c
 *	  Cleanup handlers of an attempt whose executor is gone.
 *
 * The dispatcher sends an executor of the same owner for it before it settles
 * the attempt.  They run in one transaction, each in its own subtransaction,
 * outside any body: the body's transaction was rolled back long ago.  What
 * goes wrong in them is in the log; the status of the task is not concerned.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "attempt.h"
#include "executor.h"
#include "on_abort.h"
#include "registry.h"
#include "settings.h"
#include "shmem.h"
#include "store.h"
#include "worker.h"

static void
run_handlers(const GtfTaskRef *ref, const GtfKeptHandler *kept, int n,
			 MemoryContext context)
{
	GtfTask    *task;
	ItemPointerData tid = ref->tid;

	gtf_tx_begin();
	MemoryContextSwitchTo(context);
	task = gtf_store_task_fetch(&ref->id, &tid);
	if (task != NULL)
	{
		gtf_attempt_set_task(task,
							 gtf_type_by_version(task->type_version, false),
							 ref->attempt);
		gtf_handlers_load(kept, n);
		gtf_handlers_check_constraints();
		gtf_handlers_run(false, true);
		MemoryContextSwitchTo(context);
	}
	(void) gtf_tx_commit(gtf_synchronous_commit);
}

void
gtf_cleanup_run(const GtfTaskRef *ref, MemoryContext context)
{
	GtfKeptHandler *kept;
	int			n;
	volatile bool over = true;

	MemoryContextSwitchTo(context);
	kept = palloc(GTF_MAX_HANDLERS * sizeof(GtfKeptHandler));
	n = gtf_kept_claim(&ref->id, ref->attempt, kept);
	if (n == 0)
		return;

	PG_TRY();
	{
		run_handlers(ref, kept, n, context);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		HOLD_INTERRUPTS();
		EmitErrorReport();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		QueryCancelPending = false;
		RESUME_INTERRUPTS();
		MemoryContextSwitchTo(context);
		over = false;
	}
	PG_END_TRY();

	if (over)
		gtf_kept_over(&ref->id);
	else
		gtf_kept_return(gtf_my_slot, &ref->id);
}
