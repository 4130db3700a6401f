/*-------------------------------------------------------------------------
 *
 * shmem_kept.c
 *	  Cleanup handlers kept in slots, for when their process is gone.
 *
 * The executor keeps a copy of what its body registers in its slot.  If it is
 * lost, an executor that is sent for that (GTF_REF_CLEANUP) claims the copy:
 * it moves into its own slot, so that it has one owner at each time, and the
 * lost slot waits.  Should the claimant be lost, too, the dispatcher moves
 * the copy back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "shmem_layout.h"

bool
gtf_slot_keep_handler(const GtfKeptHandler *handler)
{
	Slot	   *slot = &gtf_segment->slots[gtf_my_slot];
	KeptHandler kept = {0};

	Assert(slot->num_kept < GTF_MAX_HANDLERS);
	kept.function = handler->function;
	kept.function_owner = handler->function_owner;
	kept.signature_hash = handler->signature_hash;
	kept.takes_arg = handler->takes_arg;
	kept.arg_page = -1;
	if (handler->arg)
	{
		kept.arg_size = VARSIZE(handler->arg);
		if (kept.arg_size <= KEPT_SMALL_ARG)
			memcpy(kept.small, handler->arg, kept.arg_size);
		else
		{
			kept.arg_page = gtf_pages_put(handler->arg, kept.arg_size);
			if (kept.arg_page < 0)
				return false;
		}
	}

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->kept[slot->num_kept++] = kept;
	LWLockRelease(slot->lock);
	return true;
}

/* The task of the slot has ended; nobody else uses the slot yet. */
void
gtf_kept_drop(Slot *slot)
{
	for (int i = 0; i < slot->num_kept; i++)
	{
		if (slot->kept[i].arg_page >= 0)
			gtf_pages_drop(slot->kept[i].arg_page);
	}
	slot->num_kept = 0;
}

/* The lost slot of a task, locked; NULL if there is none. */
static Slot *
lock_lost(const pg_uuid_t *id)
{
	for (int i = 0; i < NUM_SLOTS; i++)
	{
		Slot	   *slot = &gtf_segment->slots[i];

		if (!gtf_id_equal(&gtf_segment->running[i], id))
			continue;
		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		if (slot->state == GTF_SLOT_LOST &&
			slot->database_oid == MyDatabaseId &&
			gtf_id_equal(&slot->ref.id, id))
			return slot;
		LWLockRelease(slot->lock);
	}
	return NULL;
}

/* Take out what a slot has kept; its lock is held. */
static int
take_from(Slot *slot, KeptHandler *kept)
{
	int			n = slot->num_kept;

	memcpy(kept, slot->kept, n * sizeof(KeptHandler));
	slot->num_kept = 0;
	return n;
}

int
gtf_kept_claim(const pg_uuid_t *id, int32 attempt, GtfKeptHandler *handlers)
{
	Slot	   *mine = &gtf_segment->slots[gtf_my_slot];
	Slot	   *lost;
	KeptHandler kept[GTF_MAX_HANDLERS];
	TimestampTz hard_timeout_at = 0;
	int			n = 0;

	lost = lock_lost(id);
	if (lost == NULL)
		return 0;
	if (lost->ref.attempt == attempt && lost->kept_state == GTF_KEPT_WAITING)
	{
		n = take_from(lost, kept);
		lost->kept_state = GTF_KEPT_CLAIMED;
		/* they may take as long as the whole attempt */
		if (lost->hard_timeout_at != 0)
			hard_timeout_at = GetCurrentTimestamp() +
				(lost->hard_timeout_at - lost->started_at);
	}
	LWLockRelease(lost->lock);
	if (n == 0)
		return 0;

	LWLockAcquire(mine->lock, LW_EXCLUSIVE);
	memcpy(mine->kept, kept, n * sizeof(KeptHandler));
	mine->num_kept = n;
	mine->hard_timeout_at = hard_timeout_at;
	LWLockRelease(mine->lock);
	if (hard_timeout_at != 0)
		gtf_dispatcher_wake(mine->database);

	for (int i = 0; i < n; i++)
	{
		handlers[i].function = kept[i].function;
		handlers[i].function_owner = kept[i].function_owner;
		handlers[i].signature_hash = kept[i].signature_hash;
		handlers[i].takes_arg = kept[i].takes_arg;
		handlers[i].arg = NULL;
		if (kept[i].arg_size > 0)
		{
			handlers[i].arg = palloc(kept[i].arg_size);
			if (kept[i].arg_page < 0)
				memcpy(handlers[i].arg, kept[i].small, kept[i].arg_size);
			else
				gtf_pages_get(kept[i].arg_page, handlers[i].arg,
							  kept[i].arg_size);
		}
	}
	return n;
}

void
gtf_kept_over(const pg_uuid_t *id)
{
	Slot	   *lost = lock_lost(id);
	int			db;

	if (lost == NULL)
		return;
	lost->kept_state = GTF_KEPT_OVER;
	db = lost->database;
	LWLockRelease(lost->lock);
	gtf_dispatcher_wake(db);
}

void
gtf_kept_return(int from, const pg_uuid_t *id)
{
	Slot	   *slot = &gtf_segment->slots[from];
	Slot	   *lost;
	KeptHandler kept[GTF_MAX_HANDLERS];
	int			n;
	bool		returned = false;
	int			db;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	n = take_from(slot, kept);
	db = slot->database;
	LWLockRelease(slot->lock);

	lost = lock_lost(id);
	if (lost != NULL)
	{
		if (lost->kept_state == GTF_KEPT_CLAIMED)
		{
			memcpy(lost->kept, kept, n * sizeof(KeptHandler));
			lost->num_kept = n;
			lost->kept_state = GTF_KEPT_WAITING;
			lost->kept_tries++;
			returned = true;
		}
		else if (lost->kept_state == GTF_KEPT_WAITING)
			lost->kept_tries++;
		LWLockRelease(lost->lock);
	}
	for (int i = 0; i < n && !returned; i++)
	{
		if (kept[i].arg_page >= 0)
			gtf_pages_drop(kept[i].arg_page);
	}
	gtf_dispatcher_wake(db);
}
