/*-------------------------------------------------------------------------
 *
 * executor.h
 *	  The task that this process is running.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_EXECUTOR_H
#define GTF_EXECUTOR_H

#include "utils/palloc.h"

#include "shmem.h"
#include "task.h"

struct GtfType;

/* NULL, NULL and 0 outside a task. */
extern const GtfTask *gtf_current_task;
extern const struct GtfType *gtf_current_type;
extern int32 gtf_current_attempt;

/*
 * Has the running body been told that it shall stop?  Set by whatever tells
 * it.
 */
extern bool gtf_abort_noticed;

/* Will a statement of the body be interrupted, any moment? */
extern bool gtf_interrupt_coming(void);

/* Is the running task asked to stop?  Not only by way of its slot. */
extern GtfAbortCause gtf_abort_requested(void);

/* Make this the task that the process is running; NULL: none. */
extern void gtf_executor_set_task(const GtfTask *task,
								  const struct GtfType *type, int32 attempt);

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

/* ---- body.c: running the code of a task ---- */

/*
 * Run an atomic body in the current transaction; its result as jsonb, in
 * the current memory context, or NULL.  That context must survive the end of
 * the transaction.
 */
extern Jsonb *gtf_body_run_function(const GtfTask *task, struct GtfType *type);

/*
 * Run a body that is not atomic at top level: a procedure or a hook, an
 * ad-hoc command.  Called outside a
 * transaction and returns outside one; after an error the caller aborts.
 * context must survive transactions.
 */
extern Jsonb *gtf_body_run_procedure(const GtfTask *task, struct GtfType *type,
									 MemoryContext context);
extern Jsonb *gtf_body_run_command(const GtfTask *task, MemoryContext context);

/* ---- cleanup.c ---- */

/*
 * Run the cleanup handlers of an attempt whose executor is gone.  context
 * must survive transactions.
 */
extern void gtf_cleanup_run(const GtfTaskRef *ref, MemoryContext context);

#endif							/* GTF_EXECUTOR_H */
