/*-------------------------------------------------------------------------
 *
 * run.c
 *	  CALL gtf_run: a task that its session runs itself.
 *
 * The session takes a slot, so that the task is seen, stopped and timed out
 * like any other, but no executor and no reference: the dispatcher learns of
 * the task only if the session is lost.
 *
 * At top level, or wherever a procedure may commit, the row and the start are
 * one commit, the body follows in a transaction of its own, and the final
 * status is committed before the call returns.  Elsewhere everything is part
 * of the transaction that is there, and nothing is left if that rolls back.
 *
 * A function runs in a subtransaction: what it raises takes back what it has
 * done, and no more.  Procedures and commands run as statements of their own,
 * which is possible at top level only: what they raise ends the transaction,
 * and with it whatever a procedure that had called us was about to do.
 *
 * The slot is left when the outcome is written.  If that cannot be done the
 * attempt is lost, as if the session had ended, and the dispatcher settles it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "attempt.h"
#include "body.h"
#include "finish.h"
#include "hook.h"
#include "on_abort.h"
#include "procedure.h"
#include "safepoint.h"
#include "shmem.h"
#include "stats.h"
#include "store.h"
#include "submit.h"
#include "wait.h"
#include "wakeup.h"
#include "worker.h"

PG_FUNCTION_INFO_V1(gtf_run);

typedef struct Call
{
	MemoryContext context;		/* lives as long as the call */
	bool		in_block;		/* part of the caller's transaction */
	GtfSubmission submission;
	GtfTask		task;
	GtfAttempt	run;
	int			slot;			/* -1 = none */
	bool		pushed;			/* the task is the current one */
	TimestampTz timeout_at;		/* 0 = never */
	TimestampTz hard_timeout_at;

	/* of the body */
	Jsonb	   *result;
	ErrorData  *error;			/* NULL = it has returned */

	/* what the caller gets */
	pg_uuid_t	id;
	GtfOutcome	outcome;
} Call;

/* After the transaction has been rolled back. */
static void
lose_tasks(int code, Datum arg)
{
	gtf_attempt_lose_all();
}

static void
refuse_block(const char *what, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			 errmsg("gtf_run() cannot %s here", what),
			 errdetail_internal("%s", detail),
			 errhint("Call it as a statement of its own, outside a transaction block, with autocommit in drivers that begin transactions.")));
}

/* ---- the body ---- */

