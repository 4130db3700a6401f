/*-------------------------------------------------------------------------
 *
 * signal.c
 *	  Signals to the outside world, by NOTIFY.
 *
 * Everything goes through the flusher, after the flush: nobody hears of an
 * end that a crash could take back, and tasks that end never queue for the
 * lock that is held by each transaction with a NOTIFY, in the whole server,
 * until it has committed.  The flusher takes that lock once for many signals.
 *
 * What is to be sent is in the memory of the flusher until its transaction
 * has committed, so that an error, a full queue of PostgreSQL for example,
 * only delays it; a flusher that ends leaves it to the next one in the done
 * ring.  When the server crashes, listeners lose their connections and have to
 * look at the tasks again in any case.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/async.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "settings.h"
#include "signal.h"
#include "worker.h"

#define SIGNALS_PER_TX	1000
#define MAX_REMEMBERED	(1024 * 1024)
#define RETRY_MS		1000

/* Remembered are signals[first .. first + count). */
static GtfDone *signals = NULL;
static int	size = 0;
static int	first = 0;
static int	count = 0;
static bool overflowed = false;
static TimestampTz not_before = 0;	/* after an error */

static void
notify(const GtfDone *signal)
{
	bool		aborting = signal->status == (int32) GTF_ABORTING;
	char		channel[GTF_MAX_CHANNEL_PREFIX + 36 + 1];

	snprintf(channel, sizeof(channel), "%s%s",
			 aborting ? gtf_abort_channel_prefix : gtf_completion_channel_prefix,
			 gtf_id_text(&signal->id));
	Async_Notify(channel, aborting ? "abort" : gtf_status_text((GtfStatus) signal->status));
}

void
gtf_signal_add(const GtfDone *done, int n)
{
	if (!gtf_signals || n == 0)
		return;
	if (first > 0 && first + count + n > size)
	{
		memmove(signals, signals + first, count * sizeof(GtfDone));
		first = 0;
	}
	if (count + n > size)
	{
		int			wanted = Max(size, 1024);

		while (wanted < count + n)
			wanted *= 2;
		if (wanted > MAX_REMEMBERED)
		{
			if (!overflowed)
				ereport(WARNING,
						(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						 errmsg("too many signals of gtf cannot be sent"),
						 errdetail("Signals are dropped until those that wait are sent."),
						 errhint("Look for a session that listens and has been in a transaction for long.")));
			overflowed = true;
			return;
		}
		if (signals == NULL)
			signals = MemoryContextAllocHuge(TopMemoryContext, wanted * sizeof(GtfDone));
		else
			signals = repalloc_huge(signals, wanted * sizeof(GtfDone));
		size = wanted;
	}
	memcpy(&signals[first + count], done, n * sizeof(GtfDone));
	count += n;
}

void
gtf_signal_send(void)
{
	XLogRecPtr	lsn = InvalidXLogRecPtr;
	int			n = Min(count, SIGNALS_PER_TX);

	if (n == 0 || GetCurrentTimestamp() < not_before)
		return;

	not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), RETRY_MS);
	/* those whose flush has failed are here, too */
	for (int i = 0; i < n; i++)
		lsn = Max(lsn, signals[first + i].lsn);
	gtf_make_durable(lsn);
	gtf_tx_begin();
	for (int i = 0; i < n; i++)
		notify(&signals[first + i]);
	(void) gtf_tx_commit(false);
	not_before = 0;

	first += n;
	count -= n;
	if (count == 0)
	{
		first = 0;
		overflowed = false;
	}
}

bool
gtf_signal_waiting(long *timeout_ms)
{
	if (count == 0)
		return false;
	*timeout_ms = not_before == 0 ? 0 :
		TimestampDifferenceMilliseconds(GetCurrentTimestamp(), not_before);
	return true;
}

void
gtf_signal_leave(int db)
{
	int			left = gtf_done_unpop(db, signals + first, count);

	if (left > 0)
		ereport(LOG,
				(errmsg("%d signals of gtf were not sent", left)));
	count = 0;
}

static void
send_one(void *arg)
{
	gtf_tx_begin();
	notify(arg);
	(void) gtf_tx_commit(false);
}

void
gtf_signal_now(const GtfDone *done)
{
	GtfDone		signal = *done;
	MemoryContext scratch;

	if (!gtf_signals)
		return;
	scratch = AllocSetContextCreate(CurrentMemoryContext, "gtf signal",
									ALLOCSET_SMALL_SIZES);
	(void) gtf_worker_guarded(send_one, &signal, scratch);
	MemoryContextDelete(scratch);
}
