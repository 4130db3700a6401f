/*-------------------------------------------------------------------------
 *
 * attempt.h
 *	  One attempt as it goes on, in the process that runs it.
 *
 * For executors (executor.c) and for sessions that run a task themselves
 * (run.c); and for code that a body calls, what the current task is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_ATTEMPT_H
#define GTF_ATTEMPT_H

#include "registry.h"
#include "shmem.h"
#include "task.h"

typedef enum GtfPhase
{
	GTF_PHASE_FETCH,			/* the code has not begun */
	GTF_PHASE_BODY,
	GTF_PHASE_FINISH			/* writing the outcome of a success */
} GtfPhase;

typedef struct GtfAttempt
{
	GtfTaskRef	ref;
	GtfPhase	phase;
	GtfTask    *task;			/* NULL until fetched */
	GtfType    *type;
	TimestampTz started_at;
	bool		ended;			/* the body has, and handlers have run */
	GtfAbortCause cause;		/* when it ended: what was requested, and ... */
	bool		noticed;		/* ... whether the body knew */
	bool		has_live;		/* a row of gtf.live must go at the end */
	bool		in_block;		/* part of a transaction that goes on */

	/*
	 * What to hand back to the dispatcher (attempt 0 = nothing), and the end
	 * of the commit it depends on.  Only when the slot has let go of the
	 * task: who is offered it earlier would take it for a duplicate.
	 */
	GtfTaskRef	next;
	XLogRecPtr	next_lsn;
} GtfAttempt;

/* ---- the current task ---- */

/* NULL, NULL and 0 outside a task. */
extern const GtfTask *gtf_current_task;
extern const GtfType *gtf_current_type;
extern int32 gtf_current_attempt;

/*
 * Has the running body been told that it shall stop?  Set by whatever tells
 * it.
 */
extern bool gtf_abort_noticed;

/* Will a statement of the body be interrupted, any moment? */
extern bool gtf_interrupt_coming(void);

/*
 * Abort handlers are about to run while the body goes on: what interrupts the
 * body because of its hard timeout waits until gtf_slot_handlers_end().
 */
extern void gtf_attempt_spare_handlers(void);

/* Is the running task asked to stop?  Not only by way of its slot. */
extern GtfAbortCause gtf_abort_requested(void);

/* Make this the task that the process is running; NULL: none. */
extern void gtf_attempt_set_task(const GtfTask *task, const GtfType *type,
								 int32 attempt);

/* ---- its attempt ---- */

/* What the type says about how the code can be stopped. */
extern GtfAbortMode gtf_attempt_mode(const GtfType *type);

/* When a timeout that starts now is over; 0 = never. */
extern TimestampTz gtf_attempt_deadline(const Interval *timeout,
										TimestampTz start);

/* The body begins: nobody has interrupted it yet. */
extern void gtf_attempt_body_begins(void);

/*
 * The body has returned, or raised: run its handlers in the transaction that
 * will end the attempt.  A constraint that was deferred and is violated is an
 * error of the body, unless the transaction goes on afterwards.
 */
extern void gtf_attempt_run_handlers(GtfAttempt *run, bool raised);

/*
 * After that: write the outcome of a body that has returned.  result may be
 * NULL.  ERROR if the attempt has an outcome already.
 */
extern void gtf_attempt_write_returned(GtfAttempt *run, Jsonb *result,
									   GtfOutcome *outcome);

/*
 * The same for one that has raised, in a transaction without its effects.
 * False if the attempt has an outcome already.
 */
extern bool gtf_attempt_write_raised(GtfAttempt *run, ErrorData *edata,
									 GtfOutcome *outcome);

/*
 * In a PG_CATCH() block: end all transactions of the code that has raised, and
 * what it has left behind, as PostgresMain() does.  In TopMemoryContext
 * afterwards; the error is gone.
 */
extern void gtf_attempt_leave_error(void);

/* An abort was requested after the task was taken and before its code ran. */
extern void gtf_attempt_write_not_started(GtfAttempt *run,
										  GtfOutcome *outcome);

/*
 * In an executor: from now on SIGUSR2 says that somebody wants an attempt that
 * runs here to be interrupted, or this process to end.
 */
extern void gtf_attempt_install_doorbell(void);

/* ---- tasks that are run inside others, or in a session ---- */

/*
 * The process begins to run another task, on top of the present one if there
 * is one.  ERROR 54001 if that goes too deep.
 */
extern void gtf_attempt_push(void);

/* The slot that the current task has; -1 = none, any more. */
extern void gtf_attempt_has_slot(int slot);

/*
 * Back to the one before; the slot has been left.  True if whoever runs the
 * task wants its own statement cancelled.
 */
extern bool gtf_attempt_pop(void);

/* Is this process running that task, at whatever level? */
extern bool gtf_attempt_is_here(const pg_uuid_t *id);

/* Exit: the tasks of this session are lost, those inside of others, too. */
extern void gtf_attempt_lose_all(void);

#endif							/* GTF_ATTEMPT_H */
