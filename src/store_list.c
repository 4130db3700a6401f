/*-------------------------------------------------------------------------
 *
 * store_list.c
 *	  Which tasks may be in a list: their ids, in order, from indexes.
 *
 * A list of the newest tasks of somebody, of a type, or in some states must
 * not depend on what the planner thinks of tables that grow by millions.  All
 * the indexes have the id as their last column, so each of them gives ids in
 * order once what is before it is fixed, and sets of ids in order can be
 * united, cut and subtracted while they are read, from either end, as far as
 * somebody wants to read.
 *
 *		tasks_owner (owner, id)				tasks of an owner
 *		task_subscribers_role (role, task_id)	shared tasks of a subscriber
 *		tasks_type (type_version, id)		tasks of each version of a type
 *		outcomes_status (status, task_id)	tasks that ended so, but success
 *		tasks_pkey without outcomes_pkey	tasks without an outcome; it jumps
 *											where all are known to have one
 *		gtf.live, slots						attempts that run or wait
 *
 * These are candidates: the rows themselves, and who may see them, are left to
 * gtf.task_info, by a query that gets their ids a few at a time.  So nothing is
 * looked at here but the indexes, except where an outcome takes a task out of
 * the list: that one has to be committed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relscan.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/visibilitymap.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "store_common.h"
#include "store_list.h"

/* Steps before it is cheaper to go down the index again. */
#define MAX_STEPS	64

/* So many tasks in a row that have ended are worth being remembered. */
#define MIN_ENDED	500
#define MAX_ENDED	20000		/* ... now, in case this list is cancelled */

/* ---- sets of ids ---- */

typedef enum SetKind
{
	SET_INDEX,					/* in an index */
	SET_ARRAY,					/* in memory */
	SET_UNION,
	SET_INTERSECTION,
	SET_UNENDED					/* the first one, of tasks, less the second
								 * one, of outcomes */
} SetKind;

typedef struct Set
{
	SetKind		kind;
	bool		ascending;
	bool		started;		/* there is a current id, or it is done */
	bool		done;
	pg_uuid_t	id;
	List	   *parts;			/* of Set */

	/* SET_INDEX */
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	int			column;			/* of the id in the index, from 1 */
	ScanKeyData keys[3];
	int			nkeys;
	int			bound;			/* the key that says where to go on, or -1 */
	pg_uuid_t	bound_id;
	pg_uuid_t	from_id;
	bool		committed;		/* leave out what is not */
	TupleTableSlot *slot;
	Buffer		vmbuffer;

	/* SET_UNENDED */
	uint64		seen;			/* gtf_submitted_seen() before it began */
	GtfIdRange *ended;			/* where all have an outcome */
	int			num_ended;

	/* SET_ARRAY */
	pg_uuid_t  *ids;
	int			n;
	int			next;
} Set;

struct GtfList
{
	MemoryContext context;
	Set		   *set;
	bool		restricted;
	bool		has_created_until;
	TimestampTz created_until;
};

static bool set_step(Set *set);
static bool set_seek(Set *set, const pg_uuid_t *id);

/* Does a come before b, in the order of the set? */
static bool
before(const Set *set, const pg_uuid_t *a, const pg_uuid_t *b)
{
	int			c = gtf_id_compare(a, b);

	return set->ascending ? c < 0 : c > 0;
}

static bool
index_step(Set *set)
{
	ItemPointer tid;

	while ((tid = index_getnext_tid(set->scan, set->ascending ?
									ForwardScanDirection : BackwardScanDirection)) != NULL)
	{
		pg_uuid_t	id;
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		id = *DatumGetUUIDP(index_getattr(set->scan->xs_itup, set->column,
										  set->scan->xs_itupdesc, &isnull));
		/* several attempts, or one that was rolled back */
		if (set->started && gtf_id_equal(&id, &set->id))
			continue;
		if (set->committed &&
			!VM_ALL_VISIBLE(set->rel, ItemPointerGetBlockNumber(tid),
							&set->vmbuffer))
		{
			if (!index_fetch_heap(set->scan, set->slot))
				continue;
			ExecClearTuple(set->slot);
		}
		set->id = id;
		return true;
	}
	return false;
}

/* Read on from this id, or from behind it, as the bound says. */
static void
index_open_scan(Set *set)
{
	set->scan = gtf_index_beginscan(set->rel, set->index, SnapshotSelf,
									set->nkeys);
	set->scan->xs_want_itup = true;
	index_rescan(set->scan, set->keys, set->nkeys, NULL, 0);
}

