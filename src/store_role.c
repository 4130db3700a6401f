/*-------------------------------------------------------------------------
 *
 * store_role.c
 *	  gtf.roles: names of the roles that tables of gtf refer to, and what
 *	  gtf_adopt() does with those of another home.
 *
 * Roles are OIDs, which mean nothing in another server.  So the first submit
 * of a role writes down its name, and the dispatcher follows when it changes;
 * dumps carry both.  There is no unique key, lest two first submits wait for
 * each other: a row may be there more than once until the dispatcher comes by.
 *
 * A role of a copied task that does not exist here gets an OID nevertheless,
 * one from the counter that all OIDs come from, so it is no safer and no less
 * safe than that of a role that was dropped.  Its row is a placeholder.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/catalog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "store_common.h"

/* Columns of gtf.roles, in order. */
enum
{
	ROLE_HOME = 1, ROLE_ROLE, ROLE_NAME, ROLE_PLACEHOLDER
};

/* A role of another home, or a placeholder, and who it is here. */
typedef struct Mapping
{
	int32		home;
	Oid			from;
	Oid			to;
	char	   *name;
} Mapping;

/* Look up a role of this home.  *certain: no rollback takes the row back. */
static bool
find(Oid role, NameData *name, bool *certain)
{
	StoreLookup lookup;
	ScanKeyData keys[2];
	bool		found;

	ScanKeyInit(&keys[0], ROLE_HOME, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(gtf_own_home()));
	ScanKeyInit(&keys[1], ROLE_ROLE, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(role));
	*certain = false;
	gtf_lookup_begin_keys(&lookup, "roles", "roles_role", keys, 2, SnapshotSelf);
	found = gtf_lookup_next(&lookup, ForwardScanDirection);
	if (found)
	{
		bool		isnull;
		TransactionId xmin = DatumGetTransactionId(slot_getsysattr(lookup.slot,
																   MinTransactionIdAttributeNumber,
																   &isnull));

		*name = *DatumGetName(slot_getattr(lookup.slot, ROLE_NAME, &isnull));
		*certain = !TransactionIdIsCurrentTransactionId(xmin);
	}
	gtf_lookup_end(&lookup);
	return found;
}

static void
put(Oid role, const char *name, bool placeholder)
{
	StoreWriter writer;
	NameData	data;
	Datum	   *values;

	namestrcpy(&data, name);
	gtf_writer_open(&writer, "roles");
	values = writer.slot->tts_values;
	values[ROLE_HOME - 1] = Int32GetDatum(gtf_own_home());
	values[ROLE_ROLE - 1] = ObjectIdGetDatum(role);
	values[ROLE_NAME - 1] = NameGetDatum(&data);
	values[ROLE_PLACEHOLDER - 1] = BoolGetDatum(placeholder);
	memset(writer.slot->tts_isnull, false,
		   writer.slot->tts_tupleDescriptor->natts);
	gtf_writer_put(&writer);
	gtf_writer_close(&writer);
}

void
gtf_roles_note(Oid role)
{
	/* the last one that is known to be there */
	static Oid	noted = InvalidOid;
	static Oid	noted_in = InvalidOid;
	Oid			table = gtf_store_relid("roles");
	NameData	name;
	bool		certain;

	if (role == noted && table == noted_in)
		return;
	if (!find(role, &name, &certain))
		put(role, GetUserNameFromId(role, false), false);
	else if (certain)
	{
		noted = role;
		noted_in = table;
	}
}

char *
gtf_store_role_name(Oid role)
{
	NameData	name;
	bool		certain;

	if (find(role, &name, &certain))
		return pstrdup(NameStr(name));
	return psprintf("%u", role);
}

/* Run a statement as gtf's owner; SPI is left open for its rows. */
static uint64
execute(StoreSpi *spi, const char *sql, int nargs, Oid *argtypes, Datum *args)
{
	gtf_spi_begin(spi);
	if (SPI_execute_with_args(sql, nargs, argtypes, args, NULL, false, 0) < 0)
		elog(ERROR, "could not execute \"%s\"", sql);
	return SPI_processed;
}

