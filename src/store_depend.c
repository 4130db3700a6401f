/*-------------------------------------------------------------------------
 *
 * store_depend.c
 *	  gtf.tasks.depends_on, and gtf.dependents: the same the other way round.
 *
 * A row of gtf.dependents says nothing about whether the dependent task still
 * waits; it goes when one of the two tasks is removed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "store_common.h"

/* Columns of gtf.dependents. */
enum
{
	DEP_PREREQUISITE_ID = 1, DEP_TASK_ID
};

Datum
gtf_ids_to_array(const pg_uuid_t *ids, int n)
{
	Datum	   *elements = palloc(n * sizeof(Datum));
	ArrayType  *array;

	for (int i = 0; i < n; i++)
		elements[i] = UUIDPGetDatum(&ids[i]);
	array = construct_array(elements, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
	pfree(elements);
	return PointerGetDatum(array);
}

void
gtf_dependents_put(const GtfTask *task)
{
	StoreWriter writer;

	gtf_writer_open(&writer, "dependents");
	memset(writer.slot->tts_isnull, false,
		   writer.slot->tts_tupleDescriptor->natts);
	for (int i = 0; i < task->num_prerequisites; i++)
	{
		Datum	   *values = writer.slot->tts_values;

		ExecClearTuple(writer.slot);
		values[DEP_PREREQUISITE_ID - 1] = UUIDPGetDatum(&task->prerequisites[i]);
		values[DEP_TASK_ID - 1] = UUIDPGetDatum(&task->id);
		gtf_writer_put(&writer);
	}
	gtf_writer_close(&writer);
}

pg_uuid_t *
gtf_store_prerequisites(const pg_uuid_t *id, int *n, XLogRecPtr *lsn)
{
	StoreLookup lookup;
	pg_uuid_t  *ids = NULL;

	*n = 0;
	gtf_lookup_begin(&lookup, "tasks", "tasks_pkey", id, SnapshotSelf);
	if (gtf_lookup_next(&lookup, ForwardScanDirection))
	{
		bool		isnull;
		Datum		d = slot_getattr(lookup.slot, TASK_DEPENDS_ON, &isnull);

		if (lsn)
			*lsn = gtf_row_lsn(lookup.slot);
		if (!isnull)
		{
			Datum	   *elements;

			deconstruct_array(DatumGetArrayTypeP(d), UUIDOID, UUID_LEN, false,
							  TYPALIGN_CHAR, &elements, NULL, n);
			ids = palloc(*n * sizeof(pg_uuid_t));
			for (int i = 0; i < *n; i++)
				ids[i] = *DatumGetUUIDP(elements[i]);
			pfree(elements);
		}
	}
	gtf_lookup_end(&lookup);
	return ids;
}

bool
gtf_store_prerequisites_met(const pg_uuid_t *id)
{
	int			n;
	pg_uuid_t  *ids = gtf_store_prerequisites(id, &n, NULL);

	/* the last ones first: they are most likely to end last */
	while (n-- > 0)
	{
		GtfOutcome *last = gtf_store_outcome_head(&ids[n], NULL);
		bool		met = last && last->status == GTF_SUCCESS;

		if (last)
			pfree(last);
		if (!met)
			break;
	}
	return n < 0;
}

bool
gtf_store_task_keep(const pg_uuid_t *id)
{
	StoreLookup lookup;
	TM_Result	result = TM_Deleted;

	gtf_lookup_begin(&lookup, "tasks", "tasks_pkey", id, SnapshotSelf);
	if (gtf_lookup_next(&lookup, ForwardScanDirection))
	{
		TupleTableSlot *locked = table_slot_create(lookup.rel, NULL);
		TM_FailureData failure;

		result = table_tuple_lock(lookup.rel, &lookup.slot->tts_tid,
								  SnapshotSelf, locked,
								  GetCurrentCommandId(true),
								  LockTupleKeyShare, LockWaitBlock,
								  0, &failure);
		ExecDropSingleTupleTableSlot(locked);
	}
	gtf_lookup_end(&lookup);

	/* one of this very command is invisible to it, and nobody else sees it */
	return result == TM_Ok || result == TM_Invisible;
}

int
gtf_store_dependents(const pg_uuid_t *id, const pg_uuid_t *after,
					 pg_uuid_t *ids, int max)
{
	StoreLookup lookup;
	ScanKeyData keys[2];
	int			n = 0;

	ScanKeyInit(&keys[0], DEP_PREREQUISITE_ID, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(id));
	ScanKeyInit(&keys[1], DEP_TASK_ID, BTGreaterStrategyNumber, F_UUID_GT,
				UUIDPGetDatum(after));
	gtf_lookup_begin_keys(&lookup, "dependents", "dependents_pkey", keys, 2,
						  SnapshotSelf);
	while (n < max && gtf_lookup_next(&lookup, ForwardScanDirection))
	{
		bool		isnull;

		ids[n++] = *DatumGetUUIDP(slot_getattr(lookup.slot, DEP_TASK_ID, &isnull));
	}
	gtf_lookup_end(&lookup);
	return n;
}

/* Does a task that has not ended depend on this one? */
static bool
is_wanted(const pg_uuid_t *id)
{
	pg_uuid_t	ids[64];
	pg_uuid_t	after = {{0}};
	int			n;

	do
	{
		n = gtf_store_dependents(id, &after, ids, lengthof(ids));
		for (int i = 0; i < n; i++)
		{
			if (!gtf_store_has_ended(&ids[i]))
				return true;
			after = ids[i];
		}
	} while (n == lengthof(ids));
	return false;
}

/* Rows that another transaction is deleting, too, are left to it. */
static void
delete_dependents(ScanKey keys, int nkeys)
{
	StoreLookup lookup;
	Relation	rel = table_open(gtf_store_relid("dependents"), RowExclusiveLock);

	gtf_lookup_begin_keys(&lookup, "dependents", "dependents_pkey", keys, nkeys,
						  SnapshotSelf);
	while (gtf_lookup_next(&lookup, ForwardScanDirection))
		(void) gtf_heap_delete_nowait(rel, &lookup.slot->tts_tid);
	gtf_lookup_end(&lookup);
	table_close(rel, NoLock);
}

bool
gtf_dependents_remove(StoreLookup *dependents, const pg_uuid_t *id,
					  bool has_prerequisites)
{
	ScanKeyData keys[2];
	pg_uuid_t  *ids;
	int			n;

	gtf_lookup_again(dependents, id);
	if (gtf_lookup_next(dependents, ForwardScanDirection))
	{
		if (is_wanted(id))
			return false;
		ScanKeyInit(&keys[0], DEP_PREREQUISITE_ID, BTEqualStrategyNumber,
					F_UUID_EQ, UUIDPGetDatum(id));
		delete_dependents(keys, 1);
	}
	if (!has_prerequisites)
		return true;
	ids = gtf_store_prerequisites(id, &n, NULL);
	for (int i = 0; i < n; i++)
	{
		ScanKeyInit(&keys[0], DEP_PREREQUISITE_ID, BTEqualStrategyNumber,
					F_UUID_EQ, UUIDPGetDatum(&ids[i]));
		ScanKeyInit(&keys[1], DEP_TASK_ID, BTEqualStrategyNumber, F_UUID_EQ,
					UUIDPGetDatum(id));
		delete_dependents(keys, 2);
	}
	return true;
}