static void
index_jump(Set *set, const pg_uuid_t *id)
{
	if (set->bound < 0)
		set->bound = set->nkeys++;
	set->bound_id = *id;
	if (set->ascending)
		ScanKeyInit(&set->keys[set->bound], set->column,
					BTGreaterEqualStrategyNumber, F_UUID_GE,
					UUIDPGetDatum(&set->bound_id));
	else
		ScanKeyInit(&set->keys[set->bound], set->column,
					BTLessEqualStrategyNumber, F_UUID_LE,
					UUIDPGetDatum(&set->bound_id));
	index_endscan(set->scan);
	index_open_scan(set);
}

/* The first one of the parts' ids. */
static bool
union_match(Set *set)
{
	ListCell   *lc;
	bool		found = false;

	foreach(lc, set->parts)
	{
		Set		   *part = lfirst(lc);

		if (!part->done && (!found || before(set, &part->id, &set->id)))
		{
			set->id = part->id;
			found = true;
		}
	}
	return found;
}

/* The first id from the current one of the first part on that all have. */
static bool
intersection_match(Set *set)
{
	Set		   *lead = linitial(set->parts);
	ListCell   *lc;

again:
	CHECK_FOR_INTERRUPTS();
	if (lead->done)
		return false;
	for_each_from(lc, set->parts, 1)
	{
		Set		   *part = lfirst(lc);

		if (!set_seek(part, &lead->id))
			return false;
		if (!gtf_id_equal(&part->id, &lead->id))
		{
			(void) set_seek(lead, &part->id);
			goto again;
		}
	}
	set->id = lead->id;
	return true;
}

/* If all tasks around this one are known to have ended: behind it, up to which? */
static const pg_uuid_t *
known_until(const Set *set, const pg_uuid_t *id)
{
	for (int i = 0; i < set->num_ended; i++)
	{
		const GtfIdRange *range = &set->ended[i];

		if (gtf_id_compare(id, &range->low) >= 0 &&
			gtf_id_compare(id, &range->high) <= 0)
			return set->ascending ? &range->high : &range->low;
	}
	return NULL;
}

/* All from the first one to the last one, which was passed, have ended. */
static void
remember_ended(const Set *set, const pg_uuid_t *first, const pg_uuid_t *last)
{
	GtfIdRange	range;

	/* outcomes that this transaction has written may be rolled back */
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	range.low = set->ascending ? *first : *last;
	range.high = set->ascending ? *last : *first;
	gtf_ended_add(MyDatabaseId, &range);
}

/*
 * The first id of the first part, from the current one on, that the second
 * part has not.
 */
static bool
unended_match(Set *set)
{
	Set		   *lead = linitial(set->parts);
	Set		   *other = lsecond(set->parts);
	pg_uuid_t	first = {{0}};
	pg_uuid_t	last = {{0}};
	int			n = 0;
	bool		found = false;

	while (!lead->done)
	{
		pg_uuid_t	passed = lead->id;
		const pg_uuid_t *until = known_until(set, &passed);

		if (until)
			passed = *until;
		else if (!set_seek(other, &lead->id) ||
				 !gtf_id_equal(&other->id, &lead->id))
		{
			found = true;
			break;
		}

		/* whatever is young may have a neighbour that is not to be seen yet */
		if (gtf_id_ticks(&passed) < set->seen)
		{
			if (n++ == 0)
				first = lead->id;
			last = passed;
			if (n % MAX_ENDED == 0)
				remember_ended(set, &first, &last);
		}
		if (until && set_seek(lead, &passed) && !gtf_id_equal(&lead->id, &passed))
			continue;
		if (!lead->done)
			(void) set_step(lead);
	}
	if (n >= MIN_ENDED)
		remember_ended(set, &first, &last);
	if (found)
		set->id = lead->id;
	return found;
}

