/*-------------------------------------------------------------------------
 *
 * shmem_abort.c
 *	  Shared memory of stopping: requests to a running attempt, and its part.
 *
 * A request names the attempt by its serial, so that it never reaches another
 * one.  The first cause wins.  It counts when it comes before the body ends,
 * which the executor says under the slot's lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/latch.h"

#include "settings.h"
#include "shmem_layout.h"

/*
 * The attempt is aborting from now on: for the signal.  The caller holds the
 * slot's lock, so that this comes before the end of the task.  False when
 * there is no room: the caller tries again when it has released the lock.
 */
static bool
tell_aborting(const Slot *slot, GtfDone *done)
{
	memset(done, 0, sizeof(GtfDone));
	done->id = slot->ref.id;
	done->lsn = XactLastCommitEnd;
	done->status = GTF_ABORTING;
	return !gtf_signals || slot->in_block || gtf_done_put(slot->database, done);
}

/* ---- those who ask ---- */

GtfAbortAnswer
gtf_slot_abort(int i, uint64 serial, GtfAbortCause cause,
			   GtfInterrupt interrupt)
{
	bool		anyway = interrupt != GTF_INTERRUPT_LISTENING;
	Slot	   *slot = &gtf_segment->slots[i];
	GtfAbortAnswer answer;
	PGPROC	   *proc = NULL;
	int			pid = 0;
	bool		told = true;
	GtfDone		aborting;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (slot->serial != serial || slot->state != GTF_SLOT_RUNNING ||
		(slot->body_ended && !anyway))
		answer = GTF_ABORT_GONE;
	else if (slot->body_running && !slot->abortable && !anyway)
		answer = GTF_ABORT_REFUSED;
	else if (interrupt == GTF_INTERRUPT_BODY &&
			 (slot->in_handler || slot->body_ended))
		answer = GTF_ABORT_ALREADY;
	else
	{
		answer = slot->abort_cause == GTF_CAUSE_NONE ?
			GTF_ABORT_ACCEPTED : GTF_ABORT_ALREADY;

		/*
		 * One that has not begun will not.  One that was interrupted and is
		 * cleaning up is left alone.
		 */
		if (slot->body_running ?
			anyway || (slot->mode == GTF_MODE_INTERRUPT &&
					   answer == GTF_ABORT_ACCEPTED) :
			anyway && (slot->ref.flags & GTF_REF_CLEANUP) != 0)
		{
			slot->spares_handlers = interrupt == GTF_INTERRUPT_BODY;
			pg_write_barrier();
			slot->interrupt_serial = serial;
			pid = slot->pid;
			/* who sees the cause sees this, too */
			pg_write_barrier();
		}
		if (answer == GTF_ABORT_ACCEPTED && !slot->body_ended)
		{
			slot->abort_cause = cause;
			if (slot->body_running)
				told = tell_aborting(slot, &aborting);
		}
		proc = slot->proc;
	}
	LWLockRelease(slot->lock);
	if (pid != 0)
		(void) kill(pid, SIGUSR2);
	else if (proc)
		SetLatch(&proc->procLatch);
	if (!told)
		(void) gtf_done_leave(MyDatabaseId, &aborting);
	return answer;
}

void
gtf_slot_terminate(int i, uint64 serial, GtfAbortCause cause)
{
	Slot	   *slot = &gtf_segment->slots[i];
	int			pid = 0;
	bool		told = true;
	GtfDone		aborting;

	/* a session is not ours to end */
	if (slot->is_inline)
	{
		(void) gtf_slot_abort(i, serial, cause, GTF_INTERRUPT_ANYTHING);
		return;
	}
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (slot->serial == serial && slot->state == GTF_SLOT_RUNNING)
	{
		if (slot->abort_cause == GTF_CAUSE_NONE)
		{
			slot->abort_cause = cause;
			if (slot->body_running)
				told = tell_aborting(slot, &aborting);
		}
		slot->terminate_serial = serial;
		pid = slot->pid;
	}
	LWLockRelease(slot->lock);
	if (pid != 0)
		(void) kill(pid, SIGUSR2);
	if (!told)
		(void) gtf_done_leave(MyDatabaseId, &aborting);
}

bool
gtf_slot_set_timeout_exceeded(int i, uint64 serial)
{
	Slot	   *slot = &gtf_segment->slots[i];
	bool		changed = false;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (slot->serial == serial)
	{
		if (slot->abortable)
			changed = true;
		else
			slot->timeout_exceeded = true;
	}
	LWLockRelease(slot->lock);
	return !changed;
}

/* ---- the executor ---- */

void
gtf_slot_set_abortable(void)
{
	Slot	   *slot = &gtf_segment->slots[gtf_my_slot];
	bool		told = true;
	GtfDone		aborting;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (slot->mode != GTF_MODE_NEVER && !slot->body_ended)
	{
		slot->abortable = true;
		if (slot->timeout_exceeded && slot->abort_cause == GTF_CAUSE_NONE)
		{
			slot->abort_cause = GTF_CAUSE_TIMEOUT;
			told = tell_aborting(slot, &aborting);
		}
	}
	LWLockRelease(slot->lock);
	if (!told)
		(void) gtf_done_leave(MyDatabaseId, &aborting);
}

GtfAbortCause
gtf_slot_abort_requested(void)
{
	return gtf_my_slot < 0 ? GTF_CAUSE_NONE :
		gtf_segment->slots[gtf_my_slot].abort_cause;
}

void
gtf_slot_abort_mine(void)
{
	Slot	   *slot = &gtf_segment->slots[gtf_my_slot];
	bool		told = true;
	GtfDone		aborting;

	if (slot->abort_cause != GTF_CAUSE_NONE)
		return;
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (slot->abort_cause == GTF_CAUSE_NONE && !slot->body_ended)
	{
		slot->abort_cause = GTF_CAUSE_CANCEL;
		told = tell_aborting(slot, &aborting);
	}
	LWLockRelease(slot->lock);
	if (!told)
		(void) gtf_done_leave(MyDatabaseId, &aborting);
}

bool
gtf_slot_interrupt_requested(void)
{
	Slot	   *slot = &gtf_segment->slots[gtf_my_slot];

	pg_read_barrier();
	return slot->interrupt_serial == slot->serial;
}

bool
gtf_slot_doorbell(int i, bool *terminate)
{
	Slot	   *slot;

	*terminate = false;
	if (i < 0)
		return false;
	slot = &gtf_segment->slots[i];
	if (slot->state != GTF_SLOT_RUNNING)
		return false;
	*terminate = slot->terminate_serial == slot->serial;
	if (slot->in_handler && slot->spares_handlers)
		return false;
	return slot->interrupt_serial == slot->serial;
}

bool
gtf_slot_handlers_begin(void)
{
	Slot	   *slot = &gtf_segment->slots[gtf_my_slot];
	bool		interrupted;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->in_handler = true;
	interrupted = slot->interrupt_serial == slot->serial &&
		slot->spares_handlers;
	LWLockRelease(slot->lock);
	return interrupted;
}

void
gtf_slot_handlers_end(void)
{
	Slot	   *slot = &gtf_segment->slots[gtf_my_slot];

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->in_handler = false;
	LWLockRelease(slot->lock);
}

void
gtf_slot_body_ends(GtfAbortCause *cause)
{
	Slot	   *slot = &gtf_segment->slots[gtf_my_slot];

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->body_ended = true;
	slot->in_handler = false;
	slot->abortable = false;
	slot->interrupt_serial = 0;
	*cause = slot->abort_cause;
	LWLockRelease(slot->lock);
}
