/*-------------------------------------------------------------------------
 *
 * shmem_ended.c
 *	  Shared memory of ranges of ids in which all tasks have an outcome.
 *
 * No index tells which tasks have none, so a list of those that wait passes
 * all that have ended between them.  What it has passed is remembered here for
 * the next ones.  It stays true: an outcome is deleted with its task only, and
 * a range ends below gtf_submitted_seen(), where no more tasks appear; and who
 * has written something in the same transaction, as the outcome of a task that
 * was cancelled, remembers nothing.  But a restore may bring some tasks; the
 * dispatcher that comes after it forgets all.
 *
 * Any session writes it, under the database's lock.  The shortest ranges are
 * dropped when there are too many, and all of it may be lost.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "shmem_layout.h"

int
gtf_ended_ranges(Oid database, GtfIdRange *ranges)
{
	int			i = gtf_db_find(database);
	int			n = 0;

	if (i >= 0)
	{
		Database   *db = &gtf_segment->databases[i];

		LWLockAcquire(db->lock, LW_SHARED);
		/* it may just have been freed, and be another one's */
		n = db->oid == database ? db->num_ended : 0;
		memcpy(ranges, db->ended, n * sizeof(GtfIdRange));
		LWLockRelease(db->lock);
	}
	return n;
}

static uint64
length(const GtfIdRange *range)
{
	return gtf_id_ticks(&range->high) - gtf_id_ticks(&range->low);
}

void
gtf_ended_add(Oid database, const GtfIdRange *range)
{
	int			i = gtf_db_find(database);
	Database   *db;
	GtfIdRange	new = *range;
	int			n = 0;

	if (i < 0)
		return;
	db = &gtf_segment->databases[i];
	LWLockAcquire(db->lock, LW_EXCLUSIVE);
	/* the same; or by now another dispatcher, which has forgotten all */
	if (db->oid == database &&
		gtf_id_ticks(&new.high) < pg_atomic_read_u64(&db->seen_ticks))
	{
		int			shortest = 0;

		for (int r = 0; r < db->num_ended; r++)
		{
			const GtfIdRange *old = &db->ended[r];

			if (gtf_id_compare(&old->low, &new.high) > 0 ||
				gtf_id_compare(&new.low, &old->high) > 0)
				db->ended[n++] = *old;
			else
			{
				if (gtf_id_compare(&old->low, &new.low) < 0)
					new.low = old->low;
				if (gtf_id_compare(&old->high, &new.high) > 0)
					new.high = old->high;
			}
		}
		for (int r = 1; r < n; r++)
		{
			if (length(&db->ended[r]) < length(&db->ended[shortest]))
				shortest = r;
		}
		if (n < GTF_ENDED_RANGES)
			db->ended[n++] = new;
		else if (length(&db->ended[shortest]) < length(&new))
			db->ended[shortest] = new;
		db->num_ended = n;
	}
	LWLockRelease(db->lock);
}
