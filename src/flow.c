/*-------------------------------------------------------------------------
 *
 * flow.c
 *	  SQL functions for limits, pauses and the pool, and what waiting tasks
 *	  wait for because of them.
 *
 * What is set is in gtf.flow, written in the transaction of an administrator;
 * the dispatcher, which is told at its commit and reads it again then, and
 * with each scan, enforces it (limits.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "access.h"
#include "flow.h"
#include "registry.h"
#include "settings.h"
#include "shmem.h"
#include "store.h"
#include "wakeup.h"

PG_FUNCTION_INFO_V1(gtf_set_limit);
PG_FUNCTION_INFO_V1(gtf_pause);
PG_FUNCTION_INFO_V1(gtf_resume);
PG_FUNCTION_INFO_V1(gtf_set_pool);
PG_FUNCTION_INFO_V1(gtf_worker_shutdown);

/* The longest time between two starts: a hundred years. */
#define MAX_INTERVAL_US		(INT64CONST(36525) * USECS_PER_DAY)

bool
gtf_flow_parse_rate(const char *rate, int64 *interval_us)
{
	const char *p = rate;
	double		number;
	double		interval;
	int64		unit;

	while (*p >= '0' && *p <= '9')
		p++;
	if (p == rate)
		return false;
	if (*p == '.')
	{
		const char *fraction = ++p;

		while (*p >= '0' && *p <= '9')
			p++;
		if (p == fraction)
			return false;
	}
	if (p - rate > 20 || *p != '/' || p[1] == '\0' || p[2] != '\0')
		return false;
	switch (p[1])
	{
		case 's':
			unit = USECS_PER_SEC;
			break;
		case 'm':
			unit = USECS_PER_MINUTE;
			break;
		case 'h':
			unit = USECS_PER_HOUR;
			break;
		case 'd':
			unit = USECS_PER_DAY;
			break;
		default:
			return false;
	}
	number = strtod(rate, NULL);
	if (!(number > 0))
		return false;
	interval = ceil((double) unit / number);
	if (!(interval <= (double) MAX_INTERVAL_US))
		return false;
	*interval_us = (int64) interval;
	return true;
}

/* ---- SQL functions ---- */

static void
check_may_set(const char *function)
{
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
	gtf_require_admin();
}

/* The dispatcher reads gtf.flow after the commit. */
static void
put(const GtfFlow *change, bool set_max, bool set_rate, bool set_paused)
{
	gtf_store_flow_put(change, set_max, set_rate, set_paused);
	if (gtf_shmem_available())
		gtf_wakeup_flow();
}

static char *
required(FunctionCallInfo fcinfo, int n, const char *what)
{
	char	   *value;

	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", what)));
	value = text_to_cstring(PG_GETARG_TEXT_PP(n));
	if (value[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be empty", what)));
	return value;
}

/*
 * What is limited must be there: a name with a mistake would limit nothing.  A
 * limit can be taken away from what is not there any more.
 */
static GtfFlowKind
check_subject(const char *kind, const char *name, bool removes)
{
	if (strcmp(kind, "queue") == 0)
		return GTF_FLOW_QUEUE;
	if (strcmp(kind, "task_type") == 0)
	{
		(void) gtf_type_lookup(name, removes);
		return GTF_FLOW_TASK_TYPE;
	}
	if (strcmp(kind, "owner") == 0)
	{
		(void) get_role_oid(name, removes);
		return GTF_FLOW_OWNER;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid kind of limit \"%s\"", kind),
			 errhint("Kinds of limits are queue, task_type and owner.")));
	return GTF_FLOW_QUEUE;		/* keep compiler quiet */
}

/*
 * gtf_set_limit(kind text, name text, max_running int, rate text) RETURNS void
 */
Datum
gtf_set_limit(PG_FUNCTION_ARGS)
{
	GtfFlow		change = {0};
	bool		set_max = !PG_ARGISNULL(2);
	bool		set_rate = !PG_ARGISNULL(3);
	char	   *kind;

	check_may_set("gtf_set_limit()");
	kind = required(fcinfo, 0, "kind");
	change.name = required(fcinfo, 1, "name");
	if (set_max)
	{
		change.max_running = PG_GETARG_INT32(2);
		if (change.max_running < 1 && change.max_running != -1)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("max_running must be positive, or -1 for no limit"),
					 errhint("Use gtf_pause() to keep the tasks of a queue from starting.")));
		change.max_running = Max(change.max_running, 0);
	}
	if (set_rate)
	{
		int64		interval_us;

		change.rate = text_to_cstring(PG_GETARG_TEXT_PP(3));
		if (strcmp(change.rate, "0") == 0)
			change.rate = NULL;
		else if (!gtf_flow_parse_rate(change.rate, &interval_us))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid rate \"%s\"", change.rate),
					 errhint("Rates are written as 10/s, 100/m, 5/h or 0.5/d; 0 is no limit.")));
	}
	change.kind = check_subject(kind, change.name,
								(set_max || set_rate) &&
								change.max_running == 0 && change.rate == NULL);
	if (set_max || set_rate)
		put(&change, set_max, set_rate, false);
	PG_RETURN_VOID();
}

static void
set_paused(FunctionCallInfo fcinfo, bool paused)
{
	GtfFlow		change = {0};

	check_may_set(paused ? "gtf_pause()" : "gtf_resume()");
	change.kind = GTF_FLOW_QUEUE;
	change.name = required(fcinfo, 0, "queue");
	change.paused = paused;
	put(&change, false, false, true);
}

