/*-------------------------------------------------------------------------
 *
 * executor.c
 *	  A process of the pool, bound to (database, role): runs tasks.
 *
 * For an atomic body everything is one transaction: fetch the task, look
 * whether the attempt is still wanted, run the code, write the outcome,
 * commit asynchronously, tell the flusher.  Bodies with effects of their own
 * (procedures, commands, hooks that say so) get their start recorded and
 * flushed first, run in their own transactions, and the outcome follows in one
 * more.  So is the start of atomic hooks: code in C may crash the server.
 *
 * The slot says at each moment where the process is, see shmem.h.  Whatever
 * goes wrong here ends either in a written outcome or in the death of the
 * process, and then the dispatcher settles the attempt (settle.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "replication/origin.h"
#include "replication/slot.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "access.h"
#include "attempt.h"
#include "body.h"
#include "compat.h"
#include "errors.h"
#include "executor.h"
#include "finish.h"
#include "hook.h"
#include "on_abort.h"
#include "registry.h"
#include "safepoint.h"
#include "settings.h"
#include "shmem.h"
#include "stats.h"
#include "store.h"
#include "worker.h"

#define KEY_WAIT_MS		50		/* between two looks at who had the key */
#define WRITE_TRIES 5			/* of a failed attempt's outcome, 1 s apart */

static Oid	my_role;
static bool my_role_is_superuser;
static MemoryContext task_context;
static emit_log_hook_type prev_emit_log_hook = NULL;

/* Roles, memberships or databases have changed since we looked. */
static bool access_changed = false;

/* This process is not fit for another task. */
static bool spoilt = false;

/* What an error during the start says is for the dispatcher. */
static void
keep_start_error(ErrorData *edata)
{
	if (edata->elevel >= ERROR && edata->message)
		gtf_slot_set_start_error(edata->sqlerrcode, edata->message);
	if (prev_emit_log_hook)
		prev_emit_log_hook(edata);
}

static void
detach(int code, Datum arg)
{
	gtf_attempt_lose_all();
	gtf_slot_detach();
}

/* The start, durable, before a body whose effects a crash would not undo. */
static void
record_start(GtfAttempt *run)
{
	GtfLive		live = {0};

	live.task_id = run->ref.id;
	live.attempt = run->ref.attempt;
	live.state = GTF_LIVE_RUNNING;
	live.atomic = run->type->kind == GTF_TYPE_HOOK && gtf_type_is_atomic(run->type);
	live.since = run->started_at;
	live.worker = MyProcPid;
	gtf_store_live_put(&live);
	(void) gtf_tx_commit(true);
	MemoryContextSwitchTo(task_context);
	run->has_live = true;
}

static void
forget_access(Datum arg, int cacheid, uint32 hashvalue)
{
	access_changed = true;
}

/*
 * Could the owner have an executor if it had none yet?  ERROR if not.  False:
 * it could, but not one like this, which still has the rights of a superuser,
 * or lacks them.
 */
static bool
still_welcome(void)
{
	bool		can_login;
	bool		is_superuser;
	int			sqlerrcode;
	char	   *why;

	if (!access_changed)
		return true;
	access_changed = false;
	why = gtf_may_connect(my_role, &can_login, &is_superuser, &sqlerrcode);
	if (why)
	{
		access_changed = true;
		ereport(ERROR, (errcode(sqlerrcode), errmsg_internal("%s", why)));
	}
	return is_superuser == my_role_is_superuser;
}

/* The code is there and the owner may run it.  False: not in this process. */
static bool
ready(GtfAttempt *run)
{
	if (!still_welcome())
	{
		spoilt = true;
		run->next = run->ref;
		return false;
	}
	if (run->type->kind != GTF_TYPE_COMMAND)
		(void) gtf_type_resolve(run->type, run->task->owner);
	if (run->type->kind == GTF_TYPE_HOOK && !gtf_hook_resolve(run->type))
	{
		spoilt = true;
		run->next = run->ref;
		return false;
	}
	return true;
}

/*
 * Find out what there is to run.  False: nothing, the reference was stale.
 * Leaves the transaction open.
 */
