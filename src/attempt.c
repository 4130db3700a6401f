/*-------------------------------------------------------------------------
 *
 * attempt.c
 *	  One attempt as it goes on, in the process that runs it.
 *
 * A process can run a task inside another one (gtf_run in a body), so what
 * belongs to the running task is kept in levels: level 0 is the task of an
 * executor, or nothing in a session, each level above a task that was begun by
 * the one below.  The topmost is the current task.
 *
 * A signal names an attempt by the slot that it is in.  When that is not the
 * topmost, those above are in its way: for them it is what a query cancel of
 * the client is to the task that a session runs.
 *
 * All of it is memory of this process, written by it and its signal handlers.
 * What others see of an attempt is in its slot; when the process dies the exit
 * callbacks of executor.c and run.c leave the slots of all levels LOST.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "jit/jit.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "tcop/tcopprot.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "attempt.h"
#include "finish.h"
#include "hook.h"
#include "on_abort.h"
#include "safepoint.h"
#include "settings.h"
#include "shmem.h"
#include "store.h"

#define MAX_LEVELS 16
#define DEAF_MS			1000	/* that it takes no code to serve interrupts */

const GtfTask *gtf_current_task = NULL;
const GtfType *gtf_current_type = NULL;
int32		gtf_current_attempt = 0;
bool		gtf_abort_noticed = false;

typedef struct Level
{
	/* for the signal handlers */
	volatile int slot;			/* -1 = none */
	volatile sig_atomic_t interrupted;	/* by its doorbell */
	volatile sig_atomic_t cancelled;	/* by who began the task */

	/* while a level above runs: what was current */
	const GtfTask *task;
	const GtfType *type;
	int32		attempt;
	bool		noticed;
	GtfSafepointState safepoint;
} Level;

static Level levels[MAX_LEVELS] = {{.slot = -1}};
static volatile sig_atomic_t top = 0;

/* what was installed before there was a level above 0 */
static struct sigaction former_int;
static struct sigaction former_usr2;

static int
slot_of(int level)
{
	return level == 0 ? gtf_my_executor_slot : levels[level].slot;
}

/*
 * The doorbell: somebody wants an attempt that runs here to be interrupted, or
 * this process to end.  Whether it is still the attempt that was meant is decided
 * here, so a late signal does nothing.
 */
