/*-------------------------------------------------------------------------
 *
 * list.c
 *	  gtf_iter_tasks and gtf_related: lists of tasks, and of what they have.
 *
 * A list in the order of submission is read a few tasks at a time: ids from
 * indexes (store_list.c), then their rows of gtf.task_info with all filters,
 * until the page is full.  Any other order needs all the rows that the filters
 * let through before it can give the first.
 *
 * All rows come from gtf.task_info as the caller sees it.  That its ids are
 * looked for in the indexes first only makes it faster.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "access.h"
#include "search.h"
#include "store_list.h"
#include "visible.h"

PG_FUNCTION_INFO_V1(gtf_iter_tasks);
PG_FUNCTION_INFO_V1(gtf_related);
PG_FUNCTION_INFO_V1(gtf_id_floor);

#define MIN_BATCH		20
#define MAX_BATCH		1000

/* Ids have 48 bits of milliseconds since 1970: to be safe, 200 years. */
#define MAX_TIME_OF_ID	(INT64CONST(200) * 365 * USECS_PER_DAY)

/* More than these are as good as all of them. */
#define MAX_SORTED_IDS	1000000

/* ---- gtf_iter_tasks ---- */

enum
{
	ARG_ROW_LIMIT, ARG_ROW_OFFSET, ARG_TASK_TYPE, ARG_WORKER, ARG_STATUS,
	ARG_SORT_BY, ARG_RECEIVED_START, ARG_RECEIVED_END, ARG_STARTED_START,
	ARG_STARTED_END, ARG_SEARCH, ARG_AFTER
};

/* Hands on rows to a tuplestore, without the first ones, so many. */
typedef struct PageReceiver
{
	DestReceiver pub;
	DestReceiver *store;
	int64		skip;
	int64		left;			/* -1 = no limit */
} PageReceiver;

static void
page_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	PageReceiver *page = (PageReceiver *) self;

	page->store->rStartup(page->store, operation, desc);
}

static bool
page_receive(TupleTableSlot *slot, DestReceiver *self)
{
	PageReceiver *page = (PageReceiver *) self;

	if (page->skip > 0)
	{
		page->skip--;
		return true;
	}
	if (page->left == 0)
		return false;
	if (page->left > 0)
		page->left--;
	(void) page->store->receiveSlot(slot, page->store);
	return page->left != 0;
}

static void
page_shutdown(DestReceiver *self)
{
	PageReceiver *page = (PageReceiver *) self;

	page->store->rShutdown(page->store);
}

static void
page_destroy(DestReceiver *self)
{
}

static void
page_open(PageReceiver *page, ReturnSetInfo *rsinfo)
{
	page->pub.rStartup = page_startup;
	page->pub.receiveSlot = page_receive;
	page->pub.rShutdown = page_shutdown;
	page->pub.rDestroy = page_destroy;
	page->pub.mydest = DestNone;
	page->store = CreateDestReceiver(DestTuplestore);
	SetTuplestoreDestReceiverParams(page->store, rsinfo->setResult,
									rsinfo->econtext->ecxt_per_query_memory,
									true, NULL, NULL);
}

static int64
get_count(FunctionCallInfo fcinfo, int arg, const char *name, int64 otherwise)
{
	int32		value;

	if (PG_ARGISNULL(arg))
		return otherwise;
	value = PG_GETARG_INT32(arg);
	if (value < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", name)));
	return value;
}

static GtfSortKey
get_sort_key(FunctionCallInfo fcinfo, bool *ascending)
{
	static const char *const names[GTF_NUM_SORT_KEYS] = {
		[GTF_SORT_CREATED] = "created",
		[GTF_SORT_NAME] = "name",
		[GTF_SORT_STATE] = "state",
		[GTF_SORT_RECEIVED] = "received",
		[GTF_SORT_STARTED] = "started",
		[GTF_SORT_RUNTIME] = "runtime",
		[GTF_SORT_WORKER] = "worker",
		[GTF_SORT_ENDED] = "ended",
	};
	char	   *sort_by = PG_ARGISNULL(ARG_SORT_BY) ? "-created" :
		text_to_cstring(PG_GETARG_TEXT_PP(ARG_SORT_BY));
	char	   *name = sort_by[0] == '-' ? sort_by + 1 : sort_by;

	*ascending = name == sort_by;
	for (int key = 0; key < GTF_NUM_SORT_KEYS; key++)
	{
		if (strcmp(names[key], name) == 0)
			return key;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized sort key: \"%s\"", sort_by),
			 errhint("Sort keys are name, state, received, started, runtime, worker, created and ended, with - before them for descending order.")));
	return 0;					/* keep compiler quiet */
}