static void
run_function(Call *call)
{
	ResourceOwner owner = CurrentResourceOwner;
	int			level = GetCurrentTransactionNestLevel();

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(call->context);
	PG_TRY();
	{
		int			guc_level = NewGUCNestLevel();

		PushActiveSnapshot(GetTransactionSnapshot());
		call->result = gtf_body_run_function(call->run.task, call->run.type);
		if (!call->in_block)
			gtf_handlers_check_constraints();
		PopActiveSnapshot();
		/* what the body SET is not for the session */
		AtEOXact_GUC(false, guc_level);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		/* code in C may have ended all of it */
		if (GetCurrentTransactionNestLevel() <= level)
			PG_RE_THROW();
		MemoryContextSwitchTo(call->context);
		call->error = CopyErrorData();
		gtf_safepoint_end();
		FlushErrorState();
		/* or have left subtransactions of its own */
		while (GetCurrentTransactionNestLevel() > level)
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(call->context);
	CurrentResourceOwner = owner;
}

/*
 * What a body of several transactions SETs stays, as if the session had run
 * it as a statement of its own.  But not who the session is.
 */
static const char *const identity[] = {
	"session_authorization", "role", "gtf.app_user"
};

static void
get_identity(char **values)
{
	for (int i = 0; i < lengthof(identity); i++)
	{
		const char *value = GetConfigOption(identity[i], false, false);

		values[i] = value ? pstrdup(value) : NULL;
	}
}

static void
restore_identity(char **values)
{
	for (int i = 0; i < lengthof(identity); i++)
	{
		const char *value = GetConfigOption(identity[i], false, false);

		if (value && values[i] && strcmp(value, values[i]) != 0)
			SetConfigOption(identity[i], values[i], PGC_USERSET, PGC_S_SESSION);
	}
}

/*
 * A procedure or a command.  Its transactions are its own; it is called and
 * returns in a new one.
 */
static void
run_statement(Call *call)
{
	const char *query = debug_query_string;
	char	   *values[lengthof(identity)];

	get_identity(values);
	gtf_procedure_end();
	CommitTransactionCommand();
	MemoryContextSwitchTo(call->context);
	PG_TRY();
	{
		if (call->run.type->kind != GTF_TYPE_COMMAND)
			call->result = gtf_body_run_procedure(call->run.task, call->run.type,
												  call->context);
		else
			call->result = gtf_body_run_command(call->run.task, call->context);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(call->context);
		call->error = CopyErrorData();
		gtf_safepoint_end();
		/* as for a statement of a client: nobody is between it and us */
		gtf_attempt_leave_error();
	}
	PG_END_TRY();
	debug_query_string = query;
	StartTransactionCommand();
	gtf_procedure_connect();
	MemoryContextSwitchTo(call->context);
	restore_identity(values);
}

/* ---- the end ---- */

/*
 * Write the outcome.  Only in the handlers before can the caller cancel his
 * statement: on return cancels are held.
 */
static void
write_outcome(Call *call)
{
	MemoryContextSwitchTo(call->context);
	PushActiveSnapshot(GetTransactionSnapshot());
	gtf_attempt_run_handlers(&call->run, call->error != NULL);
	HOLD_CANCEL_INTERRUPTS();
	MemoryContextSwitchTo(call->context);
	if (call->error == NULL)
		gtf_attempt_write_returned(&call->run, call->result, &call->outcome);
	else if (!gtf_attempt_write_raised(&call->run, call->error, &call->outcome))
		elog(ERROR, "task \"%s\" has ended otherwise", gtf_id_text(&call->id));
	gtf_wakeup_ended(&call->id, call->outcome.status, true);
	PopActiveSnapshot();
}

/* Write the outcome and commit it. */
static void
commit_outcome(Call *call)
{
	volatile bool committed = false;

	PG_TRY();
	{
		write_outcome(call);
		gtf_procedure_commit();
		committed = true;
	}
	PG_CATCH();
	{
		/* a body that has returned has raised after all */
		if (call->error != NULL)
			PG_RE_THROW();
		MemoryContextSwitchTo(call->context);
		call->error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	if (!committed)
	{
		/* once more; it may have been the commit that has raised, or not */
		while (ActiveSnapshotSet())
			PopActiveSnapshot();
		gtf_procedure_rollback();
		write_outcome(call);
		gtf_procedure_commit();
	}
	gtf_slot_told();
	gtf_make_durable(XactLastCommitEnd);
}

/* The task is not the current one any more, and its slot not ours. */
static bool
leave(Call *call, bool lost)
{
	bool		cancelled = false;

	if (call->slot >= 0)
	{
		/* it may be somebody else's at once */
		gtf_attempt_has_slot(-1);
		gtf_slot_leave_inline(call->slot, lost);
	}
	call->slot = -1;
	if (call->pushed)
		cancelled = gtf_attempt_pop();
	call->pushed = false;
	return cancelled;
}

/* ---- the task ---- */

/* Make it the task of this session; its row is written and not committed. */
static void
begin_task(Call *call)
{
	static bool registered = false;
	GtfAttempt *run = &call->run;
	const Interval *timeout;

	if (!registered)
	{
		on_shmem_exit(lose_tasks, (Datum) 0);
		if (gtf_my_executor_slot < 0)
			gtf_hook_guard_exit();
	}
	registered = true;

	run->task = &call->task;
	run->type = call->submission.type;
	run->in_block = call->in_block;
	run->ref.id = call->task.id;
	run->ref.owner = call->task.owner;
	run->ref.type_version = call->task.type_version;
	run->ref.tid = call->task.tid;
	run->ref.attempt = 1;
	run->started_at = GetCurrentTimestamp();
	/* one that is out of range raises before others know of the task */
	timeout = run->task->timeout ? run->task->timeout : run->type->timeout;
	call->timeout_at = gtf_attempt_deadline(timeout, run->started_at);
	call->hard_timeout_at = gtf_attempt_deadline(run->type->hard_timeout,
												 run->started_at);

	/* for the slot, and for who settles what is lost */
	if (gtf_db_find(MyDatabaseId) < 0)
	{
		(void) gtf_db_want(MyDatabaseId);
		gtf_launcher_wake();
	}
	gtf_attempt_push();
	call->pushed = true;
	/* a cancel that came before that was not noted as one of the caller */
	CHECK_FOR_INTERRUPTS();
	if (!gtf_slot_take_inline(&run->ref, call->in_block))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no slot is free to run the task"),
				 errdetail("Executors and sessions that run tasks have one each."),
				 errhint("Raise gtf.max_slots, or submit the task.")));
	call->slot = gtf_my_slot;
	gtf_attempt_has_slot(gtf_my_slot);
	gtf_attempt_set_task(run->task, run->type, 1);

	/* from now on a cancel is one of the task, and counts for its body */
	HOLD_CANCEL_INTERRUPTS();
	if (!call->in_block)
	{
		GtfLive		live = {0};

		live.task_id = run->ref.id;
		live.attempt = 1;
		live.state = GTF_LIVE_RUNNING;
		live.since = run->started_at;
		live.worker = MyProcPid;
		gtf_store_live_put(&live);
		run->has_live = true;
	}
}

