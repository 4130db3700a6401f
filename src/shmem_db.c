/*-------------------------------------------------------------------------
 *
 * shmem_db.c
 *	  Shared memory of a database: its entry, who serves it, its counters.
 *
 * An entry is found without a lock, and made and freed under that of the
 * segment.  Its own lock guards what backends and the launcher write (wanted,
 * blocks, cancels, news) and what the dispatcher and the flusher write of
 * themselves when they come and go.  Should one of these die, its exit
 * callback says so here, and the launcher or the dispatcher starts another.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/twophase.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "shmem_layout.h"

/* ---- entries ---- */

/* Without a lock: an entry changes its database only when all are done. */
int
gtf_db_find(Oid database)
{
	for (int i = 0; i < NUM_DATABASES; i++)
	{
		if (gtf_segment->databases[i].oid == database)
		{
			/* what was written before the entry became this database's */
			pg_read_barrier();
			return i;
		}
	}
	return -1;
}

/* The entry of a database with its lock held, NULL if there is none. */
static Database *
db_lock(Oid database)
{
	int			i = gtf_db_find(database);
	Database   *db;

	if (i < 0)
		return NULL;
	db = &gtf_segment->databases[i];
	LWLockAcquire(db->lock, LW_EXCLUSIVE);
	/* it may just have been freed */
	if (db->oid != database)
	{
		LWLockRelease(db->lock);
		return NULL;
	}
	return db;
}

/* The same; NULL if there was none and no room for one. */
static Database *
db_lock_or_make(Oid database)
{
	Database   *db = NULL;
	int			found;

	LWLockAcquire(gtf_segment->lock, LW_EXCLUSIVE);
	found = gtf_db_find(database);
	if (found >= 0)
	{
		/* it cannot be freed while the segment is locked */
		db = &gtf_segment->databases[found];
		LWLockAcquire(db->lock, LW_EXCLUSIVE);
	}
	else
	{
		found = gtf_db_find(InvalidOid);
		if (found >= 0)
		{
			db = &gtf_segment->databases[found];
			LWLockAcquire(db->lock, LW_EXCLUSIVE);
			db->wanted = false;
			db->asked = false;
			db->blocks = 0;
			db->other_version = false;
			db->exit_reason = GTF_EXIT_UNKNOWN;
			db->submit_head = db->submit_tail = 0;
			db->done_head = db->done_tail = 0;
			db->scan_wanted = false;
			db->cancelling = 0;
			/* cancels that were prepared before the server was restarted */
			db->must_probe = max_prepared_xacts > 0;
			db->news = 0;
			db->num_ended = 0;
			pg_atomic_write_u64(&db->seen_ticks, 0);
			pg_atomic_write_u64(&db->flush_requested, 0);
			pg_atomic_write_u32(&db->waiting_executors, 0);
			pg_atomic_write_u32(&db->ceiling, 0);
			pg_atomic_write_u64(&db->starving_since, 0);
			pg_atomic_write_u64(&db->starving_until, 0);
			for (int c = 0; c < GTF_NUM_COUNTERS; c++)
				pg_atomic_write_u64(&db->counters[c], 0);
			db->counters_loaded = false;
			/* it is looked for without a lock */
			pg_write_barrier();
			db->oid = database;
		}
		else
			gtf_segment->refused = true;
	}
	LWLockRelease(gtf_segment->lock);
	return db;
}

/* Free an entry that nobody needs any more. */
static void
db_free_if_unused(int i)
{
	Database   *db = &gtf_segment->databases[i];
	bool		used = false;

	LWLockAcquire(gtf_segment->lock, LW_EXCLUSIVE);
	LWLockAcquire(db->lock, LW_EXCLUSIVE);
	for (int s = 0; s < NUM_SLOTS; s++)
	{
		if (gtf_segment->slots[s].state != GTF_SLOT_FREE &&
			gtf_segment->slots[s].database_oid == db->oid)
			used = true;
	}
	if (!db->wanted && !db->other_version && db->blocks == 0 &&
		db->dispatcher == NULL && db->flusher == NULL && !used)
	{
		for (int l = 0; l < NUM_LANES; l++)
		{
			Lane	   *lane = &gtf_segment->lanes[l];

			LWLockAcquire(lane->lock, LW_EXCLUSIVE);
			if (lane->database == i)
			{
				lane->owner = InvalidOid;
				lane->count = 0;
			}
			LWLockRelease(lane->lock);
		}
		db->oid = InvalidOid;
	}
	LWLockRelease(db->lock);
	LWLockRelease(gtf_segment->lock);
}