static bool
prepare(GtfAttempt *run)
{
	TransactionId xid;

	gtf_tx_begin();
	MemoryContextSwitchTo(task_context);
	if (run->ref.flags & GTF_REF_DEPENDS)
	{
		/* it was in the queue only to be ended */
		run->next = run->ref;
		return false;
	}
	run->task = gtf_store_task_fetch(&run->ref.id, &run->ref.tid);
	if (run->task == NULL)
		return false;
	if (run->ref.expires_at != 0 && run->ref.expires_at <= GetCurrentTimestamp())
	{
		/* the dispatcher ends it */
		run->next = run->ref;
		return false;
	}
	if (run->task->has_after && !gtf_store_has_ended(&run->task->after_id))
	{
		/* the one that had its key before is still aborting */
		run->next = run->ref;
		run->next.due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													KEY_WAIT_MS);
		return false;
	}
	run->type = gtf_type_by_version(run->task->type_version, true);
	gtf_attempt_set_task(run->task, run->type, run->ref.attempt);
	if (run->type == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("version %d of the task type does not exist",
						run->task->type_version)));

	/*
	 * An outcome that is there already would win in the end anyway.  To look
	 * first is worth it where running in vain does harm, or is likely.
	 */
	if (gtf_type_is_atomic(run->type) && run->type->kind != GTF_TYPE_HOOK &&
		run->ref.attempt == 1 &&
		(run->ref.flags & (GTF_REF_DURABLE_START | GTF_REF_SCANNED)) == 0 &&
		!gtf_db_must_probe(MyDatabaseId))
		return ready(run);
	switch (gtf_store_outcome_probe(&run->ref.id, run->ref.attempt, &xid))
	{
		case GTF_PROBE_EXISTS:
			{
				GtfLive		live;

				/* whoever has waited for us may have kept the next one out */
				if (gtf_store_live_get(&run->ref.id, &live))
					gtf_finish_follow(&run->ref, run->task, &live, &run->next);
				return false;
			}
		case GTF_PROBE_IN_PROGRESS:
			{
				/* somebody is ending it: look again when that is decided */
				run->next = run->ref;
				run->next.due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 50);
				run->next.flags |= GTF_REF_SCANNED;
				return false;
			}
		case GTF_PROBE_NONE:
			/* or removed together with its task, since that was read? */
			if (gtf_store_task_head(&run->ref.id) == NULL)
				return false;
			break;
	}
	return ready(run);
}

static void
report_running(const GtfAttempt *run)
{
	char		activity[64 + GTF_TYPE_NAME_MAX];

	snprintf(activity, sizeof(activity), "gtf task %s: %s",
			 gtf_id_text(&run->ref.id), run->type->name);
	pgstat_report_activity(STATE_RUNNING, activity);
}

/* The end is committed: tell of it. */
static void
tell(const GtfOutcome *outcome, XLogRecPtr lsn)
{
	GTF_INJECTION_POINT("gtf-attempt-ended");
	/* what has succeeded is not run again */
	if (outcome->status != GTF_SUCCESS)
		gtf_slot_let_go();
	gtf_finish_tell(outcome, lsn);
	gtf_slot_told();
}

/* Commit the outcome, and tell of it. */
static void
commit_outcome(const GtfOutcome *outcome)
{
	XLogRecPtr	lsn = gtf_tx_commit(gtf_synchronous_commit);

	MemoryContextSwitchTo(task_context);
	gtf_stats_ended(outcome);
	tell(outcome, lsn);
}

