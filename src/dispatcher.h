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
	bool		came_in;		/* tasks have been submitted ... */
	bool		handed;			/* ... and any handed out */

	TimestampTz live_again;		/* read gtf.live then, 0 = no need */
} Dispatcher;

extern void gtf_dispatcher_look_at(Dispatcher *d, TimestampTz at);

/* Read the table above this id, and gtf.live, as soon as possible. */
extern void gtf_dispatcher_ask_scan(const pg_uuid_t *from);

/*
 * Do something for one task that may raise because something of that task is
 * broken: the error is reported and rolled back, and other tasks are served.
 * False if it has raised, or has before and it is too early to try again;
 * the dispatcher will look then.  Errors that have other reasons (the disk is
 * full) are left to the round.  Outside of a transaction; memory that step
 * allocates is freed.  Not to be nested.
 */
typedef enum GtfTroubleKind
{
	GTF_TROUBLE_SETTLE,			/* the end of an attempt */
	GTF_TROUBLE_END,			/* the same, nothing read */
	GTF_TROUBLE_REQUEST,		/* to abort it; task 0: to read all of them */
	GTF_TROUBLE_START,			/* executors that were lost before its body
								 * began */
	GTF_TROUBLE_LIVE,			/* writing its row of gtf.live */
	GTF_TROUBLE_ROLE,			/* the subscriptions of a dropped role; tasks
								 * 0 and 1: of all of them, see dropped.c */
	GTF_TROUBLE_DEPEND,			/* looking at its prerequisites */
	GTF_TROUBLE_DEPENDENTS,		/* finding out who depends on it */
	GTF_TROUBLE_LIMIT			/* finding its limits; task 0: to read them */
} GtfTroubleKind;

typedef struct GtfTroubleKey
{
	pg_uuid_t	id;
	int32		kind;
} GtfTroubleKey;

extern bool gtf_dispatcher_try(Dispatcher *d, GtfTroubleKind kind,
							   const pg_uuid_t *id,
							   void (*step) (void *), void *arg);

/*
 * If it has raised that many times in a row: the last message, valid for the
 * moment.  Else NULL.
 */
extern const char *gtf_dispatcher_gives_up(GtfTroubleKind kind,
										   const pg_uuid_t *id, int failures,
										   int *sqlerrcode);

/* Another failure that is counted like that; returns how many there were. */
extern int	gtf_dispatcher_failures(GtfTroubleKind kind, const pg_uuid_t *id);

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

/* ---- depend.c: tasks with prerequisites (GTF_REF_DEPENDS) ---- */
extern void gtf_depend_init(MemoryContext context, int db);

/* Have a task looked at: it goes into the queue when it is ready. */
extern void gtf_depend_add(const GtfTaskRef *ref);

/* From the ring: this task has ended. */
extern void gtf_depend_ended(const pg_uuid_t *id);

/* Some may have ended without our having heard of it. */
extern void gtf_depend_look_again(void);
extern void gtf_depend_scan_starts(Dispatcher *d, bool whole);

/* Do the looking, some of it. */
extern void gtf_depend_work(Dispatcher *d);
extern bool gtf_depend_busy(void);	/* there is much left to look at */

/* ---- live.c: attempts that run ---- */

/* Write the start of those that run for a while, and what they report. */
extern void gtf_live_write(Dispatcher *d);

/* ---- settle.c: attempts that end otherwise than by their executor ---- */

/* Settle the attempts of executors that are gone. */
extern void gtf_settle_lost(Dispatcher *d);

/*
 * There is no free slot for an executor.  If no executor of any database has
 * one either, lost attempts must not wait for it.
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

/*
 * End tasks that have not started: as failures with this error, or as expired
 * when message is NULL.
 */
extern void gtf_settle_unstarted(Dispatcher *d, const GtfTaskRef *refs, int n,
								 int sqlerrcode, const char *message);

/* ---- dropped.c: roles that do not exist any more ---- */
extern void gtf_dropped_init(void);

/* End what they have subscribed, and forget their keys. */
extern void gtf_settle_dropped(Dispatcher *d);

#endif							/* GTF_DISPATCHER_H */
