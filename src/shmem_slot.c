/*-------------------------------------------------------------------------
 *
 * shmem_slot.c
 *	  Shared memory of execution: slots.
 *
 * A task is taken under the lane's lock, which at the same time publishes it
 * in the slot.  Since a task always goes through the lane of its owner, the
 * look at the other slots in gtf_slot_take is exact: no task ever runs in two
 * slots, even if its reference was handed out twice.
 *
 * An attempt can end, and gtf_retry() announce another one, before the slot of
 * the first has let the task go, or while the body of one that somebody else
 * has ended goes on.  Who takes the later one meanwhile leaves it in that slot,
 * and whoever empties that gives it back to the dispatcher.
 *
 * Fields are under the slot's lock unless shmem_layout.h says otherwise.  When
 * the process of a slot dies, its exit callback leaves the slot LOST if it had
 * a task, and the dispatcher frees it when the attempt is settled.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "settings.h"
#include "shmem_layout.h"

/* How long the dispatcher may not know that a task has started. */
#define START_UNSEEN_USECS	(200 * INT64CONST(1000))

int			gtf_my_slot = -1;
int			gtf_my_executor_slot = -1;

static const pg_uuid_t no_task;

/* A process of this database gets a free slot, which is locked. */
static void
claim(Slot *slot, int db, Oid role, int lane)
{
	slot->generation++;
	slot->database = db;
	slot->database_oid = MyDatabaseId;
	slot->role = role;
	slot->lane = lane;
	slot->asleep = false;
	slot->retiring = false;
	slot->waiting = false;
	slot->processed = 0;
	slot->failed = 0;
	slot->has_later = false;
}

/* Nobody has the slot any more; it is locked. */
static void
vacate(int i)
{
	gtf_segment->slots[i].state = GTF_SLOT_FREE;
	gtf_segment->slots[i].database_oid = InvalidOid;
	gtf_segment->running[i] = no_task;
}

/* The slot, locked, lets its task go.  True: to be given back is *later. */
static bool
take_later(Slot *slot, GtfTaskRef *later)
{
	bool		has_later = slot->has_later;

	if (has_later)
		*later = slot->later;
	slot->has_later = false;
	return has_later;
}

/*
 * Has slot i, which was seen with this task, it still?  A later attempt of it
 * is left there.
 */
static bool
leave_to(int i, const GtfTaskRef *ref)
{
	Slot	   *slot = &gtf_segment->slots[i];
	bool		has_task;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	has_task = gtf_id_equal(&gtf_segment->running[i], &ref->id);
	if (has_task && ref->attempt > slot->ref.attempt &&
		(!slot->has_later || ref->attempt >= slot->later.attempt))
	{
		slot->later = *ref;
		slot->later.flags |= GTF_REF_RETURNED;
		slot->has_later = true;
	}
	LWLockRelease(slot->lock);
	return has_task;
}

/* ---- slots, as the dispatcher sees them ---- */

int
gtf_slot_count(void)
{
	return NUM_SLOTS;
}

int
gtf_slot_reserve(int db, Oid role, int lane, uint32 *generation)
{
	/* from the end, where those are that sessions leave */
	for (int i = NUM_SLOTS - 1; i >= 0; i--)
	{
		Slot	   *slot = &gtf_segment->slots[i];

		if (slot->state != GTF_SLOT_FREE)
			continue;
		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		if (slot->state == GTF_SLOT_FREE)
		{
			slot->state = GTF_SLOT_LAUNCHING;
			claim(slot, db, role, lane);
			slot->pid = 0;
			slot->proc = NULL;
			slot->is_inline = false;
			slot->in_block = false;
			slot->launched_at = GetCurrentTimestamp();
			slot->process_start = 0;
			slot->start_sqlerrcode = 0;
			slot->start_error[0] = '\0';
			*generation = slot->generation;
			LWLockRelease(slot->lock);
			return i;
		}
		LWLockRelease(slot->lock);
	}
	return -1;
}

