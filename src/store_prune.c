/*-------------------------------------------------------------------------
 *
 * store_prune.c
 *	  Finding tasks that ended long ago, and removing tasks.
 *
 * There is no index on the time of the end, which would cost every task
 * something; the pass reads gtf.outcomes from front to back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "store_common.h"

static int
compare_ended(const void *a, const void *b)
{
	const GtfEnded *ended_a = a;
	const GtfEnded *ended_b = b;

	if (ended_a->ended_at != ended_b->ended_at)
		return ended_a->ended_at < ended_b->ended_at ? -1 : 1;
	return gtf_id_compare(&ended_a->task_id, &ended_b->task_id);
}

/* The one that ended last is on top, to be replaced by an earlier one. */
static int
compare_heap(Datum a, Datum b, void *arg)
{
	return compare_ended(DatumGetPointer(a), DatumGetPointer(b));
}

/* A full array as a heap. */
static binaryheap *
make_heap(GtfEnded *ended, int n)
{
	binaryheap *heap = binaryheap_allocate(n, compare_heap, NULL);

	for (int i = 0; i < n; i++)
		binaryheap_add_unordered(heap, PointerGetDatum(&ended[i]));
	binaryheap_build(heap);
	return heap;
}

GtfEnded *
gtf_store_ended_before(TimestampTz before, const GtfEnded *after, int64 max,
					   int *n, bool *more)
{
	int			size = 1024;
	GtfEnded   *ended = palloc(size * sizeof(GtfEnded));
	Snapshot	snapshot;
	Relation	rel;
	TupleTableSlot *slot;
	TableScanDesc scan;
	binaryheap *heap = NULL;

	*n = 0;
	*more = false;
	/* the array, and the heap's pointers into it */
	max = Min(max, maintenance_work_mem * INT64CONST(1024) /
			  (int64) (sizeof(GtfEnded) + sizeof(Datum)));
	max = Min(max, MaxAllocHugeSize / sizeof(GtfEnded));
	max = Min(max, MaxAllocSize / sizeof(Datum) - 1024);
	if (max == 0)
		return ended;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	rel = table_open(gtf_store_relid("outcomes"), AccessShareLock);
	slot = table_slot_create(rel, NULL);
	scan = table_beginscan(rel, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		GtfEnded	row;
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		row.ended_at = DatumGetTimestampTz(slot_getattr(slot, OUT_ENDED_AT, &isnull));
		if (row.ended_at >= before ||
			!gtf_status_is_final(DatumGetChar(slot_getattr(slot, OUT_STATUS, &isnull))))
			continue;
		row.task_id = *DatumGetUUIDP(slot_getattr(slot, OUT_TASK_ID, &isnull));
		if (after && compare_ended(&row, after) <= 0)
			continue;
		if (*n < max)
		{
			if (*n == size)
			{
				size = Min(size * INT64CONST(2), max);
				ended = repalloc_huge(ended, size * sizeof(GtfEnded));
			}
			ended[(*n)++] = row;
		}
		else
		{
			GtfEnded   *last;

			*more = true;
			if (heap == NULL)
				heap = make_heap(ended, *n);
			last = (GtfEnded *) DatumGetPointer(binaryheap_first(heap));
			if (compare_ended(&row, last) >= 0)
				continue;
			*last = row;
			binaryheap_replace_first(heap, PointerGetDatum(last));
		}
	}
	if (heap)
		binaryheap_free(heap);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	UnregisterSnapshot(snapshot);
	qsort(ended, *n, sizeof(GtfEnded), compare_ended);
	return ended;
}

/* Tables stay open from task to task; most tasks have rows in two only. */
struct GtfRemover
{
	TimestampTz before;
	Relation	tasks_rel;
	Relation	outcomes_rel;
	StoreLookup tasks;
	StoreLookup outcomes;
	StoreLookup dependents;
	StoreLookup live;
	StoreLookup requests;
	TupleTableSlot *locked;
	ItemPointerData *tids;		/* of the outcomes of one task */
	int			max_tids;
};