/* True if there was something to run. */
static bool
run_to_success(GtfAttempt *run)
{
	GtfOutcome	outcome;
	Jsonb	   *result = NULL;
	bool		atomic;
	const Interval *timeout;

	/* whoever cancels a statement until the body starts meant an earlier one */
	HOLD_CANCEL_INTERRUPTS();
	if (!prepare(run))
	{
		(void) gtf_tx_commit(false);
		RESUME_CANCEL_INTERRUPTS();
		return false;
	}
	atomic = gtf_type_is_atomic(run->type);
	run->started_at = GetCurrentTimestamp();
	if (!atomic || run->type->kind == GTF_TYPE_HOOK ||
		(run->ref.flags & GTF_REF_DURABLE_START))
	{
		record_start(run);
		if (atomic)
			gtf_tx_begin();
	}
	MemoryContextSwitchTo(task_context);
	timeout = run->task->timeout ? run->task->timeout : run->type->timeout;
	gtf_attempt_body_begins();
	RESUME_CANCEL_INTERRUPTS();
	QueryCancelPending = false;
	if (!gtf_slot_body_starts(run->started_at, run->has_live,
							  gtf_attempt_mode(run->type),
							  gtf_attempt_deadline(timeout, run->started_at),
							  gtf_attempt_deadline(run->type->hard_timeout,
												   run->started_at)))
	{
		if (!atomic)
			gtf_tx_begin();
		MemoryContextSwitchTo(task_context);
		gtf_attempt_write_not_started(run, &outcome);
		commit_outcome(&outcome);
		return true;
	}
	gtf_count(MyDatabaseId, GTF_COUNT_STARTED, 1);
	if (timeout || run->type->hard_timeout)
		gtf_dispatcher_wake(gtf_db_find(MyDatabaseId));
	run->phase = GTF_PHASE_BODY;
	report_running(run);

	if (atomic)
	{
		int			guc_level = NewGUCNestLevel();

		result = gtf_body_run_function(run->task, run->type);
		/* what the body SET is not for the next task */
		AtEOXact_GUC(false, guc_level);
	}
	else
	{
		if (run->type->kind == GTF_TYPE_COMMAND)
			result = gtf_body_run_command(run->task, task_context);
		else
			result = gtf_body_run_procedure(run->task, run->type, task_context);
		gtf_tx_begin();
		MemoryContextSwitchTo(task_context);
	}
	gtf_attempt_run_handlers(run, false);
	MemoryContextSwitchTo(task_context);
	gtf_attempt_write_returned(run, result, &outcome);
	commit_outcome(&outcome);
	return true;
}

/* The attempt raised: its outcome in a new transaction. */
static void
write_failure(GtfAttempt *run, ErrorData *edata)
{
	GtfOutcome	outcome;
	XLogRecPtr	lsn;
	bool		written;

	gtf_tx_begin();
	MemoryContextSwitchTo(task_context);
	gtf_attempt_run_handlers(run, true);
	MemoryContextSwitchTo(task_context);
	written = gtf_attempt_write_raised(run, edata, &outcome);
	lsn = gtf_tx_commit(gtf_synchronous_commit);
	MemoryContextSwitchTo(task_context);
	if (written)
	{
		gtf_stats_ended(&outcome);
		if (run->next.attempt == 0)
			tell(&outcome, lsn);
		else
			run->next_lsn = lsn;
	}
}

/* Does this error say that another outcome of the attempt came first? */
static bool
is_superseded(const GtfAttempt *run, const ErrorData *edata)
{
	return run->phase == GTF_PHASE_FINISH &&
		edata->sqlerrcode == ERRCODE_UNIQUE_VIOLATION &&
		edata->schema_name != NULL && strcmp(edata->schema_name, "gtf") == 0 &&
		edata->table_name != NULL && strcmp(edata->table_name, "outcomes") == 0;
}

/* Leave an error behind. */
static void
abort_everything(void)
{
	HOLD_INTERRUPTS();
	disable_all_timeouts(false);
	QueryCancelPending = false;
	debug_query_string = NULL;
	gtf_attempt_leave_error();
	RESUME_INTERRUPTS();
	MemoryContextSwitchTo(task_context);
}