bool
gtf_slot_release_unattached(int i, uint32 generation)
{
	Slot	   *slot = &gtf_segment->slots[i];
	bool		mine;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	mine = slot->generation == generation && slot->state == GTF_SLOT_LAUNCHING;
	if (mine)
	{
		vacate(i);
		slot->pid = 0;
	}
	LWLockRelease(slot->lock);
	return mine;
}

bool
gtf_slot_info(int i, GtfSlotInfo *info)
{
	Slot	   *slot = &gtf_segment->slots[i];

	if (slot->state == GTF_SLOT_FREE)
		return false;
	LWLockAcquire(slot->lock, LW_SHARED);
	info->index = i;
	info->generation = slot->generation;
	info->state = slot->state;
	info->database = slot->database_oid;
	info->role = slot->role;
	info->pid = slot->pid;
	info->last_pid = slot->last_pid;
	info->launched_at = slot->launched_at;
	info->process_start = slot->process_start;
	info->processed = slot->processed;
	info->failed = slot->failed;
	info->waiting = slot->waiting;
	info->retiring = slot->retiring;
	info->is_inline = slot->is_inline;
	info->in_block = slot->in_block;
	info->serial = slot->serial;
	info->ref = slot->ref;
	info->let_go = !gtf_id_equal(&gtf_segment->running[i], &slot->ref.id);
	info->started_at = slot->started_at;
	info->body_running = slot->body_running;
	info->body_ended = slot->body_ended;
	info->told = slot->told;
	info->live_written = slot->live_written;
	info->abortable = slot->abortable;
	info->abort_cause = slot->abort_cause;
	info->interrupted = slot->interrupt_serial == slot->serial;
	info->timeout_at = slot->timeout_at;
	info->hard_timeout_at = slot->hard_timeout_at;
	info->timeout_exceeded = slot->timeout_exceeded;
	info->num_kept = slot->num_kept;
	info->kept_state = slot->kept_state;
	info->kept_tries = slot->kept_tries;
	info->start_sqlerrcode = slot->start_sqlerrcode;
	strlcpy(info->start_error, slot->start_error, GTF_START_ERROR_SIZE);
	gtf_payload_read_progress(slot, info);
	LWLockRelease(slot->lock);
	return info->state != GTF_SLOT_FREE;
}

bool
gtf_slot_find(const pg_uuid_t *id, GtfSlotInfo *info)
{
	for (int i = 0; i < NUM_SLOTS; i++)
	{
		if (gtf_id_equal(&gtf_segment->running[i], id) &&
			gtf_slot_info(i, info) &&
			info->database == MyDatabaseId &&
			gtf_slot_has_task(info) &&
			gtf_id_equal(&info->ref.id, id))
			return true;
	}
	return false;
}

void
gtf_slot_retire(int i, uint32 generation)
{
	Slot	   *slot = &gtf_segment->slots[i];
	PGPROC	   *proc = NULL;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (slot->generation == generation && slot->state != GTF_SLOT_FREE)
	{
		slot->retiring = true;
		proc = slot->proc;
	}
	LWLockRelease(slot->lock);
	if (proc)
		SetLatch(&proc->procLatch);
}

bool
gtf_slot_retire_idle_elsewhere(int db)
{
	for (int i = 0; i < NUM_SLOTS; i++)
	{
		Slot	   *slot = &gtf_segment->slots[i];
		PGPROC	   *proc = NULL;
		bool		leaves = false;

		if (slot->state != GTF_SLOT_IDLE || slot->database == db)
			continue;
		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		/* asleep: there was nothing in its lane */
		if (slot->state == GTF_SLOT_IDLE && slot->database != db &&
			(slot->retiring || slot->asleep))
		{
			leaves = true;
			if (!slot->retiring)
				proc = slot->proc;
			slot->retiring = true;
		}
		LWLockRelease(slot->lock);
		if (proc)
			SetLatch(&proc->procLatch);
		if (leaves)
			return true;
	}
	return false;
}

void
gtf_slot_free_lost(int i, uint32 generation)
{
	Slot	   *slot = &gtf_segment->slots[i];
	GtfTaskRef	later;
	bool		has_later = false;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (slot->generation == generation && slot->state == GTF_SLOT_LOST)
	{
		gtf_payload_drop(slot);
		gtf_kept_drop(slot);
		vacate(i);
		has_later = take_later(slot, &later);
	}
	LWLockRelease(slot->lock);
	if (has_later)
		gtf_submitted_push(MyDatabaseId, &later, 1);
}

