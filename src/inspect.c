/*-------------------------------------------------------------------------
 *
 * inspect.c
 *	  The functions behind the views, gtf_status and gtf_result.
 *
 * The state of a task is in up to three places, and an attempt moves through
 * them in one direction:
 *
 *	  slot (shared memory)  -->  gtf.live  -->  gtf.outcomes
 *
 * It enters the next one before it leaves the previous one: the outcome is
 * committed, and the row of gtf.live deleted by the same commit, before the
 * slot is given up.  A reader therefore looks in that same order.  What it
 * does not find because it has just left one place, it finds in a later one,
 * so what it reports was true at some moment of the call, and two calls one
 * after the other never go backwards.  Reading in any other order could miss
 * an attempt that moves in between and report a running task as pending.
 *
 * A final outcome wins over everything, because it never changes; this is
 * also what lets the view take it from the statement's snapshot, however old,
 * and call gtf._current_state only for tasks that have none there.  Otherwise
 * what tells of the highest attempt wins.
 *
 * Without shared memory (library not preloaded, hot standby) the same code
 * reads the two tables alone: later, but in the same order.
 *
 * All of this runs as the caller, who may call it with any arguments: each
 * function that takes an id checks that the caller may see that task.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "access.h"
#include "flow.h"
#include "progress.h"
#include "settings.h"
#include "shmem.h"
#include "store.h"
#include "visible.h"

PG_FUNCTION_INFO_V1(gtf_status);
PG_FUNCTION_INFO_V1(gtf_result);
PG_FUNCTION_INFO_V1(gtf_current_state);
PG_FUNCTION_INFO_V1(gtf_visible);
PG_FUNCTION_INFO_V1(gtf_subscribed);
PG_FUNCTION_INFO_V1(gtf_subscriber_count);
PG_FUNCTION_INFO_V1(gtf_caller_administers);
PG_FUNCTION_INFO_V1(gtf_sees_stack_traces);
PG_FUNCTION_INFO_V1(gtf_status_name);
PG_FUNCTION_INFO_V1(gtf_scope_name);
PG_FUNCTION_INFO_V1(gtf_progress_percent);
PG_FUNCTION_INFO_V1(gtf_progress_eta);
PG_FUNCTION_INFO_V1(gtf_workers);
PG_FUNCTION_INFO_V1(gtf_running);

/* ---- rows ---- */

/* A row under construction; columns are added from left to right. */
#define MAX_COLUMNS 24

typedef struct Row
{
	int			n;
	Datum		values[MAX_COLUMNS];
	bool		nulls[MAX_COLUMNS];
} Row;

static void
add(Row *row, bool present, Datum value)
{
	Assert(row->n < MAX_COLUMNS);
	row->values[row->n] = value;
	row->nulls[row->n] = !present;
	row->n++;
}

static void
add_text(Row *row, const char *s)
{
	add(row, s != NULL, s ? CStringGetTextDatum(s) : (Datum) 0);
}

/* 0 means none, as everywhere in gtf */
static void
add_time(Row *row, TimestampTz at)
{
	add(row, at != 0, TimestampTzGetDatum(at));
}

static void
add_jsonb(Row *row, Jsonb *jsonb)
{
	add(row, jsonb != NULL, PointerGetDatum(jsonb));
}

static void
add_pid(Row *row, int pid)
{
	add(row, pid != 0, Int32GetDatum(pid));
}

/* Append the row to the result of a function that is in materialize mode. */
static void
put(ReturnSetInfo *rsinfo, Row *row)
{
	if (row->n != rsinfo->setDesc->natts)
		elog(ERROR, "row of %d columns where %d are expected",
			 row->n, rsinfo->setDesc->natts);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc,
						 row->values, row->nulls);
	row->n = 0;
}

/* ---- the state of one task ---- */

typedef struct State
{
	GtfStatus	status;
	int32		attempt;		/* last one that was started, 0 = none */
	TimestampTz started_at;
	TimestampTz ended_at;
	TimestampTz changed_at;		/* 0 = never since the task was created */
	TimestampTz ready_since;	/* pending and due: since when */
	TimestampTz read_at;		/* unless it has ended: now */
	int			worker;
	bool		abortable;
	bool		timeout_exceeded;
	GtfProgress progress;
	Jsonb	   *result;
	Jsonb	   *payload;
	const char *error_message;
	const char *exception_type;
	const char *stack_trace;
	const char *wait_reason;
} State;

