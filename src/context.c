/*-------------------------------------------------------------------------
 *
 * context.c
 *	  What a running task can ask and tell about itself.
 *
 * Progress goes to the slot of this process and nowhere else: no lock, no
 * row, no palloc, so that a body may report it for every row it handles.
 * Others see it at once; live.c writes it down now and then, and finish.c
 * stores the last value with the outcome.  So is a payload, which costs a copy.
 * When this process dies the slot still has the last report, for the outcome
 * that the dispatcher writes.
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
#include "utils/uuid.h"

#include "attempt.h"
#include "context.h"
#include "errors.h"
#include "on_abort.h"
#include "registry.h"
#include "safepoint.h"
#include "shmem.h"
#include "store.h"
#include "worker.h"

PG_FUNCTION_INFO_V1(gtf_task_id);
PG_FUNCTION_INFO_V1(gtf_context);
PG_FUNCTION_INFO_V1(gtf_dependency_results);
PG_FUNCTION_INFO_V1(gtf_is_aborting);
PG_FUNCTION_INFO_V1(gtf_check_abort);
PG_FUNCTION_INFO_V1(gtf_sleep);
PG_FUNCTION_INFO_V1(gtf_update_progress_ratio);
PG_FUNCTION_INFO_V1(gtf_update_progress_fraction);
PG_FUNCTION_INFO_V1(gtf_update_progress_bigint);
PG_FUNCTION_INFO_V1(gtf_update_progress_int);
PG_FUNCTION_INFO_V1(gtf_update_progress_smallint);
PG_FUNCTION_INFO_V1(gtf_update_progress_text);
PG_FUNCTION_INFO_V1(gtf_update_payload);

#define GTF_PAYLOAD_MAX	(1024 * 1024)	/* bytes, as text */

static void
require_task(const char *function)
{
	if (gtf_current_task == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s can be called only in a running task", function),
				 gtf_hint_in_task()));
}

Datum
gtf_task_id(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id;

	if (gtf_current_task == NULL)
		PG_RETURN_NULL();
	id = palloc(sizeof(pg_uuid_t));
	*id = gtf_current_task->id;
	PG_RETURN_UUID_P(id);
}

Jsonb *
gtf_context_payload(void)
{
	Jsonb	   *payload = gtf_slot_my_payload();

	if (payload == NULL && gtf_current_attempt > 1)
	{
		GtfOutcome *last = gtf_store_outcome_last(&gtf_current_task->id, NULL);

		if (last)
			payload = last->payload;
	}
	return payload;
}

Datum
gtf_context(PG_FUNCTION_ARGS)
{
	enum
	{
		TASK_ID, TASK_TYPE, TASK_KEY, TASK_NAME, SCOPE, STATUS, ARGS, PAYLOAD,
		ATTEMPT, OWNER, APP_USER, TIMEOUT, NUM_COLUMNS
	};
	const GtfTask *task = gtf_current_task;
	Interval   *timeout;
	Jsonb	   *payload;
	TupleDesc	desc;
	Datum		values[NUM_COLUMNS];
	bool		nulls[NUM_COLUMNS] = {false};

	require_task("gtf_context()");
	(void) gtf_safe_point();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE ||
		desc->natts != NUM_COLUMNS)
		elog(ERROR, "unexpected row type of gtf_context");

	values[TASK_ID] = UUIDPGetDatum(&task->id);
	values[TASK_TYPE] = CStringGetTextDatum(gtf_current_type->name);
	if (task->task_key)
		values[TASK_KEY] = CStringGetTextDatum(task->task_key);
	else
		nulls[TASK_KEY] = true;
	if (task->task_name)
		values[TASK_NAME] = CStringGetTextDatum(task->task_name);
	else
		nulls[TASK_NAME] = true;
	values[SCOPE] = CStringGetTextDatum(gtf_scope_text(task->scope));
	values[STATUS] = CStringGetTextDatum(gtf_status_text(gtf_abort_requested() != GTF_CAUSE_NONE ?
														 GTF_ABORTING : GTF_IN_PROGRESS));
	values[ARGS] = JsonbPGetDatum(task->args);
	payload = gtf_context_payload();
	if (payload)
		values[PAYLOAD] = JsonbPGetDatum(payload);
	else
		nulls[PAYLOAD] = true;
	values[ATTEMPT] = Int32GetDatum(gtf_current_attempt);
	values[OWNER] = ObjectIdGetDatum(task->owner);
	values[APP_USER] = CStringGetTextDatum(task->app_user);

	/* the task's own, and zero means none */
	timeout = task->timeout ? task->timeout : gtf_current_type->timeout;
	if (timeout && gtf_interval_sign(timeout) > 0)
		values[TIMEOUT] = IntervalPGetDatum(timeout);
	else
		nulls[TIMEOUT] = true;

	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/*
 * gtf_dependency_results() RETURNS TABLE (task_id, task_type, status, payload,
 * result)
 *
 * Of the prerequisites of the running task, in the order they were given.
 * They were visible to its submitter, that is enough.
 */
