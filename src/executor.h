/*-------------------------------------------------------------------------
 *
 * executor.h
 *	  What an executor is told, and what it does but for running tasks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_EXECUTOR_H
#define GTF_EXECUTOR_H

#include "utils/palloc.h"

#include "shmem.h"

/* From the pool to a new executor, through bgw_extra. */
typedef struct GtfExecutorStart
{
	int			slot;
	uint32		generation;
	Oid			database;
	Oid			role;
	bool		can_login;
	bool		is_superuser;
} GtfExecutorStart;

/* ---- cleanup.c ---- */

/*
 * Run the cleanup handlers of an attempt whose executor is gone.  context
 * must survive transactions.
 */
extern void gtf_cleanup_run(const GtfTaskRef *ref, MemoryContext context);

#endif							/* GTF_EXECUTOR_H */
