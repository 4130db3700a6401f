/*-------------------------------------------------------------------------
 *
 * store.c
 *	  gtf.tasks and gtf.outcomes, and the plumbing of all store*.c files.
 *
 * The hot path goes through the table access method and the indexes directly:
 * no plan, no search_path, no privileges of the caller.  Reads use
 * SnapshotSelf, "the latest committed state": a task's row never changes and
 * an outcome is appended once, so no two rows of one read can contradict each
 * other; and it takes no predicate locks, so that a body running at
 * SERIALIZABLE does not conflict over our tables.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/visibilitymap.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store_common.h"

struct GtfTaskWriter
{
	StoreWriter w;
};

/* ---- plumbing ---- */

Oid
gtf_store_relid(const char *name)
{
	Oid			nsp = get_namespace_oid("gtf", true);
	Oid			relid = OidIsValid(nsp) ? get_relname_relid(name, nsp) : InvalidOid;

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"gtf.%s\" does not exist", name),
				 errhint("The extension gtf is not installed in this database, or has another version.")));
	return relid;
}

int32
gtf_store_home(uint64 system_identifier, Oid database)
{
	return (int32) hash_combine(hash_bytes((unsigned char *) &system_identifier,
										   sizeof(system_identifier)),
								hash_bytes_uint32(database));
}

static int32
own_home(void)
{
	return gtf_store_home(GetSystemIdentifier(), MyDatabaseId);
}

bool
gtf_store_is_own_home(int32 home)
{
	return home == own_home();
}

GtfInstalled
gtf_store_installed(char **version)
{
	Oid			extension = get_extension_oid("gtf", true);
	StoreSpi	spi;
	GtfInstalled result = GTF_NOT_INSTALLED;
	Datum		arg = ObjectIdGetDatum(extension);
	Oid			argtype = OIDOID;
	MemoryContext caller = CurrentMemoryContext;

	*version = NULL;
	if (!OidIsValid(extension) ||
		!OidIsValid(get_namespace_oid("gtf", true)))
		return GTF_NOT_INSTALLED;

	gtf_spi_begin(&spi);
	if (SPI_execute_with_args("SELECT extversion FROM pg_catalog.pg_extension"
							  " WHERE oid OPERATOR(pg_catalog.=) $1",
							  1, &argtype, &arg, NULL, true, 1) == SPI_OK_SELECT &&
		SPI_processed == 1)
	{
		char	   *v = SPI_getvalue(SPI_tuptable->vals[0],
									 SPI_tuptable->tupdesc, 1);

		*version = MemoryContextStrdup(caller, v);
		result = strcmp(v, GTF_VERSION) == 0 ? GTF_INSTALLED : GTF_OTHER_VERSION;
	}
	gtf_spi_end(&spi);
	return result;
}

