/*-------------------------------------------------------------------------
 *
 * hook_call.c
 *	  Tasks written in C: the call of a hook, and what it can call.
 *
 * An atomic hook is called in the transaction that writes the outcome.  The
 * others are called through an SQL procedure of ours, gtf._run_hook(): only
 * what is called by CALL may commit, and PostgreSQL knows how.
 *
 * Code in C may forget things that nobody else could.  So what there is to
 * forget is looked at before and after each call, and what was left is an
 * error, which puts it right.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "attempt.h"
#include "compat.h"
#include "context.h"
#include "gtf.h"
#include "hook.h"
#include "on_abort.h"
#include "task.h"

#define LEAK_REPORTED	(1024 * 1024)	/* bytes in TopMemoryContext */

PG_FUNCTION_INFO_V1(gtf_run_hook);
extern Datum gtf_submit(PG_FUNCTION_ARGS);

/* What is behind a GtfContext. */
typedef struct Context
{
	GtfContext	pub;
	const GtfTask *task;
	const GtfType *type;
	GtfTaskFacts facts;
	MemoryContext memory;		/* as long as handlers may run */
	Jsonb	   *result;
} Context;

/* A callback that was registered. */
typedef struct Callback
{
	Context    *context;
	GtfCallback function;
	void	   *arg;
} Callback;

/* What gtf._run_hook() shall call, and what came of it. */
static Context *waiting_for_call = NULL;
static Jsonb *call_result = NULL;

/* ---- what a hook can call ---- */

static Context *
check_context(GtfContext *pub)
{
	Context    *context = (Context *) pub;

	if (gtf_current_task == NULL || context->task != gtf_current_task)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the context belongs to a task that does not run now")));
	return context;
}

static const GtfTaskFacts *
api_task(GtfContext *pub)
{
	return &check_context(pub)->facts;
}

static MemoryContext
api_memory(GtfContext *pub)
{
	return check_context(pub)->memory;
}

/* After a commit there is no snapshot.  True if it has to be popped. */
static bool
push_snapshot(void)
{
	if (ActiveSnapshotSet())
		return false;
	PushActiveSnapshot(GetTransactionSnapshot());
	return true;
}

static Jsonb *
api_payload(GtfContext *pub)
{
	bool		pushed;
	Jsonb	   *payload;

	(void) check_context(pub);
	pushed = push_snapshot();
	payload = gtf_context_payload();
	if (pushed)
		PopActiveSnapshot();
	return payload;
}

static bool
report(GtfContext *pub, char kind, int64 current, int64 total, double fraction)
{
	GtfProgress progress;

	(void) check_context(pub);
	CHECK_FOR_INTERRUPTS();
	progress.kind = kind;
	progress.current = current;
	progress.total = total;
	progress.fraction = fraction;
	return gtf_context_report(&progress, NULL);
}

static bool
api_progress(GtfContext *pub, int64 current, int64 total)
{
	return report(pub, GTF_PROGRESS_RATIO, current, total, 0);
}

static bool
api_progress_fraction(GtfContext *pub, double fraction)
{
	return report(pub, GTF_PROGRESS_FRACTION, 0, 0, fraction);
}

static bool
api_progress_count(GtfContext *pub, int64 current)
{
	return report(pub, GTF_PROGRESS_COUNT, current, 0, 0);
}

static bool
api_set_payload(GtfContext *pub, const Jsonb *payload)
{
	(void) check_context(pub);
	CHECK_FOR_INTERRUPTS();
	return gtf_context_report(NULL, payload);
}

static bool
api_is_aborting(GtfContext *pub)
{
	(void) check_context(pub);
	CHECK_FOR_INTERRUPTS();
	return gtf_context_shall_stop();
}

static void
api_check_abort(GtfContext *pub)
{
	(void) check_context(pub);
	CHECK_FOR_INTERRUPTS();
	gtf_context_check_abort();
}

static bool
api_sleep(GtfContext *pub, int64 milliseconds)
{
	(void) check_context(pub);
	CHECK_FOR_INTERRUPTS();
	milliseconds = Max(milliseconds, 0);
	milliseconds = Min(milliseconds, PG_INT32_MAX * INT64CONST(1000));
	return gtf_context_sleep(TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
														 milliseconds));
}

static Jsonb *
copy_jsonb(const Jsonb *jsonb, MemoryContext memory)
{
	Jsonb	   *copy = MemoryContextAllocHuge(memory, VARSIZE(jsonb));

	memcpy(copy, jsonb, VARSIZE(jsonb));
	return copy;
}

