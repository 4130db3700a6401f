/*-------------------------------------------------------------------------
 *
 * store_type.c
 *	  gtf.task_type_versions.
 *
 * Every write sends a relcache invalidation of the table, which is what the
 * caches of registry.c wait for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "registry.h"
#include "store_common.h"

enum
{
	VERSION = 1, TASK_TYPE, KIND, HANDLER, HANDLER_OWNER, HANDLER_OWNER_NAME,
	HOOK, LIBRARY, SCOPE, TIMEOUT, HARD_TIMEOUT, ABORT, MAX_ATTEMPTS,
	RETRY_DELAY, PRIORITY, QUEUE, SUBMIT_ROLE, DESCRIPTION, REGISTERED_BY
};

static Interval *
get_interval(TupleTableSlot *slot, int att)
{
	bool		isnull;
	Datum		d = slot_getattr(slot, att, &isnull);
	Interval   *result;

	if (isnull)
		return NULL;
	result = palloc(sizeof(Interval));
	*result = *DatumGetIntervalP(d);
	return result;
}

static GtfType *
type_from_slot(TupleTableSlot *slot)
{
	GtfType    *type = palloc0(sizeof(GtfType));
	bool		isnull;
	Datum		d;

	GET(VERSION);
	type->version = DatumGetInt32(d);
	text_or_null(slot, TASK_TYPE, type->name);
	GET(KIND);
	type->kind = (GtfTypeKind) DatumGetChar(d);
	text_or_null(slot, HANDLER, type->handler);
	GET(HANDLER_OWNER);
	type->handler_owner = isnull ? InvalidOid : DatumGetObjectId(d);
	text_or_null(slot, HOOK, type->hook);
	text_or_null(slot, LIBRARY, type->library);
	GET(SCOPE);
	type->scope = DatumGetChar(d);
	type->timeout = get_interval(slot, TIMEOUT);
	type->hard_timeout = get_interval(slot, HARD_TIMEOUT);
	text_or_null(slot, ABORT, type->abort);
	GET(MAX_ATTEMPTS);
	type->max_attempts = DatumGetInt32(d);
	type->retry_delay = get_interval(slot, RETRY_DELAY);
	GET(PRIORITY);
	type->priority = DatumGetInt32(d);
	text_or_null(slot, QUEUE, type->queue);
	text_or_null(slot, SUBMIT_ROLE, type->submit_role);
	text_or_null(slot, DESCRIPTION, type->description);
	GET(REGISTERED_BY);
	type->registered_by = DatumGetObjectId(d);
	return type;
}

/*
 * Without SPI, whose locks would stay until the end of the body of the task
 * that is the first to need the type.
 */
static GtfType *
find(const char *index, ScanKey key)
{
	/* what is read is kept beyond a transaction that sees the past */
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	StoreLookup lookup;
	GtfType    *type = NULL;

	gtf_lookup_begin_keys(&lookup, "task_type_versions", index, key, 1, snapshot);
	if (gtf_lookup_next(&lookup, ForwardScanDirection))
		type = type_from_slot(lookup.slot);
	gtf_lookup_end(&lookup);
	UnregisterSnapshot(snapshot);
	return type;
}

struct GtfType *
gtf_store_type_current(const char *name)
{
	ScanKeyData key;

	ScanKeyEntryInitialize(&key, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   DEFAULT_COLLATION_OID, F_TEXTEQ,
						   CStringGetTextDatum(name));
	return find("task_type_versions_current", &key);
}

struct GtfType *
gtf_store_type_version(int32 version)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(version));
	return find("task_type_versions_pkey", &key);
}

/* Concurrent registrations of one name go one after the other. */
static void
lock_types(void)
{
	Relation	rel = table_open(gtf_store_relid("task_type_versions"),
								 ShareRowExclusiveLock);

	table_close(rel, NoLock);
}

