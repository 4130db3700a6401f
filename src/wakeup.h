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

/* Let the launcher look at this database when the transaction commits. */
extern void gtf_wakeup_database(Oid database);

/*
 * Settings of this database were changed: have its dispatcher start again
 * after the commit.
 */
extern void gtf_wakeup_restart(Oid database);

/*
 * The database was blocked (gtf_db_block) for this transaction: unblock it
 * when the transaction ends, whichever way.
 */
extern void gtf_wakeup_unblock(Oid database);

#endif							/* GTF_WAKEUP_H */
