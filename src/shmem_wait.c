/*-------------------------------------------------------------------------
 *
 * shmem_wait.c
 *	  Shared memory of what comes after a task: done ring and waiters.
 *
 * A waiter registers first and then looks at the table; who ends a task
 * commits first and then looks at the waiters.  So one of the two sees the
 * other, and nobody polls.  The dispatcher, which waits for prerequisites,
 * does it in the same order.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "settings.h"
#include "shmem_layout.h"

#define ROOM_WAIT_MS	1000	/* for the flusher to make room */
#define NO_WAIT_MS		10000	/* after it has not */

static bool
push(int i, const GtfDone *done, bool alone_too, bool *attended)
{
	Database   *db = &gtf_segment->databases[i];
	bool		pushed = false;
	bool		was_empty = false;

	LWLockAcquire(db->done_lock, LW_EXCLUSIVE);
	*attended = db->flusher != NULL;
	if ((*attended || alone_too) &&
		db->done_tail - db->done_head < GTF_DONE_RING_SIZE)
	{
		was_empty = db->done_head == db->done_tail;
		db->done[db->done_tail++ % GTF_DONE_RING_SIZE] = *done;
		pushed = true;
	}
	LWLockRelease(db->done_lock);

	/*
	 * The flusher empties the ring before it sleeps, so whoever finds the
	 * ring not empty can leave the wake-up to the one who found it empty.
	 */
	if (was_empty)
		gtf_flusher_wake(i);
	return pushed;
}

bool
gtf_done_push(Oid database, const GtfDone *done)
{
	int			i = gtf_db_find(database);
	bool		attended;

	return i >= 0 && push(i, done, false, &attended);
}

bool
gtf_done_put(int db, const GtfDone *done)
{
	bool		attended;

	return push(db, done, true, &attended);
}

bool
gtf_done_leave(Oid database, const GtfDone *done)
{
	static TimestampTz no_wait_until = 0;
	int			i = gtf_db_find(database);
	bool		attended = false;

	if (i < 0)
		return false;
	for (int waited = 0; !push(i, done, true, &attended); waited++)
	{
		/* it may be waiting for a lock that our transaction has */
		if (waited == ROOM_WAIT_MS)
			no_wait_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), NO_WAIT_MS);
		if (!attended || waited >= ROOM_WAIT_MS ||
			(no_wait_until != 0 && GetCurrentTimestamp() < no_wait_until))
			return false;
		pg_usleep(1000);
	}
	return attended;
}

int
gtf_done_unpop(int i, const GtfDone *done, int n)
{
	Database   *db = &gtf_segment->databases[i];

	LWLockAcquire(db->done_lock, LW_EXCLUSIVE);
	while (n > 0 && db->done_head > 0 &&
		   db->done_tail - db->done_head < GTF_DONE_RING_SIZE)
		db->done[--db->done_head % GTF_DONE_RING_SIZE] = done[--n];
	LWLockRelease(db->done_lock);
	return n;
}

int
gtf_done_pop(int i, GtfDone *done, int max)
{
	Database   *db = &gtf_segment->databases[i];
	int			n = 0;

	LWLockAcquire(db->done_lock, LW_EXCLUSIVE);
	while (n < max && db->done_head < db->done_tail)
		done[n++] = db->done[db->done_head++ % GTF_DONE_RING_SIZE];
	LWLockRelease(db->done_lock);
	return n;
}

void
gtf_flush_request(int i, XLogRecPtr lsn)
{
	Database   *db = &gtf_segment->databases[i];
	uint64		before = pg_atomic_read_u64(&db->flush_requested);

	while (before < lsn)
	{
		if (pg_atomic_compare_exchange_u64(&db->flush_requested, &before, lsn))
			break;
	}
	gtf_flusher_wake(i);
}

XLogRecPtr
gtf_flush_requested(int i)
{
	return pg_atomic_read_u64(&gtf_segment->databases[i].flush_requested);
}

static int *
bucket_of(const pg_uuid_t *id)
{
	/* the random half of the id is its second half */
	uint32		h = hash_bytes(id->data + 8, 8);

	return &gtf_segment->buckets[h & (gtf_segment->num_buckets - 1)];
}

/* A process that is terminated while it waits takes its entries along. */
static void
forget_waiters(int code, Datum arg)
{
	for (int w = 0; w < gtf_max_waiters; w++)
	{
		if (gtf_segment->waiters[w].proc == MyProc)
			gtf_waiter_remove(w);
	}
}