/* gtf_pause(queue text) RETURNS void */
Datum
gtf_pause(PG_FUNCTION_ARGS)
{
	set_paused(fcinfo, true);
	PG_RETURN_VOID();
}

/* gtf_resume(queue text) RETURNS void */
Datum
gtf_resume(PG_FUNCTION_ARGS)
{
	set_paused(fcinfo, false);
	PG_RETURN_VOID();
}

/*
 * gtf_set_pool(min int, max int) RETURNS void
 */
Datum
gtf_set_pool(PG_FUNCTION_ARGS)
{
	GtfFlow		change = {0};

	check_may_set("gtf_set_pool()");
	change.kind = GTF_FLOW_POOL;
	change.name = "";
	change.min_running = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0);
	change.max_running = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);
	if (change.min_running < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("min must not be negative")));
	if (!PG_ARGISNULL(1) && (change.max_running < 1 || change.max_running > gtf_max_slots))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max must be between 1 and %d (gtf.max_slots)", gtf_max_slots)));
	if (change.min_running > (change.max_running > 0 ? change.max_running : gtf_max_executors))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("min must not be greater than max")));
	if (change.max_running > gtf_max_executors && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only a superuser can set max above %d (gtf.max_executors)",
						gtf_max_executors)));
	put(&change, true, false, false);
	PG_RETURN_VOID();
}

/*
 * gtf_worker_shutdown(pid int) RETURNS boolean
 */
Datum
gtf_worker_shutdown(PG_FUNCTION_ARGS)
{
	int			pid = PG_GETARG_INT32(0);
	GtfSlotInfo slot;

	PreventCommandDuringRecovery("gtf_worker_shutdown()");
	gtf_require_admin();
	gtf_shmem_require();
	for (int i = 0; i < gtf_slot_count(); i++)
	{
		if (!gtf_slot_info(i, &slot) || slot.database != MyDatabaseId ||
			slot.pid != pid || pid == 0 || slot.is_inline)
			continue;
		/* as for what a superuser runs */
		if (superuser_arg(slot.role) && !superuser())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("only a superuser can stop an executor of a superuser")));
		gtf_slot_retire(i, slot.generation);
		PG_RETURN_BOOL(true);
	}
	PG_RETURN_BOOL(false);
}

/* ---- why a task waits ---- */

static List *known = NIL;		/* of GtfFlow */
static MemoryContext known_context = NULL;
static bool known_stale = true;
static Oid	flow_relid = InvalidOid;

static void
flow_changed(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == flow_relid)
		known_stale = true;
}

static List *
read_flow(void)
{
	List	   *rows;
	MemoryContext old;

	if (known_context == NULL)
	{
		known_context = AllocSetContextCreate(CacheMemoryContext, "gtf limits",
											  ALLOCSET_SMALL_SIZES);
		CacheRegisterRelcacheCallback(flow_changed, (Datum) 0);
	}
	if (!known_stale && OidIsValid(flow_relid))
		return known;

	/* what changes while it is read is read again */
	flow_relid = gtf_store_relid("flow");
	known_stale = false;
	known = NIL;
	MemoryContextReset(known_context);
	old = MemoryContextSwitchTo(known_context);
	PG_TRY();
	{
		rows = gtf_store_flow_all();
	}
	PG_CATCH();
	{
		known_stale = true;
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	return known = rows;
}

/* queue and queue_hash: of the task, NULL and 0 if it is that of its type. */
static bool
is_limited(const GtfFlow *flow, int32 type_version, const char *queue,
		   uint64 queue_hash, Oid owner)
{
	const GtfType *type;

	switch (flow->kind)
	{
		case GTF_FLOW_QUEUE:
			if (queue)
				return strcmp(flow->name, queue) == 0;
			if (queue_hash != 0)
				return gtf_name_hash(flow->name) == queue_hash;
			type = gtf_type_by_version(type_version, true);
			return type && strcmp(flow->name, type->queue) == 0;
		case GTF_FLOW_TASK_TYPE:
			type = gtf_type_by_version(type_version, true);
			return type && strcmp(flow->name, type->name) == 0;
		case GTF_FLOW_OWNER:
			return get_role_oid(flow->name, true) == owner;
		case GTF_FLOW_POOL:
			break;
	}
	return false;
}

/* How many tasks that this limits are running? */
static int
count_running(const GtfFlow *flow)
{
	int			n = 0;
	GtfSlotInfo slot;

	for (int i = 0; i < gtf_slot_count(); i++)
	{
		if (gtf_slot_info(i, &slot) && slot.database == MyDatabaseId &&
			gtf_slot_has_task(&slot) && !slot.is_inline && (slot.ref.flags & GTF_REF_CLEANUP) == 0 &&
			is_limited(flow, slot.ref.type_version, NULL, slot.ref.queue,
					   slot.ref.owner))
			n++;
	}
	return n;
}

const char *
gtf_flow_wait_reason(const GtfTask *task)
{
	const char *reason = NULL;
	ListCell   *lc;

	if (read_flow() == NIL)
		return NULL;
	foreach(lc, known)
	{
		const GtfFlow *flow = lfirst(lc);

		if (!is_limited(flow, task->type_version, task->queue, 0, task->owner))
			continue;
		if (flow->paused)
			return "paused";
		/* with a rate: it is handed out when it may start */
		if (reason == NULL &&
			((flow->rate != NULL && !gtf_lane_has(MyDatabaseId, task->owner, &task->id)) ||
			 (flow->max_running > 0 && count_running(flow) >= flow->max_running)))
			reason = "limit";
	}
	return reason;
}
