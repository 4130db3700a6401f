/*-------------------------------------------------------------------------
 *
 * shmem_submit.c
 *	  Shared memory of the way from a commit to the dispatcher: submit ring.
 *
 * Whoever commits or gives back a task pushes its reference, the dispatcher
 * alone pops.  What does not fit is left out, and the lowest id of that kept:
 * the dispatcher scans the table from there.  So the ring may be lost, and a
 * new dispatcher begins with an empty one and a scan of everything.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "shmem_layout.h"

static void
want_scan(Database *db, const pg_uuid_t *id)
{
	if (!db->scan_wanted || gtf_id_compare(id, &db->scan_from) < 0)
		db->scan_from = *id;
	db->scan_wanted = true;
}

static void
wake_or_launch(int i, Oid database)
{
	if (i >= 0 && gtf_segment->databases[i].dispatcher != NULL)
		gtf_dispatcher_wake(i);
	else if (i >= 0 && gtf_segment->databases[i].other_version)
	{
		/* it would leave at once; ALTER EXTENSION starts it */
	}
	else
	{
		/* or have it say that it cannot */
		(void) gtf_db_want(database);
		gtf_launcher_wake();
	}
}

void
gtf_submitted_push(Oid database, const GtfTaskRef *refs, int n)
{
	int			i = gtf_db_find(database);

	if (i >= 0)
	{
		Database   *db = &gtf_segment->databases[i];
		uint64		submitted = 0;

		LWLockAcquire(db->submit_lock, LW_EXCLUSIVE);
		for (int r = 0; r < n; r++)
		{
			if ((refs[r].flags & GTF_REF_RETURNED) == 0)
				submitted++;
			if (db->submit_tail - db->submit_head < GTF_SUBMIT_RING_SIZE)
				db->submitted[db->submit_tail++ % GTF_SUBMIT_RING_SIZE] = refs[r];
			else
				want_scan(db, &refs[r].id);
		}
		LWLockRelease(db->submit_lock);
		pg_atomic_fetch_add_u64(&db->counters[GTF_COUNT_SUBMITTED], submitted);
	}
	wake_or_launch(i, database);
}

void
gtf_submitted_scan_from(Oid database, const pg_uuid_t *id)
{
	int			i = gtf_db_find(database);

	if (i >= 0)
	{
		Database   *db = &gtf_segment->databases[i];

		LWLockAcquire(db->submit_lock, LW_EXCLUSIVE);
		want_scan(db, id);
		LWLockRelease(db->submit_lock);
	}
	wake_or_launch(i, database);
}

uint64
gtf_submitted_seen(Oid database)
{
	int			i = gtf_db_find(database);

	return i < 0 ? 0 : pg_atomic_read_u64(&gtf_segment->databases[i].seen_ticks);
}

void
gtf_submitted_set_seen(int i, uint64 ticks)
{
	pg_atomic_write_u64(&gtf_segment->databases[i].seen_ticks, ticks);
}

int
gtf_submitted_pop(int i, GtfTaskRef *refs, int max)
{
	Database   *db = &gtf_segment->databases[i];
	int			n = 0;

	/* Looked at again after the latch is reset, so a stale view is fine. */
	if (db->submit_head == db->submit_tail)
		return 0;
	LWLockAcquire(db->submit_lock, LW_EXCLUSIVE);
	while (n < max && db->submit_head < db->submit_tail)
		refs[n++] = db->submitted[db->submit_head++ % GTF_SUBMIT_RING_SIZE];
	LWLockRelease(db->submit_lock);
	return n;
}

bool
gtf_submitted_scan_wanted(int i, pg_uuid_t *from)
{
	Database   *db = &gtf_segment->databases[i];
	bool		wanted;

	if (!db->scan_wanted)
		return false;
	LWLockAcquire(db->submit_lock, LW_EXCLUSIVE);
	wanted = db->scan_wanted;
	*from = db->scan_from;
	db->scan_wanted = false;
	LWLockRelease(db->submit_lock);
	return wanted;
}
