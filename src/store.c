/*-------------------------------------------------------------------------
 *
 * store.c
 *	  The plumbing of all store*.c files.
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
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "store_common.h"

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
gtf_own_home(void)
{
	uint64		system_identifier = GetSystemIdentifier();

	return (int32) hash_combine(hash_bytes((unsigned char *) &system_identifier,
										   sizeof(system_identifier)),
								hash_bytes_uint32(MyDatabaseId));
}

bool
gtf_store_is_own_home(int32 home)
{
	return home == gtf_own_home();
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

void
gtf_writer_leave_out(StoreWriter *writer, const char *index)
{
	for (int i = 0; i < writer->rri->ri_NumIndices; i++)
	{
		IndexInfo  *info = writer->rri->ri_IndexRelationInfo[i];

		if (info->ii_Predicate != NIL &&
			strcmp(RelationGetRelationName(writer->rri->ri_IndexRelationDescs[i]),
				   index) == 0)
			info->ii_ReadyForInserts = false;
	}
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
	gtf_lookup_begin_keys(lookup, table, index, &key, 1, snapshot);
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

void
gtf_lookup_again(StoreLookup *lookup, const pg_uuid_t *id)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(id));
	index_rescan(lookup->scan, &key, 1, NULL, 0);
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