static uint64
change(const char *sql, int nargs, Oid *argtypes, Datum *args)
{
	StoreSpi	spi;
	uint64		n = execute(&spi, sql, nargs, argtypes, args);

	gtf_spi_end(&spi);
	return n;
}

void
gtf_store_roles_refresh(void)
{
	Oid			argtype = INT4OID;
	Datum		home = Int32GetDatum(gtf_own_home());

	/*
	 * Those of types only if both are known to belong together here: a
	 * restore may have brought a type, and not yet what says that it did.
	 */
	(void) change("UPDATE gtf.task_type_versions v SET handler_owner_name = a.rolname"
				  " FROM pg_roles a, gtf.roles r WHERE a.oid = v.handler_owner"
				  " AND v.handler_owner_name <> a.rolname AND r.home = $1"
				  " AND r.role = v.handler_owner AND r.name = v.handler_owner_name",
				  1, &argtype, &home);
	(void) change("UPDATE gtf.task_type_versions v SET registered_by_name = a.rolname"
				  " FROM pg_roles a, gtf.roles r WHERE a.oid = v.registered_by"
				  " AND v.registered_by_name <> a.rolname AND r.home = $1"
				  " AND r.role = v.registered_by AND r.name = v.registered_by_name",
				  1, &argtype, &home);
	(void) change("UPDATE gtf.roles r SET name = a.rolname FROM pg_roles a"
				  " WHERE r.home = $1 AND a.oid = r.role AND r.name <> a.rolname",
				  1, &argtype, &home);
	(void) change("DELETE FROM gtf.roles r USING gtf.roles o WHERE r.home = $1"
				  " AND o.home = r.home AND o.role = r.role AND o.ctid < r.ctid",
				  1, &argtype, &home);
}

/* ---- gtf_adopt() ---- */

/* The first column of what a query finds, as strings. */
static List *
names_of(const char *sql, int nargs, Oid *argtypes, Datum *args)
{
	MemoryContext context = CurrentMemoryContext;
	StoreSpi	spi;
	uint64		n = execute(&spi, sql, nargs, argtypes, args);
	List	   *names = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		char	   *name = SPI_getvalue(SPI_tuptable->vals[i],
										SPI_tuptable->tupdesc, 1);
		MemoryContext old = MemoryContextSwitchTo(context);

		names = lappend(names, pstrdup(name));
		MemoryContextSwitchTo(old);
	}
	gtf_spi_end(&spi);
	return names;
}

/* The role of this name, or a placeholder for it. */
static Oid
role_for(const char *name)
{
	Oid			role = get_role_oid(name, true);
	Oid			argtypes[] = {INT4OID, TEXTOID};
	Datum		args[] = {Int32GetDatum(gtf_own_home()), CStringGetTextDatum(name)};
	List	   *known;
	Relation	rel;

	if (OidIsValid(role))
	{
		gtf_roles_note(role);
		return role;
	}
	known = names_of("SELECT role FROM gtf.roles"
					 " WHERE home = $1 AND name = $2::name AND placeholder",
					 2, argtypes, args);
	if (known != NIL)
		return (Oid) strtoul(linitial(known), NULL, 10);

	ereport(WARNING,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("role \"%s\" does not exist", name),
			 errdetail("Its tasks fail when they start."),
			 errhint("Create the role and call gtf_adopt() again.")));
	rel = table_open(AuthIdRelationId, AccessShareLock);
	role = GetNewOidWithIndex(rel, AuthIdOidIndexId, Anum_pg_authid_oid);
	table_close(rel, AccessShareLock);
	put(role, name, true);
	CommandCounterIncrement();
	return role;
}

