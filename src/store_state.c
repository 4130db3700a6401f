/*-------------------------------------------------------------------------
 *
 * store_state.c
 *	  gtf.live, gtf.abort_requests, gtf.state, gtf.clean and gtf.counters.
 *
 * gtf.clean is unlogged: crash recovery and promotion empty it, a clean
 * restart does not.  So its row proves that no body can have been running
 * when the server went down without our knowing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "store_common.h"

enum
{
	LIVE_TASK_ID = 1, LIVE_SINCE, LIVE_PROGRESS_CURRENT, LIVE_PROGRESS_TOTAL,
	LIVE_PROGRESS_FRACTION, LIVE_ATTEMPT, LIVE_WORKER, LIVE_STATE,
	LIVE_PROGRESS_KIND, LIVE_PAYLOAD
};

/* As GTF_LIVE_RUNNING, of a hook that is atomic: known here only. */
#define LIVE_RUNNING_ATOMIC	'a'

enum
{
	REQUEST_TASK_ID = 1, REQUEST_AT, REQUEST_BY, REQUEST_CAUSE, REQUEST_FORCE
};

enum
{
	STATE_SYSTEM_IDENTIFIER = 1, STATE_DATABASE, STATE_SUSPECT_BEFORE
};

static void
live_from_slot(TupleTableSlot *slot, GtfLive *live, bool with_payload)
{
	Datum		d;
	bool		isnull;

	memset(live, 0, sizeof(GtfLive));
	GET(LIVE_TASK_ID);
	live->task_id = *DatumGetUUIDP(d);
	GET(LIVE_SINCE);
	live->since = DatumGetTimestampTz(d);
	GET(LIVE_ATTEMPT);
	live->attempt = DatumGetInt32(d);
	GET(LIVE_WORKER);
	live->worker = isnull ? 0 : DatumGetInt32(d);
	GET(LIVE_STATE);
	live->atomic = DatumGetChar(d) == LIVE_RUNNING_ATOMIC;
	live->state = live->atomic ? GTF_LIVE_RUNNING : DatumGetChar(d);
	GET(LIVE_PROGRESS_KIND);
	live->progress.kind = isnull ? GTF_PROGRESS_NONE : DatumGetChar(d);
	GET(LIVE_PROGRESS_CURRENT);
	live->progress.current = isnull ? 0 : DatumGetInt64(d);
	GET(LIVE_PROGRESS_TOTAL);
	live->progress.total = isnull ? 0 : DatumGetInt64(d);
	GET(LIVE_PROGRESS_FRACTION);
	live->progress.fraction = isnull ? 0 : DatumGetFloat8(d);
	if (with_payload)
	{
		GET(LIVE_PAYLOAD);
		live->payload = isnull ? NULL : DatumGetJsonbPCopy(d);
	}
}

static bool
live_find(const pg_uuid_t *id, GtfLive *live, bool with_payload,
		  ItemPointer tid)
{
	StoreLookup lookup;
	bool		found;

	gtf_lookup_begin(&lookup, "live", "live_pkey", id, SnapshotSelf);
	found = gtf_lookup_next(&lookup, ForwardScanDirection);
	if (found)
	{
		live_from_slot(lookup.slot, live, with_payload);
		*tid = lookup.slot->tts_tid;
	}
	gtf_lookup_end(&lookup);
	return found;
}

bool
gtf_store_live_get(const pg_uuid_t *id, GtfLive *live)
{
	ItemPointerData tid;

	return live_find(id, live, false, &tid);
}

bool
gtf_store_live_fetch(const pg_uuid_t *id, GtfLive *live)
{
	ItemPointerData tid;

	return live_find(id, live, true, &tid);
}

static void
live_delete(const pg_uuid_t *id, int32 attempt)
{
	GtfLive		live;
	ItemPointerData tid;
	Relation	rel;

	if (!live_find(id, &live, false, &tid) ||
		(attempt > 0 && live.attempt != attempt))
		return;
	rel = table_open(gtf_store_relid("live"), RowExclusiveLock);
	simple_heap_delete(rel, &tid);
	table_close(rel, NoLock);
}

void
gtf_store_live_delete(const pg_uuid_t *id)
{
	live_delete(id, 0);
}

void
gtf_store_live_delete_attempt(const pg_uuid_t *id, int32 attempt)
{
	live_delete(id, attempt);
}