static void
state_of_attempt(State *state, int32 attempt, TimestampTz started_at, int worker)
{
	state->status = GTF_IN_PROGRESS;
	state->read_at = GetCurrentTimestamp();
	state->attempt = attempt;
	state->started_at = started_at;
	state->changed_at = started_at;
	state->worker = worker;
}

static void
state_of_end(State *state, const GtfOutcome *outcome)
{
	state->status = outcome->status;
	state->started_at = outcome->started_at;
	state->ended_at = outcome->ended_at;
	state->worker = outcome->worker;
	state->progress.kind = outcome->progress_kind;
	state->progress.current = outcome->progress_current;
	state->progress.total = outcome->progress_total;
	state->progress.fraction = outcome->progress_fraction;
	state->result = outcome->result;
	state->error_message = outcome->error_message;
	state->exception_type = outcome->exception_type;
	state->stack_trace = outcome->stack_trace;
}

static void
state_of_wait(State *state, const GtfTask *task, const GtfOutcome *last,
			  const GtfLive *live)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due = Max(task->created_at, task->run_at);

	if (live && live->state == GTF_LIVE_WAITING)
		due = Max(due, live->since);

	state->status = GTF_PENDING;
	state->read_at = now;
	if (due <= now)
		state->ready_since = due;

	if (task->run_at > now)
		state->wait_reason = "scheduled";
	else if (due > now)
		state->wait_reason = last ? "retry" : "scheduled";
	else if (task->has_after && !gtf_store_has_ended(&task->after_id))
		state->wait_reason = "key";
	else if (task->has_prerequisites && !gtf_store_prerequisites_met(&task->id))
	{
		state->wait_reason = "dependency";
		state->ready_since = 0;
	}
	else
		state->wait_reason = gtf_flow_wait_reason(task);
	if (state->wait_reason == NULL)
		state->wait_reason = "executor";
}

/*
 * Find out the current state.  The order of the three reads matters, see the
 * top of this file.  Unless all of it is wanted, what may be large is left out.
 */
static void
read_state(const GtfTask *task, State *state, bool whole)
{
	GtfSlotInfo slot;
	GtfLive		live;
	GtfOutcome *last;
	bool		running;
	bool		has_live;
	int32		ended;
	Jsonb	   *payload = NULL;

	running = gtf_shmem_available() &&
		gtf_slot_find(&task->id, &slot) && slot.body_running;
	if (running)
	{
		if (whole)
			payload = gtf_slot_payload(&slot);
		if (whole && slot.progress.kind == GTF_PROGRESS_NONE)
			gtf_progress_of_command(task, &slot, &slot.progress);
	}
	if (whole && !running)
		has_live = gtf_store_live_fetch(&task->id, &live);
	else
		has_live = gtf_store_live_get(&task->id, &live);
	last = whole ? gtf_store_outcome_last(&task->id, NULL) :
		gtf_store_outcome_head(&task->id, NULL);

	memset(state, 0, sizeof(State));
	if (last)
	{
		/* an outcome without a start closes an attempt that never was one */
		state->attempt = last->attempt - (last->started_at == 0 ? 1 : 0);
		state->changed_at = last->ended_at;
		state->payload = last->payload;
	}
	ended = last ? last->attempt : 0;

	if (last && gtf_status_is_final(last->status))
		state_of_end(state, last);
	else if (running && slot.ref.attempt > ended)
	{
		state_of_attempt(state, slot.ref.attempt, slot.started_at,
						 slot.pid != 0 ? slot.pid : slot.last_pid);
		if (slot.abort_cause != GTF_CAUSE_NONE)
			state->status = GTF_ABORTING;
		state->abortable = slot.abortable;
		state->timeout_exceeded = slot.timeout_exceeded;
		state->progress = slot.progress;
		if (payload)
			state->payload = payload;
	}
	else if (has_live && live.state == GTF_LIVE_RUNNING && live.attempt > ended)
	{
		state_of_attempt(state, live.attempt, live.since, live.worker);
		state->progress = live.progress;
		if (live.payload)
			state->payload = live.payload;
	}
	else
		state_of_wait(state, task, last, has_live ? &live : NULL);
}

static bool
sees_stack_traces(void)
{
	return gtf_show_stacktrace || gtf_is_admin(GetUserId());
}