static void
api_set_result(GtfContext *pub, const Jsonb *result)
{
	Context    *context = check_context(pub);
	Jsonb	   *old = context->result;

	context->result = result ? copy_jsonb(result, context->memory) : NULL;
	if (old)
		pfree(old);
}

static void
api_submit(GtfContext *pub, const char *task_type, const Jsonb *args,
		   const GtfSubmitOptions *options, Size options_size, pg_uuid_t *id)
{
	/* the arguments of gtf_submit() */
	enum
	{
		TASK_TYPE, ARGS, TASK_KEY, TASK_NAME, TIMEOUT, SCOPE, PRIORITY, QUEUE,
		DELAY, RUN_AT, EXPIRES_AT, MAX_ATTEMPTS, DEPENDS_ON, NUM_ARGS
	};
	GtfSubmitOptions o = {0};
	bool		pushed;
	Datum		value;

	LOCAL_FCINFO(fcinfo, NUM_ARGS);

	(void) check_context(pub);
	if (options)
		memcpy(&o, options, Min(options_size, sizeof(o)));
	InitFunctionCallInfoData(*fcinfo, NULL, NUM_ARGS, InvalidOid, NULL, NULL);
	for (int i = 0; i < NUM_ARGS; i++)
		fcinfo->args[i].isnull = true;

#define GIVE(n, given, datum) \
	do { \
		if (given) \
		{ \
			fcinfo->args[n].value = (datum); \
			fcinfo->args[n].isnull = false; \
		} \
	} while (0)

	GIVE(TASK_TYPE, task_type != NULL, CStringGetTextDatum(task_type));
	GIVE(ARGS, args != NULL, JsonbPGetDatum(args));
	GIVE(TASK_KEY, o.task_key != NULL, CStringGetTextDatum(o.task_key));
	GIVE(TASK_NAME, o.task_name != NULL, CStringGetTextDatum(o.task_name));
	GIVE(TIMEOUT, o.timeout != NULL, IntervalPGetDatum(o.timeout));
	GIVE(SCOPE, o.scope != NULL, CStringGetTextDatum(o.scope));
	GIVE(PRIORITY, o.has_priority, Int32GetDatum(o.priority));
	GIVE(QUEUE, o.queue != NULL, CStringGetTextDatum(o.queue));
	GIVE(DELAY, o.delay != NULL, IntervalPGetDatum(o.delay));
	GIVE(RUN_AT, o.run_at != 0, TimestampTzGetDatum(o.run_at));
	GIVE(EXPIRES_AT, o.expires_at != 0, TimestampTzGetDatum(o.expires_at));
	GIVE(MAX_ATTEMPTS, o.max_attempts != 0, Int32GetDatum(o.max_attempts));
	if (o.num_depends_on > 0)
	{
		Datum	   *ids = palloc(o.num_depends_on * sizeof(Datum));

		for (int i = 0; i < o.num_depends_on; i++)
			ids[i] = UUIDPGetDatum(&o.depends_on[i]);
		GIVE(DEPENDS_ON, true,
			 PointerGetDatum(construct_array(ids, o.num_depends_on, UUIDOID,
											 UUID_LEN, false, TYPALIGN_CHAR)));
	}

	pushed = push_snapshot();
	value = gtf_submit(fcinfo);
	if (pushed)
		PopActiveSnapshot();
	*id = *DatumGetUUIDP(value);
}

static void api_on_abort(GtfContext *pub, GtfCallback callback, void *arg);
static void api_on_cleanup(GtfContext *pub, GtfCallback callback, void *arg);

static const GtfContextApi api = {
	.size = sizeof(GtfContextApi),
	.task = api_task,
	.memory = api_memory,
	.payload = api_payload,
	.progress = api_progress,
	.progress_fraction = api_progress_fraction,
	.progress_count = api_progress_count,
	.set_payload = api_set_payload,
	.on_abort = api_on_abort,
	.on_cleanup = api_on_cleanup,
	.is_aborting = api_is_aborting,
	.check_abort = api_check_abort,
	.sleep = api_sleep,
	.set_result = api_set_result,
	.submit = api_submit,
};

/* ---- calling hooks ---- */

/* What a hook must leave as it was. */
typedef struct Before
{
	bool		atomic;
	sigjmp_buf *exception_stack;
	ErrorContextCallback *error_context;
	uint32		holdoff;
	uint32		cancel_holdoff;
	uint32		critical;
	bool		parallel_mode;
	int			nest_level;
	LocalTransactionId lxid;
	ResourceOwner owner;
	Oid			user;
	int			sec_context;
	int			guc_level;
	Snapshot	snapshot;
	MemoryContext spi_context;	/* that SPI was connected in */
} Before;