/* Set the columns of a report; a missing payload is left as it is. */
static void
put_report(const GtfLive *live, Datum *values, bool *isnull)
{
	isnull[LIVE_PROGRESS_KIND - 1] = true;
	isnull[LIVE_PROGRESS_CURRENT - 1] = true;
	isnull[LIVE_PROGRESS_TOTAL - 1] = true;
	isnull[LIVE_PROGRESS_FRACTION - 1] = true;
	switch (live->progress.kind)
	{
		case GTF_PROGRESS_RATIO:
			PUT(LIVE_PROGRESS_TOTAL, Int64GetDatum(live->progress.total));
			/* FALLTHROUGH */
		case GTF_PROGRESS_COUNT:
			PUT(LIVE_PROGRESS_CURRENT, Int64GetDatum(live->progress.current));
			break;
		case GTF_PROGRESS_FRACTION:
			PUT(LIVE_PROGRESS_FRACTION, Float8GetDatum(live->progress.fraction));
			break;
		default:
			break;
	}
	if (live->progress.kind != GTF_PROGRESS_NONE)
		PUT(LIVE_PROGRESS_KIND, CharGetDatum(live->progress.kind));
	if (live->payload)
		PUT(LIVE_PAYLOAD, JsonbPGetDatum(live->payload));
}

void
gtf_store_live_put(const GtfLive *live)
{
	StoreWriter writer;
	Datum	   *values;
	bool	   *isnull;

	gtf_store_live_delete(&live->task_id);
	CommandCounterIncrement();

	gtf_writer_open(&writer, "live");
	values = writer.slot->tts_values;
	isnull = writer.slot->tts_isnull;
	PUT(LIVE_TASK_ID, UUIDPGetDatum(&live->task_id));
	PUT(LIVE_SINCE, TimestampTzGetDatum(live->since));
	PUT(LIVE_ATTEMPT, Int32GetDatum(live->attempt));
	if (live->worker != 0)
		PUT(LIVE_WORKER, Int32GetDatum(live->worker));
	PUT(LIVE_STATE, CharGetDatum(live->atomic ? LIVE_RUNNING_ATOMIC : live->state));
	put_report(live, values, isnull);
	gtf_writer_put(&writer);
	gtf_writer_close(&writer);
}

bool
gtf_store_live_report(const GtfLive *live)
{
	StoreLookup lookup;
	HeapTuple	old = NULL;
	GtfLive		there;
	StoreWriter writer;
	HeapTuple	tuple;
	Datum	   *values;
	bool	   *isnull;

	gtf_lookup_begin(&lookup, "live", "live_pkey", &live->task_id, SnapshotSelf);
	if (gtf_lookup_next(&lookup, ForwardScanDirection))
	{
		live_from_slot(lookup.slot, &there, false);
		if (there.attempt == live->attempt && there.state == GTF_LIVE_RUNNING)
			old = ExecCopySlotHeapTuple(lookup.slot);
	}
	gtf_lookup_end(&lookup);
	if (old == NULL)
		return false;

	/* a payload that stays keeps its place out of line, too */
	gtf_writer_open(&writer, "live");
	values = writer.slot->tts_values;
	isnull = writer.slot->tts_isnull;
	heap_deform_tuple(old, RelationGetDescr(writer.rel), values, isnull);
	put_report(live, values, isnull);
	tuple = heap_form_tuple(RelationGetDescr(writer.rel), values, isnull);
	if (gtf_heap_update(writer.rel, &old->t_self, tuple))
	{
		ExecStoreVirtualTuple(writer.slot);
		writer.slot->tts_tid = tuple->t_self;
		gtf_exec_insert_index_tuples(writer.rri, writer.slot, writer.estate);
	}
	gtf_writer_close(&writer);
	return true;
}

pg_uuid_t *
gtf_store_live_ids(int *n)
{
	Relation	rel = table_open(gtf_store_relid("live"), AccessShareLock);
	Relation	index = index_open(gtf_store_relid("live_pkey"), AccessShareLock);
	IndexScanDesc scan = gtf_index_beginscan(rel, index, SnapshotAny, 0);
	int			size = 64;
	pg_uuid_t  *ids = palloc(size * sizeof(pg_uuid_t));

	*n = 0;
	scan->xs_want_itup = true;
	index_rescan(scan, NULL, 0, NULL, 0);
	while (index_getnext_tid(scan, ForwardScanDirection) != NULL)
	{
		bool		isnull;
		pg_uuid_t  *id = DatumGetUUIDP(index_getattr(scan->xs_itup, 1,
													 scan->xs_itupdesc,
													 &isnull));

		/* former versions of a row are there, too */
		if (*n > 0 && gtf_id_equal(&ids[*n - 1], id))
			continue;
		if (*n == size)
		{
			size *= 2;
			ids = repalloc_huge(ids, (Size) size * sizeof(pg_uuid_t));
		}
		ids[(*n)++] = *id;
	}
	index_endscan(scan);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return ids;
}