/* The statuses that these words mean, as a string. */
static char *
get_statuses(ArrayType *words)
{
	StringInfoData statuses;
	Datum	   *elems;
	bool	   *nulls;
	int			n;

	initStringInfo(&statuses);
	deconstruct_array(words, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		const char *word;
		const char *found;

		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("status must not contain nulls")));
		word = TextDatumGetCString(elems[i]);
		found = gtf_search_statuses(word);
		if (found[0] == '\0')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unrecognized status: \"%s\"", word),
					 errhint("Statuses are pending, in_progress, aborting, success, failure, aborted and timed_out; the names of states in Celery mean the same.")));
		for (; *found; found++)
		{
			if (strchr(statuses.data, *found) == NULL)
				appendStringInfoChar(&statuses, *found);
		}
	}
	return statuses.data;
}

static Datum
id_array(const pg_uuid_t *ids, int n)
{
	Datum	   *elems = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elems[i] = UUIDPGetDatum(&ids[i]);
	return PointerGetDatum(construct_array(elems, n, UUIDOID, UUID_LEN, false,
										   TYPALIGN_CHAR));
}

static void
set_param(GtfRows *rows, GtfRowsParam param, Datum value)
{
	rows->values[param] = value;
	rows->nulls[param] = false;
}

/* The tasks in the order of submission: as many as the page takes. */
static void
read_in_order(GtfList *list, GtfRows *rows, bool ascending, PageReceiver *page)
{
	MemoryContext batch_context = AllocSetContextCreate(CurrentMemoryContext,
														"gtf list batch",
														ALLOCSET_DEFAULT_SIZES);
	pg_uuid_t  *ids = palloc(sizeof(pg_uuid_t) * MAX_BATCH);
	int			size = MAX_BATCH;
	int			n;

	/* as a rule each task is a row */
	if (page->left >= 0 && page->skip + page->left < MAX_BATCH)
		size = Max(page->skip + page->left, MIN_BATCH);

	set_param(rows, GTF_ROWS_IDS, (Datum) 0);
	gtf_store_rows_begin(rows, GTF_SORT_CREATED, ascending);
	while (page->left != 0 && (n = gtf_store_list_next(list, ids, size)) > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(batch_context);

		CHECK_FOR_INTERRUPTS();
		rows->values[GTF_ROWS_IDS] = id_array(ids, n);
		gtf_store_rows_read(rows, &page->pub);
		MemoryContextSwitchTo(old);
		MemoryContextReset(batch_context);
		size = MAX_BATCH;
	}
	gtf_store_rows_end(rows);
}

/* In any other order: one query for all of them. */
static void
read_sorted(GtfList *list, GtfRows *rows, GtfSortKey key, bool ascending,
			PageReceiver *page)
{
	if (gtf_store_list_restricted(list))
	{
		int			size = MAX_BATCH;
		int			n = 0;
		int			more;
		pg_uuid_t  *ids = palloc(sizeof(pg_uuid_t) * size);

		while ((more = gtf_store_list_next(list, ids + n, size - n)) > 0 &&
			   n + more <= MAX_SORTED_IDS)
		{
			n += more;
			if (n == size)
			{
				size *= 2;
				ids = repalloc_huge(ids, sizeof(pg_uuid_t) * size);
			}
		}
		if (more == 0)
			set_param(rows, GTF_ROWS_IDS, id_array(ids, n));
	}
	if (page->left >= 0)
		set_param(rows, GTF_ROWS_LIMIT, Int64GetDatum(page->left));
	set_param(rows, GTF_ROWS_OFFSET, Int64GetDatum(page->skip));
	page->skip = 0;
	gtf_store_rows_begin(rows, key, ascending);
	gtf_store_rows_read(rows, &page->pub);
	gtf_store_rows_end(rows);
}