/* Roles that have another OID here than in the tables. */
static List *
list_mappings(void)
{
	MemoryContext context = CurrentMemoryContext;
	Oid			argtype = INT4OID;
	Datum		home = Int32GetDatum(gtf_own_home());
	StoreSpi	spi;
	uint64		n;
	List	   *mappings = NIL;
	ListCell   *lc;

	n = execute(&spi,
				"SELECT u.home, u.role, coalesce((SELECT r.name FROM gtf.roles r"
				"  WHERE r.home = u.home AND r.role = u.role LIMIT 1)::text, u.role::text)"
				" FROM (SELECT home, owner FROM gtf.tasks WHERE home <> $1"
				"  UNION SELECT t.home, s.role FROM gtf.task_subscribers s"
				"   JOIN gtf.tasks t ON t.id = s.task_id WHERE t.home <> $1"
				"  UNION SELECT home, role FROM gtf.roles WHERE home = $1 AND placeholder)"
				" AS u (home, role)",
				1, &argtype, &home);
	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		char	   *name = SPI_getvalue(row, desc, 3);
		bool		isnull;
		MemoryContext old = MemoryContextSwitchTo(context);
		Mapping    *mapping = palloc(sizeof(Mapping));

		mapping->home = DatumGetInt32(SPI_getbinval(row, desc, 1, &isnull));
		mapping->from = DatumGetObjectId(SPI_getbinval(row, desc, 2, &isnull));
		mapping->name = pstrdup(name);
		mappings = lappend(mappings, mapping);
		MemoryContextSwitchTo(old);
	}
	gtf_spi_end(&spi);

	foreach(lc, mappings)
	{
		Mapping    *mapping = lfirst(lc);

		mapping->to = role_for(mapping->name);
	}
	return mappings;
}

/* Types keep the names of their roles. */
static void
adopt_types(void)
{
	List	   *names;
	ListCell   *lc;

	names = names_of("SELECT v.handler_owner_name FROM gtf.task_type_versions v"
					 " WHERE NOT EXISTS (SELECT FROM pg_roles a"
					 "  WHERE a.oid = v.handler_owner AND a.rolname = v.handler_owner_name)"
					 " AND v.handler_owner IS NOT NULL"
					 " UNION SELECT v.registered_by_name FROM gtf.task_type_versions v"
					 " WHERE NOT EXISTS (SELECT FROM pg_roles a"
					 "  WHERE a.oid = v.registered_by AND a.rolname = v.registered_by_name)",
					 0, NULL, NULL);
	foreach(lc, names)
	{
		Oid			argtypes[] = {TEXTOID, OIDOID};
		Datum		args[] = {CStringGetTextDatum(lfirst(lc)),
		ObjectIdGetDatum(role_for(lfirst(lc)))};

		(void) change("UPDATE gtf.task_type_versions SET handler_owner = $2"
					  " WHERE handler_owner_name = $1::name AND handler_owner <> $2",
					  2, argtypes, args);
		(void) change("UPDATE gtf.task_type_versions SET registered_by = $2"
					  " WHERE registered_by_name = $1::name AND registered_by <> $2",
					  2, argtypes, args);
	}
	CacheInvalidateRelcacheByRelid(gtf_store_relid("task_type_versions"));
}

/*
 * Who makes a task run in a copy has perhaps prepared the copy for it: a
 * database's owner has its schema public.  A superuser decides for himself.
 */
static void
check_superusers(const List *mappings)
{
	ListCell   *lc;

	foreach(lc, mappings)
	{
		Mapping    *mapping = lfirst(lc);
		Oid			argtypes[] = {INT4OID, OIDOID};
		Datum		args[] = {Int32GetDatum(mapping->home),
		ObjectIdGetDatum(mapping->from)};

		if (!superuser_arg(mapping->to))
			continue;
		if (names_of("SELECT t.id FROM gtf.tasks t WHERE t.home = $1 AND t.owner = $2"
					 " AND NOT EXISTS (SELECT FROM gtf.outcomes o"
					 "  WHERE o.task_id = t.id AND o.status IN ('s', 'f', 'a', 't'))"
					 " LIMIT 1",
					 2, argtypes, args) != NIL)
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("only a superuser can adopt tasks of superusers"),
					 errdetail("Tasks of role \"%s\" have not ended.",
							   GetUserNameFromId(mapping->to, false)),
					 errhint("Have a superuser call gtf_adopt().")));
	}
}

