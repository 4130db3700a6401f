/*-------------------------------------------------------------------------
 *
 * body.c
 *	  Running the code of a task.
 *
 * A function is evaluated as an expression in the transaction that also
 * writes the outcome.  Procedures and ad-hoc commands go through a portal as
 * a client's statement would, so that COMMIT inside a procedure and commands
 * that refuse transaction blocks work; SPI could run neither.
 *
 * Runs in executors and in sessions (gtf_run).  Nothing is kept, and no lock
 * of gtf is held while the code runs.  What to do about an error, or the end
 * of the process, is the matter of executor.c and run.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/portalcmds.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "tcop/cmdtag.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "body.h"
#include "compat.h"
#include "hook.h"
#include "registry.h"

/* Keeps the row of output arguments of a procedure, as jsonb. */
typedef struct ResultReceiver
{
	DestReceiver pub;
	MemoryContext context;
	Jsonb	   *result;
} ResultReceiver;

/* A result that is too large is an error of the body. */
static Jsonb *
checked(Jsonb *result)
{
	if (result)
		gtf_check_jsonb(result, "result");
	return result;
}

Jsonb *
gtf_body_run_function(const GtfTask *task, GtfType *type)
{
	MemoryContext context = CurrentMemoryContext;
	EState	   *estate;
	Expr	   *expr;
	ExprState  *state;
	Datum		value;
	bool		isnull;
	Jsonb	   *result = NULL;

	if (type->kind == GTF_TYPE_HOOK)
		return checked(gtf_hook_run(task, type, context));

	estate = CreateExecutorState();
	expr = gtf_type_call_expr(type, task->args, NULL);
	state = ExecPrepareExpr(expr, estate);
	value = ExecEvalExprSwitchContext(state, GetPerTupleExprContext(estate),
									  &isnull);
	MemoryContextSwitchTo(context);
	if (!isnull && exprType((Node *) expr) != VOIDOID)
		result = DatumGetJsonbPCopy(value);
	FreeExecutorState(estate);
	return checked(result);
}

static void
receiver_startup(DestReceiver *self, int operation, TupleDesc typeinfo)
{
}

static bool
receiver_receive(TupleTableSlot *slot, DestReceiver *self)
{
	ResultReceiver *receiver = (ResultReceiver *) self;
	Datum		row;
	Datum		json;
	char	   *string;
	MemoryContext old;

	/* row_to_json() looks the type of the row up */
	BlessTupleDesc(slot->tts_tupleDescriptor);
	row = ExecFetchSlotHeapTupleDatum(slot);
	json = DirectFunctionCall1(row_to_json, row);
	string = TextDatumGetCString(json);
	old = MemoryContextSwitchTo(receiver->context);
	receiver->result = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
														  CStringGetDatum(string)));
	MemoryContextSwitchTo(old);
	return true;
}

static void
receiver_shutdown(DestReceiver *self)
{
}

/* Run one planned statement at top level; the transaction is open. */
static void
run_portal(const char *source, CommandTag tag, List *plans,
		   DestReceiver *receiver, QueryCompletion *qc)
{
	/* the unnamed one may be in use, by the CALL that we are in */
	Portal		portal = CreateNewPortal();

	portal->visible = false;
	PortalDefineQuery(portal, NULL, source, tag, plans, NULL);
	PG_TRY();
	{
		PortalStart(portal, NULL, 0, InvalidSnapshot);
		(void) gtf_portal_run(portal, receiver, qc);
	}
	PG_CATCH();
	{
		/*
		 * the end of the transaction would drop it, but a hook may have ended
		 * that
		 */
		if (!IsTransactionState())
			PortalDrop(portal, false);
		PG_RE_THROW();
	}
	PG_END_TRY();
	PortalDrop(portal, false);
}

Jsonb *
gtf_body_run_procedure(const GtfTask *task, GtfType *type,
					   MemoryContext context)
{
	ResultReceiver receiver = {{0}};
	QueryCompletion qc;
	CallStmt   *call = makeNode(CallStmt);
	PlannedStmt *plan = makeNode(PlannedStmt);
	char	   *source;

	receiver.pub.receiveSlot = receiver_receive;
	receiver.pub.rStartup = receiver_startup;
	receiver.pub.rShutdown = receiver_shutdown;
	receiver.pub.rDestroy = receiver_shutdown;
	receiver.pub.mydest = DestNone;
	receiver.context = context;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	source = type->kind == GTF_TYPE_HOOK ? psprintf("hook %s", type->hook) :
		psprintf("CALL %s", type->handler);
	debug_query_string = source;
	PushActiveSnapshot(GetTransactionSnapshot());
	if (type->kind == GTF_TYPE_HOOK)
		call->funcexpr = gtf_hook_call_expr(task, type, context);
	else
		call->funcexpr = castNode(FuncExpr,
								  gtf_type_call_expr(type, task->args,
													 &call->outargs));
	PopActiveSnapshot();
	plan->commandType = CMD_UTILITY;
	plan->canSetTag = true;
	plan->utilityStmt = (Node *) call;
	plan->stmt_location = -1;

	run_portal(source, CMDTAG_CALL, list_make1(plan), &receiver.pub, &qc);
	CommitTransactionCommand();
	debug_query_string = NULL;
	MemoryContextSwitchTo(context);
	return checked(type->kind == GTF_TYPE_HOOK ? gtf_hook_take_result() : receiver.result);
}