/* As read_state, for a caller who may not be allowed to see the task. */
static bool
read_visible_state(const pg_uuid_t *id, State *state, bool whole)
{
	GtfTask    *task = gtf_visible_task(id);

	if (task == NULL)
		return false;
	read_state(task, state, whole);

	/*
	 * No outcome: none yet, or removed together with the task since then?  An
	 * executor that is late may have been seen before, with the task.
	 */
	if (state->ended_at == 0 && gtf_store_task_head(id) == NULL)
		return false;
	if (!sees_stack_traces())
		state->stack_trace = NULL;
	return true;
}

/* gtf_status(task_id uuid) RETURNS text */
Datum
gtf_status(PG_FUNCTION_ARGS)
{
	State		state;

	if (!read_visible_state(PG_GETARG_UUID_P(0), &state, false))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(gtf_status_text(state.status)));
}

/* gtf_result(task_id uuid) RETURNS TABLE (...) */
Datum
gtf_result(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = PG_GETARG_UUID_P(0);
	State		state;
	Row			row = {0};

	InitMaterializedSRF(fcinfo, 0);
	if (read_visible_state(id, &state, true))
	{
		add(&row, true, UUIDPGetDatum(id));
		add_text(&row, gtf_status_text(state.status));
		add(&row, true, BoolGetDatum(gtf_status_is_final(state.status)));
		add(&row, true, BoolGetDatum(state.status == GTF_SUCCESS));
		add_jsonb(&row, state.result);
		add_text(&row, state.error_message);
		add_text(&row, state.exception_type);
		add_text(&row, state.stack_trace);
		put((ReturnSetInfo *) fcinfo->resultinfo, &row);
	}
	return (Datum) 0;
}

/*
 * gtf._current_state(task_id uuid) RETURNS gtf._task_state: NULL if the task
 * is not visible
 */
Datum
gtf_current_state(PG_FUNCTION_ARGS)
{
	State		state;
	Row			row = {0};
	bool		counted;
	bool		fraction;
	TupleDesc	desc = fcinfo->flinfo->fn_extra;

	if (!read_visible_state(PG_GETARG_UUID_P(0), &state, true))
		PG_RETURN_NULL();

	/* looked up once, not for every row of the view */
	if (desc == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "gtf._current_state must return a row");
		desc = BlessTupleDesc(CreateTupleDescCopy(desc));
		fcinfo->flinfo->fn_extra = desc;
		MemoryContextSwitchTo(caller);
	}

	counted = state.progress.kind == GTF_PROGRESS_COUNT ||
		state.progress.kind == GTF_PROGRESS_RATIO ||
		state.progress.kind == GTF_PROGRESS_PHASE;
	fraction = state.progress.kind == GTF_PROGRESS_FRACTION;

	add_text(&row, gtf_status_text(state.status));
	add(&row, true, Int32GetDatum(state.attempt));
	add_time(&row, state.started_at);
	add_time(&row, state.ended_at);
	add_time(&row, state.changed_at);
	add_time(&row, state.ready_since);
	add_time(&row, state.read_at);
	add_pid(&row, state.worker);
	add(&row, counted || fraction, CharGetDatum(state.progress.kind));
	add(&row, counted, Int64GetDatum(state.progress.current));
	add(&row, counted && state.progress.kind != GTF_PROGRESS_COUNT,
		Int64GetDatum(state.progress.total));
	add(&row, fraction, Float8GetDatum(state.progress.fraction));
	add_jsonb(&row, state.result);
	add_jsonb(&row, state.payload);
	add_text(&row, state.error_message);
	add_text(&row, state.exception_type);
	add_text(&row, state.stack_trace);
	add_text(&row, state.wait_reason);
	add(&row, true, BoolGetDatum(state.abortable));
	add(&row, true, BoolGetDatum(state.timeout_exceeded));

	if (row.n != desc->natts)
		elog(ERROR, "row of %d columns where %d are expected",
			 row.n, desc->natts);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, row.values,
													  row.nulls)));
}

/* ---- who sees what, for the views ---- */

/*
 * gtf._visible(id uuid, home int, scope "char", owner oid, app_user text)
 * RETURNS boolean
 */
Datum
gtf_visible(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(gtf_may_see(PG_GETARG_UUID_P(0),
							   !gtf_store_is_own_home(PG_GETARG_INT32(1)),
							   PG_GETARG_CHAR(2), PG_GETARG_OID(3),
							   text_to_cstring(PG_GETARG_TEXT_PP(4))));
}