/* From the commit of its start, if there is one, to the outcome. */
static void
run_task(Call *call)
{
	GtfAttempt *run = &call->run;

	gtf_attempt_body_begins();
	if (!gtf_slot_body_starts(run->started_at, run->has_live,
							  gtf_attempt_mode(run->type),
							  call->timeout_at, call->hard_timeout_at))
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		gtf_attempt_write_not_started(run, &call->outcome);
		gtf_wakeup_ended(&call->id, call->outcome.status, true);
		PopActiveSnapshot();
		if (!call->in_block)
			gtf_procedure_commit();
		return;
	}
	if (call->timeout_at != 0 || call->hard_timeout_at != 0)
		gtf_dispatcher_wake(gtf_db_find(MyDatabaseId));
	run->phase = GTF_PHASE_BODY;
	gtf_count(MyDatabaseId, GTF_COUNT_SUBMITTED, 1);
	gtf_count(MyDatabaseId, GTF_COUNT_STARTED, 1);

	RESUME_CANCEL_INTERRUPTS();
	if (gtf_type_is_atomic(run->type))
		run_function(call);
	else
		run_statement(call);
	/* what only an error of a whole statement releases */
	if (call->error && MyReplicationSlot != NULL)
		ReplicationSlotRelease();
	if (call->in_block)
		write_outcome(call);
	else
		commit_outcome(call);
	gtf_stats_ended(&call->outcome);
}

/* Leave the session as it was; ERROR 57014 if the caller has cancelled. */
static void
end_task(Call *call)
{
	bool		cancelled = leave(call, false);

	RESUME_CANCEL_INTERRUPTS();
	if (cancelled)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg_internal("%s", call->error &&
								 call->error->sqlerrcode == ERRCODE_QUERY_CANCELED ?
								 call->error->message :
								 _("canceling statement due to user request")),
				 errdetail("Task \"%s\" has ended as %s.",
						   gtf_id_text(&call->id),
						   gtf_status_text(call->outcome.status))));
}

static void
error_itself(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("task \"%s\" cannot wait for itself", gtf_id_text(id)),
			 errdetail("It has the same key.")));
}

/* As part of the caller's transaction. */
static void
run_in_block(Call *call)
{
	bool		written;

	PushActiveSnapshot(GetTransactionSnapshot());
	written = gtf_submission_write(&call->submission, &call->task, &call->id);
	if (!written && gtf_attempt_is_here(&call->id))
		error_itself(&call->id);
	if (call->task.has_after && gtf_attempt_is_here(&call->task.after_id))
		error_itself(&call->task.after_id);
	if (!written || call->task.has_after)
		refuse_block("wait for the task that has the key",
					 psprintf(_("Task \"%s\" has not ended, and waiting inside a transaction block, a function or an exception block would hold a snapshot."),
							  gtf_id_text(written ? &call->task.after_id : &call->id)));
	begin_task(call);
	PopActiveSnapshot();
	run_task(call);
	end_task(call);
}

