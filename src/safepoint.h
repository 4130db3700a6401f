/*-------------------------------------------------------------------------
 *
 * safepoint.h
 *	  Where a body may be interrupted for its abort handlers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_SAFEPOINT_H
#define GTF_SAFEPOINT_H

struct QueryDesc;

/* What is known of a body that runs. */
typedef struct GtfSafepointState
{
	/* statements on the stack, and how many of them must not be disturbed */
	int			statements;
	int			touchy;

	/* the query that it ran last, if the end of that will be a safe point */
	const struct QueryDesc *ending;
	bool		body_runs;
	Oid			user;			/* it began as */
	int			sec_context;
} GtfSafepointState;

/*
 * Watch the statements of this process, from its first body on.  Outside of
 * bodies that costs a look at one byte per statement.
 */
extern void gtf_safepoint_install(void);

/* Around a body that runs inside another one. */
extern void gtf_safepoint_push(GtfSafepointState *outer);
extern void gtf_safepoint_pop(const GtfSafepointState *outer);

/*
 * Around a body.  It begins under the identity that the process has now; end
 * may be called twice.
 */
extern void gtf_safepoint_begin(void);
extern void gtf_safepoint_end(void);

/*
 * In functions that a body calls, which must be volatile: if an abort is
 * requested, and this is a place where that is possible, run the abort
 * handlers that have not run yet.  True if any did.
 */
extern bool gtf_safe_point(void);

#endif							/* GTF_SAFEPOINT_H */
