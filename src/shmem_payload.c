/*-------------------------------------------------------------------------
 *
 * shmem_payload.c
 *	  Shared memory of reports: progress and payloads of running tasks.
 *
 * Payloads live in one pool of pages for all slots, which is reserved with
 * the main segment when the server starts: no segment of its own that could
 * fail to be created, attached or kept in /dev/shm, no fragments, and no more
 * than gtf.payload_memory.  The kernel provides pages when they are first
 * used, and what was used before is used again first.
 *
 * A payload never changes.  A new one is written into pages that nobody else
 * knows, then the slot is switched to it.  Who reads one counts itself among
 * its users, copies without any lock, and the last user gives the pages back.
 * So nobody ever sees half a payload, readers wait for nobody, and no number
 * of them can keep a body waiting.  Between counting in and out there is
 * nothing that could raise or serve an interrupt; who is killed there takes
 * the server's shared memory with it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/shmem.h"

#include "settings.h"
#include "shmem_layout.h"

#define PAGE_BYTES	8192
#define READ_TRIES	10000		/* of a report that changes all the time */

static int
num_pages(void)
{
	return (int) ((Size) gtf_payload_memory * 1024 / PAGE_BYTES);
}

static Size
pages_size(void)
{
	return MAXALIGN(mul_size(num_pages(), sizeof(PayloadPage)));
}

Size
gtf_payload_shmem_size(void)
{
	return add_size(pages_size(), mul_size(num_pages(), PAGE_BYTES));
}

/* The bytes are left alone: what is not touched takes no memory. */
void
gtf_payload_shmem_startup(void)
{
	bool		found;
	char	   *start = ShmemInitStruct("gtf payloads", gtf_payload_shmem_size(),
										&found);

	gtf_segment->payload_pages = (PayloadPage *) start;
	gtf_segment->payload_bytes = start + pages_size();
	gtf_segment->first_free_page = -1;
	gtf_segment->free_pages = 0;
	gtf_segment->untouched_pages = 0;
	gtf_segment->last_payload_version = 0;
}

static int
pages_for(Size size)
{
	return (int) ((size + PAGE_BYTES - 1) / PAGE_BYTES);
}

/* A chain of n free pages, -1 if there are not so many.  Under the lock. */
static int
take_pages(int n)
{
	PayloadPage *pages = gtf_segment->payload_pages;
	int			first = -1;
	int			last = -1;

	if (n > gtf_segment->free_pages + (num_pages() - gtf_segment->untouched_pages))
		return -1;
	for (int i = 0; i < n; i++)
	{
		int			page = gtf_segment->first_free_page;

		if (page >= 0)
		{
			gtf_segment->first_free_page = pages[page].next;
			gtf_segment->free_pages--;
		}
		else
			page = gtf_segment->untouched_pages++;
		pages[page].next = -1;
		if (first < 0)
			first = page;
		else
			pages[last].next = page;
		last = page;
	}
	pages[first].last = last;
	return first;
}

/* One user less of the payload that starts at this page.  Under the lock. */
static void
leave(int first)
{
	PayloadPage *page = &gtf_segment->payload_pages[first];

	Assert(page->users > 0);
	if (--page->users > 0)
		return;
	gtf_segment->payload_pages[page->last].next = gtf_segment->first_free_page;
	gtf_segment->first_free_page = first;
	gtf_segment->free_pages += pages_for(page->size);
}

static void
copy_in(int page, const char *from, Size size)
{
	while (size > 0)
	{
		Size		n = Min(size, PAGE_BYTES);

		memcpy(gtf_segment->payload_bytes + (Size) page * PAGE_BYTES, from, n);
		from += n;
		size -= n;
		page = gtf_segment->payload_pages[page].next;
	}
}

static void
copy_out(char *to, int page, Size size)
{
	while (size > 0)
	{
		Size		n = Min(size, PAGE_BYTES);

		memcpy(to, gtf_segment->payload_bytes + (Size) page * PAGE_BYTES, n);
		to += n;
		size -= n;
		page = gtf_segment->payload_pages[page].next;
	}
}

/* The executor has changed something in its slot. */
static void
tell_change(Slot *slot)
{
	/* change, then look: see gtf_slot_watch */
	pg_memory_barrier();
	if (pg_atomic_read_u32(&slot->watched) != 0)
	{
		pg_atomic_write_u32(&slot->watched, 0);
		gtf_dispatcher_wake_to_look(slot->database);
	}
}

