/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  What every background worker of gtf needs once.
 *
 * One parent per child: the postmaster restarts the launcher, the launcher
 * dispatchers, a dispatcher its flusher and executors.  So only the launcher
 * has a restart time, and it never exits with 0, which would unregister it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/pmsignal.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/condition_variable.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "worker.h"

static const struct
{
	const char *type;			/* shown as backend_type */
	const char *entry;
}			kinds[] =

{
	[GTF_WORKER_LAUNCHER] = {"gtf launcher", "gtf_launcher_main"},
	[GTF_WORKER_DISPATCHER] = {"gtf dispatcher", "gtf_dispatcher_main"},
	[GTF_WORKER_FLUSHER] = {"gtf flusher", "gtf_flusher_main"},
	[GTF_WORKER_EXECUTOR] = {"gtf executor", "gtf_executor_main"},
};

static volatile sig_atomic_t stop_requested = false;

static void
describe(BackgroundWorker *worker, GtfWorkerKind kind)
{
	memset(worker, 0, sizeof(BackgroundWorker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, "gtf", BGW_MAXLEN);
	strlcpy(worker->bgw_function_name, kinds[kind].entry, BGW_MAXLEN);
	strlcpy(worker->bgw_type, kinds[kind].type, BGW_MAXLEN);
	strlcpy(worker->bgw_name, kinds[kind].type, BGW_MAXLEN);
}

void
gtf_worker_register_launcher(void)
{
	BackgroundWorker worker;

	describe(&worker, GTF_WORKER_LAUNCHER);
	worker.bgw_restart_time = 2;
	RegisterBackgroundWorker(&worker);
}

bool
gtf_worker_start(GtfWorkerKind kind, Oid database, Datum arg,
				 const void *extra, Size extra_size,
				 BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;

	describe(&worker, kind);
	snprintf(worker.bgw_name, BGW_MAXLEN, "%s of database %u",
			 kinds[kind].type, database);
	worker.bgw_main_arg = arg;
	worker.bgw_notify_pid = MyProcPid;
	Assert(extra_size <= BGW_EXTRALEN);
	if (extra_size > 0)
		memcpy(worker.bgw_extra, extra, extra_size);
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

static void
handle_sigterm(SIGNAL_ARGS)
{
	stop_requested = true;
	die(postgres_signal_arg);
}

void
gtf_worker_signals(void)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, handle_sigterm);
	/* SIGINT stays with StatementCancelHandler, for pg_cancel_backend */
	pqsignal(SIGINT, StatementCancelHandler);
	BackgroundWorkerUnblockSignals();
}

/*
 * What our own transactions must have, whatever was set for the server, the
 * database or the role.
 */
void
gtf_worker_own_settings(void)
{
	static const char *const settings[][2] =
	{
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"transaction_timeout", "0"},
		{"session_replication_role", "origin"},
		{"search_path", "pg_catalog, pg_temp"},
		{"role", "none"},
	};

	for (int i = 0; i < lengthof(settings); i++)
	{
		/* not every server has all of them */
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
							PGC_S_OVERRIDE);
	}
}

void
gtf_worker_set_name(const char *name)
{
	SetConfigOption("application_name", name, PGC_USERSET, PGC_S_OVERRIDE);
}

bool
gtf_worker_stopping(void)
{
	return stop_requested;
}

void
gtf_worker_check_postmaster(void)
{
	/* as WL_EXIT_ON_PM_DEATH does */
	if (!PostmasterIsAlive())
		proc_exit(1);
}

bool
gtf_worker_wait(long timeout_ms)
{
	bool		reloaded = false;
	long		report_ms = 0;
	int			events = 0;

	/* the caller comes back and looks at the clock again */
	timeout_ms = Min(timeout_ms, INT_MAX);
	if (!stop_requested)
	{
		/* numbers too young to be reported are so when it stays quiet */
		if (!IsTransactionOrTransactionBlock())
			report_ms = pgstat_report_stat(false);
		if (report_ms > 0 && (timeout_ms < 0 || report_ms < timeout_ms))
			timeout_ms = report_ms;
		events = WaitLatch(MyLatch,
						   WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
						   (timeout_ms >= 0 ? WL_TIMEOUT : 0),
						   timeout_ms, PG_WAIT_EXTENSION);
		if (report_ms > 0 && (events & WL_TIMEOUT) != 0)
			(void) pgstat_report_stat(true);
	}
	ResetLatch(MyLatch);
	gtf_worker_check_postmaster();

	/* leave quietly: the caller looks at gtf_worker_stopping() */
	if (stop_requested)
		return false;

	/* a cancel that arrives between two statements has nothing to cancel */
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		reloaded = true;
	}
	return reloaded;
}

void
gtf_backend_wait(long timeout_ms)
{
	timeout_ms = Min(timeout_ms, INT_MAX);
	(void) WaitLatch(MyLatch,
					 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
					 (timeout_ms >= 0 ? WL_TIMEOUT : 0),
					 timeout_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

bool
gtf_worker_guarded(void (*tick) (void *), void *arg, MemoryContext scratch)
{
	MemoryContext old = MemoryContextSwitchTo(scratch);
	volatile bool ok = true;

	PG_TRY();
	{
		tick(arg);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(scratch);
		gtf_worker_recover(true);
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	MemoryContextReset(scratch);
	return ok;
}

void
gtf_worker_recover(bool report)
{
	MemoryContext context = CurrentMemoryContext;

	HOLD_INTERRUPTS();
	disable_all_timeouts(false);
	QueryCancelPending = false;
	if (report)
		EmitErrorReport();
	AbortOutOfAnyTransaction();
	LWLockReleaseAll();
	ConditionVariableCancelSleep();
	pgstat_report_wait_end();
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(context);
	FlushErrorState();
	RESUME_INTERRUPTS();
}

void
gtf_worker_pause(long ms)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);

	while (ms > 0 && !stop_requested)
	{
		(void) gtf_worker_wait(ms);
		/* not longer, should the clock have been set back */
		ms = Min(ms, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end));
	}
}

/* The memory context that a transaction was begun in. */
static MemoryContext tx_context = NULL;

void
gtf_tx_begin(void)
{
	tx_context = CurrentMemoryContext;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

XLogRecPtr
gtf_tx_commit(bool durable)
{
	int			save = synchronous_commit;
	MemoryContext context = tx_context;
	bool		wrote = TransactionIdIsValid(GetTopTransactionIdIfAny());

	/* a body in C; it would not be committed */
	if (GetCurrentTransactionNestLevel() > 1)
		elog(ERROR, "a subtransaction was left open");
	if (ActiveSnapshotSet())
		PopActiveSnapshot();
	if (!durable)
		synchronous_commit = SYNCHRONOUS_COMMIT_OFF;
	else if (synchronous_commit < SYNCHRONOUS_COMMIT_LOCAL_FLUSH)
		synchronous_commit = SYNCHRONOUS_COMMIT_ON;
	PG_TRY();
	{
		CommitTransactionCommand();
	}
	PG_FINALLY();
	{
		synchronous_commit = save;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return wrote ? XactLastCommitEnd : InvalidXLogRecPtr;
}

void
gtf_make_durable(XLogRecPtr lsn)
{
	if (XLogRecPtrIsInvalid(lsn))
		return;
	if (lsn > GetFlushRecPtr(NULL))
		XLogFlush(lsn);
	if (SyncRepRequested())
	{
		HOLD_INTERRUPTS();
		SyncRepWaitForLSN(lsn, true);
		RESUME_INTERRUPTS();
	}
}