bool
gtf_slot_live_begin(int i, uint64 serial)
{
	Slot	   *slot = &gtf_segment->slots[i];
	bool		running;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	running = slot->serial == serial && slot->state == GTF_SLOT_RUNNING &&
		slot->body_running;
	if (running)
		slot->live_writing = true;
	LWLockRelease(slot->lock);
	return running;
}

void
gtf_slot_live_end(int i)
{
	Slot	   *slot = &gtf_segment->slots[i];

	/* even after an error: the row may be there */
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->live_writing = false;
	slot->live_written = true;
	LWLockRelease(slot->lock);
}

void
gtf_db_forget(Oid database)
{
	int			db = gtf_db_find(database);

	for (int i = 0; i < NUM_SLOTS; i++)
	{
		Slot	   *slot = &gtf_segment->slots[i];

		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		if (slot->database_oid == database && slot->pid == 0 &&
			slot->state != GTF_SLOT_FREE)
		{
			gtf_payload_drop(slot);
			gtf_kept_drop(slot);
			vacate(i);
		}
		LWLockRelease(slot->lock);
	}
	for (int i = 0; db >= 0 && i < NUM_LANES; i++)
	{
		if (gtf_segment->lanes[i].database == db)
			gtf_lane_close(i);
	}
}

/* ---- the executor's own slot ---- */

bool
gtf_slot_attach(int i, uint32 generation)
{
	Slot	   *slot = &gtf_segment->slots[i];
	int			db_index = slot->database;
	Database   *db = &gtf_segment->databases[db_index];
	bool		ok;

	/* a command that waits for our end has not seen us if it came earlier */
	LWLockAcquire(db->lock, LW_SHARED);
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	ok = slot->generation == generation && slot->state == GTF_SLOT_LAUNCHING &&
		slot->database == db_index;
	if (ok && (db->oid != slot->database_oid || db->blocks > 0))
	{
		vacate(i);
		ok = false;
	}
	if (ok)
	{
		slot->pid = slot->last_pid = MyProcPid;
		slot->proc = MyProc;
		slot->process_start = GetCurrentTimestamp();
		gtf_my_slot = gtf_my_executor_slot = i;
	}
	LWLockRelease(slot->lock);
	LWLockRelease(db->lock);
	return ok;
}

void
gtf_slot_ready(void)
{
	Slot	   *slot = &gtf_segment->slots[gtf_my_slot];

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->state = GTF_SLOT_IDLE;
	LWLockRelease(slot->lock);
}

void
gtf_slot_detach(void)
{
	Slot	   *slot;
	int			db;

	if (gtf_my_slot < 0)
		return;
	slot = &gtf_segment->slots[gtf_my_slot];

	/* before the slot can be somebody else's */
	gtf_slot_wait_end();
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	db = slot->database;
	if (slot->state == GTF_SLOT_RUNNING || slot->state == GTF_SLOT_FINISHING)
		slot->state = GTF_SLOT_LOST;
	else if (slot->state == GTF_SLOT_LAUNCHING)
	{
		/* the dispatcher sees that it failed, reads why and frees the slot */
	}
	else
	{
		vacate(gtf_my_slot);
	}
	slot->pid = 0;
	slot->proc = NULL;
	slot->asleep = false;
	LWLockRelease(slot->lock);
	gtf_my_slot = gtf_my_executor_slot = -1;
	gtf_dispatcher_wake(db);
}

