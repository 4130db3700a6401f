/*-------------------------------------------------------------------------
 *
 * locks.c
 *	  THE advisory-lock key space of gtf.
 *
 * Taken by backends and, without waiting, by dispatchers; never by executors
 * on their own behalf.  The lock manager releases them with the transaction,
 * however that ends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"

#include "locks.h"

#define LOCK_CLASS_TASK 3

static bool
lock_task(const pg_uuid_t *id, bool nowait)
{
	LOCKTAG		tag;
	uint64		key = hash_bytes_extended(id->data, UUID_LEN, 0);

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (key >> 32), (uint32) key,
						 LOCK_CLASS_TASK);
	return LockAcquire(&tag, ExclusiveLock, false, nowait) != LOCKACQUIRE_NOT_AVAIL;
}

void
gtf_lock_task(const pg_uuid_t *id)
{
	(void) lock_task(id, false);
}

bool
gtf_lock_task_nowait(const pg_uuid_t *id)
{
	return lock_task(id, true);
}