/* The next id, or the first one; false if there is none. */
static bool
set_step(Set *set)
{
	bool		found = false;
	pg_uuid_t	last = set->id;
	ListCell   *lc;

	if (set->done)
		return false;
	switch (set->kind)
	{
		case SET_INDEX:
			found = index_step(set);
			break;
		case SET_ARRAY:
			if (set->next < set->n)
			{
				set->id = set->ids[set->ascending ? set->next :
								   set->n - 1 - set->next];
				set->next++;
				found = true;
			}
			break;
		case SET_UNION:
			foreach(lc, set->parts)
			{
				Set		   *part = lfirst(lc);

				if (!set->started || (!part->done && gtf_id_equal(&part->id, &last)))
					(void) set_step(part);
			}
			found = union_match(set);
			break;
		case SET_INTERSECTION:
			(void) set_step(linitial(set->parts));
			found = intersection_match(set);
			break;
		case SET_UNENDED:
			(void) set_step(linitial(set->parts));
			found = unended_match(set);
			break;
	}
	set->started = true;
	set->done = !found;
	return found;
}

/* The current id if it is this one or behind it, else the first such one. */
static bool
set_seek(Set *set, const pg_uuid_t *id)
{
	ListCell   *lc;

	if (!set->started)
		(void) set_step(set);
	if (set->done || !before(set, &set->id, id))
		return !set->done;

	switch (set->kind)
	{
		case SET_INDEX:
			for (int i = 0; i < MAX_STEPS; i++)
			{
				if (!set_step(set))
					return false;
				if (!before(set, &set->id, id))
					return true;
			}
			index_jump(set, id);
			return set_step(set);
		case SET_ARRAY:
			while (set_step(set) && before(set, &set->id, id))
				;
			return !set->done;
		case SET_UNION:
			foreach(lc, set->parts)
				(void) set_seek(lfirst(lc), id);
			set->done = !union_match(set);
			break;
		case SET_INTERSECTION:
			(void) set_seek(linitial(set->parts), id);
			set->done = !intersection_match(set);
			break;
		case SET_UNENDED:
			(void) set_seek(linitial(set->parts), id);
			set->done = !unended_match(set);
			break;
	}
	return !set->done;
}

static void
set_close(Set *set)
{
	ListCell   *lc;

	foreach(lc, set->parts)
		set_close(lfirst(lc));
	if (set->kind == SET_INDEX)
	{
		if (BufferIsValid(set->vmbuffer))
			ReleaseBuffer(set->vmbuffer);
		index_endscan(set->scan);
		ExecDropSingleTupleTableSlot(set->slot);
		index_close(set->index, AccessShareLock);
		table_close(set->rel, AccessShareLock);
	}
}

static Set *
make_set(SetKind kind, const GtfListWanted *wanted)
{
	Set		   *set = palloc0(sizeof(Set));

	set->kind = kind;
	set->ascending = wanted->ascending;
	return set;
}

static Set *
combine(SetKind kind, const GtfListWanted *wanted, List *parts)
{
	Set		   *set;

	if (kind == SET_INTERSECTION && list_length(parts) == 1)
		return linitial(parts);
	set = make_set(kind, wanted);
	set->parts = parts;
	return set;
}

/* The ids in an index; prefix, if valid, is what is in its first column. */
static Set *
index_set(const GtfListWanted *wanted, const char *table, const char *index,
		  RegProcedure equal, Datum prefix)
{
	Set		   *set = make_set(SET_INDEX, wanted);

	set->rel = table_open(gtf_store_relid(table), AccessShareLock);
	set->index = index_open(gtf_store_relid(index), AccessShareLock);
	set->slot = table_slot_create(set->rel, NULL);
	set->vmbuffer = InvalidBuffer;
	set->bound = -1;
	set->column = 1;
	if (RegProcedureIsValid(equal))
	{
		ScanKeyInit(&set->keys[set->nkeys++], 1, BTEqualStrategyNumber, equal,
					prefix);
		set->column = 2;
	}
	if (wanted->has_from)
	{
		set->from_id = wanted->from;
		ScanKeyInit(&set->keys[set->nkeys++], set->column,
					BTGreaterEqualStrategyNumber, F_UUID_GE,
					UUIDPGetDatum(&set->from_id));
	}
	if (wanted->has_after)
	{
		set->bound = set->nkeys++;
		set->bound_id = wanted->after;
		if (wanted->ascending)
			ScanKeyInit(&set->keys[set->bound], set->column,
						BTGreaterStrategyNumber, F_UUID_GT,
						UUIDPGetDatum(&set->bound_id));
		else
			ScanKeyInit(&set->keys[set->bound], set->column,
						BTLessStrategyNumber, F_UUID_LT,
						UUIDPGetDatum(&set->bound_id));
	}
	index_open_scan(set);
	return set;
}

