/*-------------------------------------------------------------------------
 *
 * retry.c
 *	  gtf_retry: run a task again that has ended without success.
 *
 * The only way out of a terminal state.  The final outcome becomes one of an
 * attempt that was retried, which keeps its error in gtf.task_attempts, and a
 * row of gtf.live announces the next attempt; both in the caller's
 * transaction, under the task's lock; the dispatcher is told at its commit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/timestamp.h"

#include "keys.h"
#include "registry.h"
#include "settings.h"
#include "shmem.h"
#include "store.h"
#include "visible.h"
#include "wakeup.h"

PG_FUNCTION_INFO_V1(gtf_retry);

/*
 * The prerequisites are looked at again; from now on they are not removed.
 * ERROR P0002 if one was.
 */
static void
keep_prerequisites(const pg_uuid_t *id)
{
	int			n;
	pg_uuid_t  *ids = gtf_store_prerequisites(id, &n, NULL);

	for (int i = 0; i < n; i++)
	{
		if (!gtf_store_task_keep(&ids[i]))
			ereport(ERROR,
					(errcode(ERRCODE_NO_DATA_FOUND),
					 errmsg("prerequisite task \"%s\" does not exist any more",
							gtf_id_text(&ids[i])),
					 errhint("Submit a new task.")));
	}
}

/*
 * gtf_retry(task_id) RETURNS void
 *
 * ERROR P0002 if the caller does not see the task, or a prerequisite of it was
 * removed, 55000 unless it has failed,
 * was aborted or timed out, 23505 if another
 * active task has its key.
 */
Datum
gtf_retry(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = PG_GETARG_UUID_P(0);
	GtfTask    *task;
	GtfOutcome *last;
	GtfLive		live = {0};
	GtfTaskRef	ref = {0};

	PreventCommandIfReadOnly("gtf_retry()");
	PreventCommandIfParallelMode("gtf_retry()");
	gtf_shmem_require();
	if (!gtf_enabled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("tasks cannot be retried while gtf is disabled"),
				 errhint("Set gtf.enabled to on.")));
	task = gtf_visible_task_locked(id);

	/* gtf_adopt() has to know what it makes run */
	if (task->foreign)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("task \"%s\" cannot be retried in a copy of a database",
						gtf_id_text(id)),
				 errhint("Have an administrator call gtf_adopt() first.")));
	last = gtf_store_outcome_head(id, NULL);
	if (last == NULL || !gtf_status_is_final(last->status))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("task \"%s\" has not ended", gtf_id_text(id))));
	if (last->status == GTF_SUCCESS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("task \"%s\" has succeeded", gtf_id_text(id)),
				 errhint("Submit a new task to do the work again.")));

	if (task->task_key)
		gtf_key_reclaim(task, gtf_type_by_version(task->type_version, false));
	gtf_store_outcome_retried(id, last->attempt);
	/* one that came too late is not for the next attempt */
	(void) gtf_store_request_delete(id);
	live.task_id = *id;
	live.attempt = last->attempt + 1;
	live.state = GTF_LIVE_WAITING;
	live.since = GetCurrentTimestamp();
	gtf_store_live_put(&live);

	gtf_ref_set_task(&ref, task);
	ref.due = live.since;
	ref.attempt = live.attempt;
	ref.flags = GTF_REF_HAS_LIVE | GTF_REF_RETURNED;
	if (task->has_prerequisites)
	{
		keep_prerequisites(id);
		ref.flags |= GTF_REF_DEPENDS;
	}
	gtf_wakeup_submitted(&ref);
	PG_RETURN_VOID();
}
