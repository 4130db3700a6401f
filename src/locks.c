/*-------------------------------------------------------------------------
 *
 * locks.c
 *	  THE advisory-lock key space of gtf.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"

#include "locks.h"

#define LOCK_CLASS_TASK 3

void
gtf_lock_task(const pg_uuid_t *id)
{
	LOCKTAG		tag;
	uint64		key = hash_bytes_extended(id->data, UUID_LEN, 0);

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (key >> 32), (uint32) key,
						 LOCK_CLASS_TASK);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}
