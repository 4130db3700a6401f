/*-------------------------------------------------------------------------
 *
 * on_abort.h
 *	  Abort and cleanup handlers of the running attempt.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_ON_ABORT_H
#define GTF_ON_ABORT_H

#include "nodes/pg_list.h"

#include "shmem.h"

/* A handler that has failed. */
typedef struct GtfHandlerError
{
	bool		is_abort;		/* else a cleanup handler */
	const char *name;			/* of the function, or hook */
	ErrorData  *edata;
} GtfHandlerError;

/* A new attempt: nothing is registered. */
extern void gtf_handlers_begin(void);
extern bool gtf_handlers_any(void);

/* Around an attempt that runs inside another one, or in a session. */
extern void gtf_handlers_push(void);
extern void gtf_handlers_pop(void);

/* Take over the cleanup handlers that another process has left. */
extern void gtf_handlers_load(const GtfKeptHandler *kept, int n);

/*
 * Register a callback in C of the running task, which says its name where it
 * fails.  name and arg have to last until handlers have run.  It is not kept
 * for another process.  ERROR 54000.
 */
extern void gtf_handlers_add(bool is_abort, const char *name,
							 void (*callback) (void *arg), void *arg);

/*
 * At a safe point: run the abort handlers that have not run yet, the last
 * registered first.  The caller has made sure that they may run.
 */
extern bool gtf_handlers_abort_waiting(void);
extern void gtf_handlers_run_abort(void);

/*
 * After the body, in the transaction that ends the attempt: first the abort
 * handlers if it is aborting, then the cleanup handlers, in each case those
 * whose effects are not there yet.  Errors are kept, see below.  last: the
 * transaction ends with the attempt.
 */
extern void gtf_handlers_run(bool aborting, bool last);

/*
 * Check the deferred constraints now, and those of the rest of the
 * transaction at once: ERROR if one is violated.
 */
extern void gtf_handlers_check_constraints(void);

/* Of GtfHandlerError *, in the order they happened; NIL = none. */
extern List *gtf_handlers_errors(void);

/* Is a handler running? */
extern bool gtf_in_handler(void);

#endif							/* GTF_ON_ABORT_H */