static void
reset_state(bool transactional_settings_only)
{
	Oid			temp;
	Oid			temp_toast;

	/* an error has left it acquired */
	if (MyReplicationSlot != NULL)
		ReplicationSlotRelease();
	gtf_drop_temporary_slots();
	/* what only the end of the process ends */
	if (replorigin_session_origin != InvalidRepOriginId ||
		get_backup_status() == SESSION_BACKUP_RUNNING)
		spoilt = true;
	PortalHashTableDeleteAll();
	DropAllPreparedStatements();
	LockReleaseAll(USER_LOCKMETHOD, true);
	ResetSequenceCaches();

	GetTempNamespaceState(&temp, &temp_toast);
	if (OidIsValid(temp) || !transactional_settings_only)
	{
		gtf_tx_begin();
		if (!transactional_settings_only)
		{
			SetPGVariable("session_authorization", NIL, false);
			SetPGVariable("role", NIL, false);
			ResetAllOptions();
		}
		if (OidIsValid(temp))
			ResetTempTableNamespace();
		(void) gtf_tx_commit(false);
	}
}

/*
 * Nothing of a task may be seen by the next one.
 */
static void
reset_session(bool transactional_settings_only)
{
	QueryCancelPending = false;
	PG_TRY();
	{
		reset_state(transactional_settings_only);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(task_context);
		EmitErrorReport();
		abort_everything();
		spoilt = true;
	}
	PG_END_TRY();
}

/* Write the failure of an attempt, however often it takes, or die. */
static void
fail(GtfAttempt *run, ErrorData *error)
{
	for (volatile int try = 1;; try++)
	{
		volatile bool ok = true;

		PG_TRY();
		{
			write_failure(run, error);
		}
		PG_CATCH();
		{
			/* a task that has dropped the extension? */
			if (geterrcode() == ERRCODE_UNDEFINED_TABLE)
				try = WRITE_TRIES;
			MemoryContextSwitchTo(task_context);
			EmitErrorReport();
			abort_everything();
			ok = false;
		}
		PG_END_TRY();
		if (ok)
			break;
		if (try == WRITE_TRIES)
			ereport(FATAL,
					(errmsg("could not write the outcome of gtf task %s",
							gtf_id_text(&run->ref.id))));
		(void) gtf_worker_wait(1000);
		if (gtf_worker_stopping())
			proc_exit(1);
	}
}

/* Run one task, whatever comes of it. */
static void
run_task(const GtfTaskRef *ref)
{
	GtfAttempt *run;
	ErrorData  *volatile error = NULL;
	volatile bool processed = true;
	bool		atomic;
	bool		failed = false;

	MemoryContextSwitchTo(task_context);
	run = palloc0(sizeof(GtfAttempt));
	run->ref = *ref;
	run->has_live = (ref->flags & GTF_REF_HAS_LIVE) != 0;
	gtf_handlers_begin();

	PG_TRY();
	{
		processed = run_to_success(run);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(task_context);
		error = CopyErrorData();
		gtf_safepoint_end();
		abort_everything();
	}
	PG_END_TRY();

	/* it could not even be read: does that have to do with the task? */
	if (error && run->task == NULL &&
		!gtf_error_is_transient(error->sqlerrcode))
		error->message = psprintf("could not read the task: %s", error->message);

	if (error && run->task == NULL &&
		gtf_error_is_transient(error->sqlerrcode))
	{
		/* no: the dispatcher offers it again later */
		ereport(LOG,
				(errmsg("gtf task %s could not be read: %s",
						gtf_id_text(&run->ref.id), error->message)));
		run->next = run->ref;
		run->next.due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 1000);
		processed = false;
	}
	else if (error && is_superseded(run, error))
	{
		ereport(DEBUG1,
				(errmsg("attempt %d of gtf task %s was superseded",
						run->ref.attempt, gtf_id_text(&run->ref.id))));
		processed = false;
	}
	else if (error)
	{
		failed = true;
		fail(run, error);
	}

	atomic = run->type == NULL || gtf_type_is_atomic(run->type);
	gtf_attempt_set_task(NULL, NULL, 0);
	reset_session(atomic);
	gtf_hook_note_libraries();
	gtf_slot_idle(processed, failed);
	if (run->next.attempt > 0)
		gtf_finish_again(&run->next, run->next_lsn);

	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(task_context);
	pgstat_report_stat(false);

	/* a body that changed who we are has spoilt the process, too */
	if (GetUserId() != my_role || GetSessionUserId() != my_role)
		spoilt = true;
}