void
gtf_spi_begin(StoreSpi *spi)
{
	Relation	rel = table_open(gtf_store_relid("state"), AccessShareLock);
	Oid			owner = rel->rd_rel->relowner;

	table_close(rel, AccessShareLock);
	GetUserIdAndSecContext(&spi->userid, &spi->sec_context);
	SetUserIdAndSecContext(owner,
						   spi->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	spi->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

void
gtf_spi_end(StoreSpi *spi)
{
	SPI_finish();
	AtEOXact_GUC(false, spi->guc_level);
	SetUserIdAndSecContext(spi->userid, spi->sec_context);
}

void
gtf_writer_open(StoreWriter *writer, const char *table)
{
	writer->rel = table_open(gtf_store_relid(table), RowExclusiveLock);
	writer->estate = CreateExecutorState();
	writer->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->rri, writer->rel, 1, NULL, 0);
	ExecOpenIndices(writer->rri, false);
	writer->slot = MakeSingleTupleTableSlot(RelationGetDescr(writer->rel),
											&TTSOpsVirtual);
	writer->cid = GetCurrentCommandId(true);
	ExecClearTuple(writer->slot);
	memset(writer->slot->tts_isnull, true,
		   writer->slot->tts_tupleDescriptor->natts);
}

static bool
writer_insert(StoreWriter *writer, bool nowait)
{
	TupleTableSlot *slot = writer->slot;
	bool		conflict;

	ExecStoreVirtualTuple(slot);
	table_tuple_insert(writer->rel, slot, writer->cid, 0, NULL);
	conflict = gtf_exec_try_index_tuples(writer->rri, slot, writer->estate,
										 nowait);
	ResetPerTupleExprContext(writer->estate);
	return conflict;
}

void
gtf_writer_put(StoreWriter *writer)
{
	(void) writer_insert(writer, false);
}

bool
gtf_writer_try(StoreWriter *writer)
{
	return writer_insert(writer, true);
}

void
gtf_writer_close(StoreWriter *writer)
{
	ExecDropSingleTupleTableSlot(writer->slot);
	ExecCloseIndices(writer->rri);
	FreeExecutorState(writer->estate);
	table_close(writer->rel, NoLock);
}

bool
gtf_heap_delete_nowait(Relation rel, ItemPointer tid)
{
	TM_FailureData failure;
	TM_Result	result = heap_delete(rel, tid, GetCurrentCommandId(true),
									 InvalidSnapshot, false, &failure, false);

	return result != TM_BeingModified && result != TM_WouldBlock;
}

void
gtf_lookup_begin(StoreLookup *lookup, const char *table, const char *index,
				 const pg_uuid_t *id, Snapshot snapshot)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(id));
	gtf_lookup_begin_key(lookup, table, index, &key, snapshot);
}

void
gtf_lookup_begin_key(StoreLookup *lookup, const char *table,
					 const char *index, ScanKey key, Snapshot snapshot)
{
	gtf_lookup_begin_keys(lookup, table, index, key, 1, snapshot);
}

void
gtf_lookup_begin_keys(StoreLookup *lookup, const char *table,
					  const char *index, ScanKey keys, int nkeys,
					  Snapshot snapshot)
{
	lookup->rel = try_table_open(gtf_store_relid(table), AccessShareLock);
	/* dropped while we waited for the lock: say it by name */
	if (lookup->rel == NULL)
		lookup->rel = table_open(gtf_store_relid(table), AccessShareLock);
	lookup->index = index_open(gtf_store_relid(index), AccessShareLock);
	lookup->slot = table_slot_create(lookup->rel, NULL);
	lookup->scan = gtf_index_beginscan(lookup->rel, lookup->index, snapshot,
									   nkeys);
	index_rescan(lookup->scan, keys, nkeys, NULL, 0);
}

bool
gtf_lookup_next(StoreLookup *lookup, ScanDirection direction)
{
	return index_getnext_slot(lookup->scan, direction, lookup->slot);
}

void
gtf_lookup_end(StoreLookup *lookup)
{
	index_endscan(lookup->scan);
	ExecDropSingleTupleTableSlot(lookup->slot);
	index_close(lookup->index, AccessShareLock);
	table_close(lookup->rel, AccessShareLock);
}

XLogRecPtr
gtf_row_lsn(TupleTableSlot *slot)
{
	bool		shouldFree;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, &shouldFree);
	TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);
	XLogRecPtr	lsn = InvalidXLogRecPtr;

	/* a frozen row was committed and flushed long ago */
	if (TransactionIdIsNormal(xmin) &&
		!TransactionIdIsCurrentTransactionId(xmin))
		lsn = TransactionIdGetCommitLSN(xmin);
	if (shouldFree)
		heap_freetuple(tuple);
	return lsn;
}

void
gtf_scan_begin(StoreScan *scan, const char *table)
{
	scan->rel = table_open(gtf_store_relid(table), AccessShareLock);
	scan->slot = table_slot_create(scan->rel, NULL);
	scan->snapshot = RegisterSnapshot(GetCatalogSnapshot(InvalidOid));
	scan->scan = table_beginscan(scan->rel, scan->snapshot, 0, NULL);
}