GtfRemover *
gtf_store_remover_begin(TimestampTz before)
{
	GtfRemover *remover = palloc0(sizeof(GtfRemover));
	pg_uuid_t	none = {{0}};

	remover->before = before;
	remover->tasks_rel = table_open(gtf_store_relid("tasks"), RowExclusiveLock);
	remover->outcomes_rel = table_open(gtf_store_relid("outcomes"), RowExclusiveLock);
	gtf_lookup_begin(&remover->tasks, "tasks", "tasks_pkey", &none, SnapshotSelf);
	gtf_lookup_begin(&remover->outcomes, "outcomes", "outcomes_pkey", &none, SnapshotSelf);
	gtf_lookup_begin(&remover->dependents, "dependents", "dependents_pkey", &none, SnapshotSelf);
	gtf_lookup_begin(&remover->live, "live", "live_pkey", &none, SnapshotSelf);
	gtf_lookup_begin(&remover->requests, "abort_requests", "abort_requests_pkey", &none, SnapshotSelf);
	remover->locked = table_slot_create(remover->tasks_rel, NULL);
	remover->max_tids = 8;
	remover->tids = palloc(remover->max_tids * sizeof(ItemPointerData));
	return remover;
}

void
gtf_store_remover_end(GtfRemover *remover)
{
	ExecDropSingleTupleTableSlot(remover->locked);
	gtf_lookup_end(&remover->tasks);
	gtf_lookup_end(&remover->outcomes);
	gtf_lookup_end(&remover->dependents);
	gtf_lookup_end(&remover->live);
	gtf_lookup_end(&remover->requests);
	table_close(remover->outcomes_rel, NoLock);
	table_close(remover->tasks_rel, NoLock);
	pfree(remover->tids);
	pfree(remover);
}

/* Where its outcomes are; their number, or 0 if it has not ended in time. */
static int
find_outcomes(GtfRemover *remover, const pg_uuid_t *id)
{
	TupleTableSlot *slot = remover->outcomes.slot;
	bool		ended = false;
	int			n = 0;

	gtf_lookup_again(&remover->outcomes, id);
	while (gtf_lookup_next(&remover->outcomes, ForwardScanDirection))
	{
		bool		isnull;

		if (n == remover->max_tids)
		{
			remover->max_tids *= 2;
			remover->tids = repalloc(remover->tids,
									 remover->max_tids * sizeof(ItemPointerData));
		}
		remover->tids[n++] = slot->tts_tid;
		/* the last attempt comes last */
		ended = gtf_status_is_final(DatumGetChar(slot_getattr(slot, OUT_STATUS, &isnull))) &&
			DatumGetTimestampTz(slot_getattr(slot, OUT_ENDED_AT, &isnull)) < remover->before;
	}
	return ended ? n : 0;
}

/* Does the lookup find something of this task? */
static bool
has_rows(StoreLookup *lookup, const pg_uuid_t *id)
{
	gtf_lookup_again(lookup, id);
	return gtf_lookup_next(lookup, ForwardScanDirection);
}

bool
gtf_store_remover_remove(GtfRemover *remover, const pg_uuid_t *id,
						 GtfTask **keyed)
{
	TupleTableSlot *slot = remover->tasks.slot;
	bool		is_shared = true;
	int			n = find_outcomes(remover, id);

	*keyed = NULL;
	if (n == 0)
		return false;

	if (has_rows(&remover->tasks, id))
	{
		TM_FailureData failure;
		bool		isnull;

		/* first, so that nobody can come to depend on it after the look */
		if (table_tuple_lock(remover->tasks_rel, &slot->tts_tid, SnapshotSelf,
							 remover->locked, GetCurrentCommandId(true),
							 LockTupleExclusive, LockWaitSkip, 0,
							 &failure) != TM_Ok)
			return false;
		(void) slot_getattr(slot, TASK_DEPENDS_ON, &isnull);
		if (!gtf_dependents_remove(&remover->dependents, id, !isnull))
			return false;
		(void) slot_getattr(slot, TASK_TASK_KEY, &isnull);
		if (!isnull)
			*keyed = gtf_store_task_head(id);
		is_shared = DatumGetChar(slot_getattr(slot, TASK_SCOPE, &isnull)) == GTF_SCOPE_SHARED;

		/* this row first: who looks for an outcome has found that */
		simple_heap_delete(remover->tasks_rel, &slot->tts_tid);
	}
	for (int i = 0; i < n; i++)
		simple_heap_delete(remover->outcomes_rel, &remover->tids[i]);
	if (is_shared)
	{
		ScanKeyData key;

		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));
		(void) gtf_delete_rows("task_subscribers", "task_subscribers_pkey", &key, 1);
	}
	if (has_rows(&remover->live, id))
		gtf_store_live_delete(id);
	if (has_rows(&remover->requests, id))
		(void) gtf_store_request_delete(id);
	return true;
}