static void
set_progress(Slot *slot, const GtfProgress *progress)
{
	uint64		changes = pg_atomic_read_u64(&slot->progress_changes);

	pg_atomic_write_u64(&slot->progress_changes, changes + 1);
	pg_write_barrier();
	if (progress)
		slot->progress = *progress;
	pg_write_barrier();
	pg_atomic_write_u64(&slot->progress_changes, changes + 2);
}

/*
 * The caller may hold a lock that the executor will want, and an executor
 * that was stopped in the middle of a write gets on with it who knows when.
 * Then there is no report for now: the change count is odd, and another one
 * later.
 */
void
gtf_payload_read_progress(Slot *slot, GtfSlotInfo *info)
{
	for (int try = 0;; try++)
	{
		info->changes = pg_atomic_read_u64(&slot->progress_changes);
		pg_read_barrier();
		info->progress = slot->progress;
		info->payload_version = pg_atomic_read_u64(&slot->payload_version);
		pg_read_barrier();
		if ((info->changes & 1) == 0 &&
			info->changes == pg_atomic_read_u64(&slot->progress_changes))
			break;
		if (try == READ_TRIES)
		{
			info->changes |= 1;
			info->progress.kind = GTF_PROGRESS_NONE;
			break;
		}
	}
}

bool
gtf_slot_report(const GtfProgress *progress, const Jsonb *payload)
{
	Slot	   *slot = &gtf_segment->slots[gtf_my_slot];
	Size		size;
	int			first;

	if (payload == NULL)
	{
		set_progress(slot, progress);
		tell_change(slot);
		return true;
	}

	size = VARSIZE(payload);
	LWLockAcquire(gtf_segment->payload_lock, LW_EXCLUSIVE);
	first = take_pages(pages_for(size));
	LWLockRelease(gtf_segment->payload_lock);
	if (first < 0)
		return false;

	copy_in(first, (const char *) payload, size);

	/* both at once, for those who read both under the lock */
	LWLockAcquire(gtf_segment->payload_lock, LW_EXCLUSIVE);
	gtf_segment->payload_pages[first].users = 1;
	gtf_segment->payload_pages[first].size = (uint32) size;
	if (slot->payload >= 0)
		leave(slot->payload);
	slot->payload = first;
	slot->payload_serial = slot->serial;
	pg_atomic_write_u64(&slot->payload_version,
						++gtf_segment->last_payload_version);
	set_progress(slot, progress);
	LWLockRelease(gtf_segment->payload_lock);
	tell_change(slot);
	return true;
}

Jsonb *
gtf_slot_payload(GtfSlotInfo *info)
{
	Slot	   *slot = &gtf_segment->slots[info->index];

	for (;;)
	{
		Size		room = 0;
		Size		size = 0;
		int			first = -1;
		char	   *copy;

		LWLockAcquire(gtf_segment->payload_lock, LW_SHARED);
		if (slot->payload >= 0 && slot->payload_serial == info->serial)
			room = gtf_segment->payload_pages[slot->payload].size;
		LWLockRelease(gtf_segment->payload_lock);
		if (room == 0)
			return NULL;
		copy = palloc(room);

		LWLockAcquire(gtf_segment->payload_lock, LW_EXCLUSIVE);
		if (slot->payload >= 0 && slot->payload_serial == info->serial &&
			gtf_segment->payload_pages[slot->payload].size <= room)
		{
			first = slot->payload;
			size = gtf_segment->payload_pages[first].size;
			gtf_segment->payload_pages[first].users++;
			gtf_payload_read_progress(slot, info);
		}
		LWLockRelease(gtf_segment->payload_lock);
		if (first < 0)
		{
			/* replaced by a larger one, or gone */
			pfree(copy);
			CHECK_FOR_INTERRUPTS();
			continue;
		}

		copy_out(copy, first, size);

		LWLockAcquire(gtf_segment->payload_lock, LW_EXCLUSIVE);
		leave(first);
		LWLockRelease(gtf_segment->payload_lock);
		return (Jsonb *) copy;
	}
}

Jsonb *
gtf_slot_my_payload(void)
{
	GtfSlotInfo info;

	/* nobody else gives it one */
	if (gtf_segment->slots[gtf_my_slot].payload < 0)
		return NULL;
	info.index = gtf_my_slot;
	info.serial = gtf_segment->slots[gtf_my_slot].serial;
	return gtf_slot_payload(&info);
}