static Set *
owner_set(const GtfListWanted *wanted, Oid owner)
{
	return index_set(wanted, "tasks", "tasks_owner", F_OIDEQ,
					 ObjectIdGetDatum(owner));
}

static Set *
subscribed_set(const GtfListWanted *wanted, Oid role)
{
	return index_set(wanted, "task_subscribers", "task_subscribers_role",
					 F_OIDEQ, ObjectIdGetDatum(role));
}

static int
compare_ids(const void *a, const void *b)
{
	return gtf_id_compare(a, b);
}

/* Attempts that run, or wait for another try. */
static Set *
running_set(const GtfListWanted *wanted)
{
	Set		   *set = make_set(SET_ARRAY, wanted);
	int			nlive;
	int			nslots = gtf_shmem_available() ? gtf_slot_count() : 0;
	GtfSlotInfo slot;
	int			n = 0;
	pg_uuid_t  *live;

	set->ids = palloc(sizeof(pg_uuid_t) * Max(nslots, 1));
	/* from the slot an attempt goes to gtf.live, so this one comes first */
	for (int i = 0; i < nslots; i++)
	{
		if (gtf_slot_info(i, &slot) && slot.database == MyDatabaseId &&
			gtf_slot_has_task(&slot))
			set->ids[n++] = slot.ref.id;
	}
	live = gtf_store_live_ids(&nlive);
	set->ids = repalloc_huge(set->ids, sizeof(pg_uuid_t) * Max(n + nlive, 1));
	if (nlive > 0)
		memcpy(set->ids + n, live, sizeof(pg_uuid_t) * nlive);
	n += nlive;
	qsort(set->ids, n, sizeof(pg_uuid_t), compare_ids);

	for (int i = 0; i < n; i++)
	{
		const pg_uuid_t *id = &set->ids[i];

		if (wanted->has_from && gtf_id_compare(id, &wanted->from) < 0)
			continue;
		if (wanted->has_after && !before(set, &wanted->after, id))
			continue;
		if (set->n > 0 && gtf_id_equal(id, &set->ids[set->n - 1]))
			continue;
		set->ids[set->n++] = *id;
	}
	return set;
}

/* Tasks without an outcome. */
static Set *
unended_set(const GtfListWanted *wanted)
{
	Set		   *set = make_set(SET_UNENDED, wanted);
	Set		   *outcomes;

	/* before anything is looked at */
	if (gtf_shmem_available())
	{
		set->seen = gtf_submitted_seen(MyDatabaseId);
		set->ended = palloc(sizeof(GtfIdRange) * GTF_ENDED_RANGES);
		set->num_ended = gtf_ended_ranges(MyDatabaseId, set->ended);
	}
	outcomes = index_set(wanted, "outcomes", "outcomes_pkey", InvalidOid, 0);
	outcomes->committed = true;
	set->parts = list_make2(index_set(wanted, "tasks", "tasks_pkey", InvalidOid, 0),
							outcomes);
	return set;
}

static Set *
statuses_set(const GtfListWanted *wanted)
{
	List	   *parts = NIL;
	bool		pending = false;
	bool		running = false;

	for (const char *s = wanted->statuses; *s; s++)
	{
		switch ((GtfStatus) *s)
		{
			case GTF_SUCCESS:
				return NULL;	/* most of them, and no index */
			case GTF_PENDING:
				pending = true;
				break;
			case GTF_IN_PROGRESS:
			case GTF_ABORTING:
				running = true;
				break;
			default:
				parts = lappend(parts,
								index_set(wanted, "outcomes", "outcomes_status",
										  F_CHAREQ, CharGetDatum(*s)));
				break;
		}
	}
	if (pending)
		parts = lappend(parts, unended_set(wanted));
	if (pending || running)
		parts = lappend(parts, running_set(wanted));
	return combine(SET_UNION, wanted, parts);
}

/* The versions that a type has or had. */
static List *
type_versions(const char *name)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *versions = NIL;
	StoreSpi	spi;
	Oid			argtype = TEXTOID;
	Datum		arg = CStringGetTextDatum(name);

	gtf_spi_begin(&spi);
	if (SPI_execute_with_args("SELECT version FROM gtf.task_type_versions"
							  " WHERE task_type OPERATOR(pg_catalog.=) $1",
							  1, &argtype, &arg, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read gtf.task_type_versions");
	MemoryContextSwitchTo(caller);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		versions = lappend_int(versions,
							   DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i],
														   SPI_tuptable->tupdesc,
														   1, &isnull)));
	}
	gtf_spi_end(&spi);
	return versions;
}

