/*-------------------------------------------------------------------------
 *
 * limits.h
 *	  Which waiting tasks may start now, as far as limits are concerned.
 *
 * For the dispatcher only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_LIMITS_H
#define GTF_LIMITS_H

#include "dispatcher.h"

extern void gtf_limits_init(MemoryContext context, int db);

/* Read gtf.flow in the next round: it may have changed. */
extern void gtf_limits_stale(void);

/*
 * Read what has changed.  So does gtf_limits_begin(); a scan needs it before.
 */
extern void gtf_limits_read(Dispatcher *d);

/*
 * Where a task that has limits waits until gtf_limits_begin() lets it go, or
 * NULL.  What comes in goes there at once: if it filled its owner's heap, tasks
 * that may start would have to stay in the table.
 */
extern RefHeap *gtf_limits_parking(const GtfTaskRef *ref);

/*
 * At the beginning of a round, before lanes are filled: read what has
 * changed, see what runs, and give back to their owners' heaps the tasks that
 * may start now.
 */
extern void gtf_limits_begin(Dispatcher *d);

/*
 * May this task be handed out now?  NULL: yes, with its flags set as they
 * have to be.  Else the heap in which it waits until then.
 */
extern RefHeap *gtf_limits_check(GtfTaskRef *ref);

/* Have so many been put there that the rest is left to the next round? */
extern bool gtf_limits_enough(void);

/* When lanes are filled: when to look again. */
extern void gtf_limits_end(Dispatcher *d);

/* It was handed out; or is back without having been started. */
extern void gtf_limits_handed(const GtfTaskRef *ref);
extern void gtf_limits_returned(const GtfTaskRef *ref);

/* How many executors this database may have, and how many stay idle. */
extern int	gtf_limits_max_executors(void);
extern int	gtf_limits_min_executors(void);

#endif							/* GTF_LIMITS_H */