bool
gtf_scan_next(StoreScan *scan)
{
	return table_scan_getnextslot(scan->scan, ForwardScanDirection, scan->slot);
}

void
gtf_scan_end(StoreScan *scan)
{
	table_endscan(scan->scan);
	UnregisterSnapshot(scan->snapshot);
	ExecDropSingleTupleTableSlot(scan->slot);
	table_close(scan->rel, AccessShareLock);
}

int
gtf_delete_rows(const char *table, const char *index, ScanKey keys, int nkeys)
{
	StoreLookup lookup;
	Relation	rel = table_open(gtf_store_relid(table), RowExclusiveLock);
	int			n = 0;

	gtf_lookup_begin_keys(&lookup, table, index, keys, nkeys, SnapshotSelf);
	while (gtf_lookup_next(&lookup, ForwardScanDirection))
	{
		simple_heap_delete(rel, &lookup.slot->tts_tid);
		n++;
	}
	gtf_lookup_end(&lookup);
	table_close(rel, NoLock);
	return n;
}

/* ---- gtf.tasks ---- */

GtfTaskWriter *
gtf_store_tasks_begin(void)
{
	GtfTaskWriter *writer = palloc(sizeof(GtfTaskWriter));

	gtf_writer_open(&writer->w, "tasks");
	return writer;
}

void
gtf_store_tasks_put(GtfTaskWriter *writer, GtfTask *task)
{
	TupleTableSlot *slot = writer->w.slot;
	Datum	   *values = slot->tts_values;
	bool	   *isnull = slot->tts_isnull;

	ExecClearTuple(slot);
	memset(isnull, true, slot->tts_tupleDescriptor->natts);

#define PUT(att, datum) \
	(values[(att) - 1] = (datum), isnull[(att) - 1] = false)

	PUT(TASK_ID, UUIDPGetDatum(&task->id));
	PUT(TASK_CREATED_AT, TimestampTzGetDatum(task->created_at));
	PUT(TASK_OWNER, ObjectIdGetDatum(task->owner));
	PUT(TASK_TYPE_VERSION, Int32GetDatum(task->type_version));
	PUT(TASK_PRIORITY, Int32GetDatum(task->priority));
	PUT(TASK_HOME, Int32GetDatum(own_home()));
	if (task->max_attempts > 0)
		PUT(TASK_MAX_ATTEMPTS, Int32GetDatum(task->max_attempts));
	if (task->run_at != 0)
		PUT(TASK_RUN_AT, TimestampTzGetDatum(task->run_at));
	if (task->expires_at != 0)
		PUT(TASK_EXPIRES_AT, TimestampTzGetDatum(task->expires_at));
	if (task->timeout)
		PUT(TASK_TIMEOUT, IntervalPGetDatum(task->timeout));
	if (task->has_parent)
	{
		PUT(TASK_PARENT_ID, UUIDPGetDatum(&task->parent_id));
		PUT(TASK_ROOT_ID, UUIDPGetDatum(&task->root_id));
	}
	if (task->has_after)
		PUT(TASK_AFTER_ID, UUIDPGetDatum(&task->after_id));
	if (task->is_sync)
		PUT(TASK_IS_SYNC, BoolGetDatum(true));
	PUT(TASK_SCOPE, CharGetDatum(task->scope));
	PUT(TASK_APP_USER, CStringGetTextDatum(task->app_user));
	if (task->queue)
		PUT(TASK_QUEUE, CStringGetTextDatum(task->queue));
	if (task->task_key)
		PUT(TASK_TASK_KEY, CStringGetTextDatum(task->task_key));
	if (task->task_name)
		PUT(TASK_TASK_NAME, CStringGetTextDatum(task->task_name));
	if (task->num_prerequisites > 0)
		PUT(TASK_DEPENDS_ON, gtf_ids_to_array(task->prerequisites,
											  task->num_prerequisites));
	PUT(TASK_ARGS, JsonbPGetDatum(task->args));

	gtf_writer_put(&writer->w);
	task->tid = slot->tts_tid;
	gtf_roles_note(task->owner);
	if (task->num_prerequisites > 0)
		gtf_dependents_put(task);
}

