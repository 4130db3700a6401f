/*-------------------------------------------------------------------------
 *
 * wakeup.h
 *	  From a backend's commit to the dispatcher's latch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GTF_WAKEUP_H
#define GTF_WAKEUP_H

#include "shmem.h"

/* Hand this task to the dispatcher when the transaction commits. */
extern void gtf_wakeup_submitted(const GtfTaskRef *ref);

/* Have the dispatcher scan the table from this id on after the commit. */
extern void gtf_wakeup_scan(const pg_uuid_t *from);

/*
 * This transaction cancels tasks that have not started: executors must look
 * for outcomes until it ends, and beyond (gtf_db_cancel_begin).
 */
extern void gtf_wakeup_cancelling(void);

/*
 * This transaction ends a task like this, by a cancel or because this session
 * has run it: tell those who wait for it.
 */
extern void gtf_wakeup_ended(const pg_uuid_t *id, GtfStatus status, bool run);

/*
 * A running attempt shall stop: ring its doorbell, and have the dispatcher
 * look at gtf.abort_requests in case it has moved on (slot -1: only that).
 */
extern void gtf_wakeup_abort(int slot, uint64 serial, GtfForce force);

/* A role is dropped: have all dispatchers look after the commit. */
extern void gtf_wakeup_roles(void);

/* Limits were changed: have the dispatcher read them after the commit. */
extern void gtf_wakeup_flow(void);

/* Let the launcher look at this database when the transaction commits. */
extern void gtf_wakeup_database(Oid database);

/*
 * Settings of this database were changed: have its dispatcher start again
 * after the commit.
 */
extern void gtf_wakeup_restart(Oid database);

/*
 * Keep gtf's workers out of this database until the transaction ends,
 * whichever way, even by the death of this process.  False if the table of
 * databases is full.
 */
extern bool gtf_wakeup_block(Oid database);

/* The blocked database will be gone after the commit. */
extern void gtf_wakeup_gone(Oid database);

#endif							/* GTF_WAKEUP_H */