/* ---- ad-hoc commands ---- */

/* A jsonb object with a single key, whose value is a string. */
static Jsonb *
object_of(const char *key, const char *string)
{
	JsonbParseState *state = NULL;
	JsonbValue	item;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	item.type = jbvString;
	item.val.string.val = unconstify(char *, key);
	item.val.string.len = strlen(key);
	pushJsonbValue(&state, WJB_KEY, &item);
	item.val.string.val = unconstify(char *, string);
	item.val.string.len = strlen(string);
	pushJsonbValue(&state, WJB_VALUE, &item);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

Jsonb *
gtf_command_args(const char *command)
{
	return object_of("command", command);
}

char *
gtf_command_of_args(Jsonb *args)
{
	JsonbValue	key;
	JsonbValue *value;

	if (!JB_ROOT_IS_OBJECT(args) || JB_ROOT_COUNT(args) != 1)
		return NULL;
	key.type = jbvString;
	key.val.string.val = "command";
	key.val.string.len = strlen("command");
	value = findJsonbValueFromContainer(&args->root, JB_FOBJECT, &key);
	if (value == NULL || value->type != jbvString)
		return NULL;
	return pnstrdup(value->val.string.val, value->val.string.len);
}

RawStmt *
gtf_command_parse(const char *command)
{
	List	   *parsed = pg_parse_query(command);

	if (list_length(parsed) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("command must be exactly one SQL command"),
				 errdetail("It has %d.", list_length(parsed))));
	return linitial_node(RawStmt, parsed);
}

const char *
gtf_command_refused(const RawStmt *command)
{
	Node	   *stmt = command->stmt;

	if (IsA(stmt, TransactionStmt))
		return "transaction control";
	if (IsA(stmt, CopyStmt) && !castNode(CopyStmt, stmt)->is_program &&
		castNode(CopyStmt, stmt)->filename == NULL)
		return castNode(CopyStmt, stmt)->is_from ?
			"COPY FROM STDIN" : "COPY TO STDOUT";
	if (IsA(stmt, ListenStmt))
		return "LISTEN";
	if (IsA(stmt, UnlistenStmt))
		return "UNLISTEN";
	return NULL;
}

/* {"command_tag": ...} of a command that has run. */
static Jsonb *
tag_as_result(const QueryCompletion *qc)
{
	char		completion[COMPLETION_TAG_BUFSIZE];

	if (command_tag_display_rowcount(qc->commandTag))
		snprintf(completion, sizeof(completion),
				 qc->commandTag == CMDTAG_INSERT ? "%s 0 " UINT64_FORMAT : "%s " UINT64_FORMAT,
				 GetCommandTagName(qc->commandTag), qc->nprocessed);
	else
		strlcpy(completion, GetCommandTagName(qc->commandTag), sizeof(completion));
	return object_of("command_tag", completion);
}

Jsonb *
gtf_body_run_command(const GtfTask *task, MemoryContext context)
{
	char	   *command;
	RawStmt    *raw;
	CommandTag	tag;
	List	   *queries;
	List	   *plans;
	QueryCompletion qc;
	DestReceiver *receiver;

	MemoryContextSwitchTo(context);
	command = gtf_command_of_args(task->args);
	if (command == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("task has no command")));
	debug_query_string = command;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	raw = gtf_command_parse(command);

	/*
	 * Looked at when it was submitted, but how a command is parsed depends on
	 * settings, and those of the owner may be others.
	 */
	if (gtf_command_refused(raw))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s cannot be run as a task",
						CreateCommandName(raw->stmt))));
	tag = CreateCommandTag(raw->stmt);

	PushActiveSnapshot(GetTransactionSnapshot());
	queries = pg_analyze_and_rewrite_fixedparams(raw, command, NULL, 0, NULL);
	plans = pg_plan_queries(queries, command, CURSOR_OPT_PARALLEL_OK, NULL);
	PopActiveSnapshot();

	receiver = CreateDestReceiver(DestNone);
	InitializeQueryCompletion(&qc);
	run_portal(command, tag, plans, receiver, &qc);
	if (IsTransactionBlock())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("command left a transaction block open")));
	CommitTransactionCommand();
	debug_query_string = NULL;

	MemoryContextSwitchTo(context);
	if (qc.commandTag == CMDTAG_UNKNOWN)
		SetQueryCompletion(&qc, tag, 0);
	return tag_as_result(&qc);
}
