/*-------------------------------------------------------------------------
 *
 * store_outcome.c
 *	  gtf.outcomes: one row for each attempt that has ended.
 *
 * Its unique key is the attempt token: who inserts (task, attempt) first has
 * decided how the attempt ended.  An executor does so in the transaction of
 * its body, so it either ends the attempt or has had no effect; everybody else
 * loses to it, waits for it, or tries without waiting.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store_common.h"

/* True if there is a conflict, which can only be with nowait. */
static bool
outcome_insert(const GtfOutcome *outcome, bool nowait)
{
	StoreWriter writer;
	Datum	   *values;
	bool	   *isnull;
	bool		conflict = false;

	gtf_writer_open(&writer, "outcomes");
	values = writer.slot->tts_values;
	isnull = writer.slot->tts_isnull;

	PUT(OUT_TASK_ID, UUIDPGetDatum(&outcome->task_id));
	if (outcome->started_at != 0)
		PUT(OUT_STARTED_AT, TimestampTzGetDatum(outcome->started_at));
	PUT(OUT_ENDED_AT, TimestampTzGetDatum(outcome->ended_at));
	PUT(OUT_ATTEMPT, Int32GetDatum(outcome->attempt));
	if (outcome->worker != 0)
		PUT(OUT_WORKER, Int32GetDatum(outcome->worker));
	switch (outcome->progress_kind)
	{
		case GTF_PROGRESS_RATIO:
			PUT(OUT_PROGRESS_TOTAL, Int64GetDatum(outcome->progress_total));
			/* FALLTHROUGH */
		case GTF_PROGRESS_COUNT:
			PUT(OUT_PROGRESS_CURRENT, Int64GetDatum(outcome->progress_current));
			break;
		case GTF_PROGRESS_FRACTION:
			PUT(OUT_PROGRESS_FRACTION, Float8GetDatum(outcome->progress_fraction));
			break;
		default:
			break;
	}
	if (outcome->progress_kind != GTF_PROGRESS_NONE)
		PUT(OUT_PROGRESS_KIND, CharGetDatum(outcome->progress_kind));
	PUT(OUT_STATUS, CharGetDatum((char) outcome->status));
	if (outcome->result)
		PUT(OUT_RESULT, JsonbPGetDatum(outcome->result));
	if (outcome->payload)
		PUT(OUT_PAYLOAD, JsonbPGetDatum(outcome->payload));
	if (outcome->error_message)
		PUT(OUT_ERROR_MESSAGE, CStringGetTextDatum(outcome->error_message));
	if (outcome->exception_type)
		PUT(OUT_EXCEPTION_TYPE, CStringGetTextDatum(outcome->exception_type));
	if (outcome->stack_trace)
		PUT(OUT_STACK_TRACE, CStringGetTextDatum(outcome->stack_trace));

	if (outcome->status == GTF_SUCCESS)
		gtf_writer_leave_out(&writer, "outcomes_status");
	if (nowait)
		conflict = gtf_writer_try(&writer);
	else
		gtf_writer_put(&writer);
	gtf_writer_close(&writer);
	return conflict;
}

bool
gtf_store_outcome_put(const GtfOutcome *outcome, bool may_conflict)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	bool		won = true;

	if (!may_conflict)
	{
		(void) outcome_insert(outcome, false);
		return true;
	}

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		(void) outcome_insert(outcome, false);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(context);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (edata->sqlerrcode != ERRCODE_UNIQUE_VIOLATION)
			ReThrowError(edata);
		FreeErrorData(edata);
		won = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return won;
}

GtfProbe
gtf_store_outcome_probe(const pg_uuid_t *id, int32 attempt, TransactionId *xid)
{
	SnapshotData dirty;
	StoreLookup lookup;
	GtfProbe	result = GTF_PROBE_NONE;

	InitDirtySnapshot(dirty);
	gtf_lookup_begin(&lookup, "outcomes", "outcomes_pkey", id, &dirty);
	while (gtf_lookup_next(&lookup, ForwardScanDirection))
	{
		bool		isnull;

		if (DatumGetInt32(slot_getattr(lookup.slot, OUT_ATTEMPT, &isnull)) < attempt)
			continue;
		if (TransactionIdIsValid(dirty.xmin))
		{
			*xid = dirty.xmin;
			result = GTF_PROBE_IN_PROGRESS;
		}
		else
			result = GTF_PROBE_EXISTS;
		break;
	}
	gtf_lookup_end(&lookup);
	return result;
}

GtfProbe
gtf_store_outcome_try(const GtfOutcome *outcome)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	GtfProbe	found = GTF_PROBE_NONE;
	bool		conflict;
	TransactionId xid;

	do
	{
		BeginInternalSubTransaction(NULL);
		MemoryContextSwitchTo(context);
		conflict = outcome_insert(outcome, true);
		if (conflict)
			RollbackAndReleaseCurrentSubTransaction();
		else
			ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (conflict)
			found = gtf_store_outcome_probe(&outcome->task_id, outcome->attempt,
											&xid);
		/* the other one may have rolled back meanwhile */
	} while (conflict && found == GTF_PROBE_NONE);
	return found;
}