/* The slot gets a task; it is locked. */
static void
begin_task(int i, const GtfTaskRef *ref)
{
	Slot	   *slot = &gtf_segment->slots[i];

	slot->state = GTF_SLOT_RUNNING;
	slot->serial++;
	slot->ref = *ref;
	slot->started_at = 0;
	slot->body_running = false;
	slot->body_ended = false;
	slot->in_handler = false;
	slot->told = false;
	slot->live_written = false;
	slot->live_writing = false;
	slot->abortable = false;
	slot->timeout_exceeded = false;
	slot->mode = GTF_MODE_NEVER;
	slot->abort_cause = GTF_CAUSE_NONE;
	slot->timeout_at = 0;
	slot->hard_timeout_at = 0;
	slot->progress.kind = GTF_PROGRESS_NONE;
	pg_atomic_write_u64(&slot->progress_changes, 0);
	pg_atomic_write_u32(&slot->watched, 0);
	slot->kept_state = GTF_KEPT_WAITING;
	slot->kept_tries = 0;
	if ((ref->flags & GTF_REF_CLEANUP) == 0)
		gtf_segment->running[i] = ref->id;
}

bool
gtf_slot_take(GtfTaskRef *ref)
{
	Slot	   *slot = &gtf_segment->slots[gtf_my_slot];
	Lane	   *lane = &gtf_segment->lanes[slot->lane];
	bool		taken = false;
	bool		wake = false;
	bool		mine;
	bool		leave;

	LWLockAcquire(lane->lock, LW_EXCLUSIVE);

	/* a lane may be closed and opened for another owner under a leaving one */
	mine = lane->owner == slot->role && lane->database == slot->database;
	leave = mine && lane->give_up_one && !slot->retiring;
	if (leave)
		lane->give_up_one = false;
	while (!taken && lane->count > 0 && mine && !leave)
	{
		bool		elsewhere = false;

		*ref = lane->refs[lane->first++];
		lane->count--;
		/* to clean up is not to run: the lost slot holds the task */
		for (int i = 0; i < NUM_SLOTS && (ref->flags & GTF_REF_CLEANUP) == 0; i++)
		{
			/* a copy of this database may run the same id */
			if (gtf_id_equal(&gtf_segment->running[i], &ref->id) &&
				gtf_segment->slots[i].database == slot->database &&
				leave_to(i, ref))
			{
				elsewhere = true;
				break;
			}
		}
		taken = !elsewhere;
		/* its limits have room again */
		wake |= elsewhere && (ref->flags & GTF_REF_LIMITED) != 0;
	}
	if (lane->more && lane->count <= GTF_LANE_SIZE / 2)
	{
		lane->more = false;
		wake = true;
	}
	slot->asleep = !taken && !leave;
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (taken)
		begin_task(gtf_my_slot, ref);
	else
		slot->state = GTF_SLOT_IDLE;
	if (leave)
		slot->retiring = true;
	LWLockRelease(slot->lock);
	LWLockRelease(lane->lock);
	if (wake)
		gtf_dispatcher_wake(slot->database);
	return taken;
}

/* ---- slots of sessions that run a task themselves ---- */

bool
gtf_slot_take_inline(const GtfTaskRef *ref, bool in_block)
{
	int			db = gtf_db_find(MyDatabaseId);
	int			left = Min(gtf_max_executors, NUM_SLOTS / 2);

	if (db < 0)
		return false;
	for (int i = 0; i < NUM_SLOTS - left; i++)
	{
		Slot	   *slot = &gtf_segment->slots[i];
		bool		taken;

		if (slot->state != GTF_SLOT_FREE)
			continue;
		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		taken = slot->state == GTF_SLOT_FREE;
		if (taken)
		{
			claim(slot, db, ref->owner, -1);
			slot->pid = slot->last_pid = MyProcPid;
			slot->proc = MyProc;
			slot->is_inline = true;
			slot->in_block = in_block;
			slot->launched_at = slot->process_start = MyStartTimestamp;
			begin_task(i, ref);
			gtf_my_slot = i;
		}
		LWLockRelease(slot->lock);
		if (taken)
			return true;
	}
	return false;
}

void
gtf_slot_leave_inline(int i, bool lost)
{
	Slot	   *slot = &gtf_segment->slots[i];
	bool		left = !lost || slot->in_block;
	int			db = slot->database;
	GtfTaskRef	later;
	bool		has_later = false;

	if (left)
	{
		gtf_kept_drop(slot);
		gtf_payload_drop(slot);
	}
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->pid = 0;
	slot->proc = NULL;
	slot->body_running &= !left;
	if (left)
	{
		vacate(i);
		has_later = take_later(slot, &later);
	}
	else
		slot->state = GTF_SLOT_LOST;
	LWLockRelease(slot->lock);
	if (has_later)
		gtf_submitted_push(MyDatabaseId, &later, 1);
	if (!left)
		gtf_dispatcher_wake(db);
}

