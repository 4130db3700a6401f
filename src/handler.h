/*-------------------------------------------------------------------------
 *
 * handler.h
 *	  What a function takes and gives when it is the handler of a task type.
 *
 * Shared by registry.c, which finds the function, and handler.c, which knows
 * how to call it.  Everyone else uses registry.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_HANDLER_H
#define GTF_HANDLER_H

#include "access/htup.h"
#include "nodes/primnodes.h"
#include "storage/itemptr.h"

typedef struct GtfParam GtfParam;

/* What is known of a handler, made from one row of pg_proc. */
typedef struct GtfSignature
{
	MemoryContext context;		/* holds all of this */
	Oid			function;
	TransactionId xmin;			/* identify the row */
	ItemPointerData tid;
	uint64		names_seen;		/* for registry.c: see there */
	bool		takes_jsonb;	/* one parameter, gets all of args */
	Oid			result;
	int			nparams;		/* input parameters */
	GtfParam   *params;
	int			nall;			/* output parameters, too */
	Oid		   *all_types;
	char	   *all_modes;		/* NULL = all are input */
} GtfSignature;

/*
 * Read the signature of a function into a memory context of its own, which is
 * a child of the current one.  ERROR 42809 if it cannot be a handler.
 */
extern GtfSignature *gtf_signature_make(HeapTuple tuple);

/* "function" or "procedure" */
extern const char *gtf_prokind_word(char prokind);

#endif							/* GTF_HANDLER_H */