static void
handle_doorbell(int signo, siginfo_t *info, void *ucontext)
{
	static TimestampTz told_at = 0;
	int			save_errno = errno;
	int			n = top;

	for (int i = n; i >= 0; i--)
	{
		bool		terminate;

		if (gtf_slot_doorbell(slot_of(i), &terminate))
		{
			/* a former one that is not pending any more was raised */
			if (i == n && levels[i].interrupted && !QueryCancelPending)
				gtf_abort_noticed = true;
			levels[i].interrupted = true;
			for (int above = i + 1; above <= n; above++)
				levels[above].cancelled = true;
			InterruptPending = true;
			QueryCancelPending = true;
		}
		if (terminate)
		{
			if (!ProcDiePending)
				told_at = GetCurrentTimestamp();
			else if (TimestampDifferenceExceeds(told_at, GetCurrentTimestamp(), DEAF_MS))
				gtf_hook_stop_here(ucontext);
			InterruptPending = true;
			ProcDiePending = true;
		}
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

/*
 * SIGINT while tasks run above level 0: the statement that has begun them is
 * to be cancelled.  Unless it is a lock timeout, which also comes this way and
 * is an error like others.
 */
static void
handle_cancel(int signo, siginfo_t *info, void *ucontext)
{
	int			save_errno = errno;

	if (!get_timeout_indicator(LOCK_TIMEOUT, false))
	{
		for (int i = 1; i <= top; i++)
			levels[i].cancelled = true;
	}
	errno = save_errno;
	StatementCancelHandler(signo);
}

/* Has a statement of the body been interrupted? */
static bool
interrupt_raised(void)
{
	/* one that is still pending has not been raised */
	return (levels[top].interrupted || levels[top].cancelled) &&
		!QueryCancelPending;
}

bool
gtf_interrupt_coming(void)
{
	if (levels[top].cancelled)
		return QueryCancelPending;
	return gtf_slot_interrupt_requested() && !interrupt_raised();
}

void
gtf_attempt_spare_handlers(void)
{
	/* one that came just before comes again, when they have run */
	if (gtf_slot_handlers_begin() && !levels[top].cancelled)
		QueryCancelPending = false;
}

GtfAbortCause
gtf_abort_requested(void)
{
	if (levels[top].cancelled)
		gtf_slot_abort_mine();
	return gtf_slot_abort_requested();
}

void
gtf_attempt_set_task(const GtfTask *task, const GtfType *type, int32 attempt)
{
	gtf_current_task = task;
	gtf_current_type = type;
	gtf_current_attempt = attempt;
	if (task && strcmp(gtf_app_user ? gtf_app_user : "", task->app_user) != 0)
		SetConfigOption("gtf.app_user", task->app_user, PGC_USERSET, PGC_S_SESSION);
}

/* ---- levels ---- */

/*
 * Not by pqsignal(), which does not let one put back what was there; and the
 * handler wants to know what it has interrupted.
 */
static void
install(int signo, void (*handler) (int, siginfo_t *, void *),
		struct sigaction *former)
{
	struct sigaction action = {0};

	action.sa_sigaction = handler;
	action.sa_flags = SA_RESTART | SA_SIGINFO;
	sigemptyset(&action.sa_mask);
	if (sigaction(signo, &action, former) != 0)
		elog(ERROR, "could not install a signal handler: %m");
}

void
gtf_attempt_install_doorbell(void)
{
	install(SIGUSR2, handle_doorbell, NULL);
}

void
gtf_attempt_push(void)
{
	Level	   *below = &levels[top];
	Level	   *new = below + 1;

	if (top == MAX_LEVELS - 1)
		ereport(ERROR,
				(errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
				 errmsg("tasks are nested too deeply"),
				 errdetail("The limit is %d levels.", MAX_LEVELS - 1)));
	gtf_safepoint_install();
	if (top == 0)
	{
		install(SIGINT, handle_cancel, &former_int);
		install(SIGUSR2, handle_doorbell, &former_usr2);
	}
	gtf_handlers_push();
	below->task = gtf_current_task;
	below->type = gtf_current_type;
	below->attempt = gtf_current_attempt;
	below->noticed = gtf_abort_noticed;
	gtf_safepoint_push(&below->safepoint);
	gtf_current_task = NULL;
	gtf_current_type = NULL;
	gtf_current_attempt = 0;
	gtf_abort_noticed = false;
	new->slot = -1;
	new->interrupted = false;
	new->cancelled = false;
	top++;
}

void
gtf_attempt_has_slot(int slot)
{
	levels[top].slot = slot;
}

bool
gtf_attempt_pop(void)
{
	Level	   *below;
	bool		cancelled;

	/*
	 * An interrupt that was meant for this task must not hit the caller's
	 * next statement.  One that is meant for the caller is told of by
	 * "cancelled", which is looked at after that: it comes first.
	 */
	QueryCancelPending = false;
	cancelled = levels[top].cancelled;
	below = &levels[top - 1];
	top--;
	gtf_my_slot = slot_of(top);
	gtf_handlers_pop();
	gtf_safepoint_pop(&below->safepoint);
	gtf_current_task = below->task;
	gtf_current_type = below->type;
	gtf_current_attempt = below->attempt;
	gtf_abort_noticed = below->noticed;
	if (top == 0)
	{
		(void) sigaction(SIGINT, &former_int, NULL);
		(void) sigaction(SIGUSR2, &former_usr2, NULL);
	}
	return cancelled;
}

bool
gtf_attempt_is_here(const pg_uuid_t *id)
{
	if (gtf_current_task && gtf_id_equal(id, &gtf_current_task->id))
		return true;
	for (int i = 0; i < top; i++)
	{
		if (levels[i].task && gtf_id_equal(id, &levels[i].task->id))
			return true;
	}
	return false;
}

void
gtf_attempt_lose_all(void)
{
	while (top > 0)
	{
		int			slot = levels[top].slot;

		top--;
		gtf_my_slot = slot_of(top);
		if (slot >= 0)
			gtf_slot_leave_inline(slot, true);
	}
}

/* ---- the attempt ---- */

void
gtf_attempt_body_begins(void)
{
	gtf_abort_noticed = false;
	levels[top].interrupted = false;
	gtf_safepoint_begin();
}

GtfAbortMode
gtf_attempt_mode(const GtfType *type)
{
	/* of a hook "handler", the default, is whatever the hook says */
	if (type->kind == GTF_TYPE_HOOK && strcmp(type->abort, "handler") == 0)
		return type->code->flags & GTF_HOOK_POLL ? GTF_MODE_POLL :
			type->code->flags & GTF_HOOK_INTERRUPT ? GTF_MODE_INTERRUPT :
			type->code->flags & GTF_HOOK_NEVER ? GTF_MODE_NEVER : GTF_MODE_HANDLER;
	if (strcmp(type->abort, "poll") == 0)
		return GTF_MODE_POLL;
	if (strcmp(type->abort, "interrupt") == 0)
		return GTF_MODE_INTERRUPT;
	if (strcmp(type->abort, "never") == 0)
		return GTF_MODE_NEVER;
	return GTF_MODE_HANDLER;
}

TimestampTz
gtf_attempt_deadline(const Interval *timeout, TimestampTz start)
{
	if (timeout == NULL || gtf_interval_sign(timeout) <= 0)
		return 0;
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(start),
												   IntervalPGetDatum(timeout)));
}

static void
outcome_begin(const GtfAttempt *run, GtfOutcome *outcome)
{
	GtfSlotInfo info;

	memset(outcome, 0, sizeof(GtfOutcome));
	outcome->task_id = run->ref.id;
	outcome->attempt = run->ref.attempt;
	outcome->started_at = run->started_at;
	outcome->ended_at = GetCurrentTimestamp();
	outcome->worker = run->started_at != 0 ? MyProcPid : 0;
	if (run->started_at != 0 && gtf_slot_info(gtf_my_slot, &info))
		gtf_finish_set_report(outcome, &info.progress, gtf_slot_my_payload());
}