bool
gtf_db_want(Oid database)
{
	Database   *db = db_lock_or_make(database);

	if (db == NULL)
		return false;
	db->wanted = true;
	db->asked = true;
	db->other_version = false;
	LWLockRelease(db->lock);
	return true;
}

bool
gtf_db_refused(void)
{
	bool		refused;

	LWLockAcquire(gtf_segment->lock, LW_EXCLUSIVE);
	refused = gtf_segment->refused;
	gtf_segment->refused = false;
	LWLockRelease(gtf_segment->lock);
	return refused;
}

void
gtf_db_unwant(Oid database)
{
	Database   *db = db_lock(database);

	if (db == NULL)
		return;
	db->wanted = false;
	db->other_version = false;
	LWLockRelease(db->lock);
	db_free_if_unused(db - gtf_segment->databases);
}

GtfDispatcherExit
gtf_dispatcher_reap(Oid database)
{
	Database   *db = db_lock(database);
	GtfDispatcherExit reason;

	if (db == NULL)
		return GTF_EXIT_UNKNOWN;
	reason = db->exit_reason;
	db->exit_reason = GTF_EXIT_UNKNOWN;
	/* who has asked since it began to look may know better */
	if (reason == GTF_EXIT_NO_EXTENSION && !db->asked)
		db->wanted = false;
	LWLockRelease(db->lock);
	if (reason == GTF_EXIT_NO_EXTENSION)
	{
		gtf_db_forget(database);
		db_free_if_unused(db - gtf_segment->databases);
	}
	return reason;
}

bool
gtf_db_info(int i, GtfDatabaseInfo *info)
{
	Database   *db;

	if (i < 0 || i >= NUM_DATABASES)
		return false;
	db = &gtf_segment->databases[i];
	LWLockAcquire(db->lock, LW_SHARED);
	info->database = db->oid;
	info->wanted = db->wanted;
	info->blocked = db->blocks > 0;
	info->dispatcher_pid = db->dispatcher_pid;
	info->flusher_pid = db->flusher_pid;
	info->dispatcher_start = db->dispatcher_start;
	info->flusher_start = db->flusher_start;
	info->dispatcher_ready = db->dispatcher_ready;
	info->exit_reason = db->exit_reason;
	LWLockRelease(db->lock);
	return OidIsValid(info->database);
}

bool
gtf_db_block(Oid database)
{
	Database   *db = db_lock_or_make(database);

	if (db == NULL)
		return false;
	db->blocks++;
	LWLockRelease(db->lock);
	return true;
}

void
gtf_db_unblock(Oid database)
{
	Database   *db = db_lock(database);

	if (db == NULL)
		return;
	if (db->blocks > 0)
		db->blocks--;
	LWLockRelease(db->lock);
	db_free_if_unused(db - gtf_segment->databases);
}

bool
gtf_db_is_blocked(int i)
{
	bool		blocked;

	LWLockAcquire(gtf_segment->databases[i].lock, LW_SHARED);
	blocked = gtf_segment->databases[i].blocks > 0;
	LWLockRelease(gtf_segment->databases[i].lock);
	return blocked;
}

int
gtf_db_worker_pids(Oid database, int *pids, int max)
{
	int			n = 0;
	int			i = gtf_db_find(database);

	for (int s = 0; s < NUM_SLOTS && n < max; s++)
	{
		Slot	   *slot = &gtf_segment->slots[s];

		LWLockAcquire(slot->lock, LW_SHARED);
		if (slot->database_oid == database && slot->pid != 0 &&
			!slot->is_inline)
			pids[n++] = slot->pid;
		LWLockRelease(slot->lock);
	}
	if (i >= 0)
	{
		Database   *db = &gtf_segment->databases[i];

		LWLockAcquire(db->lock, LW_SHARED);
		if (db->flusher_pid != 0 && n < max)
			pids[n++] = db->flusher_pid;
		if (db->dispatcher_pid != 0 && n < max)
			pids[n++] = db->dispatcher_pid;
		LWLockRelease(db->lock);
	}
	return n;
}

