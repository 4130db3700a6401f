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

#include "compat.h"
#include "executor.h"
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
gtf_body_run_function(const GtfTask *task, struct GtfType *type)
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
gtf_body_run_procedure(const GtfTask *task, struct GtfType *type,
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

Jsonb *
gtf_body_run_command(const GtfTask *task, MemoryContext context)
{
	JsonbValue	key;
	JsonbValue *value;
	char	   *command;
	List	   *parsed;
	RawStmt    *raw;
	CommandTag	tag;
	List	   *queries;
	List	   *plans;
	QueryCompletion qc;
	DestReceiver *receiver;
	char		completion[COMPLETION_TAG_BUFSIZE];
	JsonbParseState *state = NULL;
	JsonbValue	item;
	Jsonb	   *result;

	MemoryContextSwitchTo(context);
	key.type = jbvString;
	key.val.string.val = "command";
	key.val.string.len = strlen("command");
	value = findJsonbValueFromContainer(&task->args->root, JB_FOBJECT, &key);
	if (value == NULL || value->type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("task has no command")));
	command = pnstrdup(value->val.string.val, value->val.string.len);
	debug_query_string = command;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	parsed = pg_parse_query(command);
	if (list_length(parsed) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("command must be exactly one SQL command")));
	raw = linitial_node(RawStmt, parsed);

	/*
	 * Looked at when it was submitted, but how a command is parsed depends on
	 * settings, and those of the owner may be others.
	 */
	if (IsA(raw->stmt, TransactionStmt) || IsA(raw->stmt, ListenStmt) ||
		(IsA(raw->stmt, CopyStmt) && !castNode(CopyStmt, raw->stmt)->is_program &&
		 castNode(CopyStmt, raw->stmt)->filename == NULL))
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
	if (command_tag_display_rowcount(qc.commandTag))
		snprintf(completion, sizeof(completion),
				 qc.commandTag == CMDTAG_INSERT ? "%s 0 " UINT64_FORMAT : "%s " UINT64_FORMAT,
				 GetCommandTagName(qc.commandTag), qc.nprocessed);
	else
		strlcpy(completion, GetCommandTagName(qc.commandTag), sizeof(completion));

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	item.type = jbvString;
	item.val.string.val = "command_tag";
	item.val.string.len = strlen("command_tag");
	pushJsonbValue(&state, WJB_KEY, &item);
	item.val.string.val = completion;
	item.val.string.len = strlen(completion);
	pushJsonbValue(&state, WJB_VALUE, &item);
	result = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	return result;
}
