/*-------------------------------------------------------------------------
 *
 * store_task.c
 *	  gtf.tasks: one row for each task, inserted by its submit and updated by
 *	  nobody but gtf_adopt().
 *
 * No lock is needed to read or to run a task: its row says nothing that
 * changes.  The scan for tasks without an outcome is the dispatcher's way to
 * find what was submitted when it was not there, see src/README.md.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/visibilitymap.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store_common.h"

struct GtfTaskWriter
{
	StoreWriter w;
};

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

	PUT(TASK_ID, UUIDPGetDatum(&task->id));
	PUT(TASK_CREATED_AT, TimestampTzGetDatum(task->created_at));
	PUT(TASK_OWNER, ObjectIdGetDatum(task->owner));
	PUT(TASK_TYPE_VERSION, Int32GetDatum(task->type_version));
	PUT(TASK_PRIORITY, Int32GetDatum(task->priority));
	PUT(TASK_HOME, Int32GetDatum(gtf_own_home()));
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
	task->foreign = DatumGetInt32(d) != gtf_own_home();
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
	int32		home = gtf_own_home();
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
