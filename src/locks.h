/*-------------------------------------------------------------------------
 *
 * locks.h
 *	  THE advisory-lock key space of gtf.
 *
 * Heavyweight locks that SQL users cannot reach: their functions make
 * advisory lock tags with field 4 = 1 or 2, these have others.  Held until
 * the transaction ends; lock_timeout and deadlock detection apply.
 *
 *	  3		a task: cancel, retry, prune; its subscribers, if it is shared
 *
 * Taken before any row of gtf's tables is touched.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_LOCKS_H
#define GTF_LOCKS_H

#include "task.h"

extern void gtf_lock_task(const pg_uuid_t *id);

/* False, at once, if somebody else has it. */
extern bool gtf_lock_task_nowait(const pg_uuid_t *id);

#endif							/* GTF_LOCKS_H */
