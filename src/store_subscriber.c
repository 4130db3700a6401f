/*-------------------------------------------------------------------------
 *
 * store_subscriber.c
 *	  gtf.task_subscribers: who wants the outcome of a shared task.
 *
 * Tasks of other scopes have no rows here: their principal is their only
 * subscriber.  Rows are inserted and deleted, never updated.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store_common.h"

/* Columns of gtf.task_subscribers, in order. */
enum
{
	SUB_TASK_ID = 1, SUB_ROLE, SUB_APP_USER, SUB_AT
};

/* The rows of a principal, there is one at most. */
static void
begin_principal(StoreLookup *lookup, const pg_uuid_t *id, Oid role,
				const char *app_user, Snapshot snapshot)
{
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(role));
	ScanKeyInit(&keys[2], 3, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(app_user));
	gtf_lookup_begin_keys(lookup, "task_subscribers", "task_subscribers_pkey",
						  keys, 3, snapshot);
}

bool
gtf_store_subscribed(const pg_uuid_t *id, Oid role, const char *app_user)
{
	StoreLookup lookup;
	bool		found;

	begin_principal(&lookup, id, role, app_user, SnapshotSelf);
	found = gtf_lookup_next(&lookup, ForwardScanDirection);
	gtf_lookup_end(&lookup);
	return found;
}

bool
gtf_store_subscribed_for_good(const pg_uuid_t *id, Oid role,
							  const char *app_user)
{
	SnapshotData dirty;
	StoreLookup lookup;
	bool		found = false;

	InitDirtySnapshot(dirty);
	begin_principal(&lookup, id, role, app_user, &dirty);
	while (!found && gtf_lookup_next(&lookup, ForwardScanDirection))
		found = !TransactionIdIsValid(dirty.xmin) &&
			!TransactionIdIsValid(dirty.xmax);
	gtf_lookup_end(&lookup);
	return found;
}

int
gtf_store_subscriber_count(const pg_uuid_t *id, int max)
{
	StoreLookup lookup;
	int			n = 0;

	gtf_lookup_begin(&lookup, "task_subscribers", "task_subscribers_pkey", id,
					 SnapshotSelf);
	while (n < max && gtf_lookup_next(&lookup, ForwardScanDirection))
		n++;
	gtf_lookup_end(&lookup);
	return n;
}

void
gtf_store_subscriber_put(const pg_uuid_t *id, Oid role, const char *app_user)
{
	StoreWriter writer;
	Datum	   *values;

	gtf_writer_open(&writer, "task_subscribers");
	values = writer.slot->tts_values;
	values[SUB_TASK_ID - 1] = UUIDPGetDatum(id);
	values[SUB_ROLE - 1] = ObjectIdGetDatum(role);
	values[SUB_APP_USER - 1] = CStringGetTextDatum(app_user);
	values[SUB_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	memset(writer.slot->tts_isnull, false,
		   writer.slot->tts_tupleDescriptor->natts);
	gtf_writer_put(&writer);
	gtf_writer_close(&writer);
	gtf_roles_note(role);
}

bool
gtf_store_subscriber_delete(const pg_uuid_t *id, Oid role,
							const char *app_user)
{
	Relation	rel = table_open(gtf_store_relid("task_subscribers"),
								 RowExclusiveLock);
	StoreLookup lookup;
	bool		found;

	/* it may be of this very command */
	CommandCounterIncrement();
	begin_principal(&lookup, id, role, app_user, SnapshotSelf);
	found = gtf_lookup_next(&lookup, ForwardScanDirection);
	if (found)
		simple_heap_delete(rel, &lookup.slot->tts_tid);
	gtf_lookup_end(&lookup);
	table_close(rel, NoLock);
	return found;
}

int
gtf_store_subscriber_delete_role(const pg_uuid_t *id, Oid role)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(role));
	return gtf_delete_rows("task_subscribers", "task_subscribers_pkey", keys, 2);
}

int
gtf_store_subscriptions(Oid role, pg_uuid_t *ids, int max)
{
	StoreLookup lookup;
	ScanKeyData key;
	int			n = 0;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(role));
	gtf_lookup_begin_keys(&lookup, "task_subscribers", "task_subscribers_role",
						  &key, 1, SnapshotSelf);
	while (n < max && gtf_lookup_next(&lookup, ForwardScanDirection))
	{
		bool		isnull;

		ids[n++] = *DatumGetUUIDP(slot_getattr(lookup.slot, SUB_TASK_ID, &isnull));
	}
	gtf_lookup_end(&lookup);
	return n;
}

/*
 * Not by the syscache: who is told of a commit by its callback comes before
 * the invalidation.
 */
static bool
role_exists(Oid role)
{
	Relation	rel = table_open(AuthIdRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	bool		found;

	ScanKeyInit(&key, Anum_pg_authid_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(role));
	scan = systable_beginscan(rel, AuthIdOidIndexId, true, SnapshotSelf, 1, &key);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* By jumping from one role to the next in an index that begins with it. */
static List *
gone_roles(const char *table, const char *index, int column)
{
	List	   *gone = NIL;
	Oid			role = InvalidOid;

	for (;;)
	{
		StoreLookup lookup;
		ScanKeyData key;
		bool		found;
		bool		isnull;

		ScanKeyInit(&key, 1, BTGreaterStrategyNumber, F_OIDGT,
					ObjectIdGetDatum(role));
		gtf_lookup_begin_keys(&lookup, table, index, &key, 1, SnapshotSelf);
		found = gtf_lookup_next(&lookup, ForwardScanDirection);
		if (found)
			role = DatumGetObjectId(slot_getattr(lookup.slot, column, &isnull));
		gtf_lookup_end(&lookup);
		if (!found)
			return gone;
		if (!role_exists(role))
			gone = lappend_oid(gone, role);
	}
}

List *
gtf_store_gone_subscribers(void)
{
	return gone_roles("task_subscribers", "task_subscribers_role", SUB_ROLE);
}

List *
gtf_store_gone_owners(void)
{
	return gone_roles("tasks", "tasks_owner", TASK_OWNER);
}