/* What indexes know of the filters. */
static void
restrict_list(FunctionCallInfo fcinfo, GtfSortKey key, GtfListWanted *wanted)
{
	if (!PG_ARGISNULL(ARG_TASK_TYPE))
		wanted->task_type = text_to_cstring(PG_GETARG_TEXT_PP(ARG_TASK_TYPE));
	if (!PG_ARGISNULL(ARG_STATUS))
		wanted->statuses = get_statuses(PG_GETARG_ARRAYTYPE_P(ARG_STATUS));
	if (!gtf_is_admin(GetUserId()))
		wanted->viewer = GetUserId();
	if (!PG_ARGISNULL(ARG_RECEIVED_START))
	{
		TimestampTz start = PG_GETARG_TIMESTAMPTZ(ARG_RECEIVED_START);

		/* an id is not before the time of its task */
		if (start < MAX_TIME_OF_ID)
		{
			wanted->has_from = true;
			gtf_id_below(gtf_id_ticks_from_timestamp(start), &wanted->from);
		}
	}
	if (!PG_ARGISNULL(ARG_RECEIVED_END) && key == GTF_SORT_CREATED)
	{
		wanted->has_created_until = true;
		wanted->created_until = PG_GETARG_TIMESTAMPTZ(ARG_RECEIVED_END);
	}
}

/* gtf_iter_tasks(...) RETURNS SETOF gtf.task_info */
Datum
gtf_iter_tasks(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	static const struct
	{
		int			arg;
		GtfRowsParam param;
	}			filters[] =
	{
		{ARG_TASK_TYPE, GTF_ROWS_TASK_TYPE},
		{ARG_WORKER, GTF_ROWS_WORKER},
		{ARG_RECEIVED_START, GTF_ROWS_RECEIVED_START},
		{ARG_RECEIVED_END, GTF_ROWS_RECEIVED_END},
		{ARG_STARTED_START, GTF_ROWS_STARTED_START},
		{ARG_STARTED_END, GTF_ROWS_STARTED_END},
		{ARG_SEARCH, GTF_ROWS_SEARCH},
		{ARG_STATUS, GTF_ROWS_STATUSES},
	};
	GtfListWanted wanted = {0};
	GtfRows		rows = {0};
	PageReceiver page = {0};
	GtfSortKey	key;
	GtfList    *list;

	page.left = get_count(fcinfo, ARG_ROW_LIMIT, "row_limit", -1);
	page.skip = get_count(fcinfo, ARG_ROW_OFFSET, "row_offset", 0);
	key = get_sort_key(fcinfo, &wanted.ascending);
	if (!PG_ARGISNULL(ARG_AFTER))
	{
		if (key != GTF_SORT_CREATED)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("after can be used only in the order of submission"),
					 errhint("Sort by created or -created.")));
		wanted.has_after = true;
		wanted.after = *PG_GETARG_UUID_P(ARG_AFTER);
	}
	if (!PG_ARGISNULL(ARG_SEARCH))
		gtf_search_check(text_to_cstring(PG_GETARG_TEXT_PP(ARG_SEARCH)));

	memset(rows.nulls, true, sizeof(rows.nulls));
	for (int i = 0; i < lengthof(filters); i++)
	{
		if (!PG_ARGISNULL(filters[i].arg))
			set_param(&rows, filters[i].param, PG_GETARG_DATUM(filters[i].arg));
	}

	restrict_list(fcinfo, key, &wanted);
	InitMaterializedSRF(fcinfo, 0);
	if (page.left == 0)
		return (Datum) 0;

	page_open(&page, rsinfo);
	list = gtf_store_list_begin(&wanted);
	if (key == GTF_SORT_CREATED)
		read_in_order(list, &rows, wanted.ascending, &page);
	else
		read_sorted(list, &rows, key, wanted.ascending, &page);
	gtf_store_list_end(list);
	return (Datum) 0;
}