pg_uuid_t *
gtf_roles_adopt(int *num_keyed)
{
	List	   *mappings = list_mappings();
	int			n = list_length(mappings);
	Datum	   *homes = palloc(Max(n, 1) * sizeof(Datum));
	Datum	   *from = palloc(Max(n, 1) * sizeof(Datum));
	Datum	   *to = palloc(Max(n, 1) * sizeof(Datum));
	Oid			argtypes[] = {INT4OID, INT4ARRAYOID, OIDARRAYOID, OIDARRAYOID};
	Datum		args[lengthof(argtypes)];
	List	   *ids;
	pg_uuid_t  *keyed;
	ListCell   *lc;

	if (!superuser())
		check_superusers(mappings);
	adopt_types();
	*num_keyed = 0;
	foreach(lc, mappings)
	{
		Mapping    *mapping = lfirst(lc);
		int			i = foreach_current_index(lc);

		homes[i] = Int32GetDatum(mapping->home);
		from[i] = ObjectIdGetDatum(mapping->from);
		to[i] = ObjectIdGetDatum(mapping->to);
	}
	args[0] = Int32GetDatum(gtf_own_home());
	args[1] = PointerGetDatum(construct_array(homes, n, INT4OID, 4, true, TYPALIGN_INT));
	args[2] = PointerGetDatum(construct_array(from, n, OIDOID, 4, true, TYPALIGN_INT));
	args[3] = PointerGetDatum(construct_array(to, n, OIDOID, 4, true, TYPALIGN_INT));

#define WHO " unnest($2, $3, $4) AS m (home, was, becomes)"

	/* keys have the owner in them: the caller makes them anew */
	ids = names_of("WITH t AS (SELECT t.id FROM gtf.tasks t," WHO
				   "  WHERE t.home = m.home AND t.owner = m.was AND t.task_key IS NOT NULL"
				   "  AND (m.was <> m.becomes OR t.home <> $1))"
				   " DELETE FROM gtf.keys k USING t WHERE k.task_id = t.id"
				   " RETURNING k.task_id",
				   4, argtypes, args);
	/* all of them are deleted before the first is inserted: roles may swap */
	(void) change("WITH s AS (DELETE FROM gtf.task_subscribers s"
				  "  USING gtf.tasks t," WHO
				  "  WHERE t.id = s.task_id AND t.home = m.home AND s.role = m.was"
				  "  AND m.was <> m.becomes AND $1 IS NOT NULL"
				  "  RETURNING s.task_id, m.becomes, s.app_user, s.subscribed_at)"
				  " INSERT INTO gtf.task_subscribers"
				  " SELECT * FROM s ORDER BY task_id, becomes, app_user"
				  " ON CONFLICT DO NOTHING",
				  4, argtypes, args);
	(void) change("UPDATE gtf.abort_requests r SET requested_by = m.becomes"
				  " FROM gtf.tasks t," WHO
				  " WHERE t.id = r.task_id AND t.home = m.home AND r.requested_by = m.was"
				  " AND $1 IS NOT NULL",
				  4, argtypes, args);
	(void) change("UPDATE gtf.tasks t SET owner = m.becomes, home = $1 FROM" WHO
				  " WHERE t.home = m.home AND t.owner = m.was"
				  " AND (m.was <> m.becomes OR t.home <> $1)",
				  4, argtypes, args);
	(void) change("DELETE FROM gtf.roles r WHERE r.home <> $1"
				  " OR (r.placeholder AND EXISTS (SELECT FROM pg_roles a WHERE a.rolname = r.name))",
				  1, argtypes, args);

	keyed = palloc(Max(list_length(ids), 1) * sizeof(pg_uuid_t));
	foreach(lc, ids)
		keyed[(*num_keyed)++] = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(lfirst(lc))));
	return keyed;
}