static GtfOutcome *
outcome_last(const pg_uuid_t *id, XLogRecPtr *lsn, bool whole)
{
	StoreLookup lookup;
	GtfOutcome *outcome = NULL;

	if (lsn)
		*lsn = InvalidXLogRecPtr;
	gtf_lookup_begin(&lookup, "outcomes", "outcomes_pkey", id, SnapshotSelf);
	if (gtf_lookup_next(&lookup, BackwardScanDirection))
	{
		TupleTableSlot *slot = lookup.slot;
		Datum		d;
		bool		isnull;

		outcome = palloc0(sizeof(GtfOutcome));
		outcome->task_id = *id;
		GET(OUT_STARTED_AT);
		outcome->started_at = isnull ? 0 : DatumGetTimestampTz(d);
		GET(OUT_ENDED_AT);
		outcome->ended_at = DatumGetTimestampTz(d);
		GET(OUT_ATTEMPT);
		outcome->attempt = DatumGetInt32(d);
		GET(OUT_WORKER);
		outcome->worker = isnull ? 0 : DatumGetInt32(d);
		GET(OUT_STATUS);
		outcome->status = (GtfStatus) DatumGetChar(d);
		GET(OUT_PROGRESS_KIND);
		outcome->progress_kind = isnull ? GTF_PROGRESS_NONE : DatumGetChar(d);
		GET(OUT_PROGRESS_CURRENT);
		outcome->progress_current = isnull ? 0 : DatumGetInt64(d);
		GET(OUT_PROGRESS_TOTAL);
		outcome->progress_total = isnull ? 0 : DatumGetInt64(d);
		GET(OUT_PROGRESS_FRACTION);
		outcome->progress_fraction = isnull ? 0 : DatumGetFloat8(d);
		if (whole)
		{
			GET(OUT_RESULT);
			outcome->result = isnull ? NULL : DatumGetJsonbPCopy(d);
			GET(OUT_PAYLOAD);
			outcome->payload = isnull ? NULL : DatumGetJsonbPCopy(d);
			text_or_null(slot, OUT_ERROR_MESSAGE, outcome->error_message);
			text_or_null(slot, OUT_EXCEPTION_TYPE, outcome->exception_type);
			text_or_null(slot, OUT_STACK_TRACE, outcome->stack_trace);
		}

		if (lsn)
			*lsn = gtf_row_lsn(slot);
	}
	gtf_lookup_end(&lookup);
	return outcome;
}

GtfOutcome *
gtf_store_outcome_last(const pg_uuid_t *id, XLogRecPtr *lsn)
{
	return outcome_last(id, lsn, true);
}

GtfOutcome *
gtf_store_outcome_head(const pg_uuid_t *id, XLogRecPtr *lsn)
{
	return outcome_last(id, lsn, false);
}

bool
gtf_store_has_ended(const pg_uuid_t *id)
{
	GtfOutcome *last = outcome_last(id, NULL, false);
	GtfTask    *task;
	bool		ended;

	if (last)
	{
		ended = gtf_status_is_final(last->status);
		pfree(last);
		return ended;
	}
	task = gtf_store_task_head(id);
	ended = task == NULL;
	if (task)
		pfree(task);
	return ended;
}

void
gtf_store_outcome_retried(const pg_uuid_t *id, int32 attempt)
{
	StoreSpi	spi;
	Oid			argtypes[] = {UUIDOID, INT4OID, CHAROID};
	Datum		args[] = {UUIDPGetDatum(id), Int32GetDatum(attempt),
	CharGetDatum((char) GTF_RETRIED)};

	gtf_spi_begin(&spi);
	if (SPI_execute_with_args("UPDATE gtf.outcomes SET status = $3"
							  " WHERE task_id OPERATOR(pg_catalog.=) $1"
							  " AND attempt OPERATOR(pg_catalog.=) $2",
							  3, argtypes, args, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not update gtf.outcomes");
	/* the task's lock is held, so only an old snapshot can hide the row */
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update")));
	gtf_spi_end(&spi);
}

int
gtf_store_lost_count(const pg_uuid_t *id)
{
	StoreLookup lookup;
	int			n = 0;

	gtf_lookup_begin(&lookup, "outcomes", "outcomes_pkey", id, SnapshotSelf);
	while (gtf_lookup_next(&lookup, ForwardScanDirection))
	{
		bool		isnull;

		if (DatumGetChar(slot_getattr(lookup.slot, OUT_STATUS, &isnull)) == GTF_LOST)
			n++;
	}
	gtf_lookup_end(&lookup);
	return n;
}
