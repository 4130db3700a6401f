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
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "registry.h"
#include "store_common.h"

#define COLUMNS \
	"version, task_type, kind, handler, handler_owner, hook, library, scope," \
	" timeout, hard_timeout, abort, max_attempts, retry_delay, priority," \
	" queue, submit_role, description, registered_by"

static char *
get_text(HeapTuple tuple, TupleDesc desc, int att, MemoryContext context)
{
	char	   *value = SPI_getvalue(tuple, desc, att);

	return value ? MemoryContextStrdup(context, value) : NULL;
}

static Interval *
get_interval(HeapTuple tuple, TupleDesc desc, int att, MemoryContext context)
{
	bool		isnull;
	Datum		d = SPI_getbinval(tuple, desc, att, &isnull);
	Interval   *result;

	if (isnull)
		return NULL;
	result = MemoryContextAlloc(context, sizeof(Interval));
	*result = *DatumGetIntervalP(d);
	return result;
}

static GtfType *
type_from_tuple(HeapTuple tuple, TupleDesc desc, MemoryContext context)
{
	GtfType    *type = MemoryContextAllocZero(context, sizeof(GtfType));
	bool		isnull;
	Datum		d;

#define GET(att) (d = SPI_getbinval(tuple, desc, (att), &isnull))

	GET(1);
	type->version = DatumGetInt32(d);
	type->name = get_text(tuple, desc, 2, context);
	GET(3);
	type->kind = (GtfTypeKind) DatumGetChar(d);
	type->handler = get_text(tuple, desc, 4, context);
	GET(5);
	type->handler_owner = isnull ? InvalidOid : DatumGetObjectId(d);
	type->hook = get_text(tuple, desc, 6, context);
	type->library = get_text(tuple, desc, 7, context);
	GET(8);
	type->scope = DatumGetChar(d);
	type->timeout = get_interval(tuple, desc, 9, context);
	type->hard_timeout = get_interval(tuple, desc, 10, context);
	type->abort = get_text(tuple, desc, 11, context);
	GET(12);
	type->max_attempts = DatumGetInt32(d);
	type->retry_delay = get_interval(tuple, desc, 13, context);
	GET(14);
	type->priority = DatumGetInt32(d);
	type->queue = get_text(tuple, desc, 15, context);
	type->submit_role = get_text(tuple, desc, 16, context);
	type->description = get_text(tuple, desc, 17, context);
	GET(18);
	type->registered_by = DatumGetObjectId(d);
	return type;
}

static GtfType *
find(const char *query, Oid argtype, Datum arg)
{
	StoreSpi	spi;
	MemoryContext context = CurrentMemoryContext;
	GtfType    *type = NULL;

	gtf_spi_begin(&spi);
	/* what is read is kept beyond a transaction that sees the past */
	PushActiveSnapshot(GetLatestSnapshot());
	if (SPI_execute_with_args(query, 1, &argtype, &arg, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read gtf.task_type_versions");
	if (SPI_processed > 0)
		type = type_from_tuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
							   context);
	PopActiveSnapshot();
	gtf_spi_end(&spi);
	return type;
}

struct GtfType *
gtf_store_type_current(const char *name)
{
	return find("SELECT " COLUMNS " FROM gtf.task_type_versions"
				" WHERE task_type OPERATOR(pg_catalog.=) $1 AND retired_at IS NULL",
				TEXTOID, CStringGetTextDatum(name));
}

struct GtfType *
gtf_store_type_version(int32 version)
{
	return find("SELECT " COLUMNS " FROM gtf.task_type_versions"
				" WHERE version OPERATOR(pg_catalog.=) $1",
				INT4OID, Int32GetDatum(version));
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

#define PUT_TEXT(s) \
	(nulls[n] = (s) ? ' ' : 'n', values[n++] = (s) ? CStringGetTextDatum(s) : (Datum) 0)
#define PUT(d) (nulls[n] = ' ', values[n++] = (d))
#define PUT_INTERVAL(i) \
	(nulls[n] = (i) ? ' ' : 'n', values[n++] = (i) ? IntervalPGetDatum(i) : (Datum) 0)

	PUT_TEXT(type->name);
	PUT(CharGetDatum((char) type->kind));
	PUT_TEXT(type->handler);
	PUT(ObjectIdGetDatum(type->handler_owner));
	if (!OidIsValid(type->handler_owner))
		nulls[n - 1] = 'n';
	PUT_TEXT(type->hook);
	PUT_TEXT(type->library);
	PUT(CharGetDatum(type->scope));
	PUT_INTERVAL(type->timeout);
	PUT_INTERVAL(type->hard_timeout);
	PUT_TEXT(type->abort);
	PUT(Int32GetDatum(type->max_attempts));
	PUT_INTERVAL(type->retry_delay);
	PUT(Int32GetDatum(type->priority));
	PUT_TEXT(type->queue);
	PUT_TEXT(type->submit_role);
	PUT_TEXT(type->description);
	PUT(ObjectIdGetDatum(type->registered_by));
	Assert(n == lengthof(argtypes));

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