/* ---- the executor and its body ---- */

bool
gtf_slot_should_retire(void)
{
	return gtf_segment->slots[gtf_my_slot].retiring;
}

bool
gtf_slot_body_starts(TimestampTz at, bool live_written, GtfAbortMode mode,
					 TimestampTz timeout_at, TimestampTz hard_timeout_at)
{
	Slot	   *slot = &gtf_segment->slots[gtf_my_slot];
	TimestampTz looks_at;
	bool		wanted;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	wanted = slot->abort_cause == GTF_CAUSE_NONE;
	if (wanted)
	{
		slot->started_at = at;
		slot->body_running = true;
		slot->live_written = live_written;
		slot->mode = mode;
		slot->abortable = mode == GTF_MODE_POLL || mode == GTF_MODE_INTERRUPT;
		slot->timeout_at = timeout_at;
		slot->hard_timeout_at = hard_timeout_at;
		slot->status = MyBEEntry;
		/* the first report is written at once, too */
		if (gtf_progress_flush_interval == 0)
			pg_atomic_write_u32(&slot->watched, 1);
	}
	LWLockRelease(slot->lock);

	/* start, then look; the dispatcher tells the time, then looks at us */
	looks_at = (TimestampTz) pg_atomic_read_u64(&gtf_segment->databases[slot->database].looks_at);
	if (wanted && (looks_at == 0 || looks_at > at + START_UNSEEN_USECS))
		gtf_dispatcher_wake_to_look(slot->database);
	if (slot->ref.flags & GTF_REF_PACED)
		gtf_dispatcher_wake(slot->database);
	return wanted;
}

bool
gtf_slot_finishing(GtfAbortCause *cause)
{
	Slot	   *slot = &gtf_segment->slots[gtf_my_slot];
	bool		live_written;

	for (;;)
	{
		bool		wait;

		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		wait = slot->live_writing &&
			gtf_segment->databases[slot->database].dispatcher != NULL;
		if (!wait)
		{
			slot->state = GTF_SLOT_FINISHING;
			*cause = slot->abort_cause;
			live_written = slot->live_written || slot->live_writing;
			slot->live_writing = false;
		}
		LWLockRelease(slot->lock);
		if (!wait)
			return live_written;

		/* one short transaction of the dispatcher */
		CHECK_FOR_INTERRUPTS();
		pg_usleep(200);
	}
}

void
gtf_slot_let_go(void)
{
	Slot	   *slot = &gtf_segment->slots[gtf_my_slot];
	GtfTaskRef	later;
	bool		has_later;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	gtf_segment->running[gtf_my_slot] = no_task;
	has_later = take_later(slot, &later);
	LWLockRelease(slot->lock);
	if (has_later)
		gtf_submitted_push(MyDatabaseId, &later, 1);
}

void
gtf_slot_told(void)
{
	gtf_segment->slots[gtf_my_slot].told = true;
}

void
gtf_slot_idle(bool processed, bool failed)
{
	Slot	   *slot = &gtf_segment->slots[gtf_my_slot];
	GtfTaskRef	later;
	bool		has_later;

	gtf_kept_drop(slot);
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->state = GTF_SLOT_IDLE;
	gtf_segment->running[gtf_my_slot] = no_task;
	has_later = take_later(slot, &later);
	slot->body_running = false;
	if (processed)
		slot->processed++;
	if (failed)
		slot->failed++;
	LWLockRelease(slot->lock);
	gtf_payload_drop(slot);
	if (has_later)
		gtf_submitted_push(MyDatabaseId, &later, 1);
	/* there is room for another one */
	if (slot->ref.flags & GTF_REF_LIMITED)
		gtf_dispatcher_wake(slot->database);
}

