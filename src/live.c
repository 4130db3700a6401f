/*-------------------------------------------------------------------------
 *
 * live.c
 *	  The dispatcher writes down what a crash would take: the start, progress
 *	  and payload of attempts that run for a while.
 *
 * The start goes to gtf.live after 100 ms.  A report follows when the attempt
 * has run, or has last been written, gtf.progress_flush_interval ago, and
 * only if there is a new one.  So an attempt that is shorter costs nothing,
 * and one that reports all the time one row version per interval.
 *
 * Nobody polls: a task that has not reported anything new for an interval is
 * watched, that is, its next report wakes the dispatcher.  A task that starts
 * wakes the dispatcher unless that looks soon anyway, which it announces in
 * shared memory; while tasks start one after the other it goes on looking, so
 * that not each of them has to wake it.
 *
 * gtf_slot_live_begin and _end make sure that the row is written before the
 * executor goes on to write the outcome and to delete the row, or not at all.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "dispatcher.h"
#include "settings.h"
#include "store.h"
#include "worker.h"

#define LONG_RUNNING_MS 100
#define LONGEST_MS		10		/* then other work comes first */
#define LOCK_TIMEOUT_MS 1000

/* What is in the row of the attempt that runs in a slot. */
typedef struct Written
{
	uint64		serial;			/* of the attempt */
	uint64		changes;		/* as of the report, 0 = none written */
	uint64		payload_version;
	TimestampTz at;				/* when, or when the attempt started */
} Written;

static void
earliest(TimestampTz *next, TimestampTz at)
{
	if (*next == 0 || at < *next)
		*next = at;
}

/* False if the attempt is ending. */
static bool
write_row(GtfSlotInfo *info, Written *written, bool report)
{
	MemoryContext context = CurrentMemoryContext;
	GtfLive		live = {0};

	live.task_id = info->ref.id;
	live.attempt = info->ref.attempt;
	live.state = GTF_LIVE_RUNNING;
	live.since = info->started_at;
	live.worker = info->pid;
	if (!gtf_slot_live_begin(info->index, info->serial))
		return false;
	PG_TRY();
	{
		/* the body may have what we wait for, and then waits for us */
		LockTimeout = LOCK_TIMEOUT_MS;
		gtf_tx_begin();
		if (report)
		{
			if (info->payload_version != written->payload_version)
				live.payload = gtf_slot_payload(info);
			live.progress = info->progress;
		}
		if (!info->live_written || !gtf_store_live_report(&live))
		{
			/* or not there: it could not be written before */
			if (report && live.payload == NULL)
			{
				live.payload = gtf_slot_payload(info);
				live.progress = info->progress;
			}
			gtf_store_live_put(&live);
		}
		(void) gtf_tx_commit(false);
	}
	PG_FINALLY();
	{
		LockTimeout = 0;
		gtf_slot_live_end(info->index);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);

	if (report)
	{
		written->changes = info->changes;
		written->payload_version = info->payload_version;
		written->at = GetCurrentTimestamp();
	}
	return true;
}

/*
 * Look at one slot, write what is due.  *next is set to the time to look
 * again at, if that is earlier.
 */
static void
look_at(GtfSlotInfo *info, Written *written, TimestampTz now,
		TimestampTz *next)
{
	TimestampTz due;
	TimestampTz report_due;
	bool		news;

	if (!info->body_running)
	{
		earliest(next, TimestampTzPlusMilliseconds(now, LONG_RUNNING_MS));
		return;
	}
	if (written->serial != info->serial)
	{
		memset(written, 0, sizeof(Written));
		written->serial = info->serial;
		written->at = info->started_at;
	}

	due = TimestampTzPlusMilliseconds(info->started_at, LONG_RUNNING_MS);
	report_due = TimestampTzPlusMilliseconds(written->at, gtf_progress_flush_interval);
	news = info->changes != written->changes;
	if (info->live_written || (news && report_due < due))
		due = report_due;

	if (due > now)
		earliest(next, due);
	else if (!news && info->live_written)
	{
		if (!gtf_slot_watch(info->index, info->serial, info->changes))
			earliest(next, now);
	}
	else if (write_row(info, written, news && report_due <= now))
	{
		if (gtf_progress_flush_interval > 0)
			earliest(next, Max(now, TimestampTzPlusMilliseconds(written->at,
																gtf_progress_flush_interval)));
		else
			earliest(next, now);
	}
}

/* What look_at() is called with. */
typedef struct Look
{
	GtfSlotInfo info;
	Written    *written;
	TimestampTz now;
	TimestampTz next;
} Look;

static void
look_step(void *arg)
{
	Look	   *look = arg;

	look_at(&look->info, look->written, look->now, &look->next);
}

void
gtf_live_write(Dispatcher *d)
{
	static Written *written = NULL;
	static TimestampTz promised = 0;
	static uint64 seen_starts = 0;
	static int	first = 0;
	static Look look;
	instr_time	start;
	uint64		starts = 0;
	int			n = gtf_slot_count();

	if (written == NULL)
		written = MemoryContextAllocZero(TopMemoryContext, n * sizeof(Written));
	if (!gtf_dispatcher_look_wanted(d->db) && promised > d->now)
	{
		gtf_dispatcher_look_at(d, promised);
		return;
	}

	/* who starts from here on and is not seen below wakes us */
	promised = 0;
	gtf_dispatcher_looks_at(d->db, 0);
	look.now = d->now;
	look.next = 0;
	INSTR_TIME_SET_CURRENT(start);

	for (int j = 0; j < n; j++)
	{
		int			i = (first + j) % n;

		if (!gtf_slot_info(i, &look.info) ||
			look.info.database != MyDatabaseId)
			continue;
		starts += look.info.serial;
		if (look.info.state == GTF_SLOT_RUNNING && !look.info.in_block)
		{
			instr_time	elapsed;

			look.written = &written[i];
			if (!gtf_dispatcher_try(d, GTF_TROUBLE_LIVE, &look.info.ref.id,
									look_step, &look))
				earliest(&look.next, TimestampTzPlusMilliseconds(d->now, 1000));
			INSTR_TIME_SET_CURRENT(elapsed);
			INSTR_TIME_SUBTRACT(elapsed, start);
			if (INSTR_TIME_GET_MILLISEC(elapsed) > LONGEST_MS)
			{
				first = i + 1;
				earliest(&look.next, d->now);
				break;
			}
		}
	}

	if (starts != seen_starts)
	{
		seen_starts = starts;
		earliest(&look.next, TimestampTzPlusMilliseconds(d->now, LONG_RUNNING_MS));
	}
	if (look.next != 0)
	{
		promised = look.next;
		gtf_dispatcher_looks_at(d->db, promised);
		gtf_dispatcher_look_at(d, promised);
	}
}