static int
guc_level(void)
{
	int			level = NewGUCNestLevel();

	AtEOXact_GUC(false, level);
	return level;
}

/* The snapshot that is active when nothing was pushed. */
static Snapshot
base_snapshot(void)
{
	/* commits and statements of a procedure remove and renew it */
	return ActivePortal ? ActivePortal->portalSnapshot : NULL;
}

static Snapshot
active_snapshot(void)
{
	return ActiveSnapshotSet() ? GetActiveSnapshot() : NULL;
}

static void
look_before(Before *before)
{
	before->error_context = error_context_stack;
	before->holdoff = InterruptHoldoffCount;
	before->cancel_holdoff = QueryCancelHoldoffCount;
	before->critical = CritSectionCount;
	before->parallel_mode = IsInParallelMode();
	before->nest_level = GetCurrentTransactionNestLevel();
	before->lxid = gtf_my_lxid();
	before->owner = CurrentResourceOwner;
	GetUserIdAndSecContext(&before->user, &before->sec_context);
	before->guc_level = guc_level();
	before->snapshot = active_snapshot();
}

/*
 * Does SPI have the connection that it had, and no other?  It remembers which
 * memory context was current when it was connected.
 */
static bool
is_spi_connected(const Before *before)
{
	void	   *chunk;
	bool		is;

	/* there is no name like that, but it tells whether there is any */
	if (SPI_unregister_relation("") == SPI_ERROR_UNCONNECTED)
		return false;
	chunk = SPI_palloc(1);
	is = GetMemoryChunkContext(chunk) == before->spi_context;
	pfree(chunk);
	return is;
}

/*
 * What has the hook left?  NULL: nothing.  What keeps an error from being
 * raised is put right.
 */
static const char *
what_is_left(const Before *before)
{
	const char *left = NULL;
	Oid			user;
	int			sec_context;

	if (PG_exception_stack != before->exception_stack)
	{
		PG_exception_stack = before->exception_stack;
		left = _("It has returned out of PG_TRY().");
	}
	if (error_context_stack != before->error_context)
	{
		error_context_stack = before->error_context;
		if (left == NULL)
			left = _("It has left an error context callback.");
	}
	if (CritSectionCount != before->critical)
	{
		CritSectionCount = before->critical;
		left = _("It has left a critical section open.");
	}
	if (left != NULL)
		return left;

	if (InterruptHoldoffCount != before->holdoff ||
		QueryCancelHoldoffCount != before->cancel_holdoff)
		return _("It holds off interrupts, or holds a lightweight lock.");
	/* its snapshots went with it; nobody but procedures expects that */
	if (gtf_my_lxid() != before->lxid && ActivePortal &&
		active_snapshot() != ActivePortal->portalSnapshot)
		ActivePortal->portalSnapshot = NULL;
	if (!IsTransactionState() ||
		(before->atomic && gtf_my_lxid() != before->lxid))
		return GetCurrentTransactionNestLevel() > before->nest_level ?
			_("It has left a subtransaction open.") :
			_("It has ended the transaction.");
	if (GetCurrentTransactionNestLevel() > before->nest_level)
		return _("It has left a subtransaction open.");
	if (GetCurrentTransactionNestLevel() < before->nest_level)
		return _("It has ended a subtransaction that is not its own.");
	if (IsInParallelMode() != before->parallel_mode)
		return _("It has left parallel mode on.");
	GetUserIdAndSecContext(&user, &sec_context);
	if (user != before->user || sec_context != before->sec_context)
	{
		/* a rollback goes back to that of the beginning of the transaction */
		SetUserIdAndSecContext(before->user, before->sec_context);
		return _("It has changed the current user or its security context.");
	}
	if (guc_level() != before->guc_level)
		return _("It has not ended a level of settings, or one that is not its own.");
	if (active_snapshot() != (before->atomic ? before->snapshot : base_snapshot()))
		return _("It has left a snapshot active, or removed one that is not its own.");
	if (!is_spi_connected(before))
		return _("It has left an SPI connection open, or ended one that is not its own.");
	return NULL;
}

/*
 * Call the hook, or a callback of it, with SPI connected, in a memory context
 * that goes when it is over.
 */
