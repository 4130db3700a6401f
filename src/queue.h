/*-------------------------------------------------------------------------
 *
 * queue.h
 *	  The dispatcher's memory of waiting tasks.
 *
 * One heap of ready tasks per owner, one heap of delayed tasks, one heap for
 * each limit of the tasks that it keeps from starting (limits.c), and a list
 * of those whose submit is not flushed yet.  Memory is bounded by
 * gtf.queue_memory: when it is full, the later half of the longest heap is
 * dropped and left to a later scan of the table, so a backlog never pushes
 * out the tasks of somebody else.  Until that scan, tasks that would come
 * after the dropped ones of their heap are not taken in either, and while
 * that scan goes on, none of those is handed out, so the order stays right.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_QUEUE_H
#define GTF_QUEUE_H

#include "lib/ilist.h"

#include "shmem.h"

/* A binary heap of references, in the order of starting or by due time. */
typedef struct RefHeap
{
	dlist_node	node;			/* in the list of all heaps */
	bool		by_due;
	GtfTaskRef *refs;
	int			count;
	int			size;

	/* What comes after the cutoff is in the table only. */
	bool		dropped;
	GtfTaskRef	cutoff;
	int			low;			/* read it again when so few are left */

	/* While it is read again, nothing beyond this may start. */
	bool		held;
	GtfTaskRef	held_beyond;
} RefHeap;

/* Waiting tasks of one owner, and what the pool knows of that owner. */
typedef struct OwnerQueue
{
	Oid			owner;			/* hash key */
	RefHeap		ready;
	int			lane;			/* -1 = none */
	int			start_failures; /* executors in a row that did not start */
	TimestampTz start_not_before;	/* 0 = at once */
	TimestampTz hungry_since;	/* has work and no executor that could do it;
								 * 0 = is not */

	/* counted anew in each round of the pool */
	int			waiting;
	int			executors;
	int			held;			/* of these, by tasks that wait for others */
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

/*
 * Were tasks dropped, and is it time to read them again?  If that has to wait
 * a little, *at says how long, else it is 0.
 */
extern bool gtf_queue_wants_scan(TimestampTz now, TimestampTz *at);

/*
 * Drop the references to tasks above this id that are here only to expire
 * (GTF_REF_DEPENDS): a scan brings them again.
 */
extern void gtf_queue_drop_waiting(const pg_uuid_t *after);

/* A scan starts, of the whole table or of a part that is not waited for. */
extern void gtf_queue_scan_starts(bool whole);
extern void gtf_queue_scan_ends(TimestampTz now);

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
extern bool gtf_queue_peek(const OwnerQueue *queue, GtfTaskRef *ref);
extern void gtf_queue_pop(OwnerQueue *queue);
extern void gtf_queue_push(OwnerQueue *queue, const GtfTaskRef *ref);

/* Forget an owner without tasks, unless some are in the table only. */
extern void gtf_queue_drop_owner(OwnerQueue *queue);

/*
 * Other heaps, which count as well: init and done (when empty) by whoever
 * has the memory of the heap itself.
 */
extern void gtf_queue_heap_init(RefHeap *heap, bool by_due);
extern void gtf_queue_heap_done(RefHeap *heap);
extern bool gtf_queue_heap_peek(const RefHeap *heap, GtfTaskRef *ref);
extern void gtf_queue_heap_pop(RefHeap *heap);

/* Take a reference in, unless there is no room: then a scan will find it. */
extern void gtf_queue_heap_add(RefHeap *heap, const GtfTaskRef *ref);

/* Does any task of the heap, in memory or in the table, come before this? */
extern bool gtf_queue_heap_precedes(const RefHeap *heap, const GtfTaskRef *ref);

#endif							/* GTF_QUEUE_H */
