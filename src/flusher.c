/*-------------------------------------------------------------------------
 *
 * flusher.c
 *	  One process per database that runs tasks: makes ends of tasks durable,
 *	  many at a time, and tells those who wait.
 *
 * Executors commit asynchronously and put (task, LSN) into the done ring.
 * The flusher takes all there is, flushes WAL once up to the highest LSN
 * (and waits for synchronous standbys if there are any), then wakes the
 * waiters and sends the signals (signal.c).  Nobody is told of an end that a
 * crash could take back.
 *
 * If it dies, the ring stays; the next one goes on.  While there is none,
 * executors flush and tell by themselves, and of what is in the ring before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "shmem.h"
#include "signal.h"
#include "worker.h"

#define MANY_ENDS			16
#define MANY_ENDS_REST_US	1000

static int	my_db;

static void
detach(int code, Datum arg)
{
	gtf_signal_leave(my_db);
	gtf_flusher_detach(my_db);
	/* what it had taken from the ring, and what came into it too late */
	gtf_waiters_wake_all();
}

static void
tick(void *arg)
{
	GtfDone    *done = palloc(GTF_DONE_RING_SIZE * sizeof(GtfDone));
	XLogRecPtr	handled = InvalidXLogRecPtr;

	for (;;)
	{
		XLogRecPtr	requested = gtf_flush_requested(my_db);
		XLogRecPtr	lsn = InvalidXLogRecPtr;
		bool		wake_dispatcher = false;
		long		signals_ms;
		int			n;

		n = gtf_done_pop(my_db, done, GTF_DONE_RING_SIZE);
		gtf_signal_add(done, n);
		for (int i = 0; i < n; i++)
			lsn = Max(lsn, done[i].lsn);
		if (requested > handled && requested > GetFlushRecPtr(NULL))
		{
			handled = requested;
			lsn = Max(lsn, requested);
			wake_dispatcher = true;
		}
		if (n == 0 && !wake_dispatcher &&
			!(gtf_signal_waiting(&signals_ms) && signals_ms == 0))
			break;

		gtf_make_durable(lsn);
		for (int i = 0; i < n; i++)
		{
			if (done[i].status != (int32) GTF_ABORTING)
				gtf_waiters_wake(&done[i].id);
		}
		if (wake_dispatcher)
			gtf_dispatcher_wake(my_db);
		/* who waits here first, and never for the lock of NOTIFY */
		gtf_signal_send();
		if (gtf_worker_stopping())
			break;

		/*
		 * When so many end during one flush, more of them share the next one
		 * if it comes a bit later: processors have better things to do.
		 */
		if (n >= MANY_ENDS)
			pg_usleep(MANY_ENDS_REST_US);
	}
	pfree(done);
}

void
gtf_flusher_main(Datum arg)
{
	MemoryContext scratch;
	Oid			database;

	my_db = DatumGetInt32(arg);
	memcpy(&database, MyBgworkerEntry->bgw_extra, sizeof(Oid));
	if (!gtf_flusher_attach(my_db, database))
		proc_exit(0);
	before_shmem_exit(detach, (Datum) 0);
	gtf_worker_signals();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	gtf_worker_own_settings();
	gtf_worker_set_name("gtf flusher");
	pgstat_report_activity(STATE_IDLE, NULL);

	scratch = AllocSetContextCreate(TopMemoryContext, "gtf flusher tick",
									ALLOCSET_DEFAULT_SIZES);
	while (!gtf_worker_stopping())
	{
		if (!gtf_worker_guarded(tick, NULL, scratch))
		{
			/* what it had taken from the ring is told of no more */
			gtf_waiters_wake_all();
			(void) gtf_worker_wait(1000);
		}
		else
		{
			long		timeout_ms = -1;

			(void) gtf_signal_waiting(&timeout_ms);
			(void) gtf_worker_wait(timeout_ms);
		}
		if (gtf_db_is_blocked(my_db))
			break;
	}
	proc_exit(0);
}