/* gtf._is_subscribed(id uuid, scope "char", owner oid, app_user text) RETURNS boolean */
Datum
gtf_subscribed(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(gtf_is_subscribed(PG_GETARG_UUID_P(0), PG_GETARG_CHAR(1),
									 PG_GETARG_OID(2),
									 text_to_cstring(PG_GETARG_TEXT_PP(3))));
}

/*
 * gtf._subscriber_count(id uuid, scope "char") RETURNS int: NULL if the task
 * is shared and not visible
 */
Datum
gtf_subscriber_count(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = PG_GETARG_UUID_P(0);

	if (PG_GETARG_CHAR(1) != GTF_SCOPE_SHARED)
		PG_RETURN_INT32(1);
	if (gtf_visible_task(id) == NULL)
		PG_RETURN_NULL();
	PG_RETURN_INT32(gtf_store_subscriber_count(id, GTF_SUBSCRIBERS_ALL));
}

/* gtf._administers(owner oid) RETURNS boolean */
Datum
gtf_caller_administers(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(gtf_may_administer(PG_GETARG_OID(0)));
}

/* gtf._sees_stack_traces() RETURNS boolean */
Datum
gtf_sees_stack_traces(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(sees_stack_traces());
}

/* ---- words and numbers for the views ---- */

/* gtf._status_text(status "char") RETURNS text */
Datum
gtf_status_name(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(gtf_status_text(PG_GETARG_CHAR(0))));
}

/* gtf._scope_text(scope "char") RETURNS text */
Datum
gtf_scope_name(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(gtf_scope_text(PG_GETARG_CHAR(0))));
}

/*
 * Both functions on progress take (kind "char", current bigint, total bigint,
 * fraction float8), of which those that the kind does not use are NULL.
 */
static bool
get_progress(FunctionCallInfo fcinfo, GtfProgress *progress)
{
	progress->kind = PG_ARGISNULL(0) ? GTF_PROGRESS_NONE : PG_GETARG_CHAR(0);
	progress->current = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT64(1);
	progress->total = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT64(2);
	progress->fraction = PG_ARGISNULL(3) ? 0 : PG_GETARG_FLOAT8(3);

	return progress->kind == GTF_PROGRESS_FRACTION ||
		((progress->kind == GTF_PROGRESS_RATIO ||
		  progress->kind == GTF_PROGRESS_PHASE) && progress->total > 0);
}

/*
 * gtf._progress_percent(...) RETURNS int: 0 to 100, rounded down, so that 100
 * means complete; NULL where no total is known.
 */
Datum
gtf_progress_percent(PG_FUNCTION_ARGS)
{
	GtfProgress p;
	int64		percent;

	if (!get_progress(fcinfo, &p))
		PG_RETURN_NULL();

	if (p.kind == GTF_PROGRESS_FRACTION)
	{
		if (p.fraction >= 1)
			PG_RETURN_INT32(100);
		/* 0.29 * 100 is just below 29: allow for the last bits */
		percent = (int64) floor(p.fraction * 100 * (1 + 1e-15));
	}
	else
	{
		/* the end of a phase is not the end */
		if (p.current >= p.total)
			PG_RETURN_INT32(p.kind == GTF_PROGRESS_PHASE ? 99 : 100);
		if (p.current <= PG_INT64_MAX / 100)
			percent = p.current * 100 / p.total;
		else
			percent = p.current / (p.total / 100);
	}
	PG_RETURN_INT32((int32) Min(percent, 99));
}

/*
 * gtf._progress_eta(..., started_at timestamptz, at timestamptz) RETURNS
 * interval: how long the rest will take at the pace so far.  NULL unless the
 * task is strictly between start and end, and where the answer is beyond the
 * range of the type (one step of very many): a view must not fail over one
 * task.
 */