void
gtf_store_tasks_end(GtfTaskWriter *writer)
{
	gtf_writer_close(&writer->w);
	pfree(writer);
}

static GtfTask *
task_from_slot(TupleTableSlot *slot, bool with_args)
{
	GtfTask    *task = palloc0(sizeof(GtfTask));
	Datum		d;
	bool		isnull;

#define GET(att) (d = slot_getattr(slot, (att), &isnull))

	GET(TASK_ID);
	task->id = *DatumGetUUIDP(d);
	GET(TASK_CREATED_AT);
	task->created_at = DatumGetTimestampTz(d);
	GET(TASK_OWNER);
	task->owner = DatumGetObjectId(d);
	GET(TASK_TYPE_VERSION);
	task->type_version = DatumGetInt32(d);
	GET(TASK_PRIORITY);
	task->priority = DatumGetInt32(d);
	GET(TASK_HOME);
	task->foreign = DatumGetInt32(d) != own_home();
	GET(TASK_MAX_ATTEMPTS);
	task->max_attempts = isnull ? 0 : DatumGetInt32(d);
	GET(TASK_RUN_AT);
	task->run_at = isnull ? 0 : DatumGetTimestampTz(d);
	GET(TASK_EXPIRES_AT);
	task->expires_at = isnull ? 0 : DatumGetTimestampTz(d);
	GET(TASK_TIMEOUT);
	if (!isnull)
	{
		task->timeout = palloc(sizeof(Interval));
		*task->timeout = *DatumGetIntervalP(d);
	}
	GET(TASK_PARENT_ID);
	task->has_parent = !isnull;
	if (!isnull)
	{
		task->parent_id = *DatumGetUUIDP(d);
		GET(TASK_ROOT_ID);
		task->root_id = *DatumGetUUIDP(d);
	}
	GET(TASK_AFTER_ID);
	task->has_after = !isnull;
	if (!isnull)
		task->after_id = *DatumGetUUIDP(d);
	GET(TASK_IS_SYNC);
	task->is_sync = !isnull && DatumGetBool(d);
	GET(TASK_SCOPE);
	task->scope = DatumGetChar(d);
	text_or_null(slot, TASK_APP_USER, task->app_user);
	text_or_null(slot, TASK_QUEUE, task->queue);
	text_or_null(slot, TASK_TASK_KEY, task->task_key);
	text_or_null(slot, TASK_TASK_NAME, task->task_name);
	task->has_prerequisites = !slot_attisnull(slot, TASK_DEPENDS_ON);
	if (with_args)
	{
		GET(TASK_ARGS);
		task->args = DatumGetJsonbPCopy(d);
	}
	task->tid = slot->tts_tid;
	return task;
}

static GtfTask *
task_by_id(const pg_uuid_t *id, bool with_args)
{
	GtfTask    *task = NULL;
	StoreLookup lookup;

	gtf_lookup_begin(&lookup, "tasks", "tasks_pkey", id, SnapshotSelf);
	if (gtf_lookup_next(&lookup, ForwardScanDirection))
		task = task_from_slot(lookup.slot, with_args);
	gtf_lookup_end(&lookup);
	return task;
}

GtfTask *
gtf_store_task_fetch(const pg_uuid_t *id, ItemPointer tid)
{
	GtfTask    *task = NULL;

	if (tid && ItemPointerIsValid(tid))
	{
		Relation	rel = table_open(gtf_store_relid("tasks"), AccessShareLock);
		TupleTableSlot *slot = table_slot_create(rel, NULL);

		/* the hint may point past the end after the table was rewritten */
		if (ItemPointerGetBlockNumberNoCheck(tid) < RelationGetNumberOfBlocks(rel) &&
			table_tuple_fetch_row_version(rel, tid, SnapshotSelf, slot))
		{
			bool		isnull;
			Datum		d = slot_getattr(slot, TASK_ID, &isnull);

			if (gtf_id_equal(DatumGetUUIDP(d), id))
				task = task_from_slot(slot, true);
		}
		ExecDropSingleTupleTableSlot(slot);
		table_close(rel, AccessShareLock);
		if (task)
			return task;
	}

	return task_by_id(id, true);
}