int
gtf_dispatcher_attach(Oid database)
{
	Database   *db = db_lock_or_make(database);
	bool		ok;

	if (db == NULL)
		return -1;
	ok = db->dispatcher == NULL && db->blocks == 0;
	if (ok)
	{
		db->dispatcher = MyProc;
		db->dispatcher_pid = MyProcPid;
		db->dispatcher_start = GetCurrentTimestamp();
		db->dispatcher_ready = false;
		db->exit_reason = GTF_EXIT_UNKNOWN;
		/* what was asked for before will be seen */
		db->asked = false;
		db->num_ended = 0;
		pg_atomic_write_u64(&db->seen_ticks, 0);
	}
	LWLockRelease(db->lock);
	if (!ok)
		return -1;

	pg_atomic_write_u64(&db->looks_at, 0);

	/* The new dispatcher reads the table from its beginning. */
	LWLockAcquire(db->submit_lock, LW_EXCLUSIVE);
	db->submit_head = db->submit_tail;
	db->scan_wanted = false;
	LWLockRelease(db->submit_lock);
	return db - gtf_segment->databases;
}

void
gtf_dispatcher_ready(int i)
{
	Database   *db = &gtf_segment->databases[i];

	LWLockAcquire(db->lock, LW_EXCLUSIVE);
	db->dispatcher_ready = true;
	LWLockRelease(db->lock);
	gtf_launcher_wake();
}

void
gtf_dispatcher_detach(int i, GtfDispatcherExit reason)
{
	Database   *db = &gtf_segment->databases[i];

	LWLockAcquire(db->lock, LW_EXCLUSIVE);
	if (db->dispatcher == MyProc)
	{
		db->dispatcher = NULL;
		db->dispatcher_pid = 0;
		db->dispatcher_ready = false;
		db->exit_reason = reason;
		if (reason == GTF_EXIT_OTHER_VERSION && !db->asked)
		{
			db->wanted = false;
			db->other_version = true;
		}
	}
	LWLockRelease(db->lock);
	gtf_launcher_wake();
}

bool
gtf_flusher_attach(int i, Oid database)
{
	Database   *db = &gtf_segment->databases[i];
	bool		ok;

	LWLockAcquire(db->lock, LW_EXCLUSIVE);
	ok = db->flusher == NULL && db->blocks == 0 && db->oid == database;
	if (ok)
	{
		db->flusher = MyProc;
		db->flusher_pid = MyProcPid;
		db->flusher_start = GetCurrentTimestamp();
	}
	LWLockRelease(db->lock);
	return ok;
}

void
gtf_flusher_detach(int i)
{
	Database   *db = &gtf_segment->databases[i];

	LWLockAcquire(db->lock, LW_EXCLUSIVE);
	if (db->flusher == MyProc)
	{
		db->flusher = NULL;
		db->flusher_pid = 0;
	}
	LWLockRelease(db->lock);
	gtf_dispatcher_wake(i);
}

void
gtf_dispatcher_wake(int i)
{
	Database   *db = &gtf_segment->databases[i];

	/* a pointer is read at once; a stale one wakes the wrong process */
	PGPROC	   *proc = db->dispatcher;

	if (!proc)
		return;
	/* what it shall see is there before */
	pg_memory_barrier();
	if (pg_atomic_read_u32(&db->woken) == 0)
		pg_atomic_write_u32(&db->woken, 1);
	SetLatch(&proc->procLatch);
}

void
gtf_dispatcher_looks(int i)
{
	(void) pg_atomic_exchange_u32(&gtf_segment->databases[i].woken, 0);
}

bool
gtf_dispatcher_woken(int i)
{
	return pg_atomic_read_u32(&gtf_segment->databases[i].woken) != 0;
}

void
gtf_flusher_wake(int i)
{
	PGPROC	   *proc = gtf_segment->databases[i].flusher;

	if (proc)
		SetLatch(&proc->procLatch);
}

/* ---- databases that starve ---- */

void
gtf_db_set_starving(int i, TimestampTz since, TimestampTz until)
{
	Database   *db = &gtf_segment->databases[i];

	pg_atomic_write_u64(&db->starving_until, until);
	if (pg_atomic_exchange_u64(&db->starving_since, since) == since)
		return;
	for (int other = 0; other < NUM_DATABASES; other++)
	{
		if (other != i)
			gtf_dispatcher_wake(other);
	}
}