Datum
gtf_progress_eta(PG_FUNCTION_ARGS)
{
	GtfProgress p;
	double		fraction;
	double		rest;
	Interval   *eta;

	if (!get_progress(fcinfo, &p) || PG_ARGISNULL(4) || PG_ARGISNULL(5))
		PG_RETURN_NULL();
	/* neither when it began nor what follows is known */
	if (p.kind == GTF_PROGRESS_PHASE)
		PG_RETURN_NULL();
	fraction = p.kind == GTF_PROGRESS_FRACTION ?
		p.fraction : (double) p.current / (double) p.total;
	if (!(fraction > 0 && fraction < 1))
		PG_RETURN_NULL();

	rest = (double) Max(PG_GETARG_TIMESTAMPTZ(5) - PG_GETARG_TIMESTAMPTZ(4), 0) *
		((1 - fraction) / fraction);
	if (!(rest < (double) PG_INT64_MAX / 2))
		PG_RETURN_NULL();

	eta = palloc0(sizeof(Interval));
	eta->time = (TimeOffset) rest;
	/* in days and hours, as the other intervals of the view */
	return DirectFunctionCall1(interval_justify_hours, IntervalPGetDatum(eta));
}

/* ---- workers ---- */

static const char *
slot_state_text(const GtfSlotInfo *slot)
{
	switch (slot->state)
	{
		case GTF_SLOT_FREE:
			break;
		case GTF_SLOT_LAUNCHING:
			return "starting";
		case GTF_SLOT_IDLE:
			return "idle";
		case GTF_SLOT_RUNNING:
			return slot->waiting ? "waiting" : "running";
		case GTF_SLOT_FINISHING:
			return "finishing";
		case GTF_SLOT_LOST:
			return "lost";
	}
	return NULL;
}

/* A row of gtf.workers; the executor's slot, or NULL. */
static void
put_worker(ReturnSetInfo *rsinfo, int pid, const char *kind,
		   const char *state, TimestampTz started_at, const GtfSlotInfo *slot)
{
	Row			row = {0};
	bool		task;

	task = slot && gtf_slot_has_task(slot) && gtf_visible_task(&slot->ref.id);

	add_pid(&row, pid);
	add(&row, slot != NULL, ObjectIdGetDatum(slot ? slot->role : InvalidOid));
	add_text(&row, kind);
	add_text(&row, state);
	add(&row, task, task ? UUIDPGetDatum(&slot->ref.id) : (Datum) 0);
	add(&row, task, Int32GetDatum(task ? slot->ref.attempt : 0));
	add(&row, slot != NULL, Int64GetDatum(slot ? slot->processed : 0));
	add(&row, slot != NULL, Int64GetDatum(slot ? slot->failed : 0));
	add_time(&row, started_at);
	put(rsinfo, &row);
}

/* gtf._workers() RETURNS TABLE (...) */
Datum
gtf_workers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	GtfDatabaseInfo db;
	GtfSlotInfo slot;
	TimestampTz started_at;
	int			pid;

	InitMaterializedSRF(fcinfo, 0);
	if (!gtf_shmem_available())
		return (Datum) 0;

	pid = gtf_launcher_pid(&started_at);
	if (pid != 0)
		put_worker(rsinfo, pid, "launcher", "running", started_at, NULL);
	if (gtf_db_info(gtf_db_find(MyDatabaseId), &db) &&
		db.database == MyDatabaseId)
	{
		if (db.dispatcher_pid != 0)
			put_worker(rsinfo, db.dispatcher_pid, "dispatcher",
					   gtf_store_is_copy() ? "not adopted" : "running",
					   db.dispatcher_start, NULL);
		if (db.flusher_pid != 0)
			put_worker(rsinfo, db.flusher_pid, "flusher", "running",
					   db.flusher_start, NULL);
	}
	for (int i = 0; i < gtf_slot_count(); i++)
	{
		if (gtf_slot_info(i, &slot) && slot.database == MyDatabaseId)
			put_worker(rsinfo, slot.pid, slot.is_inline ? "backend" : "executor",
					   slot_state_text(&slot),
					   slot.process_start ? slot.process_start : slot.launched_at,
					   &slot);
	}
	return (Datum) 0;
}

/*
 * gtf._running() RETURNS SETOF uuid: the tasks whose bodies run now,
 * whoever's they are; not for PUBLIC.
 */
Datum
gtf_running(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	GtfSlotInfo slot;
	Row			row = {0};

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (!gtf_shmem_available())
		return (Datum) 0;

	for (int i = 0; i < gtf_slot_count(); i++)
	{
		if (gtf_slot_info(i, &slot) && slot.database == MyDatabaseId &&
			gtf_slot_has_task(&slot) && slot.body_running && !slot.let_go)
		{
			add(&row, true, UUIDPGetDatum(&slot.ref.id));
			put(rsinfo, &row);
		}
	}
	return (Datum) 0;
}