/*
 * The body has returned or raised: what was requested until now counts, and
 * whether the body knew.  From here on the doorbell is silent; what it left
 * is too late.
 */
static void
end_body(GtfAttempt *run)
{
	gtf_safepoint_end();
	if (!run->ended)
	{
		(void) gtf_abort_requested();
		gtf_slot_body_ends(&run->cause);
		run->noticed = gtf_abort_noticed || interrupt_raised();
		run->ended = true;
	}
	QueryCancelPending = false;
}

void
gtf_attempt_run_handlers(GtfAttempt *run, bool raised)
{
	if (!gtf_handlers_any())
		return;
	if (raised)
	{
		end_body(run);
		/* its settings went with the transaction */
		gtf_attempt_set_task(run->task, run->type, run->ref.attempt);
	}
	if (!run->in_block)
		gtf_handlers_check_constraints();
	end_body(run);
	gtf_handlers_run(run->cause != GTF_CAUSE_NONE && (raised || run->noticed),
					 !run->in_block);
}

void
gtf_attempt_leave_error(void)
{
	HOLD_INTERRUPTS();
	AbortOutOfAnyTransaction();
	/* cursors of a procedure that has committed */
	PortalErrorCleanup();
	/* a hook may have ended its transaction */
	LWLockReleaseAll();
	jit_reset_after_error();
	MemoryContextSwitchTo(TopMemoryContext);
	FlushErrorState();
	RESUME_INTERRUPTS();
}

/* To roll back everything that was done for the attempt. */
static void
error_superseded(const GtfAttempt *run)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("attempt %d of task \"%s\" was superseded",
					run->ref.attempt, gtf_id_text(&run->ref.id)),
			 err_generic_string(PG_DIAG_SCHEMA_NAME, "gtf"),
			 err_generic_string(PG_DIAG_TABLE_NAME, "outcomes")));
}

void
gtf_attempt_write_returned(GtfAttempt *run, Jsonb *result, GtfOutcome *outcome)
{
	run->phase = GTF_PHASE_FINISH;
	outcome_begin(run, outcome);
	if (run->ended)
	{
		GtfAbortCause too_late;

		run->has_live |= gtf_slot_finishing(&too_late);
	}
	else
	{
		gtf_safepoint_end();
		(void) gtf_abort_requested();
		run->has_live |= gtf_slot_finishing(&run->cause);
		run->noticed = gtf_abort_noticed || interrupt_raised();
		QueryCancelPending = false;
	}

	if (gtf_handlers_errors() != NIL)
	{
		gtf_finish_set_errors(outcome, NULL, gtf_handlers_errors());
		if (!gtf_finish_failed(outcome, run->task, run->type, &run->ref,
							   false, &run->next))
			error_superseded(run);
	}
	else if (run->cause != GTF_CAUSE_NONE && run->noticed)
	{
		if (!gtf_finish_aborted(outcome, run->cause, NULL))
			error_superseded(run);
	}
	else
	{
		outcome->status = GTF_SUCCESS;
		outcome->result = result;
		(void) gtf_store_outcome_put(outcome, false);
		if (run->has_live)
			gtf_store_live_delete(&run->ref.id);
	}
	if (run->cause != GTF_CAUSE_NONE)
		(void) gtf_store_request_delete(&run->ref.id);
}

void
gtf_attempt_write_not_started(GtfAttempt *run, GtfOutcome *outcome)
{
	GtfAbortCause cause;

	run->started_at = 0;
	outcome_begin(run, outcome);
	(void) gtf_slot_finishing(&cause);
	run->phase = GTF_PHASE_FINISH;
	(void) gtf_finish_aborted(outcome, cause, NULL);
}

bool
gtf_attempt_write_raised(GtfAttempt *run, ErrorData *edata,
						 GtfOutcome *outcome)
{
	GtfAbortCause cause;
	bool		written;

	outcome_begin(run, outcome);
	if (!run->ended)
		(void) gtf_abort_requested();
	(void) gtf_slot_finishing(&cause);
	QueryCancelPending = false;
	if (gtf_handlers_errors() != NIL)
	{
		gtf_finish_set_errors(outcome, edata, gtf_handlers_errors());
		written = gtf_finish_failed(outcome, run->task, run->type, &run->ref,
									false, &run->next);
		if (cause != GTF_CAUSE_NONE)
			(void) gtf_store_request_delete(&run->ref.id);
	}
	else if (cause != GTF_CAUSE_NONE)
		written = gtf_finish_aborted(outcome, cause, edata);
	else
	{
		gtf_finish_set_errors(outcome, edata, NIL);
		written = gtf_finish_failed(outcome, run->task, run->type, &run->ref,
									run->phase != GTF_PHASE_FETCH, &run->next);
	}
	return written;
}
