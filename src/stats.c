/*-------------------------------------------------------------------------
 *
 * stats.c
 *	  Cumulative counters: what is counted, and how it survives a restart.
 *
 * Counters are atomics in shared memory: who does something adds to them.  The
 * dispatcher writes them into gtf.counters when it ends, be it only because
 * the server is stopped, and the first one after a start adds what is there.
 * Until then readers do.  A crash loses what was counted since the start; so
 * does a stop what ends after the dispatcher.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "shmem.h"
#include "stats.h"
#include "store.h"

PG_FUNCTION_INFO_V1(gtf_stats);

static const char *const names[GTF_COUNT_RUNTIME] = {
	[GTF_COUNT_SUBMITTED] = "tasks_submitted",
	[GTF_COUNT_STARTED] = "attempts_started",
	[GTF_COUNT_SUCCEEDED] = "tasks_succeeded",
	[GTF_COUNT_FAILED] = "tasks_failed",
	[GTF_COUNT_ABORTED] = "tasks_aborted",
	[GTF_COUNT_TIMED_OUT] = "tasks_timed_out",
	[GTF_COUNT_RETRIED] = "attempts_retried",
	[GTF_COUNT_LOST] = "attempts_lost",
	[GTF_COUNT_SCANS] = "table_scans",
};

/* Upper bounds of running times; the last bucket has none. */
static const struct
{
	int64		usecs;
	const char *le;
}			buckets[] =

{
	{5000, "0.005"},
	{10000, "0.01"},
	{25000, "0.025"},
	{50000, "0.05"},
	{100000, "0.1"},
	{250000, "0.25"},
	{500000, "0.5"},
	{1000000, "1"},
	{2500000, "2.5"},
	{5000000, "5"},
	{10000000, "10"},
	{60000000, "60"},
	{600000000, "600"},
	{INT64CONST(3600000000), "3600"},
	{PG_INT64_MAX, "+Inf"},
};

StaticAssertDecl(GTF_COUNT_RUNTIME_BUCKETS + lengthof(buckets) == GTF_NUM_COUNTERS,
				 "every bucket must have a counter");

/* The name under which a counter is stored. */
static const char *
stored_name(int counter)
{
	if (counter < GTF_COUNT_RUNTIME)
		return names[counter];
	if (counter == GTF_COUNT_RUNTIME)
		return "runtime_usecs";
	return psprintf("runtime_le_%s",
					buckets[counter - GTF_COUNT_RUNTIME_BUCKETS].le);
}

void
gtf_stats_ended(const GtfOutcome *outcome)
{
	switch (outcome->status)
	{
		case GTF_SUCCESS:
			gtf_count(MyDatabaseId, GTF_COUNT_SUCCEEDED, 1);
			break;
		case GTF_FAILURE:
			gtf_count(MyDatabaseId, GTF_COUNT_FAILED, 1);
			break;
		case GTF_ABORTED:
			gtf_count(MyDatabaseId, GTF_COUNT_ABORTED, 1);
			break;
		case GTF_TIMED_OUT:
			gtf_count(MyDatabaseId, GTF_COUNT_TIMED_OUT, 1);
			break;
		case GTF_RETRIED:
			gtf_count(MyDatabaseId, GTF_COUNT_RETRIED, 1);
			break;
		default:
			break;
	}
	if (outcome->started_at != 0)
	{
		int64		usecs = Max(outcome->ended_at - outcome->started_at, 0);
		int			bucket = 0;

		while (usecs > buckets[bucket].usecs)
			bucket++;
		gtf_count(MyDatabaseId, GTF_COUNT_RUNTIME, usecs);
		gtf_count(MyDatabaseId, GTF_COUNT_RUNTIME_BUCKETS + bucket, 1);
	}
}

/* Add what is in gtf.counters. */
static void
add_stored(uint64 *values)
{
	for (int i = 0; i < GTF_NUM_COUNTERS; i++)
		values[i] += gtf_store_counter_get(stored_name(i));
}

static void
save(int code, Datum arg)
{
	uint64		values[GTF_NUM_COUNTERS];

	if (!PostmasterIsAlive() || !gtf_counters_get(MyDatabaseId, values))
		return;
	AbortOutOfAnyTransaction();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (gtf_store_counters_lock())
	{
		for (int i = 0; i < GTF_NUM_COUNTERS; i++)
			gtf_store_counter_put(stored_name(i), values[i]);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
}

void
gtf_stats_load(void)
{
	uint64		values[GTF_NUM_COUNTERS];

	if (!gtf_counters_get(MyDatabaseId, values))
	{
		memset(values, 0, sizeof(values));
		add_stored(values);
		gtf_counters_load(MyDatabaseId, values);
	}
	before_shmem_exit(save, (Datum) 0);
}

static void
put(ReturnSetInfo *rsinfo, const char *name, const char *le, Datum value)
{
	Datum		values[3];
	bool		nulls[3] = {false, le == NULL, false};

	values[0] = CStringGetTextDatum(name);
	values[1] = le ? CStringGetTextDatum(le) : (Datum) 0;
	values[2] = value;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static Datum
number(uint64 value)
{
	return NumericGetDatum(int64_to_numeric((int64) value));
}

/* gtf._stats() RETURNS TABLE (name text, le text, value numeric) */
Datum
gtf_stats(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	uint64		values[GTF_NUM_COUNTERS];
	uint64		count = 0;
	GtfSlotInfo slot;
	uint64		executors = 0;

	InitMaterializedSRF(fcinfo, 0);
	if (!gtf_shmem_available())
		return (Datum) 0;

	if (!gtf_counters_get(MyDatabaseId, values))
		add_stored(values);
	for (int i = 0; i < GTF_COUNT_RUNTIME; i++)
		put(rsinfo, names[i], NULL, number(values[i]));
	for (int i = 0; i < lengthof(buckets); i++)
	{
		count += values[GTF_COUNT_RUNTIME_BUCKETS + i];
		put(rsinfo, "runtime_seconds_bucket", buckets[i].le, number(count));
	}
	put(rsinfo, "runtime_seconds_sum", NULL,
		NumericGetDatum(int64_div_fast_to_numeric((int64) values[GTF_COUNT_RUNTIME], 6)));
	put(rsinfo, "runtime_seconds_count", NULL, number(count));

	for (int i = 0; i < gtf_slot_count(); i++)
	{
		if (gtf_slot_info(i, &slot) && slot.database == MyDatabaseId &&
			slot.pid != 0 && !slot.is_inline)
			executors++;
	}
	put(rsinfo, "executors", NULL, number(executors));
	put(rsinfo, "payload_memory_used", NULL, number(gtf_payload_memory_used()));
	return (Datum) 0;
}
