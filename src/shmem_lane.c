/*-------------------------------------------------------------------------
 *
 * shmem_lane.c
 *	  Shared memory of what is about to start: lanes.
 *
 * A lane holds the next few tasks of one owner in the order of starting; all
 * executors of that owner take from it (gtf_slot_take).  The dispatcher fills
 * it and may take tasks back as long as no executor has them, so a later task
 * of higher priority overtakes everything that has not started.  All of it is
 * under the lane's lock; which owner has which lane changes under the
 * segment's as well.  A lane outlives its dispatcher: the next one empties it,
 * for its scan finds all of that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"

#include "shmem_layout.h"

int
gtf_lane_open(int db, Oid owner)
{
	int			found = -1;
	int			vacant = -1;

	LWLockAcquire(gtf_segment->lock, LW_EXCLUSIVE);
	for (int i = 0; i < NUM_LANES; i++)
	{
		Lane	   *lane = &gtf_segment->lanes[i];

		if (!OidIsValid(lane->owner))
		{
			if (vacant < 0)
				vacant = i;
		}
		else if (lane->owner == owner && lane->database == db)
		{
			found = i;
			break;
		}
	}
	if (found < 0 && vacant >= 0)
	{
		Lane	   *lane = &gtf_segment->lanes[vacant];

		LWLockAcquire(lane->lock, LW_EXCLUSIVE);
		lane->owner = owner;
		lane->database = db;
		lane->first = 0;
		lane->count = 0;
		lane->more = false;
		lane->give_up_one = false;
		LWLockRelease(lane->lock);
		found = vacant;
	}
	LWLockRelease(gtf_segment->lock);
	return found;
}

Oid
gtf_lane_inherit(int i, int db)
{
	Lane	   *lane = &gtf_segment->lanes[i];
	Oid			owner = InvalidOid;

	LWLockAcquire(lane->lock, LW_EXCLUSIVE);
	if (OidIsValid(lane->owner) && lane->database == db)
	{
		owner = lane->owner;
		lane->first = 0;
		lane->count = 0;
		lane->more = false;
	}
	LWLockRelease(lane->lock);
	return owner;
}

void
gtf_lane_close(int i)
{
	Lane	   *lane = &gtf_segment->lanes[i];

	LWLockAcquire(gtf_segment->lock, LW_EXCLUSIVE);
	LWLockAcquire(lane->lock, LW_EXCLUSIVE);
	lane->owner = InvalidOid;
	lane->count = 0;
	LWLockRelease(lane->lock);
	LWLockRelease(gtf_segment->lock);
}

/* In the order of starting; the lane is locked and has room at its end. */
static void
insert(Lane *lane, const GtfTaskRef *ref)
{
	GtfTaskRef *refs = lane->refs + lane->first;
	int			at = lane->count;

	while (at > 0 && gtf_ref_compare(ref, &refs[at - 1]) < 0)
		at--;
	memmove(&refs[at + 1], &refs[at], (lane->count - at) * sizeof(GtfTaskRef));
	refs[at] = *ref;
	lane->count++;
}

bool
gtf_lane_put(int i, GtfTaskRef *ref)
{
	Lane	   *lane = &gtf_segment->lanes[i];
	bool		room;

	LWLockAcquire(lane->lock, LW_EXCLUSIVE);
	room = lane->count < GTF_LANE_SIZE;
	if (room)
	{
		if (lane->first + lane->count == GTF_LANE_SIZE)
		{
			memmove(lane->refs, lane->refs + lane->first,
					lane->count * sizeof(GtfTaskRef));
			lane->first = 0;
		}
		insert(lane, ref);
	}
	else
	{
		GtfTaskRef	last = lane->refs[GTF_LANE_SIZE - 1];

		if (gtf_ref_compare(ref, &last) < 0)
		{
			lane->count--;
			insert(lane, ref);
			*ref = last;
		}
	}
	LWLockRelease(lane->lock);
	return room;
}

int
gtf_lane_count(int i)
{
	/* one aligned int */
	return gtf_segment->lanes[i].count;
}

int
gtf_lane_limited(int i, GtfTaskRef *refs)
{
	Lane	   *lane = &gtf_segment->lanes[i];
	int			n = 0;

	LWLockAcquire(lane->lock, LW_SHARED);
	for (int r = lane->first; r < lane->first + lane->count; r++)
	{
		if (lane->refs[r].flags & GTF_REF_LIMITED)
			refs[n++] = lane->refs[r];
	}
	LWLockRelease(lane->lock);
	return n;
}

bool
gtf_lane_has(Oid database, Oid owner, const pg_uuid_t *id)
{
	int			db = gtf_db_find(database);
	bool		found = false;

	for (int i = 0; i < NUM_LANES && db >= 0; i++)
	{
		Lane	   *lane = &gtf_segment->lanes[i];

		if (lane->owner != owner || lane->database != db)
			continue;
		LWLockAcquire(lane->lock, LW_SHARED);
		for (int r = lane->first; r < lane->first + lane->count; r++)
			found |= gtf_id_equal(&lane->refs[r].id, id);
		LWLockRelease(lane->lock);
	}
	return found;
}

bool
gtf_lane_set_more(int i, bool more)
{
	Lane	   *lane = &gtf_segment->lanes[i];
	bool		low;

	LWLockAcquire(lane->lock, LW_EXCLUSIVE);
	low = more && lane->count <= GTF_LANE_SIZE / 2;
	lane->more = more && !low;
	LWLockRelease(lane->lock);
	return low;
}

int
gtf_lane_take_all(int i, GtfTaskRef *refs)
{
	Lane	   *lane = &gtf_segment->lanes[i];
	int			n;

	LWLockAcquire(lane->lock, LW_EXCLUSIVE);
	n = lane->count;
	memcpy(refs, lane->refs + lane->first, n * sizeof(GtfTaskRef));
	lane->first = 0;
	lane->count = 0;
	LWLockRelease(lane->lock);
	return n;
}

void
gtf_lane_wake(int i, int n)
{
	Lane	   *lane = &gtf_segment->lanes[i];

	for (int s = 0; s < NUM_SLOTS && n > 0;)
	{
		PGPROC	   *procs[16];
		int			found = 0;

		LWLockAcquire(lane->lock, LW_EXCLUSIVE);
		for (; s < NUM_SLOTS && found < Min(n, (int) lengthof(procs)); s++)
		{
			Slot	   *slot = &gtf_segment->slots[s];

			/* asleep is set and cleared under the lane's lock */
			if (slot->asleep && slot->lane == i)
			{
				slot->asleep = false;
				procs[found++] = slot->proc;
			}
		}
		LWLockRelease(lane->lock);
		for (int p = 0; p < found; p++)
		{
			if (procs[p])
				SetLatch(&procs[p]->procLatch);
		}
		n -= found;
	}
}

void
gtf_lane_give_up(int i, bool one)
{
	Lane	   *lane = &gtf_segment->lanes[i];

	if (lane->give_up_one == one)
		return;
	LWLockAcquire(lane->lock, LW_EXCLUSIVE);
	lane->give_up_one = one;
	LWLockRelease(lane->lock);
}
