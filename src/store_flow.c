/*-------------------------------------------------------------------------
 *
 * store_flow.c
 *	  gtf.flow: limits, pauses and the size of the pool.
 *
 * Written by administrators, a row for each limit; two who set the same one
 * wait for each other at its unique key.  Every write sends a relcache
 * invalidation of the table, for those who keep what they have read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

#include "store_common.h"

enum
{
	FLOW_KIND = 1, FLOW_NAME, FLOW_MIN_RUNNING, FLOW_MAX_RUNNING, FLOW_RATE,
	FLOW_PAUSED
};

static int32
int_or_zero(TupleTableSlot *slot, int att)
{
	bool		isnull;
	Datum		d = slot_getattr(slot, att, &isnull);

	return isnull ? 0 : DatumGetInt32(d);
}

List *
gtf_store_flow_all(void)
{
	StoreScan	scan;
	List	   *rows = NIL;

	gtf_scan_begin(&scan, "flow");
	while (gtf_scan_next(&scan))
	{
		TupleTableSlot *slot = scan.slot;
		GtfFlow    *flow = palloc0(sizeof(GtfFlow));
		bool		isnull;

		flow->kind = (GtfFlowKind) DatumGetChar(slot_getattr(slot, FLOW_KIND, &isnull));
		text_or_null(slot, FLOW_NAME, flow->name);
		flow->min_running = int_or_zero(slot, FLOW_MIN_RUNNING);
		flow->max_running = int_or_zero(slot, FLOW_MAX_RUNNING);
		text_or_null(slot, FLOW_RATE, flow->rate);
		flow->paused = DatumGetBool(slot_getattr(slot, FLOW_PAUSED, &isnull));
		rows = lappend(rows, flow);
	}
	gtf_scan_end(&scan);
	return rows;
}

void
gtf_store_flow_put(const GtfFlow *change, bool set_numbers, bool set_rate,
				   bool set_paused)
{
	StoreSpi	spi;
	Oid			argtypes[] = {CHAROID, TEXTOID, INT4OID, INT4OID, TEXTOID,
	BOOLOID, BOOLOID, BOOLOID, BOOLOID};
	Datum		values[lengthof(argtypes)];
	char		nulls[lengthof(argtypes)];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = CharGetDatum((char) change->kind);
	values[1] = CStringGetTextDatum(change->name);
	values[2] = Int32GetDatum(change->min_running);
	values[3] = Int32GetDatum(change->max_running);
	values[4] = change->rate ? CStringGetTextDatum(change->rate) : (Datum) 0;
	if (change->rate == NULL)
		nulls[4] = 'n';
	values[5] = BoolGetDatum(change->paused);
	values[6] = BoolGetDatum(set_numbers);
	values[7] = BoolGetDatum(set_rate);
	values[8] = BoolGetDatum(set_paused);

	gtf_spi_begin(&spi);
	if (SPI_execute_with_args("INSERT INTO gtf.flow AS f (kind, name, min_running, max_running, rate, paused)"
							  " VALUES ($1, $2, nullif($3, 0), nullif($4, 0), $5, $6)"
							  " ON CONFLICT (kind, name) DO UPDATE SET"
							  " min_running = CASE WHEN $7 THEN excluded.min_running ELSE f.min_running END,"
							  " max_running = CASE WHEN $7 THEN excluded.max_running ELSE f.max_running END,"
							  " rate = CASE WHEN $8 THEN excluded.rate ELSE f.rate END,"
							  " paused = CASE WHEN $9 THEN excluded.paused ELSE f.paused END",
							  lengthof(argtypes), argtypes, values, nulls,
							  false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write gtf.flow");
	/* nothing left to say */
	if (SPI_execute_with_args("DELETE FROM gtf.flow"
							  " WHERE kind OPERATOR(pg_catalog.=) $1"
							  " AND name OPERATOR(pg_catalog.=) $2"
							  " AND min_running IS NULL AND max_running IS NULL"
							  " AND rate IS NULL AND NOT paused",
							  2, argtypes, values, nulls, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not write gtf.flow");
	gtf_spi_end(&spi);
	CacheInvalidateRelcacheByRelid(gtf_store_relid("flow"));
}