/* What tasks that wait have looked at has changed: they look again. */
static void
wake_waiting(int db)
{
	for (int i = 0; i < NUM_SLOTS; i++)
	{
		Slot	   *slot = &gtf_segment->slots[i];
		PGPROC	   *proc = NULL;

		LWLockAcquire(slot->lock, LW_SHARED);
		if (slot->state == GTF_SLOT_RUNNING && slot->database == db &&
			slot->waiting)
			proc = slot->proc;
		LWLockRelease(slot->lock);
		if (proc)
			SetLatch(&proc->procLatch);
	}
}

void
gtf_db_set_pool(int db, int min, int max)
{
	Database   *entry = &gtf_segment->databases[db];

	pg_atomic_write_u32(&entry->pool_min, (uint32) min);
	if (pg_atomic_read_u32(&entry->pool_max) == (uint32) max)
		return;
	/* set, then have them look */
	(void) pg_atomic_exchange_u32(&entry->pool_max, (uint32) max);
	wake_waiting(db);
}

/* Under the lock of the database, so that one leaves after the other. */
bool
gtf_slot_may_leave(void)
{
	Slot	   *slot = &gtf_segment->slots[gtf_my_slot];
	Database   *db = &gtf_segment->databases[slot->database];
	uint32		staying = 0;
	bool		may;

	LWLockAcquire(db->lock, LW_EXCLUSIVE);
	for (int i = 0; i < NUM_SLOTS; i++)
	{
		Slot	   *other = &gtf_segment->slots[i];

		if (other->state != GTF_SLOT_FREE && other->database == slot->database &&
			other->state != GTF_SLOT_LOST && !other->is_inline &&
			!other->retiring)
			staying++;
	}
	may = staying > pg_atomic_read_u32(&db->pool_min);
	if (may)
	{
		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		slot->retiring = true;
		LWLockRelease(slot->lock);
	}
	LWLockRelease(db->lock);
	return may;
}

void
gtf_db_set_ceiling(int db, int executors)
{
	Database   *entry = &gtf_segment->databases[db];

	if (pg_atomic_exchange_u32(&entry->ceiling, (uint32) executors) ==
		(uint32) executors || executors == 0)
		return;
	/* set, then have them look */
	wake_waiting(db);
}

void
gtf_slot_wait_begin(void)
{
	Slot	   *slot = &gtf_segment->slots[gtf_my_executor_slot];

	slot->waiting = true;
	pg_atomic_add_fetch_u32(&gtf_segment->databases[slot->database].waiting_executors, 1);
}

bool
gtf_slot_may_wait(void)
{
	Slot	   *slot = &gtf_segment->slots[gtf_my_executor_slot];
	Database   *db = &gtf_segment->databases[slot->database];
	uint32		ceiling = pg_atomic_read_u32(&db->ceiling);
	uint32		pool_max = pg_atomic_read_u32(&db->pool_max);
	uint32		most = pool_max != 0 ? pool_max : (uint32) gtf_max_executors;
	uint32		waiting = pg_atomic_read_u32(&db->waiting_executors);

	if (ceiling != 0)
		most = Min(most, ceiling);
	/* of those who see this together only as many as have to stop waiting */
	while (waiting >= most)
	{
		if (pg_atomic_compare_exchange_u32(&db->waiting_executors, &waiting,
										   waiting - 1))
		{
			slot->waiting = false;
			return false;
		}
	}
	return true;
}

void
gtf_slot_wait_end(void)
{
	Slot	   *slot = &gtf_segment->slots[gtf_my_executor_slot];

	if (!slot->waiting)
		return;
	slot->waiting = false;
	pg_atomic_sub_fetch_u32(&gtf_segment->databases[slot->database].waiting_executors, 1);
}

void
gtf_slot_set_start_error(int sqlerrcode, const char *message)
{
	Slot	   *slot;

	if (gtf_my_slot < 0)
		return;
	slot = &gtf_segment->slots[gtf_my_slot];
	if (slot->state == GTF_SLOT_LAUNCHING)
	{
		slot->start_sqlerrcode = sqlerrcode;
		strlcpy(slot->start_error, message, GTF_START_ERROR_SIZE);
	}
}