static void
call(Context *context, GtfCallback callback, void *arg, bool atomic)
{
	const char *name = context->type->hook;
	const GtfHook *outer;
	MemoryContext caller = CurrentMemoryContext;
	Size		top_size = MemoryContextMemAllocated(TopMemoryContext, false);
	Before		before;

	before.atomic = atomic;
	before.spi_context = AllocSetContextCreate(context->memory, "gtf hook's SPI",
											   ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(before.spi_context);
	if (SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	look_before(&before);

	outer = gtf_hook_set_running(context->type->code);
	PG_TRY();
	{
		const char *left;

		before.exception_stack = PG_exception_stack;
		if (callback)
			callback(&context->pub, arg);
		else
			context->type->code->run(&context->pub);

		left = what_is_left(&before);
		if (left)
		{
			/* where it was may be gone */
			MemoryContextSwitchTo(context->memory);
			ereport(ERROR,
					(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					 errmsg("hook \"%s\" did not leave things as they were", name),
					 errdetail_internal("%s", left)));
		}
	}
	PG_FINALLY();
	{
		(void) gtf_hook_set_running(outer);
	}
	PG_END_TRY();

	if (atomic)
		CurrentResourceOwner = before.owner;
	SPI_finish();
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(before.spi_context);

	top_size = MemoryContextMemAllocated(TopMemoryContext, false) - Min(top_size, MemoryContextMemAllocated(TopMemoryContext, false));
	if (top_size > LEAK_REPORTED)
		ereport(LOG,
				(errmsg("hook \"%s\" has left %zu kB in TopMemoryContext",
						name, top_size / 1024),
				 errhint("What is needed no longer than the hook runs belongs into the memory context that it is called in. See also gtf.executor_max_memory.")));
}

static void
run_callback(void *arg)
{
	Callback   *callback = arg;

	call(callback->context, callback->function, callback->arg, true);
}

static void
add_callback(GtfContext *pub, bool is_abort, GtfCallback function, void *arg)
{
	Context    *context = check_context(pub);
	Callback   *callback = MemoryContextAlloc(context->memory, sizeof(Callback));

	callback->context = context;
	callback->function = function;
	callback->arg = arg;
	gtf_handlers_add(is_abort, context->type->hook, run_callback, callback);
}

static void
api_on_abort(GtfContext *pub, GtfCallback callback, void *arg)
{
	add_callback(pub, true, callback, arg);
}

static void
api_on_cleanup(GtfContext *pub, GtfCallback callback, void *arg)
{
	add_callback(pub, false, callback, arg);
}

static Context *
make_context(const GtfTask *task, const GtfType *type, MemoryContext memory)
{
	Context    *context = MemoryContextAllocZero(memory, sizeof(Context));
	const Interval *timeout = task->timeout ? task->timeout : type->timeout;
	GtfTaskFacts *facts = &context->facts;

	context->pub.api = &api;
	context->task = task;
	context->type = type;
	context->memory = AllocSetContextCreate(memory, "gtf hook", ALLOCSET_SMALL_SIZES);
	facts->id = task->id;
	facts->task_type = type->name;
	facts->task_key = task->task_key;
	facts->task_name = task->task_name;
	facts->scope = gtf_scope_text(task->scope);
	facts->attempt = gtf_current_attempt;
	facts->owner = task->owner;
	facts->app_user = task->app_user;
	facts->timeout = timeout && gtf_interval_sign(timeout) > 0 ? timeout : NULL;
	facts->args = task->args;
	return context;
}

Jsonb *
gtf_hook_run(const GtfTask *task, const GtfType *type, MemoryContext memory)
{
	Context    *context = make_context(task, type, memory);

	call(context, NULL, NULL, true);
	return context->result;
}

FuncExpr *
gtf_hook_call_expr(const GtfTask *task, const GtfType *type,
				   MemoryContext memory)
{
	Oid			procedure = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
											CStringGetDatum("_run_hook"),
											PointerGetDatum(buildoidvector(NULL, 0)),
											ObjectIdGetDatum(get_namespace_oid("gtf", false)));

	if (!OidIsValid(procedure))
		elog(ERROR, "procedure gtf._run_hook() does not exist");
	call_result = NULL;
	waiting_for_call = make_context(task, type, memory);
	return makeFuncExpr(procedure, VOIDOID, NIL, InvalidOid, InvalidOid,
						COERCE_EXPLICIT_CALL);
}

Jsonb *
gtf_hook_take_result(void)
{
	Jsonb	   *result = call_result;

	call_result = NULL;
	return result;
}

/* gtf._run_hook(): the hook of the task that runs here */
Datum
gtf_run_hook(PG_FUNCTION_ARGS)
{
	Context    *context = waiting_for_call;

	waiting_for_call = NULL;
	if (context == NULL || context->task != gtf_current_task)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("gtf._run_hook() is called by gtf only")));
	call(context, NULL, NULL,
		 castNode(CallContext, fcinfo->context)->atomic);
	call_result = context->result;
	PG_RETURN_VOID();
}