/* Wait for the task that has the key, which is the one the caller gets. */
static void
join_task(Call *call)
{
	GtfOutcome *outcome;

	if (gtf_attempt_is_here(&call->id))
		error_itself(&call->id);
	/* subscribed is subscribed */
	gtf_procedure_commit();
	MemoryContextSwitchTo(call->context);
	call->outcome.status = gtf_wait_for_end(&call->id, false);
	MemoryContextSwitchTo(call->context);
	PushActiveSnapshot(GetTransactionSnapshot());
	outcome = gtf_store_outcome_last(&call->id, NULL);
	PopActiveSnapshot();
	/* if it has not been retried or removed meanwhile */
	if (outcome && outcome->status == call->outcome.status)
		call->outcome = *outcome;
}

/* In transactions of its own. */
static void
run_alone(Call *call)
{
	gtf_procedure_begin();
	for (;;)
	{
		pg_uuid_t	after;
		bool		written;

		MemoryContextSwitchTo(call->context);
		PushActiveSnapshot(GetTransactionSnapshot());
		written = gtf_submission_write(&call->submission, &call->task, &call->id);
		if (!written)
		{
			PopActiveSnapshot();
			join_task(call);
			break;
		}
		if (!call->task.has_after)
		{
			begin_task(call);
			PopActiveSnapshot();
			gtf_procedure_commit();
			MemoryContextSwitchTo(call->context);
			run_task(call);
			MemoryContextSwitchTo(call->context);
			end_task(call);
			break;
		}

		/*
		 * The one that had the key is still aborting: begin when it is over,
		 * or join whoever is faster then.
		 */
		after = call->task.after_id;
		if (gtf_attempt_is_here(&after))
			error_itself(&after);
		PopActiveSnapshot();
		gtf_procedure_rollback();
		MemoryContextSwitchTo(call->context);
		(void) gtf_wait_for_end(&after, true);
	}
	gtf_procedure_end();
}

static void
run(FunctionCallInfo fcinfo, Call *call)
{
	/* for values out of line, and for what checking the arguments may call */
	PushActiveSnapshot(GetTransactionSnapshot());
	gtf_submission_read(fcinfo, &call->submission);
	PopActiveSnapshot();

	call->in_block = !gtf_procedure_may_commit(fcinfo);
	if (!gtf_type_is_atomic(call->submission.type) &&
		!gtf_procedure_at_top_level(fcinfo))
		refuse_block(psprintf(_("run a task of type \"%s\""),
							  call->submission.type->name),
					 _("Procedures and commands have transactions of their own: they cannot run inside a transaction block, a function, a DO block or another procedure."));
	if (call->in_block)
		run_in_block(call);
	else
		run_alone(call);
}

/*
 * CALL gtf_run(task_type, args, task_key, task_name, timeout, scope,
 *				INOUT task_id, INOUT status, INOUT result)
 */
Datum
gtf_run(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context;
	MemoryContext keeper;
	Call	   *call;
	Datum		values[3] = {0};
	bool		nulls[3] = {false, false, true};

	gtf_submit_check_allowed("gtf_run()");
	/* it needs the signals for itself */
	if (am_walsender)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("gtf_run() cannot be called in a walsender")));

	context = AllocSetContextCreate(TopMemoryContext, "gtf_run",
									ALLOCSET_DEFAULT_SIZES);
	call = MemoryContextAllocZero(context, sizeof(Call));
	call->context = context;
	call->slot = -1;
	/* types of an outer task must last as long as that */
	keeper = gtf_type_keep_in(context);
	if (keeper)
		(void) gtf_type_keep_in(keeper);

	PG_TRY();
	{
		MemoryContextSwitchTo(context);
		run(fcinfo, call);
	}
	PG_CATCH();
	{
		/* who catches the error shall not miss a cancel that was his */
		if (leave(call, true) && geterrcode() != ERRCODE_QUERY_CANCELED)
			InterruptPending = QueryCancelPending = true;
		(void) gtf_type_keep_in(keeper);
		MemoryContextDelete(context);
		PG_RE_THROW();
	}
	PG_END_TRY();
	(void) gtf_type_keep_in(keeper);

	MemoryContextSwitchTo(caller);
	values[0] = UUIDPGetDatum(&call->id);
	values[1] = CStringGetTextDatum(gtf_status_text(call->outcome.status));
	if (call->outcome.result)
	{
		values[2] = JsonbPGetDatum(call->outcome.result);
		nulls[2] = false;
	}
	values[0] = gtf_procedure_row(fcinfo, values, nulls);
	MemoryContextDelete(context);
	return values[0];
}