Datum
gtf_dependency_results(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	pg_uuid_t  *ids;
	int			n;

	require_task("gtf_dependency_results()");
	(void) gtf_safe_point();
	InitMaterializedSRF(fcinfo, 0);
	ids = gtf_store_prerequisites(&gtf_current_task->id, &n, NULL);
	for (int i = 0; i < n; i++)
	{
		GtfTask    *task = gtf_store_task_head(&ids[i]);
		GtfOutcome *last = gtf_store_outcome_last(&ids[i], NULL);
		GtfType    *type = task ? gtf_type_by_version(task->type_version, true) : NULL;
		Datum		values[5] = {0};
		bool		nulls[5] = {false, true, true, true, true};

		CHECK_FOR_INTERRUPTS();
		values[0] = UUIDPGetDatum(&ids[i]);
		if (type)
			values[1] = CStringGetTextDatum(type->name);
		if (last)
		{
			values[2] = CStringGetTextDatum(gtf_status_text(last->status));
			values[3] = PointerGetDatum(last->payload);
			values[4] = PointerGetDatum(last->result);
		}
		nulls[1] = type == NULL;
		nulls[2] = last == NULL;
		nulls[3] = last == NULL || last->payload == NULL;
		nulls[4] = last == NULL || last->result == NULL;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	PG_RETURN_NULL();
}

bool
gtf_context_shall_stop(void)
{
	if (gtf_current_task == NULL || gtf_abort_requested() == GTF_CAUSE_NONE)
		return false;
	gtf_abort_noticed = true;
	(void) gtf_safe_point();
	return true;
}

/* gtf_is_aborting() RETURNS boolean */
Datum
gtf_is_aborting(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(gtf_context_shall_stop());
}

/*
 * Abort handlers run afterwards: before, they would be rolled back.  It has
 * nothing to say to a handler, which shall get through.
 */
void
gtf_context_check_abort(void)
{
	if (gtf_current_task == NULL || gtf_in_handler() ||
		gtf_abort_requested() == GTF_CAUSE_NONE)
		return;
	gtf_abort_noticed = true;
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("task \"%s\" was asked to stop",
					gtf_id_text(&gtf_current_task->id))));
}

/* gtf_check_abort() RETURNS void: ERROR 57014 */
Datum
gtf_check_abort(PG_FUNCTION_ARGS)
{
	gtf_context_check_abort();
	PG_RETURN_VOID();
}

/* A handler sleeps all the same. */
bool
gtf_context_sleep(TimestampTz until)
{
	for (;;)
	{
		long		left;

		if (!gtf_in_handler() && gtf_context_shall_stop())
			return false;
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
		if (left <= 0)
			return true;
		gtf_backend_wait(left);
	}
}

/* gtf_sleep(duration) RETURNS boolean: false when an abort is requested */
Datum
gtf_sleep(PG_FUNCTION_ARGS)
{
	require_task("gtf_sleep()");
	PG_RETURN_BOOL(gtf_context_sleep(DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
																			 TimestampTzGetDatum(GetCurrentTimestamp()),
																			 PG_GETARG_DATUM(0)))));
}

/*
 * The limit is for the text, which is what the caller can measure; the binary
 * form can be larger, by far (of numbers), or smaller.
 */
static void
check_payload(const Jsonb *payload)
{
	int			length = gtf_jsonb_text_length(payload);

	if (length > GTF_PAYLOAD_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("payload is too large"),
				 errdetail("It has %d bytes as text, the limit is %d bytes.",
						   length, GTF_PAYLOAD_MAX)));
}