static Set *
type_set(const GtfListWanted *wanted)
{
	List	   *parts = NIL;
	ListCell   *lc;

	foreach(lc, type_versions(wanted->task_type))
		parts = lappend(parts, index_set(wanted, "tasks", "tasks_type", F_INT4EQ,
										 Int32GetDatum(lfirst_int(lc))));
	return combine(SET_UNION, wanted, parts);
}

GtfList *
gtf_store_list_begin(const GtfListWanted *wanted)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "gtf list",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	GtfList    *list = palloc0(sizeof(GtfList));
	List	   *parts = NIL;

	list->context = context;
	list->has_created_until = wanted->has_created_until;
	list->created_until = wanted->created_until;
	if (OidIsValid(wanted->viewer))
		parts = lappend(parts, combine(SET_UNION, wanted,
									   list_make2(owner_set(wanted, wanted->viewer),
												  subscribed_set(wanted, wanted->viewer))));
	if (OidIsValid(wanted->owner))
		parts = lappend(parts, owner_set(wanted, wanted->owner));
	if (wanted->task_type)
		parts = lappend(parts, type_set(wanted));
	if (wanted->statuses)
	{
		Set		   *statuses = statuses_set(wanted);

		if (statuses)
			parts = lappend(parts, statuses);
	}
	list->restricted = parts != NIL;
	if (parts == NIL)
		parts = list_make1(index_set(wanted, "tasks", "tasks_pkey", InvalidOid, 0));
	list->set = combine(SET_INTERSECTION, wanted, parts);
	MemoryContextSwitchTo(old);
	return list;
}

bool
gtf_store_list_restricted(const GtfList *list)
{
	return list->restricted;
}

int
gtf_store_list_next(GtfList *list, pg_uuid_t *ids, int max)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext,
												  "gtf list step",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(list->context);
	int			n = 0;

	while (n < max && set_step(list->set))
	{
		if (list->has_created_until)
		{
			GtfTask    *task;
			bool		too_late;

			/* its id is not before its time, but may be behind it */
			MemoryContextSwitchTo(scratch);
			task = gtf_store_task_head(&list->set->id);
			too_late = task && task->created_at > list->created_until;
			MemoryContextReset(scratch);
			MemoryContextSwitchTo(list->context);
			if (too_late)
				continue;
		}
		ids[n++] = list->set->id;
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	return n;
}

void
gtf_store_list_end(GtfList *list)
{
	set_close(list->set);
	MemoryContextDelete(list->context);
}

List *
gtf_store_list_owners(void)
{
	Relation	rel = table_open(gtf_store_relid("tasks"), AccessShareLock);
	Relation	index = index_open(gtf_store_relid("tasks_owner"), AccessShareLock);
	List	   *owners = NIL;
	Oid			last = InvalidOid;

	/* one step for each owner, not for each task */
	while (true)
	{
		IndexScanDesc scan = gtf_index_beginscan(rel, index, SnapshotSelf, 1);
		ScanKeyData key;
		bool		found;

		CHECK_FOR_INTERRUPTS();
		scan->xs_want_itup = true;
		ScanKeyInit(&key, 1, BTGreaterStrategyNumber, F_OIDGT,
					ObjectIdGetDatum(last));
		index_rescan(scan, &key, 1, NULL, 0);
		found = index_getnext_tid(scan, ForwardScanDirection) != NULL;
		if (found)
		{
			bool		isnull;

			last = DatumGetObjectId(index_getattr(scan->xs_itup, 1,
												  scan->xs_itupdesc, &isnull));
			owners = lappend_oid(owners, last);
		}
		index_endscan(scan);
		if (!found)
			break;
	}
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return owners;
}

List *
gtf_store_list_types(void)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *names = NIL;
	StoreSpi	spi;

	gtf_spi_begin(&spi);
	if (SPI_execute("SELECT DISTINCT task_type FROM gtf.task_type_versions",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read gtf.task_type_versions");
	MemoryContextSwitchTo(caller);
	for (uint64 i = 0; i < SPI_processed; i++)
		names = lappend(names, makeString(SPI_getvalue(SPI_tuptable->vals[i],
													   SPI_tuptable->tupdesc, 1)));
	gtf_spi_end(&spi);
	return names;
}