/* gtf._id_floor(at timestamptz) RETURNS uuid */
Datum
gtf_id_floor(PG_FUNCTION_ARGS)
{
	TimestampTz at = Min(PG_GETARG_TIMESTAMPTZ(0), MAX_TIME_OF_ID);
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	gtf_id_below(gtf_id_ticks_from_timestamp(at), id);
	PG_RETURN_UUID_P(id);
}

/* ---- gtf_related ---- */

/* Is there a task of these that the caller may see? */
static bool
any_visible(const GtfListWanted *wanted)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "gtf list batch",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	GtfList    *list = gtf_store_list_begin(wanted);
	pg_uuid_t	id;
	bool		found = false;

	while (!found && gtf_store_list_next(list, &id, 1) > 0)
		found = gtf_visible_task(&id) != NULL;
	gtf_store_list_end(list);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return found;
}

/* Of all the tasks that the caller may see: these have to be read. */
static List *
subscribers(const GtfListWanted *wanted)
{
	GtfList    *list = gtf_store_list_begin(wanted);
	pg_uuid_t  *ids = palloc(sizeof(pg_uuid_t) * MAX_BATCH);
	List	   *names = NIL;
	int			n;

	while ((n = gtf_store_list_next(list, ids, MAX_BATCH)) > 0)
	{
		CHECK_FOR_INTERRUPTS();
		names = list_union(names, gtf_store_list_subscribers(id_array(ids, n)));
	}
	gtf_store_list_end(list);
	return names;
}

static int
compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp(strVal(lfirst(a)), strVal(lfirst(b)));
}

/* Is this text wanted?  A part of it is enough, whatever the case. */
static bool
is_wanted(const char *text, const char *search)
{
	return search == NULL ||
		strstr(str_tolower(text, strlen(text), DEFAULT_COLLATION_OID), search) != NULL;
}

/*
 * gtf_related(kind text, search text, row_limit int) RETURNS SETOF text: the
 * owners, subscribers or types of the tasks that the caller may see
 */
Datum
gtf_related(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	GtfListWanted wanted = {0};
	char	   *kind;
	char	   *search = NULL;
	int64		left = get_count(fcinfo, 2, "row_limit", -1);
	List	   *names = NIL;
	ListCell   *lc;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("kind must not be null")));
	kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!PG_ARGISNULL(1))
	{
		char	   *part = text_to_cstring(PG_GETARG_TEXT_PP(1));

		search = str_tolower(part, strlen(part), DEFAULT_COLLATION_OID);
	}
	if (!gtf_is_admin(GetUserId()))
		wanted.viewer = GetUserId();

	if (strcmp(kind, "owner") == 0)
	{
		foreach(lc, gtf_store_list_owners())
		{
			char	   *name;

			wanted.owner = lfirst_oid(lc);
			name = GetUserNameFromId(wanted.owner, true);
			/* gone, as a regrole shows it */
			if (name == NULL)
				name = psprintf("%u", wanted.owner);
			if (is_wanted(name, search) && any_visible(&wanted))
				names = lappend(names, makeString(name));
		}
	}
	else if (strcmp(kind, "task_type") == 0)
	{
		foreach(lc, gtf_store_list_types())
		{
			wanted.task_type = strVal(lfirst(lc));
			if (is_wanted(wanted.task_type, search) && any_visible(&wanted))
				names = lappend(names, lfirst(lc));
		}
	}
	else if (strcmp(kind, "subscriber") == 0)
	{
		foreach(lc, subscribers(&wanted))
		{
			if (is_wanted(strVal(lfirst(lc)), search))
				names = lappend(names, lfirst(lc));
		}
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized kind: \"%s\"", kind),
				 errhint("Kinds are owner, subscriber and task_type.")));

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	list_sort(names, compare_names);
	foreach(lc, names)
	{
		Datum		value = CStringGetTextDatum(strVal(lfirst(lc)));
		bool		isnull = false;

		if (left-- == 0)
			break;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
	}
	return (Datum) 0;
}
