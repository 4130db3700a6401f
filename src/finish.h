/*-------------------------------------------------------------------------
 *
 * finish.h
 *	  How an attempt ends: the outcome, what follows, who is told.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_FINISH_H
#define GTF_FINISH_H

#include "registry.h"
#include "shmem.h"
#include "store.h"
#include "task.h"

/*
 * Write the outcome of an attempt that did not succeed, in the caller's
 * transaction: the final failure, or, while attempts remain and may_retry,
 * the end of this attempt and the row for the next one.  type may be NULL
 * when its version is gone.
 *
 * Returns false if the attempt has an outcome already (then nothing was
 * written).  next->attempt is the attempt that follows, 0 = none.
 */
extern bool gtf_finish_failed(GtfOutcome *outcome, const GtfTask *task,
							  const GtfType *type, const GtfTaskRef *ref,
							  bool may_retry, GtfTaskRef *next);

/*
 * Write the outcome of an attempt that was asked to stop and did.  edata is
 * the error the body raised, or NULL.  The caller has filled the rest.  False
 * as above.
 */
extern bool gtf_finish_aborted(GtfOutcome *outcome, GtfAbortCause cause,
							   const ErrorData *edata);

/*
 * End a task that is waiting for this attempt as aborted.  False, with
 * nothing written, when the attempt has an outcome or an executor has taken
 * it.  The caller has begun a cancel in shared memory.
 */
extern bool gtf_finish_cancelled(const pg_uuid_t *id, int32 attempt);

/*
 * End a task that has not started, from the dispatcher: never waits.  NONE
 * when the outcome was written, else what is in its way.
 */
extern GtfProbe gtf_finish_unstarted(GtfOutcome *outcome);

/* The same for an attempt whose executor is gone; cause as in its slot. */
extern bool gtf_finish_lost(GtfOutcome *outcome, const GtfTask *task,
							const GtfType *type, const GtfTaskRef *ref,
							GtfAbortCause cause, GtfTaskRef *next);

/*
 * After the commit that ended at lsn: tell the flusher of a final outcome.
 */
extern void gtf_finish_tell(const GtfOutcome *outcome, XLogRecPtr lsn);

/*
 * The reference of the attempt that waits after that of ref, if one does; else
 * *next stays as it is.
 */
extern void gtf_finish_follow(const GtfTaskRef *ref, const GtfTask *task,
							  const GtfLive *live, GtfTaskRef *next);

/*
 * Hand the next attempt to the dispatcher.  No slot may hold the task any
 * more, or the reference would have to wait there.
 */
extern void gtf_finish_again(const GtfTaskRef *next, XLogRecPtr lsn);

/*
 * Fill in the last report of the attempt; payload is NULL if it has not set
 * one, then that of the attempt before stays.
 */
extern void gtf_finish_set_report(GtfOutcome *outcome,
								  const GtfProgress *progress, Jsonb *payload);

/*
 * Fill the error fields of an outcome, in the current memory context, from
 * what the body has raised (or NULL) and its handlers (GtfHandlerError *).
 */
extern void gtf_finish_set_errors(GtfOutcome *outcome, const ErrorData *edata,
								  List *handler_errors);

#endif							/* GTF_FINISH_H */