bool
gtf_store_type_retire(const char *name)
{
	StoreSpi	spi;
	Oid			argtype = TEXTOID;
	Datum		arg = CStringGetTextDatum(name);
	bool		found;

	lock_types();
	gtf_spi_begin(&spi);
	if (SPI_execute_with_args("UPDATE gtf.task_type_versions"
							  " SET retired_at = pg_catalog.now()"
							  " WHERE task_type OPERATOR(pg_catalog.=) $1"
							  " AND retired_at IS NULL",
							  1, &argtype, &arg, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not update gtf.task_type_versions");
	found = SPI_processed > 0;
	gtf_spi_end(&spi);
	CacheInvalidateRelcacheByRelid(gtf_store_relid("task_type_versions"));
	return found;
}

void
gtf_store_type_put(struct GtfType *type)
{
	StoreSpi	spi;
	Oid			argtypes[] = {TEXTOID, CHAROID, TEXTOID, OIDOID, TEXTOID,
		TEXTOID, CHAROID, INTERVALOID, INTERVALOID, TEXTOID, INT4OID,
	INTERVALOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, OIDOID};
	Datum		values[lengthof(argtypes)];
	char		nulls[lengthof(argtypes)];
	int			n = 0;
	bool		isnull;

	(void) gtf_store_type_retire(type->name);

#define ARG_TEXT(s) \
	(nulls[n] = (s) ? ' ' : 'n', values[n++] = (s) ? CStringGetTextDatum(s) : (Datum) 0)
#define ARG(d) (nulls[n] = ' ', values[n++] = (d))
#define ARG_INTERVAL(i) \
	(nulls[n] = (i) ? ' ' : 'n', values[n++] = (i) ? IntervalPGetDatum(i) : (Datum) 0)

	ARG_TEXT(type->name);
	ARG(CharGetDatum((char) type->kind));
	ARG_TEXT(type->handler);
	ARG(ObjectIdGetDatum(type->handler_owner));
	if (!OidIsValid(type->handler_owner))
		nulls[n - 1] = 'n';
	ARG_TEXT(type->hook);
	ARG_TEXT(type->library);
	ARG(CharGetDatum(type->scope));
	ARG_INTERVAL(type->timeout);
	ARG_INTERVAL(type->hard_timeout);
	ARG_TEXT(type->abort);
	ARG(Int32GetDatum(type->max_attempts));
	ARG_INTERVAL(type->retry_delay);
	ARG(Int32GetDatum(type->priority));
	ARG_TEXT(type->queue);
	ARG_TEXT(type->submit_role);
	ARG_TEXT(type->description);
	ARG(ObjectIdGetDatum(type->registered_by));
	Assert(n == lengthof(argtypes));

	gtf_roles_note(type->registered_by);
	if (OidIsValid(type->handler_owner))
		gtf_roles_note(type->handler_owner);
	gtf_spi_begin(&spi);
	if (SPI_execute_with_args("INSERT INTO gtf.task_type_versions"
							  " (task_type, kind, handler, handler_owner, hook,"
							  " library, scope, timeout, hard_timeout, abort,"
							  " max_attempts, retry_delay, priority, queue,"
							  " submit_role, description, registered_by,"
							  " handler_owner_name, registered_by_name)"
							  " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,"
							  " $11, $12, $13, $14, $15, $16, $17,"
							  " CASE WHEN $4 IS NOT NULL THEN pg_catalog.pg_get_userbyid($4) END,"
							  " pg_catalog.pg_get_userbyid($17))"
							  " RETURNING version",
							  n, argtypes, values, nulls, false, 0) != SPI_OK_INSERT_RETURNING)
		elog(ERROR, "could not insert into gtf.task_type_versions");
	type->version = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0],
												SPI_tuptable->tupdesc, 1,
												&isnull));
	gtf_spi_end(&spi);
	CacheInvalidateRelcacheByRelid(gtf_store_relid("task_type_versions"));
}

bool
gtf_store_type_in_use(const char *name)
{
	StoreSpi	spi;
	Oid			argtype = TEXTOID;
	Datum		arg = CStringGetTextDatum(name);
	bool		found;

	gtf_spi_begin(&spi);
	if (SPI_execute_with_args("SELECT 1 FROM gtf.tasks t"
							  " JOIN gtf.task_type_versions v"
							  " ON t.type_version OPERATOR(pg_catalog.=) v.version"
							  " WHERE v.task_type OPERATOR(pg_catalog.=) $1"
							  " AND NOT EXISTS (SELECT FROM gtf.outcomes o"
							  " WHERE o.task_id OPERATOR(pg_catalog.=) t.id"
							  " AND o.status NOT IN ('r', 'l')) LIMIT 1",
							  1, &argtype, &arg, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read gtf.tasks");
	found = SPI_processed > 0;
	gtf_spi_end(&spi);
	return found;
}
