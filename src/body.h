/*-------------------------------------------------------------------------
 *
 * body.h
 *	  Running the code of a task.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_BODY_H
#define GTF_BODY_H

#include "nodes/parsenodes.h"
#include "utils/jsonb.h"

#include "registry.h"
#include "task.h"

/*
 * Run an atomic body in the current transaction; its result as jsonb, in
 * the current memory context, or NULL.  That context must survive the end of
 * the transaction.
 */
extern Jsonb *gtf_body_run_function(const GtfTask *task, GtfType *type);

/*
 * Run a body that is not atomic at top level: a procedure or a hook, an
 * ad-hoc command.  Called outside a transaction and returns outside one;
 * after an error the caller aborts.  context must survive transactions.
 */
extern Jsonb *gtf_body_run_procedure(const GtfTask *task, GtfType *type,
									 MemoryContext context);
extern Jsonb *gtf_body_run_command(const GtfTask *task, MemoryContext context);

/* ---- ad-hoc commands ---- */

/* The args of the task that runs this command, and the other way round. */
extern Jsonb *gtf_command_args(const char *command);
extern char *gtf_command_of_args(Jsonb *args);	/* NULL: not such args */

/* The only command that this is; ERROR 22023 if there are not exactly one. */
extern RawStmt *gtf_command_parse(const char *command);

/* What it is, if it is of a kind that no task can run; else NULL. */
extern const char *gtf_command_refused(const RawStmt *command);

#endif							/* GTF_BODY_H */
