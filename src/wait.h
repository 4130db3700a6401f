/*-------------------------------------------------------------------------
 *
 * wait.h
 *	  Waiting for the end of a task, for others than gtf_wait itself.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_WAIT_H
#define GTF_WAIT_H

#include "task.h"

/*
 * Wait until the task has ended and return its final status, which is
 * durable by then.  Between gtf_procedure_begin() and gtf_procedure_end():
 * the transaction is committed to sleep.  ERROR P0002 if the task is gone, or
 * not visible unless unseen, 55000 if this process runs it.
 */
extern GtfStatus gtf_wait_for_end(const pg_uuid_t *id, bool unseen);

#endif							/* GTF_WAIT_H */
