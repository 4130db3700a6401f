/*-------------------------------------------------------------------------
 *
 * shmem.c
 *	  The shared segment: its creation, the clock of ids, the launcher.
 *
 * Who writes what is said in shmem_layout.h, field by field.  A process that
 * dies while it holds one of the locks takes the server's shared memory with
 * it: nothing between taking and releasing one can raise.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "settings.h"
#include "shmem_layout.h"

#define TRANCHE_NAME "gtf"

Segment    *gtf_segment = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static int
num_buckets(void)
{
	int			n = 64;

	while (n < gtf_max_waiters)
		n *= 2;
	return n;
}

static int
num_locks(void)
{
	return 3 + 3 * NUM_DATABASES + NUM_LANES + NUM_SLOTS;
}

static Size
segment_size(void)
{
	Size		size = MAXALIGN(sizeof(Segment));

	size = add_size(size, MAXALIGN(mul_size(NUM_DATABASES, sizeof(Database))));
	size = add_size(size, MAXALIGN(mul_size(NUM_LANES, sizeof(Lane))));
	size = add_size(size, MAXALIGN(mul_size(NUM_SLOTS, sizeof(Slot))));
	size = add_size(size, MAXALIGN(mul_size(NUM_SLOTS, sizeof(pg_uuid_t))));
	size = add_size(size, MAXALIGN(mul_size(gtf_max_waiters, sizeof(Waiter))));
	size = add_size(size, MAXALIGN(mul_size(num_buckets(), sizeof(int))));
	return size;
}

static void
shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(segment_size());
	RequestAddinShmemSpace(gtf_payload_shmem_size());
	RequestNamedLWLockTranche(TRANCHE_NAME, num_locks());
}

static void
shmem_startup(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	gtf_segment = ShmemInitStruct("gtf", segment_size(), &found);
	if (!found)
	{
		LWLockPadded *locks = GetNamedLWLockTranche(TRANCHE_NAME);
		char	   *next = (char *) gtf_segment + MAXALIGN(sizeof(Segment));

		memset(gtf_segment, 0, segment_size());
		pg_atomic_init_u64(&gtf_segment->last_ticks, 0);
		gtf_segment->lock = &(locks++)->lock;
		gtf_segment->waiter_lock = &(locks++)->lock;
		gtf_segment->payload_lock = &(locks++)->lock;

		gtf_segment->databases = (Database *) next;
		next += MAXALIGN(NUM_DATABASES * sizeof(Database));
		for (int i = 0; i < NUM_DATABASES; i++)
		{
			Database   *db = &gtf_segment->databases[i];

			db->lock = &(locks++)->lock;
			db->submit_lock = &(locks++)->lock;
			db->done_lock = &(locks++)->lock;
			pg_atomic_init_u64(&db->looks_at, 0);
			pg_atomic_init_u32(&db->look_wanted, 0);
			pg_atomic_init_u64(&db->seen_ticks, 0);
			pg_atomic_init_u64(&db->flush_requested, 0);
			pg_atomic_init_u32(&db->waiting_executors, 0);
			pg_atomic_init_u32(&db->ceiling, 0);
			pg_atomic_init_u64(&db->starving_since, 0);
			pg_atomic_init_u64(&db->starving_until, 0);
			for (int w = 0; w < GTF_WATCH_BITS / 32; w++)
				pg_atomic_init_u32(&db->watched[w], 0);
			pg_atomic_init_u32(&db->woken, 0);
			pg_atomic_init_u32(&db->pool_min, 0);
			pg_atomic_init_u32(&db->pool_max, 0);
			for (int c = 0; c < GTF_NUM_COUNTERS; c++)
				pg_atomic_init_u64(&db->counters[c], 0);
		}

		gtf_segment->lanes = (Lane *) next;
		next += MAXALIGN(NUM_LANES * sizeof(Lane));
		for (int i = 0; i < NUM_LANES; i++)
			gtf_segment->lanes[i].lock = &(locks++)->lock;

		gtf_segment->slots = (Slot *) next;
		next += MAXALIGN(NUM_SLOTS * sizeof(Slot));
		for (int i = 0; i < NUM_SLOTS; i++)
		{
			gtf_segment->slots[i].lock = &(locks++)->lock;
			pg_atomic_init_u64(&gtf_segment->slots[i].progress_changes, 0);
			pg_atomic_init_u32(&gtf_segment->slots[i].watched, 0);
			pg_atomic_init_u64(&gtf_segment->slots[i].payload_version, 0);
			gtf_segment->slots[i].payload = -1;
		}

		gtf_segment->running = (pg_uuid_t *) next;
		next += MAXALIGN(NUM_SLOTS * sizeof(pg_uuid_t));

		gtf_segment->waiters = (Waiter *) next;
		next += MAXALIGN(gtf_max_waiters * sizeof(Waiter));
		for (int i = 0; i < gtf_max_waiters; i++)
			gtf_segment->waiters[i].next = i + 1 < gtf_max_waiters ? i + 1 : -1;

		gtf_segment->buckets = (int *) next;
		gtf_segment->num_buckets = num_buckets();
		for (int i = 0; i < gtf_segment->num_buckets; i++)
			gtf_segment->buckets[i] = -1;

		gtf_payload_shmem_startup();
	}
	LWLockRelease(AddinShmemInitLock);
}

void
gtf_shmem_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
}

bool
gtf_shmem_available(void)
{
	return gtf_segment != NULL;
}

void
gtf_shmem_require(void)
{
	if (gtf_segment == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("gtf must be loaded via shared_preload_libraries"),
				 errhint("Add gtf to shared_preload_libraries and restart the server.")));
}

uint64
gtf_shmem_next_ticks(uint64 now)
{
	uint64		last = pg_atomic_read_u64(&gtf_segment->last_ticks);

	for (;;)
	{
		uint64		next = Max(now, last + 1);

		if (pg_atomic_compare_exchange_u64(&gtf_segment->last_ticks,
										   &last, next))
			return next;
	}
}

void
gtf_shmem_raise_ticks(uint64 ticks)
{
	uint64		last = pg_atomic_read_u64(&gtf_segment->last_ticks);

	while (last < ticks)
	{
		if (pg_atomic_compare_exchange_u64(&gtf_segment->last_ticks,
										   &last, ticks))
			return;
	}
}

/* ---- launcher ---- */

static void
launcher_detach(int code, Datum arg)
{
	LWLockAcquire(gtf_segment->lock, LW_EXCLUSIVE);
	gtf_segment->launcher = NULL;
	gtf_segment->launcher_pid = 0;
	LWLockRelease(gtf_segment->lock);
}

void
gtf_launcher_attach(void)
{
	LWLockAcquire(gtf_segment->lock, LW_EXCLUSIVE);
	gtf_segment->launcher = MyProc;
	gtf_segment->launcher_pid = MyProcPid;
	gtf_segment->launcher_start = GetCurrentTimestamp();
	LWLockRelease(gtf_segment->lock);
	before_shmem_exit(launcher_detach, (Datum) 0);
}

int
gtf_launcher_pid(TimestampTz *started)
{
	int			pid;

	LWLockAcquire(gtf_segment->lock, LW_SHARED);
	pid = gtf_segment->launcher_pid;
	if (started)
		*started = gtf_segment->launcher_start;
	LWLockRelease(gtf_segment->lock);
	return pid;
}

void
gtf_launcher_wake(void)
{
	PGPROC	   *proc;

	LWLockAcquire(gtf_segment->lock, LW_SHARED);
	proc = gtf_segment->launcher;
	LWLockRelease(gtf_segment->lock);
	if (proc)
		SetLatch(&proc->procLatch);
}