/* The task of the slot has ended; nobody else uses the slot yet. */
void
gtf_payload_drop(Slot *slot)
{
	/* the executor's own, or that of nobody any more */
	if (slot->payload < 0)
		return;
	LWLockAcquire(gtf_segment->payload_lock, LW_EXCLUSIVE);
	leave(slot->payload);
	slot->payload = -1;
	pg_atomic_write_u64(&slot->payload_version, 0);
	LWLockRelease(gtf_segment->payload_lock);
}

Size
gtf_payload_memory_used(void)
{
	Size		used;

	LWLockAcquire(gtf_segment->payload_lock, LW_SHARED);
	used = gtf_segment->untouched_pages - gtf_segment->free_pages;
	LWLockRelease(gtf_segment->payload_lock);
	return used * PAGE_BYTES;
}

/* ---- pages for others ---- */

int
gtf_pages_put(const void *from, Size size)
{
	int			first;

	LWLockAcquire(gtf_segment->payload_lock, LW_EXCLUSIVE);
	first = take_pages(pages_for(size));
	if (first >= 0)
	{
		gtf_segment->payload_pages[first].users = 1;
		gtf_segment->payload_pages[first].size = (uint32) size;
	}
	LWLockRelease(gtf_segment->payload_lock);
	if (first >= 0)
		copy_in(first, from, size);
	return first;
}

void
gtf_pages_get(int first, void *to, Size size)
{
	copy_out(to, first, size);
}

void
gtf_pages_drop(int first)
{
	LWLockAcquire(gtf_segment->payload_lock, LW_EXCLUSIVE);
	leave(first);
	LWLockRelease(gtf_segment->payload_lock);
}

/* ---- who looks at reports ---- */

bool
gtf_slot_watch(int i, uint64 serial, uint64 changes)
{
	Slot	   *slot = &gtf_segment->slots[i];

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (slot->serial == serial && slot->state == GTF_SLOT_RUNNING)
		pg_atomic_write_u32(&slot->watched, 1);
	LWLockRelease(slot->lock);

	/* say so, then look: one of both sees the other */
	pg_memory_barrier();
	return pg_atomic_read_u64(&slot->progress_changes) == changes;
}

void
gtf_dispatcher_wake_to_look(int db)
{
	pg_atomic_write_u32(&gtf_segment->databases[db].look_wanted, 1);
	gtf_dispatcher_wake(db);
}

void
gtf_dispatcher_looks_at(int db, TimestampTz at)
{
	pg_atomic_write_u64(&gtf_segment->databases[db].looks_at, (uint64) at);
	pg_memory_barrier();
}

bool
gtf_dispatcher_look_wanted(int db)
{
	Database   *entry = &gtf_segment->databases[db];

	return pg_atomic_read_u32(&entry->look_wanted) != 0 &&
		pg_atomic_exchange_u32(&entry->look_wanted, 0) != 0;
}

/* ---- what PostgreSQL reports of a command ---- */

bool
gtf_slot_command(const GtfSlotInfo *info, GtfCommandReport *report)
{
	Slot	   *slot = &gtf_segment->slots[info->index];
	volatile PgBackendStatus *status = NULL;
	int			pid = 0;
	bool		valid;

	LWLockAcquire(slot->lock, LW_SHARED);
	if (slot->serial == info->serial && slot->state == GTF_SLOT_RUNNING)
	{
		status = slot->status;
		pid = slot->pid;
	}
	LWLockRelease(slot->lock);
	if (status == NULL)
		return false;

	for (;;)
	{
		int			before;
		int			after;

		pgstat_begin_read_activity(status, before);
		valid = status->st_procpid == pid;
		report->command = status->st_progress_command;
		memcpy(report->param, (const void *) status->st_progress_param,
			   sizeof(report->param));
		pgstat_end_read_activity(status, after);
		if (pgstat_read_activity_complete(before, after))
			break;
		CHECK_FOR_INTERRUPTS();
	}

	/* still the same task? */
	LWLockAcquire(slot->lock, LW_SHARED);
	valid &= slot->serial == info->serial && slot->state == GTF_SLOT_RUNNING;
	LWLockRelease(slot->lock);
	return valid && report->command != PROGRESS_COMMAND_INVALID;
}
