/*-------------------------------------------------------------------------
 *
 * store_key.c
 *	  gtf.keys: the task submitted last under each key.
 *
 * A row says nothing about whether that task is active: keys.c finds out.  So
 * the end of a task writes nothing here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/skey.h"
#include "access/stratnum.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "store_common.h"

/* Column of gtf.keys. */
#define KEY_TASK_ID		2

static Datum
key_datum(const uint8 *key)
{
	return PointerGetDatum(cstring_to_text_with_len((const char *) key,
													GTF_KEY_LEN));
}

/* Who else is at a row that was found with a dirty snapshot? */
static bool
is_being_changed(const SnapshotData *dirty, TransactionId *xid)
{
	*xid = TransactionIdIsValid(dirty->xmin) ? dirty->xmin : dirty->xmax;
	return TransactionIdIsValid(*xid);
}

GtfKeyState
gtf_store_key_get(const uint8 *key, pg_uuid_t *id, TransactionId *xid)
{
	SnapshotData dirty;
	StoreLookup lookup;
	ScanKeyData scankey;
	GtfKeyState state = GTF_KEY_FREE;

	InitDirtySnapshot(dirty);
	ScanKeyInit(&scankey, 1, BTEqualStrategyNumber, F_BYTEAEQ, key_datum(key));
	gtf_lookup_begin_keys(&lookup, "keys", "keys_pkey", &scankey, 1, &dirty);
	while (gtf_lookup_next(&lookup, ForwardScanDirection))
	{
		bool		isnull;

		*id = *DatumGetUUIDP(slot_getattr(lookup.slot, KEY_TASK_ID, &isnull));
		if (is_being_changed(&dirty, xid))
		{
			state = GTF_KEY_CHANGING;
			break;
		}
		state = GTF_KEY_HELD;
	}
	gtf_lookup_end(&lookup);
	return state;
}

GtfKeyState
gtf_store_key_holder(const pg_uuid_t *id, TransactionId *xid)
{
	SnapshotData dirty;
	StoreLookup lookup;
	GtfKeyState state = GTF_KEY_HELD;

	InitDirtySnapshot(dirty);
	gtf_lookup_begin(&lookup, "outcomes", "outcomes_pkey", id, &dirty);
	while (state == GTF_KEY_HELD &&
		   gtf_lookup_next(&lookup, ForwardScanDirection))
	{
		bool		isnull;

		/* a retry or a removal changes what is final, an end adds it */
		if (!gtf_status_is_final(DatumGetChar(slot_getattr(lookup.slot, OUT_STATUS, &isnull))))
			continue;
		state = is_being_changed(&dirty, xid) ? GTF_KEY_CHANGING : GTF_KEY_FREE;
	}
	gtf_lookup_end(&lookup);
	if (state != GTF_KEY_HELD)
		return state;

	gtf_lookup_begin(&lookup, "abort_requests", "abort_requests_pkey", id, &dirty);
	while (state != GTF_KEY_CHANGING &&
		   gtf_lookup_next(&lookup, ForwardScanDirection))
		state = is_being_changed(&dirty, xid) ? GTF_KEY_CHANGING : GTF_KEY_RELEASED;
	gtf_lookup_end(&lookup);
	if (state != GTF_KEY_HELD)
		return state;

	/* removed with all its rows? */
	gtf_lookup_begin(&lookup, "tasks", "tasks_pkey", id, &dirty);
	if (!gtf_lookup_next(&lookup, ForwardScanDirection))
		state = GTF_KEY_FREE;
	gtf_lookup_end(&lookup);
	return state;
}

/* Run one of the statements below, with a plan that is kept. */
static uint64
execute(SPIPlanPtr *plan, const char *sql, const uint8 *key,
		const pg_uuid_t *id, pg_uuid_t *result)
{
	StoreSpi	spi;
	Oid			argtypes[] = {BYTEAOID, UUIDOID};
	Datum		args[] = {key_datum(key), id ? UUIDPGetDatum(id) : (Datum) 0};
	int			nargs = id ? 2 : 1;
	uint64		n;

	gtf_spi_begin(&spi);
	if (*plan == NULL)
	{
		*plan = SPI_prepare(sql, nargs, argtypes);
		if (*plan == NULL || SPI_keepplan(*plan) != 0)
			elog(ERROR, "could not prepare \"%s\"", sql);
	}
	if (SPI_execute_plan(*plan, args, NULL, false, 0) < 0)
		elog(ERROR, "could not execute \"%s\"", sql);
	n = SPI_processed;
	if (result && n > 0)
	{
		bool		isnull;

		*result = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[0],
											   SPI_tuptable->tupdesc, 1,
											   &isnull));
	}
	gtf_spi_end(&spi);
	return n;
}

bool
gtf_store_key_put(const uint8 *key, const pg_uuid_t *id)
{
	static SPIPlanPtr plan = NULL;

	return execute(&plan, "INSERT INTO gtf.keys (dedup_key, task_id)"
				   " VALUES ($1, $2) ON CONFLICT (dedup_key) DO NOTHING",
				   key, id, NULL) > 0;
}

bool
gtf_store_key_lock(const uint8 *key, pg_uuid_t *id)
{
	static SPIPlanPtr plan = NULL;

	return execute(&plan, "SELECT task_id FROM gtf.keys"
				   " WHERE dedup_key OPERATOR(pg_catalog.=) $1 FOR UPDATE",
				   key, NULL, id) > 0;
}

void
gtf_store_key_move(const uint8 *key, const pg_uuid_t *id)
{
	static SPIPlanPtr plan = NULL;

	(void) execute(&plan, "UPDATE gtf.keys SET task_id = $2"
				   " WHERE dedup_key OPERATOR(pg_catalog.=) $1",
				   key, id, NULL);
}

void
gtf_store_key_remove(const uint8 *key, const pg_uuid_t *id)
{
	StoreLookup lookup;
	ScanKeyData scankey;
	Relation	rel = table_open(gtf_store_relid("keys"), RowExclusiveLock);

	ScanKeyInit(&scankey, 1, BTEqualStrategyNumber, F_BYTEAEQ, key_datum(key));
	gtf_lookup_begin_keys(&lookup, "keys", "keys_pkey", &scankey, 1, SnapshotSelf);
	if (gtf_lookup_next(&lookup, ForwardScanDirection))
	{
		bool		isnull;

		if (gtf_id_equal(id, DatumGetUUIDP(slot_getattr(lookup.slot, KEY_TASK_ID, &isnull))))
			(void) gtf_heap_delete_nowait(rel, &lookup.slot->tts_tid);
	}
	gtf_lookup_end(&lookup);
	table_close(rel, NoLock);
}