static void
check_progress(const GtfProgress *progress)
{
	if (progress->current < 0 || progress->total < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("progress must not be negative")));
	if (isnan(progress->fraction) || progress->fraction < 0 ||
		progress->fraction > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("progress fraction must be between 0 and 1"),
				 errhint("Give the count and the total as two arguments, or cast a count to bigint.")));
}

bool
gtf_context_report(const GtfProgress *progress, const Jsonb *payload)
{
	if (progress)
		check_progress(progress);
	if (payload)
		check_payload(payload);
	if ((progress || payload) && !gtf_slot_report(progress, payload))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of shared memory for payloads"),
				 errdetail("Progress and payload stay as they were."),
				 errhint("You might need to increase gtf.payload_memory.")));
	return !gtf_context_shall_stop();
}

/*
 * All forms of gtf_update_progress end here; the last argument of the call is
 * the payload.
 */
static Datum
report(FunctionCallInfo fcinfo, char kind, int64 current, int64 total,
	   double fraction)
{
	int			last = PG_NARGS() - 1;
	GtfProgress progress;

	progress.kind = kind;
	progress.current = current;
	progress.total = total;
	progress.fraction = fraction;
	PG_RETURN_BOOL(gtf_context_report(&progress,
									  PG_ARGISNULL(last) ? NULL : PG_GETARG_JSONB_P(last)));
}

/*
 * The functions are not strict, because the payload may be NULL; a forgotten
 * number would go unnoticed otherwise.
 */
static void
check_call(FunctionCallInfo fcinfo)
{
	require_task("gtf_update_progress()");
	for (int i = 0; i < PG_NARGS() - 1; i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("progress must not be null")));
	}
}

/* gtf_update_progress(current bigint, total bigint, payload jsonb) */
Datum
gtf_update_progress_ratio(PG_FUNCTION_ARGS)
{
	check_call(fcinfo);
	return report(fcinfo, GTF_PROGRESS_RATIO,
				  PG_GETARG_INT64(0), PG_GETARG_INT64(1), 0);
}

/* gtf_update_progress(fraction float8, payload jsonb) */
Datum
gtf_update_progress_fraction(PG_FUNCTION_ARGS)
{
	check_call(fcinfo);
	return report(fcinfo, GTF_PROGRESS_FRACTION, 0, 0, PG_GETARG_FLOAT8(0));
}

/* gtf_update_progress(current bigint, payload jsonb) */
Datum
gtf_update_progress_bigint(PG_FUNCTION_ARGS)
{
	check_call(fcinfo);
	return report(fcinfo, GTF_PROGRESS_COUNT, PG_GETARG_INT64(0), 0, 0);
}

/*
 * gtf_update_progress(current int, payload jsonb)
 *
 * Only so that a plain integer literal is a count and not a fraction.
 */
Datum
gtf_update_progress_int(PG_FUNCTION_ARGS)
{
	check_call(fcinfo);
	return report(fcinfo, GTF_PROGRESS_COUNT, PG_GETARG_INT32(0), 0, 0);
}

/* gtf_update_progress(current smallint, payload jsonb): likewise */
Datum
gtf_update_progress_smallint(PG_FUNCTION_ARGS)
{
	check_call(fcinfo);
	return report(fcinfo, GTF_PROGRESS_COUNT, PG_GETARG_INT16(0), 0, 0);
}

/*
 * gtf_update_progress(current bigint, payload text)
 *
 * Only so that an untyped literal after a bigint is a payload and not a total.
 */
Datum
gtf_update_progress_text(PG_FUNCTION_ARGS)
{
	check_call(fcinfo);
	if (!PG_ARGISNULL(1))
	{
		char	   *json = text_to_cstring(PG_GETARG_TEXT_PP(1));

		fcinfo->args[1].value = DirectFunctionCall1(jsonb_in,
													CStringGetDatum(json));
	}
	return report(fcinfo, GTF_PROGRESS_COUNT, PG_GETARG_INT64(0), 0, 0);
}

/* gtf_update_payload(payload jsonb) */
Datum
gtf_update_payload(PG_FUNCTION_ARGS)
{
	require_task("gtf_update_payload()");
	PG_RETURN_BOOL(gtf_context_report(NULL, PG_ARGISNULL(0) ? NULL : PG_GETARG_JSONB_P(0)));
}
