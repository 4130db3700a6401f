/*-------------------------------------------------------------------------
 *
 * queue.h
 *	  The dispatcher's memory of waiting tasks.
 *
 * One heap of ready tasks per owner, one heap of delayed tasks, and a list of
 * those whose submit is not flushed yet.  Memory is bounded by
 * gtf.queue_memory: when it is full, the half that comes last in the order of
 * starting is dropped and left to a later scan of the table; until that scan,
 * tasks that would come after the dropped ones are not taken in either, and
 * while that scan goes on, none of those is handed out, so the order stays
 * right.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_QUEUE_H
#define GTF_QUEUE_H

#include "shmem.h"

/* Waiting tasks of one owner, and what the pool knows of that owner. */
typedef struct OwnerQueue
{
	Oid			owner;			/* hash key */
	GtfTaskRef *refs;			/* binary heap in the order of starting */
	int			count;
	int			size;
	int			lane;			/* -1 = none */
	int			start_failures; /* executors in a row that did not start */
	TimestampTz start_not_before;	/* 0 = at once */
	TimestampTz hungry_since;	/* has work and no executor; 0 = is not */

	/* counted anew in each round of the pool */
	int			waiting;
	int			executors;
	int			idle;
	int			launching;
} OwnerQueue;

extern void gtf_queue_init(MemoryContext context);

/* Take a reference in.  flushed: WAL is flushed up to here. */
extern void gtf_queue_add(const GtfTaskRef *ref, TimestampTz now,
						  XLogRecPtr flushed);

/*
 * Back from a lane, or from where it was to be ended.  Needs no memory if
 * room was reserved before it was taken from the lane, or it was taken from
 * memory.
 */
extern void gtf_queue_return(const GtfTaskRef *ref, TimestampTz now);
extern void gtf_queue_reserve(OwnerQueue *queue, int n);

/* Move what has become due or flushed to the ready heaps. */
extern void gtf_queue_advance(TimestampTz now, XLogRecPtr flushed);

/* When the next delayed task is due; 0 = there is none. */
extern TimestampTz gtf_queue_next_due(void);

/* Highest LSN that a task waits for; 0 = none does. */
extern XLogRecPtr gtf_queue_unflushed(void);

/*
 * The earliest expiry of a task in memory (0 = none), and up to max tasks
 * whose expiry has passed, taken out.
 */
extern TimestampTz gtf_queue_next_expiry(void);
extern int	gtf_queue_take_expired(TimestampTz now, GtfTaskRef *refs, int max);

extern int	gtf_queue_count(void);	/* all kinds */

/* Were tasks dropped, and is there room to read them again? */
extern bool gtf_queue_wants_scan(void);

/* A scan starts, of the whole table or of a part that is not waited for. */
extern void gtf_queue_scan_starts(bool whole);
extern void gtf_queue_scan_ends(void);

/*
 * Ids that a scan shall not take in again: at its begin all in memory; who
 * takes in one that the scan has yet to come to adds it, unless there are as
 * many as fit into gtf.queue_memory: then the scan will take it in, too.
 */
extern void gtf_queue_known_begin(void);
extern bool gtf_queue_known(const pg_uuid_t *id);
extern void gtf_queue_known_add(const pg_uuid_t *id);
extern bool gtf_queue_known_full(void);
extern void gtf_queue_known_end(void);

extern OwnerQueue *gtf_queue_owner(Oid owner);	/* makes one */
extern OwnerQueue **gtf_queue_owners(int *n);	/* all, palloc'd */
extern bool gtf_queue_peek(OwnerQueue *queue, GtfTaskRef *ref);
extern void gtf_queue_pop(OwnerQueue *queue);
extern void gtf_queue_push(OwnerQueue *queue, const GtfTaskRef *ref);
extern void gtf_queue_drop_owner(OwnerQueue *queue);	/* empty ones only */

#endif							/* GTF_QUEUE_H */