GtfTask *
gtf_store_task_head(const pg_uuid_t *id)
{
	return task_by_id(id, false);
}

List *
gtf_store_tasks_of(Oid owner, pg_uuid_t *after, int max_rows)
{
	StoreLookup lookup;
	ScanKeyData keys[2];
	pg_uuid_t	from = *after;
	List	   *tasks = NIL;
	int			n = 0;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(owner));
	ScanKeyInit(&keys[1], 2, BTGreaterStrategyNumber, F_UUID_GT,
				UUIDPGetDatum(&from));
	memset(after, 0xff, sizeof(pg_uuid_t));
	gtf_lookup_begin_keys(&lookup, "tasks", "tasks_owner", keys, 2, SnapshotSelf);
	while (gtf_lookup_next(&lookup, ForwardScanDirection))
	{
		bool		isnull;

		if (n++ == max_rows)
		{
			*after = from;
			break;
		}
		from = *DatumGetUUIDP(slot_getattr(lookup.slot, TASK_ID, &isnull));
		(void) slot_getattr(lookup.slot, TASK_TASK_KEY, &isnull);
		if (!isnull)
			tasks = lappend(tasks, task_from_slot(lookup.slot, false));
	}
	gtf_lookup_end(&lookup);
	return tasks;
}

bool
gtf_store_last_id(pg_uuid_t *id)
{
	Relation	rel = table_open(gtf_store_relid("tasks"), AccessShareLock);
	Relation	index = index_open(gtf_store_relid("tasks_pkey"), AccessShareLock);
	IndexScanDesc scan = gtf_index_beginscan(rel, index, SnapshotAny, 0);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	bool		found;

	index_rescan(scan, NULL, 0, NULL, 0);
	found = index_getnext_slot(scan, BackwardScanDirection, slot);
	if (found)
	{
		bool		isnull;

		*id = *DatumGetUUIDP(slot_getattr(slot, TASK_ID, &isnull));
	}
	ExecDropSingleTupleTableSlot(slot);
	index_endscan(scan);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * One side of the merge in gtf_store_scan_pending: the ids of an index in
 * order, without visiting the heap where the visibility map allows it.
 */
typedef struct IdStream
{
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	Buffer		vmbuffer;
	pg_uuid_t	after;			/* the scan key points here */
	pg_uuid_t	id;
	pg_uuid_t  *reading;		/* the same before the heap is visited */
	bool		fetched;		/* its row is in the slot already */
	bool		done;
} IdStream;

static void
stream_open(IdStream *stream, const char *table, const char *index,
			const pg_uuid_t *after, pg_uuid_t *reading, Snapshot snapshot)
{
	ScanKeyData key;

	stream->rel = table_open(gtf_store_relid(table), AccessShareLock);
	stream->index = index_open(gtf_store_relid(index), AccessShareLock);
	stream->slot = table_slot_create(stream->rel, NULL);
	stream->vmbuffer = InvalidBuffer;
	stream->done = false;
	stream->after = *after;
	stream->reading = reading;
	stream->scan = gtf_index_beginscan(stream->rel, stream->index, snapshot, 1);
	stream->scan->xs_want_itup = true;
	ScanKeyInit(&key, 1, BTGreaterStrategyNumber, F_UUID_GT,
				UUIDPGetDatum(&stream->after));
	index_rescan(stream->scan, &key, 1, NULL, 0);
}

static bool
stream_next(IdStream *stream)
{
	ItemPointer tid;

	ExecClearTuple(stream->slot);
	stream->fetched = false;
	while ((tid = index_getnext_tid(stream->scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;

		stream->id = *DatumGetUUIDP(index_getattr(stream->scan->xs_itup, 1,
												  stream->scan->xs_itupdesc,
												  &isnull));
		if (stream->reading)
			*stream->reading = stream->id;
		if (!VM_ALL_VISIBLE(stream->rel, ItemPointerGetBlockNumber(tid),
							&stream->vmbuffer))
		{
			if (!index_fetch_heap(stream->scan, stream->slot))
				continue;
			stream->fetched = true;
		}
		return true;
	}
	stream->done = true;
	return false;
}

/*
 * The row of the id.  It must not be fetched twice: the first time moves to
 * the end of its HOT chain, and from there it looks as if the index entry were
 * dead, which would be removed.
 */
static bool
stream_fetch(IdStream *stream)
{
	return stream->fetched || index_fetch_heap(stream->scan, stream->slot);
}

static void
stream_close(IdStream *stream)
{
	if (BufferIsValid(stream->vmbuffer))
		ReleaseBuffer(stream->vmbuffer);
	index_endscan(stream->scan);
	ExecDropSingleTupleTableSlot(stream->slot);
	index_close(stream->index, AccessShareLock);
	table_close(stream->rel, AccessShareLock);
}

int
gtf_store_scan_pending(GtfScan *scan, int max_rows,
					   GtfTaskRef *refs, int max_refs)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int32		home = own_home();
	IdStream	tasks;
	IdStream	outcomes;
	int			rows = 0;
	int			n = 0;

	scan->reading = scan->after;
	stream_open(&tasks, "tasks", "tasks_pkey", &scan->after, &scan->reading,
				snapshot);
	stream_open(&outcomes, "outcomes", "outcomes_pkey", &scan->after, NULL,
				snapshot);

	while (rows++ < max_rows && n < max_refs)
	{
		if (!stream_next(&tasks))
		{
			scan->finished = true;
			break;
		}
		scan->after = tasks.id;
		if (rows == 1)
			(void) stream_next(&outcomes);
		while (!outcomes.done && gtf_id_compare(&outcomes.id, &tasks.id) < 0)
			(void) stream_next(&outcomes);
		if (!outcomes.done && gtf_id_equal(&outcomes.id, &tasks.id))
			continue;

		if (stream_fetch(&tasks))
		{
			TupleTableSlot *slot = tasks.slot;
			GtfTaskRef *ref = &refs[n];
			Datum		d;
			bool		isnull;
			bool		is_sync;

			/* one that its session runs: if that is lost, gtf.live tells */
			GET(TASK_IS_SYNC);
			is_sync = !isnull && DatumGetBool(d);
			GET(TASK_HOME);
			if (is_sync || DatumGetInt32(d) != home)
			{
				ExecClearTuple(slot);
				continue;
			}
			n++;
			memset(ref, 0, sizeof(GtfTaskRef));
			ref->id = tasks.id;
			ref->tid = slot->tts_tid;
			GET(TASK_CREATED_AT);
			ref->due = DatumGetTimestampTz(d);
			GET(TASK_RUN_AT);
			if (!isnull)
				ref->due = DatumGetTimestampTz(d);
			GET(TASK_EXPIRES_AT);
			if (!isnull)
				ref->expires_at = DatumGetTimestampTz(d);
			GET(TASK_OWNER);
			ref->owner = DatumGetObjectId(d);
			GET(TASK_TYPE_VERSION);
			ref->type_version = DatumGetInt32(d);
			GET(TASK_PRIORITY);
			ref->priority = DatumGetInt32(d);
			GET(TASK_QUEUE);
			if (!isnull)
				ref->queue = gtf_name_hash(TextDatumGetCString(d));
			ref->attempt = 1;
			if (!slot_attisnull(slot, TASK_DEPENDS_ON))
				ref->flags = GTF_REF_DEPENDS;
			ExecClearTuple(slot);
		}
	}
	stream_close(&outcomes);
	stream_close(&tasks);
	UnregisterSnapshot(snapshot);
	return n;
}

/* ---- gtf.outcomes ---- */

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
	task = task_by_id(id, false);
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