/* Clean up after an attempt whose executor is gone. */
static void
run_cleanup(const GtfTaskRef *ref)
{
	gtf_handlers_begin();
	gtf_cleanup_run(ref, task_context);
	gtf_attempt_set_task(NULL, NULL, 0);
	reset_session(true);
	gtf_slot_idle(false, false);
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(task_context);
	pgstat_report_stat(false);
}

static bool
worn_out(uint64 tasks)
{
	if (gtf_executor_max_tasks > 0 && tasks >= (uint64) gtf_executor_max_tasks)
		return true;
	return gtf_executor_max_memory > 0 &&
		MemoryContextMemAllocated(TopMemoryContext, true) / 1024 >
		(Size) gtf_executor_max_memory;
}

/* From a bare process to one that can run tasks of its role. */
static void
begin_process(void)
{
	GtfExecutorStart start;

	memcpy(&start, MyBgworkerEntry->bgw_extra, sizeof(start));
	if (!gtf_slot_attach(start.slot, start.generation))
		proc_exit(0);
	/* before the connection, so that it runs after the rollback */
	before_shmem_exit(detach, (Datum) 0);
	gtf_attempt_install_doorbell();
	gtf_worker_signals();

	prev_emit_log_hook = emit_log_hook;
	emit_log_hook = keep_start_error;
	my_role = start.role;
	my_role_is_superuser = start.is_superuser;
	gtf_connect_as_role(start.database, start.role, start.can_login,
						start.is_superuser);
	gtf_hook_begin_process();
	process_session_preload_libraries();
	gtf_hook_preloaded();
	emit_log_hook = prev_emit_log_hook;

	/* set for the role or the database, it is for who logs in */
	SetConfigOption("role", "none", PGC_SUSET, PGC_S_OVERRIDE);
	/* the owner's is not for tasks, whose time-outs are gtf's */
	if (GetConfigOption("transaction_timeout", true, false) != NULL)
		SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	gtf_worker_set_name("gtf executor");

	MessageContext = AllocSetContextCreate(TopMemoryContext, "MessageContext",
										   ALLOCSET_DEFAULT_SIZES);
	task_context = AllocSetContextCreate(TopMemoryContext, "gtf task",
										 ALLOCSET_DEFAULT_SIZES);
	(void) gtf_type_keep_in(task_context);
	gtf_safepoint_install();
	CacheRegisterSyscacheCallback(AUTHOID, forget_access, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, forget_access, (Datum) 0);
	CacheRegisterSyscacheCallback(DATABASEOID, forget_access, (Datum) 0);
	/* what the dispatcher knew may be old */
	access_changed = true;
	gtf_slot_ready();
}

void
gtf_executor_main(Datum arg)
{
	uint64		tasks = 0;
	bool		idle = false;
	TimestampTz idle_since = 0;
	GtfTaskRef	ref;

	begin_process();

	/* the doorbell may have come too late for a task: not for the next one */
	while (!gtf_worker_stopping() && !ProcDiePending && !gtf_slot_should_retire())
	{
		TimestampTz now;
		long		left;

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		gtf_worker_check_postmaster();
		if (gtf_slot_take(&ref))
		{
			idle = false;
			if (ref.flags & GTF_REF_CLEANUP)
				run_cleanup(&ref);
			else
				run_task(&ref);
			if (spoilt || worn_out(++tasks))
				break;
			continue;
		}

		if (gtf_slot_should_retire())
			break;

		now = GetCurrentTimestamp();
		if (!idle)
		{
			idle = true;
			idle_since = now;
			pgstat_report_activity(STATE_IDLE, NULL);
		}
		left = TimestampDifferenceMilliseconds(now,
											   TimestampTzPlusMilliseconds(idle_since,
																		   gtf_executor_idle_timeout * INT64CONST(1000)));
		if (left <= 0)
		{
			if (gtf_slot_may_leave())
				break;
			idle_since = now;
			continue;
		}
		(void) gtf_worker_wait(left);
	}
	proc_exit(0);
}
