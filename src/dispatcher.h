/*-------------------------------------------------------------------------
 *
 * dispatcher.h
 *	  What the parts of the dispatcher share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_DISPATCHER_H
#define GTF_DISPATCHER_H

#include "queue.h"
#include "shmem.h"

typedef struct Dispatcher
{
	int			db;
	bool		scanned;		/* the first scan of the table is complete */

	/* of the current round */
	TimestampTz now;
	XLogRecPtr	flushed;
	TimestampTz next;			/* when to look again, 0 = when told */
} Dispatcher;

extern void gtf_dispatcher_look_at(Dispatcher *d, TimestampTz at);

/* ---- pool.c: lanes and executors ---- */
extern void gtf_pool_init(MemoryContext context, int db);

/* Empty the lanes that an earlier dispatcher has left. */
extern void gtf_pool_inherit(void);

/* Fill the lanes from memory and wake idle executors. */
extern void gtf_pool_feed(Dispatcher *d);

/*
 * Take everything back from the lanes, because nothing shall start or to
 * look at all that is waiting.
 */
extern void gtf_pool_recall(void);

/* Is there no task in a lane? */
extern bool gtf_pool_lanes_empty(void);

/* Start and retire executors; fail the tasks of owners that cannot have one. */
extern void gtf_pool_adjust(Dispatcher *d);

/* ---- live.c: attempts that run ---- */

/* Write the start of those that run for a while, and what they report. */
extern void gtf_live_write(Dispatcher *d);

/* ---- settle.c: attempts that end otherwise than by their executor ---- */

/* Settle the attempts of executors that are gone. */
extern void gtf_settle_lost(Dispatcher *d);

/*
 * The cleanup handlers of a lost attempt, which this reference is for, are
 * given up.
 */
extern void gtf_settle_no_cleanup(const GtfTaskRef *ref, const char *why);

/*
 * There is no free slot for an executor.  If this database has none, lost
 * attempts must not wait for one.
 */
extern void gtf_settle_no_room(Dispatcher *d);

/* Timeouts of running tasks. */
extern void gtf_settle_deadlines(Dispatcher *d);

/* Abort requests in the table whose attempt has moved on. */
extern void gtf_settle_requests(Dispatcher *d);

/*
 * With a scan of the tasks: what gtf.live tells of attempts that run without
 * an executor, or wait.
 */
extern void gtf_settle_live(Dispatcher *d);

/* End tasks whose expires_at has passed before they could start. */
extern void gtf_settle_expired(Dispatcher *d);

/* End tasks that have not started as failures. */
extern void gtf_settle_fail(const GtfTaskRef *refs, int n,
							int sqlerrcode, const char *message);

#endif							/* GTF_DISPATCHER_H */
