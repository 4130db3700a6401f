/*-------------------------------------------------------------------------
 *
 * safepoint.h
 *	  Where a body may be interrupted for its abort handlers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_SAFEPOINT_H
#define GTF_SAFEPOINT_H

/* Watch the statements of this process; once, before its first body. */
extern void gtf_safepoint_install(void);

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