TimestampTz
gtf_db_starving(TimestampTz now, int *who)
{
	TimestampTz longest = 0;

	*who = -1;
	for (int i = 0; i < NUM_DATABASES; i++)
	{
		Database   *db = &gtf_segment->databases[i];
		TimestampTz since = pg_atomic_read_u64(&db->starving_since);

		if (since != 0 && now < (TimestampTz) pg_atomic_read_u64(&db->starving_until) &&
			(longest == 0 || since < longest))
		{
			longest = since;
			*who = i;
		}
	}
	return longest;
}

/* ---- cancels ---- */

void
gtf_db_cancel_begin(Oid database)
{
	Database   *db = db_lock(database);

	if (db == NULL)
		return;
	db->cancelling++;
	db->cancels++;
	db->must_probe = true;
	LWLockRelease(db->lock);
}

void
gtf_db_cancel_end(Oid database)
{
	Database   *db = db_lock(database);

	if (db == NULL)
		return;
	if (db->cancelling > 0)
		db->cancelling--;
	db->cancels++;
	LWLockRelease(db->lock);
}

bool
gtf_db_must_probe(Oid database)
{
	int			i = gtf_db_find(database);

	pg_memory_barrier();
	return i < 0 || gtf_segment->databases[i].must_probe;
}

uint64
gtf_db_cancels(int i)
{
	Database   *db = &gtf_segment->databases[i];
	uint64		cancels;

	LWLockAcquire(db->lock, LW_SHARED);
	cancels = db->cancels;
	LWLockRelease(db->lock);
	return cancels;
}

void
gtf_db_probe_reset(int i, uint64 cancels)
{
	Database   *db = &gtf_segment->databases[i];

	LWLockAcquire(db->lock, LW_EXCLUSIVE);
	if (db->cancelling == 0 && db->cancels == cancels)
		db->must_probe = false;
	LWLockRelease(db->lock);
}

void
gtf_tell(Oid database, GtfNews news)
{
	Database   *db = db_lock(database);

	if (db == NULL)
		return;
	db->news |= news;
	LWLockRelease(db->lock);
	gtf_dispatcher_wake(db - gtf_segment->databases);
}

void
gtf_tell_all(GtfNews news)
{
	for (int i = 0; i < NUM_DATABASES; i++)
	{
		Database   *db = &gtf_segment->databases[i];

		LWLockAcquire(db->lock, LW_EXCLUSIVE);
		db->news |= news;
		LWLockRelease(db->lock);
		gtf_dispatcher_wake(i);
	}
}

bool
gtf_news_take(int i, GtfNews news)
{
	Database   *db = &gtf_segment->databases[i];
	bool		told;

	if ((db->news & news) == 0)
		return false;
	LWLockAcquire(db->lock, LW_EXCLUSIVE);
	told = (db->news & news) != 0;
	db->news &= ~news;
	LWLockRelease(db->lock);
	return told;
}

/* ---- counters ---- */

void
gtf_count(Oid database, GtfCounter counter, uint64 n)
{
	int			i = gtf_db_find(database);

	if (i >= 0)
		pg_atomic_fetch_add_u64(&gtf_segment->databases[i].counters[counter], n);
}

bool
gtf_counters_get(Oid database, uint64 *values)
{
	int			i = gtf_db_find(database);
	Database   *db;
	bool		loaded = false;

	memset(values, 0, sizeof(uint64) * GTF_NUM_COUNTERS);
	if (i < 0)
		return false;
	db = &gtf_segment->databases[i];
	LWLockAcquire(db->lock, LW_SHARED);
	if (db->oid == database)
	{
		loaded = db->counters_loaded;
		for (int c = 0; c < GTF_NUM_COUNTERS; c++)
			values[c] = pg_atomic_read_u64(&db->counters[c]);
	}
	LWLockRelease(db->lock);
	return loaded;
}

void
gtf_counters_load(Oid database, const uint64 *values)
{
	int			i = gtf_db_find(database);
	Database   *db;

	if (i < 0)
		return;
	db = &gtf_segment->databases[i];
	LWLockAcquire(db->lock, LW_EXCLUSIVE);
	if (db->oid == database && !db->counters_loaded)
	{
		for (int c = 0; c < GTF_NUM_COUNTERS; c++)
			pg_atomic_fetch_add_u64(&db->counters[c], values[c]);
		db->counters_loaded = true;
	}
	LWLockRelease(db->lock);
}