static void
request_from_slot(TupleTableSlot *slot, GtfRequest *request)
{
	Datum		d;
	bool		isnull;

	GET(REQUEST_TASK_ID);
	request->task_id = *DatumGetUUIDP(d);
	GET(REQUEST_CAUSE);
	request->cause = (GtfAbortCause) DatumGetChar(d);
	GET(REQUEST_FORCE);
	request->force = (GtfForce) DatumGetChar(d);
}

static bool
request_find(const pg_uuid_t *id, GtfRequest *request, ItemPointer tid)
{
	StoreLookup lookup;
	bool		found;

	gtf_lookup_begin(&lookup, "abort_requests", "abort_requests_pkey", id,
					 SnapshotSelf);
	found = gtf_lookup_next(&lookup, ForwardScanDirection);
	if (found)
	{
		request_from_slot(lookup.slot, request);
		*tid = lookup.slot->tts_tid;
	}
	gtf_lookup_end(&lookup);
	return found;
}

bool
gtf_store_request_get(const pg_uuid_t *id, GtfRequest *request)
{
	ItemPointerData tid;

	return request_find(id, request, &tid);
}

static int
force_rank(GtfForce force)
{
	return force == GTF_FORCE_TERMINATE ? 2 : force == GTF_FORCE_INTERRUPT ? 1 : 0;
}

