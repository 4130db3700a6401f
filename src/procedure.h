/*-------------------------------------------------------------------------
 *
 * procedure.h
 *	  What those of our SQL procedures share that commit by themselves.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_PROCEDURE_H
#define GTF_PROCEDURE_H

#include "fmgr.h"

/*
 * May the procedure commit?  Not in a transaction block, a function or an
 * exception block.
 */
extern bool gtf_procedure_may_commit(FunctionCallInfo fcinfo);

/* The same, and no other procedure or DO block has called it. */
extern bool gtf_procedure_at_top_level(FunctionCallInfo fcinfo);

/*
 * Leave the caller's transaction and its snapshot behind; from then on
 * gtf_procedure_commit() ends the present transaction and begins another one,
 * until gtf_procedure_end().
 */
extern void gtf_procedure_begin(void);
extern void gtf_procedure_commit(void);
extern void gtf_procedure_rollback(void);
extern void gtf_procedure_end(void);

/* As begin, in a transaction that has nothing to be left behind. */
extern void gtf_procedure_connect(void);

/* What the procedure returns: its INOUT parameters. */
extern Datum gtf_procedure_row(FunctionCallInfo fcinfo, Datum *values,
							   bool *nulls);

#endif							/* GTF_PROCEDURE_H */
