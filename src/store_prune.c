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

int
gtf_store_ended_before(TimestampTz before, const GtfEnded *after,
					   GtfEnded *ended, int max)
{
	Snapshot	snapshot;
	Relation	rel;
	TupleTableSlot *slot;
	TableScanDesc scan;
	binaryheap *heap;
	int			n = 0;

	if (max == 0)
		return 0;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	rel = table_open(gtf_store_relid("outcomes"), AccessShareLock);
	slot = table_slot_create(rel, NULL);
	scan = table_beginscan(rel, snapshot, 0, NULL);
	heap = binaryheap_allocate(max, compare_heap, NULL);

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
		if (n < max)
		{
			ended[n] = row;
			binaryheap_add_unordered(heap, PointerGetDatum(&ended[n]));
			if (++n == max)
				binaryheap_build(heap);
		}
		else
		{
			GtfEnded   *last = (GtfEnded *) DatumGetPointer(binaryheap_first(heap));

			if (compare_ended(&row, last) >= 0)
				continue;
			*last = row;
			binaryheap_replace_first(heap, PointerGetDatum(last));
		}
	}
	binaryheap_free(heap);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	UnregisterSnapshot(snapshot);
	qsort(ended, n, sizeof(GtfEnded), compare_ended);
	return n;
}

/* Delete what an index has for this task; returns the number of rows. */
static int
delete_rows(const char *table, const char *index, const pg_uuid_t *id)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));
	return gtf_delete_rows(table, index, &key, 1);
}

bool
gtf_store_task_remove(const pg_uuid_t *id, TimestampTz before)
{
	GtfOutcome *last = gtf_store_outcome_head(id, NULL);
	bool		ended;

	ended = last != NULL && gtf_status_is_final(last->status) &&
		last->ended_at < before;
	if (last)
		pfree(last);
	if (!ended || !gtf_dependents_remove(id))
		return false;

	/* the row of the task first: who looks for an outcome has found that */
	(void) delete_rows("tasks", "tasks_pkey", id);
	(void) delete_rows("outcomes", "outcomes_pkey", id);
	(void) delete_rows("task_subscribers", "task_subscribers_pkey", id);
	gtf_store_live_delete(id);
	(void) gtf_store_request_delete(id);
	return true;
}