void
gtf_store_request_put(const pg_uuid_t *id, GtfAbortCause cause, GtfForce force)
{
	StoreWriter writer;
	GtfRequest	request;
	Datum	   *values;

	if (gtf_store_request_get(id, &request))
	{
		if (force_rank(force) <= force_rank(request.force))
			return;
		cause = request.cause;
		(void) gtf_store_request_delete(id);
		CommandCounterIncrement();
	}
	gtf_writer_open(&writer, "abort_requests");
	values = writer.slot->tts_values;
	values[REQUEST_TASK_ID - 1] = UUIDPGetDatum(id);
	values[REQUEST_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[REQUEST_BY - 1] = ObjectIdGetDatum(GetUserId());
	values[REQUEST_CAUSE - 1] = CharGetDatum((char) cause);
	values[REQUEST_FORCE - 1] = CharGetDatum((char) force);
	memset(writer.slot->tts_isnull, false,
		   writer.slot->tts_tupleDescriptor->natts);
	gtf_writer_put(&writer);
	gtf_writer_close(&writer);
}

bool
gtf_store_request_delete(const pg_uuid_t *id)
{
	GtfRequest	request;
	ItemPointerData tid;
	Relation	rel;
	bool		gone;

	if (!request_find(id, &request, &tid))
		return true;
	/* it may be of this very command */
	CommandCounterIncrement();
	rel = table_open(gtf_store_relid("abort_requests"), RowExclusiveLock);
	gone = gtf_heap_delete_nowait(rel, &tid);
	table_close(rel, NoLock);
	return gone;
}

List *
gtf_store_request_all(void)
{
	StoreScan	scan;
	List	   *result = NIL;

	gtf_scan_begin(&scan, "abort_requests");
	while (gtf_scan_next(&scan))
	{
		GtfRequest *request = palloc(sizeof(GtfRequest));

		request_from_slot(scan.slot, request);
		result = lappend(result, request);
	}
	gtf_scan_end(&scan);
	return result;
}

void
gtf_store_state_get(GtfDbState *state)
{
	StoreScan	scan;

	memset(state, 0, sizeof(GtfDbState));
	gtf_scan_begin(&scan, "state");
	while (gtf_scan_next(&scan))
	{
		TupleTableSlot *slot = scan.slot;
		Datum		d;
		bool		isnull;

		GET(STATE_SYSTEM_IDENTIFIER);
		state->system_identifier = (uint64) DatumGetInt64(d);
		GET(STATE_DATABASE);
		state->database = DatumGetObjectId(d);
		GET(STATE_SUSPECT_BEFORE);
		if (!isnull)
			state->suspect_before = DatumGetTimestampTz(d);

		/* a dump restored here adds its row to the one of CREATE EXTENSION */
		if (state->system_identifier != GetSystemIdentifier() ||
			state->database != MyDatabaseId)
			state->is_copy = true;
	}
	gtf_scan_end(&scan);

	gtf_scan_begin(&scan, "clean");
	state->clean = gtf_scan_next(&scan);
	gtf_scan_end(&scan);
}

static void
state_put(uint64 system_identifier, Oid database, TimestampTz suspect_before)
{
	StoreWriter writer;
	Datum	   *values;
	bool	   *isnull;

	gtf_writer_open(&writer, "state");
	values = writer.slot->tts_values;
	isnull = writer.slot->tts_isnull;
	values[STATE_SYSTEM_IDENTIFIER - 1] = Int64GetDatum((int64) system_identifier);
	isnull[STATE_SYSTEM_IDENTIFIER - 1] = false;
	values[STATE_DATABASE - 1] = ObjectIdGetDatum(database);
	isnull[STATE_DATABASE - 1] = false;
	if (suspect_before != 0)
	{
		values[STATE_SUSPECT_BEFORE - 1] = TimestampTzGetDatum(suspect_before);
		isnull[STATE_SUSPECT_BEFORE - 1] = false;
	}
	gtf_writer_put(&writer);
	gtf_writer_close(&writer);
}

static void
state_replace(TimestampTz suspect_before)
{
	Relation	rel = table_open(gtf_store_relid("state"), RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		simple_heap_delete(rel, &slot->tts_tid);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	CommandCounterIncrement();

	state_put(GetSystemIdentifier(), MyDatabaseId, suspect_before);
}

/*
 * A statement is the time for which a caller may rely on it, and it is asked
 * for each row of a view.
 */
bool
gtf_store_is_copy(void)
{
	static TimestampTz asked_at = 0;
	static bool is_copy = false;
	GtfDbState	state;

	if (asked_at != GetCurrentStatementStartTimestamp())
	{
		gtf_store_state_get(&state);
		is_copy = state.is_copy;
		asked_at = GetCurrentStatementStartTimestamp();
	}
	return is_copy;
}

pg_uuid_t *
gtf_store_state_adopt(int *num_keyed)
{
	Relation	rel = table_open(gtf_store_relid("state"), ShareRowExclusiveLock);
	pg_uuid_t  *keyed;

	/* one after the other */
	table_close(rel, NoLock);
	keyed = gtf_roles_adopt(num_keyed);
	state_replace(0);
	return keyed;
}

void
gtf_store_state_restored(void)
{
	state_put(0, InvalidOid, 0);
}

void
gtf_store_state_started(TimestampTz suspect_before)
{
	StoreWriter writer;

	state_replace(suspect_before);

	gtf_writer_open(&writer, "clean");
	writer.slot->tts_values[0] = TimestampTzGetDatum(GetCurrentTimestamp());
	writer.slot->tts_isnull[0] = false;
	gtf_writer_put(&writer);
	gtf_writer_close(&writer);
}

/* ---- gtf.counters ---- */

enum
{
	COUNTER_NAME = 1, COUNTER_VALUE
};

static void
begin_counter(StoreLookup *lookup, const char *name)
{
	ScanKeyData key;

	ScanKeyEntryInitialize(&key, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ,
						   CStringGetTextDatum(name));
	gtf_lookup_begin_keys(lookup, "counters", "counters_pkey", &key, 1,
						  SnapshotSelf);
}

int64
gtf_store_counter_get(const char *name)
{
	StoreLookup lookup;
	int64		value = 0;
	bool		isnull;

	begin_counter(&lookup, name);
	if (gtf_lookup_next(&lookup, ForwardScanDirection))
		value = DatumGetInt64(slot_getattr(lookup.slot, COUNTER_VALUE, &isnull));
	gtf_lookup_end(&lookup);
	return value;
}

bool
gtf_store_counters_lock(void)
{
	Oid			nsp = get_namespace_oid("gtf", true);
	Oid			relid = OidIsValid(nsp) ?
		get_relname_relid("counters", nsp) : InvalidOid;

	/* nor if it is just being dropped */
	return OidIsValid(relid) &&
		ConditionalLockRelationOid(relid, RowExclusiveLock) &&
		SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid));
}

void
gtf_store_counter_put(const char *name, int64 value)
{
	StoreLookup lookup;
	StoreWriter writer;
	bool		found;
	bool		isnull;

	begin_counter(&lookup, name);
	found = gtf_lookup_next(&lookup, ForwardScanDirection);
	if (found && DatumGetInt64(slot_getattr(lookup.slot, COUNTER_VALUE,
											&isnull)) == value)
	{
		gtf_lookup_end(&lookup);
		return;
	}
	if (found)
		simple_heap_delete(lookup.rel, &lookup.slot->tts_tid);
	gtf_lookup_end(&lookup);

	gtf_writer_open(&writer, "counters");
	writer.slot->tts_values[COUNTER_NAME - 1] = CStringGetTextDatum(name);
	writer.slot->tts_isnull[COUNTER_NAME - 1] = false;
	writer.slot->tts_values[COUNTER_VALUE - 1] = Int64GetDatum(value);
	writer.slot->tts_isnull[COUNTER_VALUE - 1] = false;
	gtf_writer_put(&writer);
	gtf_writer_close(&writer);
}
