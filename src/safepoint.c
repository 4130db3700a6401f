/*-------------------------------------------------------------------------
 *
 * safepoint.c
 *	  Where a body may be interrupted for its abort handlers.
 *
 * Two kinds of places: calls of gtf's own functions, and the end of a
 * statement that the body itself runs.  A handler is user code that may do
 * anything, so it may run only where a function that the body calls could
 * do the same:
 *
 * - under the identity that the body began with.  Functions with SECURITY
 *	 DEFINER, foreign keys' queries, index expressions under maintenance and
 *	 others run as somebody else, or may not do what the body may.
 * - not in parallel mode, where no subtransaction can be started.
 * - not in a trigger, and not while a command is at work that a change of its
 *	 rows would upset: UPDATE, DELETE, MERGE, row locks, ON CONFLICT, and
 *	 utility commands.  SELECT and plain INSERT are used to functions with side
 *	 effects.
 *
 * Elsewhere handlers stay pending; the next safe point comes with the end of
 * the statement at the latest.
 *
 * Statements are counted while they are being executed, not while they are
 * open: the loop over a cursor is not inside the cursor's query.  CALL and DO
 * do not count, they are only ways to run other statements.  The end of a
 * statement is ExecutorEnd; when a portal is closed, which happens in more
 * places than the end of statements (at commit, for example), nothing runs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "tcop/pquery.h"
#include "tcop/utility.h"
#include "utils/fmgrprotos.h"

#include "attempt.h"
#include "compat.h"
#include "on_abort.h"
#include "safepoint.h"
#include "shmem.h"

static ExecutorRun_hook_type prev_executor_run = NULL;
static ExecutorFinish_hook_type prev_executor_finish = NULL;
static ExecutorEnd_hook_type prev_executor_end = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;

/* What is known of the body that runs. */
static GtfSafepointState current;

void
gtf_safepoint_push(GtfSafepointState *outer)
{
	*outer = current;
	memset(&current, 0, sizeof(current));
}

void
gtf_safepoint_pop(const GtfSafepointState *outer)
{
	current = *outer;
}

void
gtf_safepoint_begin(void)
{
	GetUserIdAndSecContext(&current.user, &current.sec_context);
	current.statements = current.touchy = 0;
	current.ending = NULL;
	current.body_runs = true;
}

void
gtf_safepoint_end(void)
{
	current.body_runs = false;
}

static bool
is_safe(void)
{
	Oid			user;
	int			sec_context;

	if (current.touchy > 0 || gtf_in_handler() || IsInParallelMode() ||
		InterruptHoldoffCount > 0 || CritSectionCount > 0 ||
		!IsTransactionState() ||
		DatumGetInt32(pg_trigger_depth(NULL)) > 0)
		return false;

	/* an interrupt that is on its way must not hit a handler */
	if (gtf_interrupt_coming())
		return false;

	GetUserIdAndSecContext(&user, &sec_context);
	return user == current.user && sec_context == current.sec_context;
}

bool
gtf_safe_point(void)
{
	if (!current.body_runs || !gtf_handlers_abort_waiting() ||
		gtf_abort_requested() == GTF_CAUSE_NONE || !is_safe())
		return false;
	gtf_abort_noticed = true;
	gtf_handlers_run_abort();
	return true;
}

/* Must the query be left alone with its rows until it is done? */
static bool
is_touchy(const PlannedStmt *plan)
{
	if (plan->hasModifyingCTE || plan->rowMarks != NIL)
		return true;
	switch (plan->commandType)
	{
		case CMD_SELECT:
			return false;
		case CMD_INSERT:
			return !IsA(plan->planTree, ModifyTable) ||
				((ModifyTable *) plan->planTree)->onConflictAction != ONCONFLICT_NONE;
		default:
			return true;
	}
}

static void
executor_run(GTF_EXECUTOR_RUN_PARAMS)
{
	bool		is_query_touchy;

	if (!current.body_runs)
	{
		prev_executor_run(GTF_EXECUTOR_RUN_ARGS);
		return;
	}
	is_query_touchy = is_touchy(queryDesc->plannedstmt);
	if (current.statements == 0)
		current.ending = ActivePortal && ActivePortal->queryDesc == queryDesc ?
			NULL : queryDesc;
	current.statements++;
	current.touchy += is_query_touchy;
	PG_TRY();
	{
		prev_executor_run(GTF_EXECUTOR_RUN_ARGS);
	}
	PG_CATCH();
	{
		current.statements--;
		current.touchy -= is_query_touchy;
		current.ending = NULL;
		PG_RE_THROW();
	}
	PG_END_TRY();
	current.statements--;
	current.touchy -= is_query_touchy;
}

/* Here the triggers of a statement run. */
static void
executor_finish(QueryDesc *queryDesc)
{
	if (!current.body_runs)
	{
		prev_executor_finish(queryDesc);
		return;
	}
	current.statements++;
	current.touchy++;
	PG_TRY();
	{
		prev_executor_finish(queryDesc);
	}
	PG_CATCH();
	{
		current.statements--;
		current.touchy--;
		current.ending = NULL;
		PG_RE_THROW();
	}
	PG_END_TRY();
	current.statements--;
	current.touchy--;
}

static void
executor_end(QueryDesc *queryDesc)
{
	bool		is_end = current.statements == 0 && queryDesc == current.ending;

	prev_executor_end(queryDesc);
	if (is_end)
	{
		current.ending = NULL;
		(void) gtf_safe_point();
	}
}

static void
process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *queryEnv, DestReceiver *dest,
				QueryCompletion *qc)
{
	if (!current.body_runs || IsA(pstmt->utilityStmt, CallStmt) ||
		IsA(pstmt->utilityStmt, DoStmt))
		prev_process_utility(pstmt, queryString, readOnlyTree, context, params,
							 queryEnv, dest, qc);
	else
	{
		current.statements++;
		current.touchy++;
		PG_TRY();
		{
			prev_process_utility(pstmt, queryString, readOnlyTree, context, params,
								 queryEnv, dest, qc);
		}
		PG_FINALLY();
		{
			current.statements--;
			current.touchy--;
		}
		PG_END_TRY();
	}

	/* the end of a command at top level is the end of the body */
	if (current.statements == 0 && context != PROCESS_UTILITY_TOPLEVEL)
		(void) gtf_safe_point();
}

void
gtf_safepoint_install(void)
{
	static bool installed = false;

	if (installed)
		return;
	installed = true;
	prev_executor_run = ExecutorRun_hook ? ExecutorRun_hook : standard_ExecutorRun;
	ExecutorRun_hook = executor_run;
	prev_executor_finish = ExecutorFinish_hook ? ExecutorFinish_hook : standard_ExecutorFinish;
	ExecutorFinish_hook = executor_finish;
	prev_executor_end = ExecutorEnd_hook ? ExecutorEnd_hook : standard_ExecutorEnd;
	ExecutorEnd_hook = executor_end;
	prev_process_utility = ProcessUtility_hook ?
		ProcessUtility_hook : standard_ProcessUtility;
	ProcessUtility_hook = process_utility;
}