int
gtf_waiter_add(const pg_uuid_t *id)
{
	static bool registered = false;
	int			w;

	if (!registered)
		before_shmem_exit(forget_waiters, (Datum) 0);
	registered = true;

	LWLockAcquire(gtf_segment->waiter_lock, LW_EXCLUSIVE);
	w = gtf_segment->first_free_waiter;
	if (w >= 0)
	{
		Waiter	   *waiter = &gtf_segment->waiters[w];
		int		   *bucket = bucket_of(id);

		gtf_segment->first_free_waiter = waiter->next;
		waiter->id = *id;
		waiter->proc = MyProc;
		waiter->done = false;
		waiter->next = *bucket;
		*bucket = w;
	}
	LWLockRelease(gtf_segment->waiter_lock);
	return w;
}

bool
gtf_waiter_told(int w)
{
	volatile bool *done = &gtf_segment->waiters[w].done;

	/* looked at again after the latch is reset, so a stale view is fine */
	if (!*done)
		return false;
	LWLockAcquire(gtf_segment->waiter_lock, LW_EXCLUSIVE);
	*done = false;
	LWLockRelease(gtf_segment->waiter_lock);
	return true;
}

void
gtf_waiter_remove(int w)
{
	Waiter	   *waiter = &gtf_segment->waiters[w];
	int		   *link;

	LWLockAcquire(gtf_segment->waiter_lock, LW_EXCLUSIVE);
	link = bucket_of(&waiter->id);
	while (*link != w)
		link = &gtf_segment->waiters[*link].next;
	*link = waiter->next;
	waiter->proc = NULL;
	waiter->next = gtf_segment->first_free_waiter;
	gtf_segment->first_free_waiter = w;
	LWLockRelease(gtf_segment->waiter_lock);
}

int
gtf_watch_bit(const pg_uuid_t *id)
{
	return hash_bytes(id->data + 8, 8) % GTF_WATCH_BITS;
}

void
gtf_watch(int i, int bit, bool on)
{
	Database   *db = &gtf_segment->databases[i];
	pg_atomic_uint32 *word = &db->watched[bit / 32];
	uint32		mask = (uint32) 1 << (bit % 32);
	uint32		old = pg_atomic_read_u32(word);

	pg_atomic_write_u32(word, on ? old | mask : old & ~mask);
	db->watching = true;
	/* before the caller looks at the table */
	pg_memory_barrier();
}

void
gtf_watch_all(int i, bool on)
{
	Database   *db = &gtf_segment->databases[i];

	for (int w = 0; w < GTF_WATCH_BITS / 32; w++)
		pg_atomic_write_u32(&db->watched[w], on ? PG_UINT32_MAX : 0);
	db->watching = on;
	pg_memory_barrier();
}

/* Tell the dispatcher of this database if it watches the task; NULL: at all. */
static void
tell_dispatcher(const pg_uuid_t *id)
{
	int			i = gtf_db_find(MyDatabaseId);
	Database   *db;
	GtfTaskRef	ref = {0};

	if (i < 0)
		return;
	db = &gtf_segment->databases[i];
	if (!*(volatile bool *) &db->watching)
		return;
	if (id)
	{
		int			bit = gtf_watch_bit(id);

		if ((pg_atomic_read_u32(&db->watched[bit / 32]) &
			 ((uint32) 1 << (bit % 32))) == 0)
			return;
		ref.id = *id;
	}
	ref.flags = GTF_REF_ENDED | GTF_REF_RETURNED;
	gtf_submitted_push(MyDatabaseId, &ref, 1);
}

void
gtf_waiters_wake(const pg_uuid_t *id)
{
	int		   *bucket = bucket_of(id);

	pg_memory_barrier();
	tell_dispatcher(id);
	if (*(volatile int *) bucket < 0)
		return;
	LWLockAcquire(gtf_segment->waiter_lock, LW_EXCLUSIVE);
	for (int w = *bucket; w >= 0; w = gtf_segment->waiters[w].next)
	{
		Waiter	   *waiter = &gtf_segment->waiters[w];

		if (gtf_id_equal(&waiter->id, id))
		{
			waiter->done = true;
			SetLatch(&waiter->proc->procLatch);
		}
	}
	LWLockRelease(gtf_segment->waiter_lock);
}

void
gtf_waiters_wake_all(void)
{
	tell_dispatcher(NULL);
	LWLockAcquire(gtf_segment->waiter_lock, LW_EXCLUSIVE);
	for (int w = 0; w < gtf_max_waiters; w++)
	{
		Waiter	   *waiter = &gtf_segment->waiters[w];

		if (waiter->proc)
		{
			waiter->done = true;
			SetLatch(&waiter->proc->procLatch);
		}
	}
	LWLockRelease(gtf_segment->waiter_lock);
}
